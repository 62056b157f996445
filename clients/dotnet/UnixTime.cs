using System;

namespace LicenseManager.Client
{
    /// <summary>Instants as seconds since 1970 (RFC 7519).</summary>
    internal static class UnixTime
    {
        private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        /// <summary>The seconds of an instant in UTC, rounded down.</summary>
        public static long Of(DateTime instant)
        {
            return (long)Math.Floor((instant - Epoch).TotalSeconds);
        }

        /// <summary>The instant in UTC; what a DateTime cannot hold becomes the nearest that it can.</summary>
        public static DateTime ToDateTime(long seconds)
        {
            long last = Of(DateTime.MaxValue);
            long first = Of(DateTime.MinValue);
            return Epoch.AddSeconds(Math.Max(first, Math.Min(last, seconds)));
        }
    }
}
