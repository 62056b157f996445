using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>What a reply says of one product. What it does not say is null.</summary>
    public sealed class ProductLicense
    {
        private static readonly string[] KnownStatuses =
        {
            "unknownProduct", "licensed", "unknownEnvironment", "environmentInactive", "notLicensed", "notEnabled",
            "featureDisabled", "notStarted", "expired"
        };

        private readonly List<LicenseChange> changes;

        internal ProductLicense(Dictionary<string, object> json)
        {
            ProductName = json.Text("productName");
            Status = json.Text("status");
            Action = ParseAction(json.Text("action"), Status);
            Warnings = json.Texts("warnings").AsReadOnly();
            Message = json.Text("message");
            LicenseType = json.Text("licenseType");
            IsSiteLicense = json.IsTrue("siteLicense");
            NumberOfUsers = json.GetInt32("numberOfUsers");
            StartDate = json.GetDate("startDate");
            EndDate = json.GetDate("endDate");
            EndDateText = json.Text("endDate") ?? "";
            FeatureDisableDate = json.GetDate("featureDisableDate");
            PublisherName = json.Text("publisherName");
            TermsUrl = json.Text("termsUrl");
            UserGuideUrl = json.Text("userGuideUrl");
            ReleaseNotesUrl = json.Text("releaseNotesUrl");
            SupportEmail = json.Text("supportEmail");
            changes = LicenseChange.ListOf(json);
            if (changes == null)
            {
                // What comes next is not known, so nothing is allowed or disabled by it.
                changes = new List<LicenseChange>();
                Action = LicenseAction.Prompt;
                Message = null;
            }
        }

        /// <summary>The product's name, as it was asked for.</summary>
        public string ProductName { get; private set; }

        /// <summary>Why, as docs/protocol.md lists it: licensed, expired and so on. Others may come.</summary>
        public string Status { get; private set; }

        /// <summary>What to do while the reply counts: prompt where its status or action is not known here.</summary>
        public LicenseAction Action { get; private set; }

        /// <summary>Warnings, as docs/protocol.md lists them. Others may come.</summary>
        public IList<string> Warnings { get; private set; }

        /// <summary>A sentence for the user, in English; null where the action is allow.</summary>
        public string Message { get; private set; }

        /// <summary>perpetual, month, quarter, annual, subscription or temp.</summary>
        public string LicenseType { get; private set; }

        /// <summary>Whether the number of users does not matter.</summary>
        public bool IsSiteLicense { get; private set; }

        /// <summary>The number of licensed users; null where none is set.</summary>
        public int? NumberOfUsers { get; private set; }

        /// <summary>The start date, a calendar date without time and time zone; null where there is none.</summary>
        public DateTime? StartDate { get; private set; }

        /// <summary>The end date, a calendar date without time and time zone; null where there is none.</summary>
        public DateTime? EndDate { get; private set; }

        /// <summary>The end date as YYYY-MM-DD; empty where there is none. For X++, which has no nullable types.</summary>
        public string EndDateText { get; private set; }

        /// <summary>The feature disable date, a calendar date without time and time zone; null where there is none.</summary>
        public DateTime? FeatureDisableDate { get; private set; }

        /// <summary>Who sells it.</summary>
        public string PublisherName { get; private set; }

        /// <summary>Where the terms and conditions are.</summary>
        public string TermsUrl { get; private set; }

        /// <summary>Where the user guide is.</summary>
        public string UserGuideUrl { get; private set; }

        /// <summary>Where the release notes are.</summary>
        public string ReleaseNotesUrl { get; private set; }

        /// <summary>Whom to ask about this product.</summary>
        public string SupportEmail { get; private set; }

        /// <summary>Whether status, action and message are those of a change, not those at the time of signing.</summary>
        internal bool IsChanged { get; private set; }

        /// <summary>The license with status, action and message of the last change that is reached now and lies before exp.</summary>
        internal ProductLicense InForce(long now, long exp)
        {
            LicenseChange change = changes.LastOrDefault(each => each.At <= now && each.At < exp);
            if (change == null)
            {
                return this;
            }

            var changed = (ProductLicense)MemberwiseClone();
            changed.Status = change.Status;
            changed.Action = change.Action;
            changed.Message = change.Message;
            changed.IsChanged = true;
            return changed;
        }

        internal static LicenseAction ParseAction(string action, string status)
        {
            if (!KnownStatuses.Contains(status))
            {
                return LicenseAction.Prompt;
            }

            switch (action)
            {
                case "allow":
                    return LicenseAction.Allow;
                case "disable":
                    return LicenseAction.Disable;
                default:
                    return LicenseAction.Prompt;
            }
        }
    }
}
