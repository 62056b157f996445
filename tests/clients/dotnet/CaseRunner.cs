using System;
using System.Collections.Generic;
using System.Linq;
using LicenseManager.Client;

/// <summary>What the library makes of a case of tests/vectors/client; its pinned keys stand in it as texts.</summary>
internal static class CaseRunner
{
    public static string Run(Dictionary<string, object> it)
    {
        Dictionary<string, object> client = Object(it, "client");
        var verifier = new ReplyVerifier(
            client.Text("issuer"), client.Text("publisherId"), client.Text("serialNumber"), client.Texts("pinnedKeys").ToArray());
        var store = new MemoryStore();
        store.Save(Parse(Object(it, "stored")));
        DateTime now = UnixTime.ToDateTime(it.Whole("now").Value);
        var cache = new LicenseCache(verifier, store, () => now);
        string[] products = it.Texts("products").ToArray();

        Dictionary<string, object> keySet = Object(it, "keySet");
        Outcome keySetOutcome = keySet == null ? null : cache.TakeKeySet(Exchanged(keySet));
        Dictionary<string, object> reply = Object(it, "reply");
        Outcome outcome = null;
        if (reply != null)
        {
            Exchange exchange = Exchanged(reply);
            Verification verification = cache.Verify(new Question(it.Text("nonce"), products), exchange);
            cache.Keep(verification, exchange.RetryAfter);
            outcome = verification.Outcome;
        }

        if (it.Text("licenseFile") != null)
        {
            outcome = cache.LoadLicenseFile(it.Text("licenseFile"));
        }

        LicenseState state = cache.Current(products);
        JsonWriter json = new JsonWriter().Begin('{').Member("keySetReason", Code(keySetOutcome)).Member("reason", Code(outcome));
        json.Member("sentence", outcome == null ? null : outcome.Message).Member("message", state.Message);
        Write(json, state);
        WriteMessages(json, state);
        Write(json, store.Load());
        return json.End('}').ToString();
    }

    public static string Code(Outcome outcome)
    {
        return outcome == null ? null : Camel(outcome.Reason);
    }

    public static void Write(JsonWriter json, LicenseState state)
    {
        json.Member("storedReason", Code(state.StoredOutcome)).Member("level", Camel(state.Level));
        json.Member("refreshDue", state.RefreshDue).Member("warn", state.Warn).Member("administratorsOnly", state.AdministratorsOnly);
        json.Name("actions").Begin('{');
        foreach (ProductState product in state.Products.GroupBy(product => product.ProductName).Select(same => same.First()))
        {
            json.Member(product.ProductName, Camel(product.Action));
        }

        json.End('}');
    }

    /// <summary>The messages that every client words alike: signed ones, and that of a pending disable.</summary>
    private static void WriteMessages(JsonWriter json, LicenseState state)
    {
        json.Name("messages").Begin('{');
        foreach (ProductState product in state.Products)
        {
            bool isSigned = product.License != null && product.License.Message == product.Message;
            bool isPending = product.Message != null
                && product.Message.StartsWith("Product " + product.ProductName + " is enabled but not licensed", StringComparison.Ordinal);
            json.Member(product.ProductName, isSigned || isPending ? product.Message : null);
        }

        json.End('}');
    }

    public static void Write(JsonWriter json, StoredLicense stored)
    {
        json.Name("stored").Begin('{').Member("reply", stored.Reply).Member("keySets", stored.KeySets);
        json.Member("latestIat", stored.LatestIat).Member("failingSince", stored.FailingSince).Member("retryAt", stored.RetryAt);
        json.End('}');
    }

    private static StoredLicense Parse(Dictionary<string, object> stored)
    {
        return new StoredLicense
        {
            Reply = stored.Text("reply"),
            KeySets = string.Join("\n", stored.Texts("keySets")),
            LatestIat = stored.Whole("latestIat") ?? 0,
            FailingSince = stored.Whole("failingSince") ?? 0,
            RetryAt = stored.Whole("retryAt") ?? 0
        };
    }

    private static Exchange Exchanged(Dictionary<string, object> exchange)
    {
        string failure = exchange.Text("failure");
        if (failure != null)
        {
            return Exchange.Failed((Reason)Enum.Parse(typeof(Reason), failure, true));
        }

        int status = (int)exchange.Whole("status").Value;
        long? retryAfter = exchange.Whole("retryAfter");
        string body = exchange.Text("body") + new string('A', (int)exchange.Whole("padding").Value);
        return status == 200 ? Exchange.Answered(body, retryAfter) : Exchange.Refused(status, retryAfter);
    }

    private static Dictionary<string, object> Object(Dictionary<string, object> json, string name)
    {
        object value;
        return json.TryGetValue(name, out value) ? value as Dictionary<string, object> : null;
    }

    private static string Camel(Enum value)
    {
        string name = value.ToString();
        return char.ToLowerInvariant(name[0]) + name.Substring(1);
    }
}
