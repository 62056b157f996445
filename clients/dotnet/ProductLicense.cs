using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>The license of one product in a reply. A member that the reply does not have is null.</summary>
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
            ProductName = json.GetString("productName");
            Status = json.GetString("status");
            Action = ParseAction(json.GetString("action"), Status);
            Warnings = json.GetStrings("warnings").AsReadOnly();
            Message = json.GetString("message");
            LicenseType = json.GetString("licenseType");
            IsSiteLicense = json.IsTrue("siteLicense");
            NumberOfUsers = json.GetInt32("numberOfUsers");
            StartDate = json.GetDate("startDate");
            EndDate = json.GetDate("endDate");
            EndDateText = json.GetString("endDate") ?? "";
            FeatureDisableDate = json.GetDate("featureDisableDate");
            PublisherName = json.GetString("publisherName");
            TermsUrl = json.GetString("termsUrl");
            UserGuideUrl = json.GetString("userGuideUrl");
            ReleaseNotesUrl = json.GetString("releaseNotesUrl");
            SupportEmail = json.GetString("supportEmail");
            changes = LicenseChange.ParseList(json);
            if (changes == null)
            {
                // Later changes are not known, so the product is neither allowed nor disabled.
                changes = new List<LicenseChange>();
                Action = LicenseAction.Prompt;
                Message = null;
            }
        }

        /// <summary>The product's name, as in the request.</summary>
        public string ProductName { get; private set; }

        /// <summary>The status, listed in docs/protocol.md: licensed, expired and so on. Others may be added.</summary>
        public string Status { get; private set; }

        /// <summary>The action while the reply is valid: prompt where its status or action is not known here.</summary>
        public LicenseAction Action { get; private set; }

        /// <summary>Warnings, listed in docs/protocol.md. Others may be added.</summary>
        public IList<string> Warnings { get; private set; }

        /// <summary>A sentence for the user, in English; null where the action is allow.</summary>
        public string Message { get; private set; }

        /// <summary>The license type, listed in docs/protocol.md. Others may be added.</summary>
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

        /// <summary>The publisher's name.</summary>
        public string PublisherName { get; private set; }

        /// <summary>The address of the terms and conditions.</summary>
        public string TermsUrl { get; private set; }

        /// <summary>The address of the user guide.</summary>
        public string UserGuideUrl { get; private set; }

        /// <summary>The address of the release notes.</summary>
        public string ReleaseNotesUrl { get; private set; }

        /// <summary>The support address of the product.</summary>
        public string SupportEmail { get; private set; }

        /// <summary>Whether status, action and message are those of a change, not those at the time of signing.</summary>
        internal bool IsFromChange { get; private set; }

        /// <summary>The license with the status, action and message of its last change that is reached now and is before exp.</summary>
        internal ProductLicense GetEffective(long now, long exp)
        {
            LicenseChange change = changes.LastOrDefault(each => each.AtSeconds <= now && each.AtSeconds < exp);
            if (change == null)
            {
                return this;
            }

            var changed = (ProductLicense)MemberwiseClone();
            changed.Status = change.Status;
            changed.Action = change.Action;
            changed.Message = change.Message;
            changed.IsFromChange = true;
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
