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
            client.GetString("issuer"), client.GetString("publisherId"), client.GetString("serialNumber"), client.GetStrings("pinnedKeys").ToArray());
        var store = new MemoryStore();
        store.Save(Parse(Object(it, "stored")));
        DateTime now = UnixTime.ToDateTime(it.GetInt64("now").Value);
        var cache = new LicenseCache(verifier, store, () => now);
        string[] products = it.GetStrings("products").ToArray();

        Dictionary<string, object> keySet = Object(it, "keySet");
        LicenseCheckResult keySetCheckResult = keySet == null ? null : cache.AcceptKeySet(Exchanged(keySet));
        Dictionary<string, object> reply = Object(it, "reply");
        LicenseCheckResult checkResult = null;
        if (reply != null)
        {
            ServiceResponse exchange = Exchanged(reply);
            VerificationResult verification = cache.Verify(new ValidationAttempt(it.GetString("nonce"), products), exchange);
            cache.StoreResult(verification, exchange.RetryAfterSeconds);
            checkResult = verification.CheckResult;
        }

        if (it.GetString("licenseFile") != null)
        {
            checkResult = cache.LoadLicenseFile(it.GetString("licenseFile"));
        }

        LicenseState state = cache.GetState(products);
        JsonWriter json = new JsonWriter().Begin('{').Member("keySetReason", Code(keySetCheckResult)).Member("reason", Code(checkResult));
        json.Member("sentence", checkResult == null ? null : checkResult.Message).Member("message", state.Message);
        Write(json, state);
        WriteMessages(json, state);
        Write(json, store.Load());
        return json.End('}').ToString();
    }

    public static string Code(LicenseCheckResult checkResult)
    {
        return checkResult == null ? null : Camel(checkResult.Code);
    }

    public static void Write(JsonWriter json, LicenseState state)
    {
        json.Member("storedReason", Code(state.StoredReplyCheckResult)).Member("level", Camel(state.Freshness));
        json.Member("refreshDue", state.IsRefreshDue).Member("warn", state.ShouldWarnAdministrator);
        json.Member("administratorsOnly", state.ShouldPromptAdministratorsOnly);
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
        json.Member("latestIat", stored.LatestIssuedAt).Member("failingSince", stored.FailingSince).Member("retryAt", stored.RetryAt);
        json.End('}');
    }

    private static StoredLicense Parse(Dictionary<string, object> stored)
    {
        return new StoredLicense
        {
            Reply = stored.GetString("reply"),
            KeySets = string.Join("\n", stored.GetStrings("keySets")),
            LatestIssuedAt = stored.GetInt64("latestIat") ?? 0,
            FailingSince = stored.GetInt64("failingSince") ?? 0,
            RetryAt = stored.GetInt64("retryAt") ?? 0
        };
    }

    private static ServiceResponse Exchanged(Dictionary<string, object> exchange)
    {
        string failure = exchange.GetString("failure");
        if (failure != null)
        {
            return ServiceResponse.FromFailure((LicenseCheckCode)Enum.Parse(typeof(LicenseCheckCode), failure, true));
        }

        int status = (int)exchange.GetInt64("status").Value;
        long? retryAfter = exchange.GetInt64("retryAfter");
        string body = exchange.GetString("body") + new string('A', (int)exchange.GetInt64("padding").Value);
        return status == 200 ? ServiceResponse.FromBody(body, retryAfter) : ServiceResponse.FromErrorStatus(status, retryAfter);
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
