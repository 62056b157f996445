using System;

namespace LicenseManager.Client
{
    /// <summary>A check failed. It never leaves this library, which returns a <see cref="LicenseCheckResult"/> instead.</summary>
    internal sealed class LicenseCheckException : Exception
    {
        public LicenseCheckException(LicenseCheckCode code)
        {
            Code = code;
        }

        public LicenseCheckCode Code { get; private set; }

        public static void ThrowIf(bool failed, LicenseCheckCode code)
        {
            if (failed)
            {
                throw new LicenseCheckException(code);
            }
        }
    }
}
