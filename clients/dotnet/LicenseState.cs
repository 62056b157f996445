using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// What counts now, by what is stored: the ladder from a fresh reply down to none. Nothing on it disables a product but a
    /// signed reply that says so.
    /// </summary>
    public sealed class LicenseState
    {
        private const long WarnAfterSeconds = 24 * 60 * 60;

        private readonly bool mayDisableByChange;
        private readonly long now;

        private LicenseState(Verification verification, StoredLicense stored, IEnumerable<string> productNames, long now)
        {
            StoredOutcome = verification.Outcome;
            Reply = verification.Reply;
            this.now = now;
            mayDisableByChange = stored.FailingSince != 0 || (Reply != null && Reply.IsLicenseFile);
            Level = LevelOf(Reply, stored, now);
            Products = productNames.Select(Decide).ToList().AsReadOnly();
            bool allNamed = Reply != null && Products.All(product => product.License != null);
            // No pause is longer: what lies further ahead was stored while the clock was.
            bool mayTry = stored.RetryAt <= now || stored.RetryAt > now + LicenseCache.LongestPauseSeconds;
            // Where the clocks differ, a new reply can still announce a change that this clock has reached.
            bool isNew = Reply != null && now - Reply.Iat <= ReplyVerifier.ClockSeconds;
            bool deniedByChange = Products.Any(
                product => product.Action != LicenseAction.Allow && product.License != null && product.License.IsChanged);
            RefreshDue = mayTry && (Level != LicenseLevel.Fresh || !allNamed || (deniedByChange && !isNew));
            Warn = stored.FailingSince != 0 && stored.FailingSince <= now - WarnAfterSeconds;
            // Where the store could not be read, a reply may have been verified before.
            AdministratorsOnly = Reply == null && stored.LatestIat == 0 && StoredOutcome.Reason != Reason.CheckFailed;
            Message = Sentence(stored);
            Summary = Summarize();
        }

        /// <summary>The step of the ladder.</summary>
        public LicenseLevel Level { get; private set; }

        /// <summary>What the stored reply is worth, its age aside.</summary>
        public Outcome StoredOutcome { get; private set; }

        /// <summary>The stored reply; null where it does not count.</summary>
        public VerifiedReply Reply { get; private set; }

        /// <summary>What to do about each product asked for, in that order.</summary>
        public IList<ProductState> Products { get; private set; }

        /// <summary>Whether to validate now, in the background.</summary>
        public bool RefreshDue { get; private set; }

        /// <summary>Whether to tell an administrator that the service has not been reached for a day.</summary>
        public bool Warn { get; private set; }

        /// <summary>Whether to show the products' messages to administrators only: no reply has been verified here yet.</summary>
        public bool AdministratorsOnly { get; private set; }

        /// <summary>A sentence about the level, for an administrator.</summary>
        public string Message { get; private set; }

        /// <summary>Whether the products asked for are licensed, for the person who validates them by hand.</summary>
        public string Summary { get; private set; }

        /// <summary>Whether the stored reply still allows what it says.</summary>
        private bool IsValid
        {
            get { return Reply != null && Level != LicenseLevel.Expired && Level != LicenseLevel.ClockTurnedBack; }
        }

        /// <summary>What to do about one of the products asked for. ArgumentException where it was not.</summary>
        public ProductState For(string productName)
        {
            ProductState found = Products.FirstOrDefault(product => product.ProductName == productName);
            if (found == null)
            {
                throw new ArgumentException("The product is none of those that were asked for.", "productName");
            }

            return found;
        }

        internal static LicenseState Of(Verification verification, StoredLicense stored, IEnumerable<string> productNames, DateTime utcNow)
        {
            return new LicenseState(verification, stored, productNames, UnixTime.Of(utcNow));
        }

        private static LicenseLevel LevelOf(VerifiedReply reply, StoredLicense stored, long now)
        {
            if (reply == null)
            {
                return LicenseLevel.NeverChecked;
            }

            if (now < Math.Max(stored.LatestIat, reply.Iat) - ReplyVerifier.ClockSeconds)
            {
                return LicenseLevel.ClockTurnedBack;
            }

            if (reply.Exp <= now)
            {
                return LicenseLevel.Expired;
            }

            if (reply.RefreshAfterSeconds > now)
            {
                return LicenseLevel.Fresh;
            }

            return stored.FailingSince != 0 ? LicenseLevel.Unreachable : LicenseLevel.Aged;
        }

        private ProductState Decide(string productName)
        {
            ProductLicense signed = Reply == null ? null : Reply.Find(productName);
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
            string expiredOn = string.IsNullOrEmpty(license.EndDate) ? "" : " on " + license.EndDate;
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
            return "The license of product " + productName + " is not known: " + LevelSentence();
        }

        private string Summarize()
        {
            if (!IsValid)
            {
                string why = Level == LicenseLevel.NeverChecked ? "no good reply is stored." : LevelSentence();
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
            string sentence = LevelSentence();
            string capital = char.ToUpperInvariant(sentence[0]) + sentence.Substring(1);
            return Warn ? capital + " The license service has not been reached since " + Shown(stored.FailingSince) + "." : capital;
        }

        private string LevelSentence()
        {
            switch (Level)
            {
                case LicenseLevel.NeverChecked:
                    return "no good reply is stored. " + StoredOutcome.Message;
                case LicenseLevel.ClockTurnedBack:
                    return "this machine's clock is behind what it was. Set it right.";
                case LicenseLevel.Expired:
                    return "the last good reply counted until " + Shown(Reply.Exp) + ". Validate the licenses.";
                case LicenseLevel.Fresh:
                    return "the licenses were checked at " + Shown(Reply.Iat) + ".";
                case LicenseLevel.Unreachable:
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
