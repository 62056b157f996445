using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Threading;
using LicenseManager.Client;

/// <summary>One environment that lives on from command to command: its store, its clock, its client.</summary>
internal sealed class Conversation
{
    private MemoryStore store;
    private TimeSpan ahead;
    private LicenseCache cache;
    private LicenseClient client;

    public string Do(Dictionary<string, object> command)
    {
        string[] products = command.GetStrings("products").ToArray();
        JsonWriter json = new JsonWriter().Begin('{');
        switch (command.GetString("do"))
        {
            case "connect":
                ahead = TimeSpan.Zero;
                store = new MemoryStore { Thread = Thread.CurrentThread.ManagedThreadId };
                Connect(command);
                break;
            case "reconnect":
                Connect(command);
                break;
            case "validate":
                Validate(command, products, json);
                break;
            case "loadLicenseFile":
                Write(json, "checkResult", cache.LoadLicenseFile(command.GetString("token")));
                break;
            case "tryBeginRefresh":
                json.Member("begun", cache.TryBeginRefresh(products));
                break;
            case "getStateOrPrompt":
                GetStateOrPrompt(command, products, json);
                return json.End('}').ToString();
            case "tryGetProduct":
                ProductState product;
                json.Member("found", cache.GetState(products).TryGetProduct(command.GetString("product"), out product));
                json.Member("name", product == null ? null : product.ProductName);
                break;
            case "getProduct":
                WriteProduct(command.GetString("product"), cache.GetState(products), json);
                break;
            case "advance":
                ahead += TimeSpan.FromSeconds(command.GetInt64("seconds").Value);
                break;
        }

        if (products.Length > 0)
        {
            Write(json, cache.GetState(products));
        }

        CaseRunner.Write(json, store.Load());
        return json.End('}').ToString();
    }

    private void Connect(Dictionary<string, object> command)
    {
        var verifier = new ReplyVerifier(
            command.GetString("issuer"),
            command.GetString("publisherId"),
            command.GetString("serialNumber"),
            command.GetStrings("pinnedKeys").ToArray());
        cache = new LicenseCache(verifier, store, () => DateTime.UtcNow + ahead);
        long? timeout = command.GetInt64("timeoutMilliseconds");
        client = timeout == null
            ? new LicenseClient(command.GetString("url"), cache)
            : new LicenseClient(command.GetString("url"), cache, TimeSpan.FromMilliseconds(timeout.Value));
    }

    private void GetStateOrPrompt(Dictionary<string, object> command, string[] products, JsonWriter json)
    {
        string broken = command.GetString("broken");
        ILicenseStore own = broken == "noStore" ? null : new MemoryStore { Broken = broken == "store" };
        Write(json, LicenseCache.GetStateOrPrompt(
            command.GetString("issuer"),
            command.GetString("publisherId"),
            command.GetString("serialNumber"),
            broken == "noKeys" ? null : command.GetStrings("pinnedKeys").ToArray(),
            own,
            products));
    }

    private void Validate(Dictionary<string, object> command, string[] products, JsonWriter json)
    {
        var request = new ValidationRequest { HostUrl = command.GetString("hostUrl") };
        foreach (string product in products)
        {
            request.Add(new ProductUsage(product) { EnabledUsersCount = command.GetInt32("enabledUsersCount") });
        }

        Stopwatch watch = Stopwatch.StartNew();
        ValidationResult result = Validated(request, command.GetString("how"));
        json.Member("microseconds", watch.ElapsedTicks * 1000000 / Stopwatch.Frequency);
        json.Member("storeCalledElsewhere", store.CalledElsewhere);
        Write(json, "checkResult", result.CheckResult);
        json.Member("resultMessage", result.Message);
        if (result.KeySetCheckResult != null)
        {
            Write(json, "keySetCheckResult", result.KeySetCheckResult);
        }
    }

    /// <summary>
    /// Waits as programs do: on a thread that does nothing else meanwhile ("sync", "busyThread"), or on one of the pool ("async");
    /// or while no thread of the pool is free ("starved").
    /// </summary>
    private ValidationResult Validated(ValidationRequest request, string how)
    {
        if (how == "starved")
        {
            return Starved(() => client.Validate(request));
        }

        SynchronizationContext.SetSynchronizationContext(how == "async" ? null : new NeverContext());
        try
        {
            return how == "sync" || how == null ? client.Validate(request) : client.ValidateAsync(request).Result;
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(null);
        }
    }

    /// <summary>Holds all threads of the pool meanwhile, but for a minute at most.</summary>
    private static ValidationResult Starved(Func<ValidationResult> validate)
    {
        int most, mostOfPorts;
        ThreadPool.GetMaxThreads(out most, out mostOfPorts);
        int few = Math.Max(2, Environment.ProcessorCount);
        ThreadPool.SetMinThreads(few, few);
        ThreadPool.SetMaxThreads(few, mostOfPorts);
        using (var held = new CountdownEvent(few))
        using (var release = new ManualResetEventSlim())
        using (var free = new CountdownEvent(few))
        {
            for (int thread = 0; thread < few; thread++)
            {
                ThreadPool.QueueUserWorkItem(_ =>
                {
                    held.Signal();
                    release.Wait(60000);
                    free.Signal();
                });
            }

            try
            {
                held.Wait();
                return validate();
            }
            finally
            {
                release.Set();
                free.Wait();
                ThreadPool.SetMaxThreads(most, mostOfPorts);
            }
        }
    }

    private static void Write(JsonWriter json, LicenseState state)
    {
        CaseRunner.Write(json, state);
        json.Member("message", state.Message).Member("summary", state.Summary).Member("stale", state.Reply != null && state.Reply.IsStale);
        json.Member("isLicenseFile", state.Reply != null && state.Reply.IsLicenseFile).Name("statuses").Begin('{');
        foreach (ProductState product in state.Products.Where(product => product.License != null))
        {
            json.Member(product.ProductName, product.License.Status);
        }

        json.End('}').Name("messages").Begin('{');
        foreach (ProductState product in state.Products)
        {
            json.Member(product.ProductName, product.Message ?? "");
        }

        json.End('}');
    }

    private static void WriteProduct(string name, LicenseState state, JsonWriter json)
    {
        ProductLicense license = state.GetProduct(name).License;
        json.Member("name", license.ProductName).Member("numberOfUsers", license.NumberOfUsers);
        json.Member("startDate", Roundtrip(license.StartDate)).Member("endDate", Roundtrip(license.EndDate));
        json.Member("endDateText", license.EndDateText).Member("featureDisableDate", Roundtrip(license.FeatureDisableDate));
        json.Name("notices").Begin('[');
        foreach (Notice notice in state.Reply.Notices)
        {
            json.Begin('{').Member("startsAt", Roundtrip(notice.StartsAt)).Member("endsAt", Roundtrip(notice.EndsAt)).End('}');
        }

        json.End(']');
    }

    private static string Roundtrip(DateTime? value)
    {
        return value == null ? null : value.Value.ToString("o", CultureInfo.InvariantCulture);
    }

    private static void Write(JsonWriter json, string name, LicenseCheckResult checkResult)
    {
        json.Name(name).Begin('{').Member("code", CaseRunner.Code(checkResult)).Member("message", checkResult.Message).End('}');
    }

    /// <summary>The context of a thread that waits and so does nothing that is posted to it, as in a desktop program.</summary>
    private sealed class NeverContext : SynchronizationContext
    {
        public override void Post(SendOrPostCallback callback, object state)
        {
        }
    }
}
