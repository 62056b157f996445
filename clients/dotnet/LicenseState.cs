using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// The state of the products, by the stored reply and its freshness. Only a signed reply that says so disables a product.
    /// </summary>
    public sealed class LicenseState
    {
        private const long WarnAfterSeconds = 24 * 60 * 60;

        private readonly bool mayDisableByChange;
        private readonly long now;

        private LicenseState(VerificationResult verification, StoredLicense stored, IEnumerable<string> productNames, long now)
        {
            StoredReplyCheckResult = verification.CheckResult;
            Reply = verification.Reply;
            this.now = now;
            mayDisableByChange = stored.FailingSince != 0 || (Reply != null && Reply.IsLicenseFile);
            Freshness = GetFreshness(Reply, stored, now);
            Products = productNames.Select(CreateProductState).ToList().AsReadOnly();
            bool areAllNamed = Reply != null && Products.All(product => product.License != null);
            // No delay is longer: a later time was stored while the clock was ahead.
            bool mayRetry = stored.RetryAt <= now || stored.RetryAt > now + LicenseCache.MaxRetryDelaySeconds;
            // If the clocks differ, a new reply can still announce a change that this clock has reached.
            bool isNew = Reply != null && now - Reply.IssuedAtSeconds <= ReplyVerifier.ClockSkewSeconds;
            bool isDeniedByChange = Products.Any(
                product => product.Action != LicenseAction.Allow && product.License != null && product.License.IsFromChange);
            IsRefreshDue = mayRetry && (Freshness != LicenseFreshness.Fresh || !areAllNamed || (isDeniedByChange && !isNew));
            ShouldWarnAdministrator = stored.FailingSince != 0 && stored.FailingSince <= now - WarnAfterSeconds;
            // If the store could not be read, a reply may have been verified before.
            ShouldPromptAdministratorsOnly =
                Reply == null && stored.LatestIssuedAt == 0 && StoredReplyCheckResult.Code != LicenseCheckCode.CheckFailed;
            Message = CreateMessage(stored);
            Summary = CreateSummary();
        }

        /// <summary>How far the stored reply can be relied on.</summary>
        public LicenseFreshness Freshness { get; private set; }

        /// <summary>Whether the stored reply or license file is verified, and otherwise why not. Its age is not considered.</summary>
        public LicenseCheckResult StoredReplyCheckResult { get; private set; }

        /// <summary>The stored reply or license file; null where it is not verified.</summary>
        public VerifiedReply Reply { get; private set; }

        /// <summary>The state of each requested product, in the order of the request.</summary>
        public IList<ProductState> Products { get; private set; }

        /// <summary>Whether a validation in the background is due now.</summary>
        public bool IsRefreshDue { get; private set; }

        /// <summary>Whether to warn an administrator that validations have been failing for a day.</summary>
        public bool ShouldWarnAdministrator { get; private set; }

        /// <summary>Whether to show prompts to administrators only: no reply has been verified here yet.</summary>
        public bool ShouldPromptAdministratorsOnly { get; private set; }

        /// <summary>A sentence about the freshness, for an administrator.</summary>
        public string Message { get; private set; }

        /// <summary>A sentence that says whether the requested products are licensed, for the person who validates them.</summary>
        public string Summary { get; private set; }

        /// <summary>Whether the stored reply can still allow a product.</summary>
        private bool IsValid
        {
            get { return Reply != null && Freshness != LicenseFreshness.Expired && Freshness != LicenseFreshness.ClockTurnedBack; }
        }

        /// <summary>The state of a requested product, by its exact name.</summary>
        /// <exception cref="ArgumentException">The product was not requested.</exception>
        public ProductState GetProduct(string productName)
        {
            ProductState product;
            if (!TryGetProduct(productName, out product))
            {
                throw new ArgumentException("The product is none of those that were asked for.", "productName");
            }

            return product;
        }

        /// <summary>The state of a product, by its exact name. Returns false, and sets null, where it was not requested.</summary>
        public bool TryGetProduct(string productName, out ProductState product)
        {
            product = Products.FirstOrDefault(each => each.ProductName == productName);
            return product != null;
        }

        internal static LicenseState Create(
            VerificationResult verification, StoredLicense stored, IEnumerable<string> productNames, DateTime utcNow)
        {
            return new LicenseState(verification, stored, productNames, UnixTime.FromDateTime(utcNow));
        }

        private static LicenseFreshness GetFreshness(VerifiedReply reply, StoredLicense stored, long now)
        {
            if (reply == null)
            {
                return LicenseFreshness.NeverChecked;
            }

            if (now < Math.Max(stored.LatestIssuedAt, reply.IssuedAtSeconds) - ReplyVerifier.ClockSkewSeconds)
            {
                return LicenseFreshness.ClockTurnedBack;
            }

            if (reply.ExpiresAtSeconds <= now)
            {
                return LicenseFreshness.Expired;
            }

            if (reply.RefreshAfterSeconds > now)
            {
                return LicenseFreshness.Fresh;
            }

            return stored.FailingSince != 0 ? LicenseFreshness.Unreachable : LicenseFreshness.Aged;
        }

        private ProductState CreateProductState(string productName)
        {
            ProductLicense signed = Reply == null ? null : Reply.FindProduct(productName);
            if (signed == null)
            {
                return new ProductState(productName, LicenseAction.Prompt, GetMissingMessage(productName), null);
            }

            ProductLicense license = signed.GetEffective(now, Reply.ExpiresAtSeconds);
            // The records may have changed since the reply was issued, and no validation has failed since.
            bool isPending = license.Action == LicenseAction.Disable && license.IsFromChange && !mayDisableByChange;
            if (!IsValid && (isPending || license.Action != LicenseAction.Disable))
            {
                return new ProductState(productName, LicenseAction.Prompt, GetUnknownMessage(productName), license);
            }

            if (isPending)
            {
                return new ProductState(productName, LicenseAction.Prompt, GetPendingMessage(license), license);
            }

            string signedMessage = license.Message ?? "The reply about product " + productName + " needs a newer version of this client.";
            return new ProductState(productName, license.Action, license.Action == LicenseAction.Allow ? null : signedMessage, license);
        }

        /// <summary>The message of a product that will be disabled when a validation has failed.</summary>
        private string GetPendingMessage(ProductLicense license)
        {
            string expiredOn = license.EndDateText.Length == 0 ? "" : " on " + license.EndDateText;
            string supportEmail = string.IsNullOrEmpty(license.SupportEmail) ? Reply.SupportEmail : license.SupportEmail;
            string contact = supportEmail.Length == 0 ? "" : ", or contact " + supportEmail;
            return "Product " + license.ProductName + " is enabled but not licensed: its license expired" + expiredOn
                + ". Validate the licenses" + contact + ".";
        }

        private string GetMissingMessage(string productName)
        {
            if (Reply == null)
            {
                return GetUnknownMessage(productName);
            }

            return Reply.IsLicenseFile
                ? "Product " + productName + " is not in the license file of " + Format(Reply.IssuedAtSeconds)
                    + ": load a license file that names it."
                : "The license of product " + productName + " has not been checked yet: validate the licenses.";
        }

        private string GetUnknownMessage(string productName)
        {
            return "The license of product " + productName + " is not known: " + GetFreshnessMessage();
        }

        private string CreateSummary()
        {
            if (!IsValid)
            {
                string why = Freshness == LicenseFreshness.NeverChecked ? "no good reply is stored." : GetFreshnessMessage();
                List<string> disabled = GetNames(action => action == LicenseAction.Disable);
                string switchedOff = disabled.Count == 0 ? "" : " Switched off: " + string.Join(", ", disabled) + ".";
                return "It is not known whether the products are licensed: " + why + switchedOff;
            }

            List<string> missing = GetNames(action => action != LicenseAction.Allow);
            return missing.Count == 0
                ? "All products are licensed."
                : string.Format(
                    CultureInfo.InvariantCulture,
                    "Not licensed: {0} ({1} of {2} products).",
                    string.Join(", ", missing),
                    missing.Count,
                    Products.Count);
        }

        private List<string> GetNames(Func<LicenseAction, bool> predicate)
        {
            return Products.Where(product => predicate(product.Action)).Select(product => product.ProductName).ToList();
        }

        private string CreateMessage(StoredLicense stored)
        {
            string sentence = GetFreshnessMessage();
            string capital = char.ToUpperInvariant(sentence[0]) + sentence.Substring(1);
            return ShouldWarnAdministrator
                ? capital + " The license service has not been reached since " + Format(stored.FailingSince) + "."
                : capital;
        }

        private string GetFreshnessMessage()
        {
            switch (Freshness)
            {
                case LicenseFreshness.NeverChecked:
                    return "no good reply is stored. " + StoredReplyCheckResult.Message;
                case LicenseFreshness.ClockTurnedBack:
                    return "this machine's clock is behind what it was. Set it right.";
                case LicenseFreshness.Expired:
                    return "the last good reply counted until " + Format(Reply.ExpiresAtSeconds) + ". Validate the licenses.";
                case LicenseFreshness.Fresh:
                    return "the licenses were checked at " + Format(Reply.IssuedAtSeconds) + ".";
                case LicenseFreshness.Unreachable:
                    return "the license service was not reached. The reply of " + Format(Reply.IssuedAtSeconds)
                        + " counts until " + Format(Reply.ExpiresAtSeconds) + ".";
                default:
                    return "the licenses were checked at " + Format(Reply.IssuedAtSeconds) + ", and are due to be checked again.";
            }
        }

        private static string Format(long seconds)
        {
            return UnixTime.ToDateTime(seconds).ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
        }
    }
}
