using System;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// The licenses of an environment. It stores the last verified reply as it was signed, and verifies it again on each use. It has
    /// no state of its own, so several instances can share a store.
    /// </summary>
    public sealed class LicenseCache
    {
        internal const long MaxRetryDelaySeconds = 60 * 60;
        private const long MinRetryDelaySeconds = 60;
        private const long KeySetRefreshSeconds = 24 * 60 * 60;

        private readonly ILicenseStore store;
        private readonly Func<DateTime> utcNow;

        /// <summary>A cache on a store, with the clock of this machine.</summary>
        public LicenseCache(ReplyVerifier verifier, ILicenseStore store)
            : this(verifier, store, () => DateTime.UtcNow)
        {
        }

        /// <summary>A cache on a store, with another clock, which must return UTC.</summary>
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
            return LicenseState.Create(Verifier.VerifyStoredReply(stored), stored, productNames, utcNow());
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
            catch (Exception exception)
            {
                DateTime now = DateTime.UtcNow;
                string message = LicenseCheckResult.FromCode(LicenseCheckCode.CheckFailed).Message + " " + exception.Message;
                var checkResult = new LicenseCheckResult(LicenseCheckCode.CheckFailed, message);
                var emptyStore = new StoredLicense { RetryAt = UnixTime.FromDateTime(now) + MinRetryDelaySeconds };
                return LicenseState.Create(new VerificationResult(checkResult, null, null), emptyStore, productNames ?? new string[0], now);
            }
        }

        /// <summary>
        /// Whether the caller should validate now. If so, it returns false to all other callers that share the store for a minute,
        /// so that only one of them validates. Call it while the store is locked.
        /// </summary>
        public bool TryBeginRefresh(params string[] productNames)
        {
            bool isDue = GetState(productNames).IsRefreshDue;
            if (isDue)
            {
                StoredLicense stored = store.Load();
                stored.RetryAt = UnixTime.FromDateTime(utcNow()) + MinRetryDelaySeconds;
                store.Save(stored);
            }

            return isDue;
        }

        /// <summary>
        /// Verifies a license file, given without surrounding white space. If it is verified, it is stored as the last good reply.
        /// </summary>
        public LicenseCheckResult LoadLicenseFile(string token)
        {
            StoredLicense stored = store.Load();
            VerificationResult verification = Verifier.VerifyLicenseFile(token, stored, utcNow());
            if (verification.Reply != null)
            {
                SetReply(stored, verification.Reply);
                store.Save(stored);
            }

            return verification.CheckResult;
        }

        /// <summary>Verifies the response to a validation by the trusted keys. It stores nothing.</summary>
        internal VerificationResult Verify(ValidationAttempt attempt, ServiceResponse response)
        {
            return response.Failure != null
                ? new VerificationResult(response.Failure, null, null)
                : Verifier.VerifyReply(response.Body, attempt.Nonce, attempt.ProductNames, store.Load(), utcNow());
        }

        /// <summary>
        /// Whether to fetch the signed key set: the reply's key is unknown, the last set is a day old, or another key signed it. In
        /// the last case keys have been rotated, and the next key must be fetched.
        /// </summary>
        internal bool NeedsKeySet(VerificationResult verification)
        {
            if (verification.Reply == null)
            {
                return verification.CheckResult.Code == LicenseCheckCode.UnknownKey;
            }

            SignedKeySet latest = verification.KeyRing.LatestKeySet;
            return latest == null
                || latest.IssuedAtSeconds <= UnixTime.FromDateTime(utcNow()) - KeySetRefreshSeconds
                || latest.Signer.Thumbprint != verification.Reply.Signer.Thumbprint;
        }

        /// <summary>Verifies a key set, and stores it if it is verified: then its keys are trusted.</summary>
        internal LicenseCheckResult AcceptKeySet(ServiceResponse response)
        {
            if (response.Failure != null)
            {
                return response.Failure;
            }

            StoredLicense stored = store.Load();
            LicenseCheckResult checkResult = Verifier.AcceptKeySet(response.Body, stored, UnixTime.FromDateTime(utcNow()));
            if (checkResult.IsVerified)
            {
                store.Save(stored);
            }

            return checkResult;
        }

        /// <summary>Stores a verified reply. After a failure the stored reply stays, and the next validation is scheduled.</summary>
        internal void StoreResult(VerificationResult verification, long? retryAfterSeconds)
        {
            StoredLicense stored = store.Load();
            if (verification.Reply != null)
            {
                SetReply(stored, verification.Reply);
            }
            else
            {
                ScheduleRetry(stored, retryAfterSeconds);
            }

            store.Save(stored);
        }

        private static void SetReply(StoredLicense stored, VerifiedReply reply)
        {
            stored.Reply = reply.Token;
            stored.LatestIssuedAt = Math.Max(stored.LatestIssuedAt, reply.IssuedAtSeconds);
            stored.FailingSince = 0;
            stored.RetryAt = 0;
        }

        private void ScheduleRetry(StoredLicense stored, long? retryAfterSeconds)
        {
            long now = UnixTime.FromDateTime(utcNow());
            stored.FailingSince = stored.FailingSince == 0 ? now : Math.Min(now, stored.FailingSince);
            long delay = Math.Max(retryAfterSeconds ?? now - stored.FailingSince, MinRetryDelaySeconds);
            stored.RetryAt = now + Math.Min(delay, MaxRetryDelaySeconds);
        }
    }
}
