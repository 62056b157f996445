using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>The status, action and message of a product from an instant on, which change by date only.</summary>
    internal sealed class LicenseChange
    {
        private LicenseChange(Dictionary<string, object> json)
        {
            AtSeconds = UnixTime.ParseInstant(json.GetString("at"));
            Status = json.GetString("status");
            Action = ProductLicense.ParseAction(json.GetString("action"), Status);
            Message = json.GetString("message");
        }

        /// <summary>The instant, in seconds since 1970; null where it is malformed.</summary>
        public long? AtSeconds { get; private set; }

        public string Status { get; private set; }

        public LicenseAction Action { get; private set; }

        public string Message { get; private set; }

        /// <summary>The changes of a product: empty where the member is missing, null where it is malformed.</summary>
        public static List<LicenseChange> ParseList(Dictionary<string, object> product)
        {
            if (!product.HasValue("changes"))
            {
                return new List<LicenseChange>();
            }

            List<Dictionary<string, object>> items = product.GetObjects("changes");
            List<LicenseChange> changes = items == null ? null : items.Select(each => new LicenseChange(each)).ToList();
            return changes == null || changes.Any(each => each.AtSeconds == null) ? null : changes;
        }
    }
}
