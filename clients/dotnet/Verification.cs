namespace LicenseManager.Client
{
    /// <summary>What became of a reply or license file.</summary>
    public sealed class Verification
    {
        internal Verification(Outcome outcome, VerifiedReply reply)
        {
            Outcome = outcome;
            Reply = reply;
        }

        /// <summary>Whether it counts, and why not.</summary>
        public Outcome Outcome { get; private set; }

        /// <summary>What it says; null where it does not count.</summary>
        public VerifiedReply Reply { get; private set; }
    }
}
