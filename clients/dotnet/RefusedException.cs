using System;

namespace LicenseManager.Client
{
    /// <summary>What came does not count. It never leaves this library: outcomes are values.</summary>
    internal sealed class RefusedException : Exception
    {
        public RefusedException(Reason reason)
        {
            Reason = reason;
        }

        public Reason Reason { get; private set; }

        public static void If(bool refused, Reason reason)
        {
            if (refused)
            {
                throw new RefusedException(reason);
            }
        }
    }
}
