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

        private LicenseState(Verification verification, StoredLicense stored, IEnumerable<string> productNames, long now)
        {
            StoredOutcome = verification.Outcome;
            Reply = verification.Reply;
            Level = LevelOf(Reply, stored, now);
            Products = productNames.Select(Decide).ToList().AsReadOnly();
            bool allNamed = Reply != null && Products.All(product => product.License != null);
            // No pause is longer: what lies further ahead was stored while the clock was.
            bool mayTry = stored.RetryAt <= now || stored.RetryAt > now + LicenseCache.LongestPauseSeconds;
            RefreshDue = mayTry && (Level != LicenseLevel.Fresh || !allNamed);
            Warn = stored.FailingSince != 0 && stored.FailingSince <= now - WarnAfterSeconds;
            Message = Sentence(stored);
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

        /// <summary>A sentence about the level, for an administrator.</summary>
        public string Message { get; private set; }

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
            ProductLicense license = Reply == null ? null : Reply.Find(productName);
            bool counts = Level != LicenseLevel.Expired && Level != LicenseLevel.ClockTurnedBack;
            if (license != null && (counts || license.Action == LicenseAction.Disable))
            {
                string told = license.Message ?? "The reply about product " + productName + " needs a newer version of this client.";
                return new ProductState(productName, license.Action, license.Action == LicenseAction.Allow ? null : told, license);
            }

            string why = license == null && Reply != null ? "it has not been asked for yet." : LevelSentence();
            string message = "The license of product " + productName + " is not known: " + why;
            return new ProductState(productName, LicenseAction.Prompt, message, license);
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
