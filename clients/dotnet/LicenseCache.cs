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

        /// <summary>The state of these products now, by the stored reply. It uses no network and takes about a millisecond.</summary>
        public LicenseState GetState(params string[] productNames)
        {
            if (productNames == null || productNames.Contains(null))
            {
                throw new ArgumentNullException("productNames");
            }

            StoredLicense stored = store.Load();
            return LicenseState.Of(Verifier.VerifyStored(stored), stored, productNames, utcNow());
        }

        /// <summary>
        /// Like <see cref="GetState"/>, with a verifier of its own, but it never throws. Where a setting is invalid or the store
        /// throws, every product prompts every user, the code is CheckFailed, and no refresh is due. For callers that cannot catch
        /// an exception, such as X++ within a transaction.
        /// </summary>
        public static LicenseState GetStateOrPrompt(
            string issuer, string publisherId, string serialNumber, string[] pinnedKeys, ILicenseStore store, string[] productNames)
        {
            try
            {
                return new LicenseCache(new ReplyVerifier(issuer, publisherId, serialNumber, pinnedKeys), store).GetState(productNames);
            }
            catch (Exception fault)
            {
                DateTime now = DateTime.UtcNow;
                string message = LicenseCheckResult.FromCode(LicenseCheckCode.CheckFailed).Message + " " + fault.Message;
                var checkResult = new LicenseCheckResult(LicenseCheckCode.CheckFailed, message);
                var nothing = new StoredLicense { RetryAt = UnixTime.Of(now) + ShortestPauseSeconds };
                return LicenseState.Of(new VerificationResult(checkResult, null, null), nothing, productNames ?? new string[0], now);
            }
        }

        /// <summary>
        /// Whether the caller should validate now. If so, it returns false to all other callers that share the store for a minute,
        /// so that only one of them validates. Call it while the store is locked.
        /// </summary>
        public bool TryBeginRefresh(params string[] productNames)
        {
            bool due = GetState(productNames).IsRefreshDue;
            if (due)
            {
                StoredLicense stored = store.Load();
                stored.RetryAt = UnixTime.Of(utcNow()) + ShortestPauseSeconds;
                store.Save(stored);
            }

            return due;
        }

        /// <summary>Takes a license file, its text without white space round it, as the last good reply where it counts.</summary>
        public LicenseCheckResult LoadLicenseFile(string token)
        {
            StoredLicense stored = store.Load();
            VerificationResult verification = Verifier.VerifyLicenseFile(token, stored, utcNow());
            if (verification.Reply != null)
            {
                Keep(verification.Reply, stored);
                store.Save(stored);
            }

            return verification.CheckResult;
        }

        /// <summary>What an answer is worth by the keys that are trusted now. Nothing is kept yet.</summary>
        internal VerificationResult Verify(Question question, Exchange reply)
        {
            return reply.Failure != null
                ? new VerificationResult(reply.Failure, null, null)
                : Verifier.VerifyReply(reply.Body, question.Nonce, question.ProductNames, store.Load(), utcNow());
        }

        /// <summary>
        /// Whether to fetch the signed key set: the reply's key is unknown; or the last set is a day old, or by another key than
        /// the reply, so that keys have rotated since, and there is a next one to get to know.
        /// </summary>
        internal bool NeedsKeySet(VerificationResult verification)
        {
            if (verification.Reply == null)
            {
                return verification.CheckResult.Code == LicenseCheckCode.UnknownKey;
            }

            SignedKeySet latest = verification.KeyRing.Latest;
            return latest == null
                || latest.IssuedAt <= UnixTime.Of(utcNow()) - KeysRefreshSeconds
                || latest.Signer.Thumbprint != verification.Reply.Signer.Thumbprint;
        }

        /// <summary>Takes a key set that came: its keys are trusted from now on, where it counts.</summary>
        internal LicenseCheckResult TakeKeySet(Exchange keySet)
        {
            if (keySet.Failure != null)
            {
                return keySet.Failure;
            }

            StoredLicense stored = store.Load();
            LicenseCheckResult checkResult = Verifier.TakeKeySet(keySet.Body, stored, UnixTime.Of(utcNow()));
            if (checkResult.IsVerified)
            {
                store.Save(stored);
            }

            return checkResult;
        }

        /// <summary>Keeps a reply that counts; else the stored one goes on counting, and the next try is put off.</summary>
        internal void Keep(VerificationResult verification, long? retryAfter)
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
            stored.LatestIssuedAt = Math.Max(stored.LatestIssuedAt, reply.Iat);
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
