namespace LicenseManager.Client
{
    /// <summary>The result of verifying a reply or license file.</summary>
    public sealed class VerificationResult
    {
        internal VerificationResult(LicenseCheckResult checkResult, VerifiedReply reply, KeyRing keyRing)
        {
            CheckResult = checkResult;
            Reply = reply;
            KeyRing = keyRing;
        }

        /// <summary>Whether the reply is verified, and otherwise why not.</summary>
        public LicenseCheckResult CheckResult { get; private set; }

        /// <summary>The verified content; null where it is not verified.</summary>
        public VerifiedReply Reply { get; private set; }

        /// <summary>The keys that were trusted; null where it is not verified.</summary>
        internal KeyRing KeyRing { get; private set; }
    }
}
