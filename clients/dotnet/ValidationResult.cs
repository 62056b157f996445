namespace LicenseManager.Client
{
    /// <summary>The result of a validation.</summary>
    public sealed class ValidationResult
    {
        internal ValidationResult(LicenseCheckResult checkResult, LicenseCheckResult keySetCheckResult, LicenseState state)
        {
            CheckResult = checkResult;
            KeySetCheckResult = keySetCheckResult;
            State = state;
        }

        /// <summary>Whether the service's reply is verified, and otherwise why not.</summary>
        public LicenseCheckResult CheckResult { get; private set; }

        /// <summary>
        /// For the person who has pressed "Validate license": whether the products are licensed, after the reason where they could
        /// not be checked.
        /// </summary>
        public string Message
        {
            get { return CheckResult.IsVerified ? State.Summary : CheckResult.Message + " " + State.Summary; }
        }

        /// <summary>Whether the service's key set is verified, and otherwise why not; null where none was requested.</summary>
        public LicenseCheckResult KeySetCheckResult { get; private set; }

        /// <summary>The state after the validation, whether or not it succeeded.</summary>
        public LicenseState State { get; private set; }
    }
}
