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
            Products = productNames.Select(Decide).ToList().AsReadOnly();
            bool allNamed = Reply != null && Products.All(product => product.License != null);
            // No pause is longer: what lies further ahead was stored while the clock was.
            bool mayTry = stored.RetryAt <= now || stored.RetryAt > now + LicenseCache.LongestPauseSeconds;
            // Where the clocks differ, a new reply can still announce a change that this clock has reached.
            bool isNew = Reply != null && now - Reply.Iat <= ReplyVerifier.ClockSeconds;
            bool deniedByChange = Products.Any(
                product => product.Action != LicenseAction.Allow && product.License != null && product.License.IsChanged);
            IsRefreshDue = mayTry && (Freshness != LicenseFreshness.Fresh || !allNamed || (deniedByChange && !isNew));
            ShouldWarnAdministrator = stored.FailingSince != 0 && stored.FailingSince <= now - WarnAfterSeconds;
            // Where the store could not be read, a reply may have been verified before.
            ShouldPromptAdministratorsOnly =
                Reply == null && stored.LatestIssuedAt == 0 && StoredReplyCheckResult.Code != LicenseCheckCode.CheckFailed;
            Message = Sentence(stored);
            Summary = Summarize();
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

        /// <summary>Whether the stored reply still allows what it says.</summary>
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

        internal static LicenseState Of(VerificationResult verification, StoredLicense stored, IEnumerable<string> productNames, DateTime utcNow)
        {
            return new LicenseState(verification, stored, productNames, UnixTime.Of(utcNow));
        }

        private static LicenseFreshness GetFreshness(VerifiedReply reply, StoredLicense stored, long now)
        {
            if (reply == null)
            {
                return LicenseFreshness.NeverChecked;
            }

            if (now < Math.Max(stored.LatestIssuedAt, reply.Iat) - ReplyVerifier.ClockSeconds)
            {
                return LicenseFreshness.ClockTurnedBack;
            }

            if (reply.Exp <= now)
            {
                return LicenseFreshness.Expired;
            }

            if (reply.RefreshAfterSeconds > now)
            {
                return LicenseFreshness.Fresh;
            }

            return stored.FailingSince != 0 ? LicenseFreshness.Unreachable : LicenseFreshness.Aged;
        }

        private ProductState Decide(string productName)
        {
            ProductLicense signed = Reply == null ? null : Reply.FindProduct(productName);
            if (signed == null)
            {
                return new ProductState(productName, LicenseAction.Prompt, MissingSentence(productName), null);
            }

            ProductLicense license = signed.InForce(now, Reply.Exp);
            // The records may have changed since the reply, and no validation has failed since.
            bool isPending = license.Action == LicenseAction.Disable && license.IsChanged && !mayDisableByChange;
            if (!IsValid && (isPending || license.Action != LicenseAction.Disable))
            {
                return new ProductState(productName, LicenseAction.Prompt, UnknownSentence(productName), license);
            }

            if (isPending)
            {
                return new ProductState(productName, LicenseAction.Prompt, PendingSentence(license), license);
            }

            string signedMessage = license.Message ?? "The reply about product " + productName + " needs a newer version of this client.";
            return new ProductState(productName, license.Action, license.Action == LicenseAction.Allow ? null : signedMessage, license);
        }

        /// <summary>The sentence about a product that is disabled once a validation has failed.</summary>
        private string PendingSentence(ProductLicense license)
        {
            string expiredOn = license.EndDateText.Length == 0 ? "" : " on " + license.EndDateText;
            string supportEmail = string.IsNullOrEmpty(license.SupportEmail) ? Reply.SupportEmail : license.SupportEmail;
            string contact = supportEmail.Length == 0 ? "" : ", or contact " + supportEmail;
            return "Product " + license.ProductName + " is enabled but not licensed: its license expired" + expiredOn
                + ". Validate the licenses" + contact + ".";
        }

        private string MissingSentence(string productName)
        {
            if (Reply == null)
            {
                return UnknownSentence(productName);
            }

            return Reply.IsLicenseFile
                ? "Product " + productName + " is not in the license file of " + Shown(Reply.Iat) + ": load a license file that names it."
                : "The license of product " + productName + " has not been checked yet: validate the licenses.";
        }

        private string UnknownSentence(string productName)
        {
            return "The license of product " + productName + " is not known: " + FreshnessSentence();
        }

        private string Summarize()
        {
            if (!IsValid)
            {
                string why = Freshness == LicenseFreshness.NeverChecked ? "no good reply is stored." : FreshnessSentence();
                List<string> disabled = NamesWhere(action => action == LicenseAction.Disable);
                string switchedOff = disabled.Count == 0 ? "" : " Switched off: " + string.Join(", ", disabled) + ".";
                return "It is not known whether the products are licensed: " + why + switchedOff;
            }

            List<string> missing = NamesWhere(action => action != LicenseAction.Allow);
            return missing.Count == 0
                ? "All products are licensed."
                : string.Format(
                    CultureInfo.InvariantCulture,
                    "Not licensed: {0} ({1} of {2} products).",
                    string.Join(", ", missing),
                    missing.Count,
                    Products.Count);
        }

        private List<string> NamesWhere(Func<LicenseAction, bool> isMeant)
        {
            return Products.Where(product => isMeant(product.Action)).Select(product => product.ProductName).ToList();
        }

        private string Sentence(StoredLicense stored)
        {
            string sentence = FreshnessSentence();
            string capital = char.ToUpperInvariant(sentence[0]) + sentence.Substring(1);
            return ShouldWarnAdministrator
                ? capital + " The license service has not been reached since " + Shown(stored.FailingSince) + "."
                : capital;
        }

        private string FreshnessSentence()
        {
            switch (Freshness)
            {
                case LicenseFreshness.NeverChecked:
                    return "no good reply is stored. " + StoredReplyCheckResult.Message;
                case LicenseFreshness.ClockTurnedBack:
                    return "this machine's clock is behind what it was. Set it right.";
                case LicenseFreshness.Expired:
                    return "the last good reply counted until " + Shown(Reply.Exp) + ". Validate the licenses.";
                case LicenseFreshness.Fresh:
                    return "the licenses were checked at " + Shown(Reply.Iat) + ".";
                case LicenseFreshness.Unreachable:
                    return "the license service was not reached. The reply of " + Shown(Reply.Iat) + " counts until " + Shown(Reply.Exp) + ".";
                default:
                    return "the licenses were checked at " + Shown(Reply.Iat) + ", and are due to be checked again.";
            }
        }

        private static string Shown(long seconds)
        {
            return UnixTime.ToDateTime(seconds).ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
        }
    }
}
