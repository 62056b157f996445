using System;

namespace LicenseManager.Client
{
    /// <summary>What came does not count. It never leaves this library: outcomes are values.</summary>
    internal sealed class RefusedException : Exception
    {
        public RefusedException(LicenseCheckCode code)
        {
            Code = code;
        }

        public LicenseCheckCode Code { get; private set; }

        public static void If(bool refused, LicenseCheckCode code)
        {
            if (refused)
            {
                throw new RefusedException(code);
            }
        }
    }
}
