namespace LicenseManager.Client
{
    /// <summary>What became of a reply or license file.</summary>
    public sealed class Verification
    {
        internal Verification(Outcome outcome, VerifiedReply reply, KeyRing ring)
        {
            Outcome = outcome;
            Reply = reply;
            Ring = ring;
        }

        /// <summary>Whether it counts, and why not.</summary>
        public Outcome Outcome { get; private set; }

        /// <summary>What it says; null where it does not count.</summary>
        public VerifiedReply Reply { get; private set; }

        /// <summary>The keys by which it was verified; null where it does not count.</summary>
        internal KeyRing Ring { get; private set; }
    }
}
