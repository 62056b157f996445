using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>What a reply says of a product from an instant on: the status, the action and the message change by date alone.</summary>
    internal sealed class LicenseChange
    {
        private LicenseChange(Dictionary<string, object> json)
        {
            At = UnixTime.Parse(json.Text("at"));
            Status = json.Text("status");
            Action = ProductLicense.ParseAction(json.Text("action"), Status);
            Message = json.Text("message");
        }

        /// <summary>The instant, in seconds since 1970; null where it is malformed.</summary>
        public long? At { get; private set; }

        public string Status { get; private set; }

        public LicenseAction Action { get; private set; }

        public string Message { get; private set; }

        /// <summary>The changes of a product, none where it has no such member; null where they are malformed.</summary>
        public static List<LicenseChange> ListOf(Dictionary<string, object> product)
        {
            if (!product.Has("changes"))
            {
                return new List<LicenseChange>();
            }

            List<Dictionary<string, object>> items = product.Objects("changes");
            List<LicenseChange> changes = items == null ? null : items.Select(each => new LicenseChange(each)).ToList();
            return changes == null || changes.Any(each => each.At == null) ? null : changes;
        }
    }
}
