namespace LicenseManager.Client
{
    /// <summary>What a validation came to.</summary>
    public sealed class ValidationResult
    {
        internal ValidationResult(Outcome outcome, Outcome keySetOutcome, LicenseState state)
        {
            Outcome = outcome;
            KeySetOutcome = keySetOutcome;
            State = state;
        }

        /// <summary>Whether a good reply came, and why not.</summary>
        public Outcome Outcome { get; private set; }

        /// <summary>
        /// For the person who has pressed "Validate license": whether the products are licensed, after the reason where they could
        /// not be checked.
        /// </summary>
        public string Message
        {
            get { return Outcome.IsVerified ? State.Summary : Outcome.Message + " " + State.Summary; }
        }

        /// <summary>Whether a good key set came; null where none was asked for.</summary>
        public Outcome KeySetOutcome { get; private set; }

        /// <summary>What counts afterwards, whatever came.</summary>
        public LicenseState State { get; private set; }
    }
}
