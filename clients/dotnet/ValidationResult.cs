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

        /// <summary>Whether a good key set came; null where none was asked for.</summary>
        public Outcome KeySetOutcome { get; private set; }

        /// <summary>What counts afterwards, whatever came.</summary>
        public LicenseState State { get; private set; }
    }
}
