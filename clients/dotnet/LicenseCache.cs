using System;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// What an environment knows of its licenses. It keeps the last good reply as it was signed, and verifies it anew on each
    /// use. It holds nothing itself, so any number may share a store.
    /// </summary>
    public sealed class LicenseCache
    {
        internal const long LongestPauseSeconds = 60 * 60;
        private const long ShortestPauseSeconds = 60;
        private const long KeysRefreshSeconds = 24 * 60 * 60;

        private readonly ILicenseStore store;
        private readonly Func<DateTime> utcNow;

        /// <summary>What is in the store, by this machine's clock.</summary>
        public LicenseCache(ReplyVerifier verifier, ILicenseStore store)
            : this(verifier, store, () => DateTime.UtcNow)
        {
        }

        /// <summary>What is in the store, by another clock, which gives UTC.</summary>
        public LicenseCache(ReplyVerifier verifier, ILicenseStore store, Func<DateTime> utcNow)
        {
            if (verifier == null || store == null || utcNow == null)
            {
                throw new ArgumentNullException(verifier == null ? "verifier" : store == null ? "store" : "utcNow");
            }

            Verifier = verifier;
            this.store = store;
            this.utcNow = utcNow;
        }

        internal ReplyVerifier Verifier { get; private set; }

        /// <summary>What counts for these products now. Nothing is fetched: it takes about a millisecond.</summary>
        public LicenseState Current(params string[] productNames)
        {
            if (productNames == null || productNames.Contains(null))
            {
                throw new ArgumentNullException("productNames");
            }

            StoredLicense stored = store.Load();
            return LicenseState.Of(Verifier.VerifyStored(stored), stored, productNames, utcNow());
        }

        /// <summary>
        /// What counts now, by a verifier that is made here; it never throws. Where a setting is at fault or the store throws, it is
        /// prompt for every user, for the reason CheckFailed, and no refresh is due. For callers that cannot catch, as X++ within a
        /// transaction.
        /// </summary>
        public static LicenseState CurrentOrPrompt(
            string issuer, string publisherId, string serialNumber, string[] pinnedKeys, ILicenseStore store, string[] productNames)
        {
            try
            {
                return new LicenseCache(new ReplyVerifier(issuer, publisherId, serialNumber, pinnedKeys), store).Current(productNames);
            }
            catch (Exception fault)
            {
                DateTime now = DateTime.UtcNow;
                var outcome = new Outcome(Reason.CheckFailed, Outcome.Of(Reason.CheckFailed).Message + " " + fault.Message);
                var nothing = new StoredLicense { RetryAt = UnixTime.Of(now) + ShortestPauseSeconds };
                return LicenseState.Of(new Verification(outcome, null, null), nothing, productNames ?? new string[0], now);
            }
        }

        /// <summary>
        /// Whether to validate now. Where so, nobody else is told so for a minute: of all who share the store one asks, not each
        /// until a reply is there. Call it while the store is locked.
        /// </summary>
        public bool ClaimRefresh(params string[] productNames)
        {
            bool due = Current(productNames).RefreshDue;
            if (due)
            {
                StoredLicense stored = store.Load();
                stored.RetryAt = UnixTime.Of(utcNow()) + ShortestPauseSeconds;
                store.Save(stored);
            }

            return due;
        }

        /// <summary>Takes a license file, its text without white space round it, as the last good reply where it counts.</summary>
        public Outcome LoadLicenseFile(string token)
        {
            StoredLicense stored = store.Load();
            Verification verification = Verifier.VerifyLicenseFile(token, stored, utcNow());
            if (verification.Reply != null)
            {
                Keep(verification.Reply, stored);
                store.Save(stored);
            }

            return verification.Outcome;
        }

        /// <summary>What an answer is worth by the keys that are trusted now. Nothing is kept yet.</summary>
        internal Verification Verify(Question question, Exchange reply)
        {
            return reply.Failure != null
                ? new Verification(reply.Failure, null, null)
                : Verifier.VerifyReply(reply.Body, question.Nonce, question.ProductNames, store.Load(), utcNow());
        }

        /// <summary>
        /// Whether to fetch the signed key set: the reply's key is unknown; or the last set is a day old, or by another key than
        /// the reply, so that keys have rotated since, and there is a next one to get to know.
        /// </summary>
        internal bool NeedsKeySet(Verification verification)
        {
            if (verification.Reply == null)
            {
                return verification.Outcome.Reason == Reason.UnknownKey;
            }

            SignedKeySet latest = verification.Ring.Latest;
            return latest == null
                || latest.IssuedAt <= UnixTime.Of(utcNow()) - KeysRefreshSeconds
                || latest.Signer.Thumbprint != verification.Reply.Signer.Thumbprint;
        }

        /// <summary>Takes a key set that came: its keys are trusted from now on, where it counts.</summary>
        internal Outcome TakeKeySet(Exchange keySet)
        {
            if (keySet.Failure != null)
            {
                return keySet.Failure;
            }

            StoredLicense stored = store.Load();
            Outcome outcome = Verifier.TakeKeySet(keySet.Body, stored, UnixTime.Of(utcNow()));
            if (outcome.IsVerified)
            {
                store.Save(stored);
            }

            return outcome;
        }

        /// <summary>Keeps a reply that counts; else the stored one goes on counting, and the next try is put off.</summary>
        internal void Keep(Verification verification, long? retryAfter)
        {
            StoredLicense stored = store.Load();
            if (verification.Reply != null)
            {
                Keep(verification.Reply, stored);
            }
            else
            {
                PutOff(stored, retryAfter);
            }

            store.Save(stored);
        }

        private static void Keep(VerifiedReply reply, StoredLicense stored)
        {
            stored.Reply = reply.Token;
            stored.LatestIat = Math.Max(stored.LatestIat, reply.Iat);
            stored.FailingSince = 0;
            stored.RetryAt = 0;
        }

        private void PutOff(StoredLicense stored, long? retryAfter)
        {
            long now = UnixTime.Of(utcNow());
            stored.FailingSince = stored.FailingSince == 0 ? now : Math.Min(now, stored.FailingSince);
            long pause = Math.Max(retryAfter ?? now - stored.FailingSince, ShortestPauseSeconds);
            stored.RetryAt = now + Math.Min(pause, LongestPauseSeconds);
        }
    }
}
