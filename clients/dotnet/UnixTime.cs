using System;
using System.Globalization;

namespace LicenseManager.Client
{
    /// <summary>Instants as seconds since 1970 (RFC 7519).</summary>
    internal static class UnixTime
    {
        /// <summary>The last second of the year 9999, after which a DateTime knows none.</summary>
        public const long Last = 253402300799;

        private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        /// <summary>The seconds of an instant in UTC, rounded down.</summary>
        public static long Of(DateTime instant)
        {
            return (long)Math.Floor((instant - Epoch).TotalSeconds);
        }

        /// <summary>The seconds of an instant such as 2026-12-20T12:00:00Z, in just this form; null where it is none.</summary>
        public static long? Parse(string text)
        {
            DateTime instant;
            return DateTime.TryParseExact(
                text,
                "yyyy-MM-dd'T'HH:mm:ss'Z'",
                CultureInfo.InvariantCulture,
                DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal,
                out instant) ? Of(instant) : (long?)null;
        }

        /// <summary>The instant in UTC; of seconds beyond what is an instant, the nearest that is.</summary>
        public static DateTime ToDateTime(long seconds)
        {
            return Epoch.AddSeconds(Math.Max(0, Math.Min(Last, seconds)));
        }
    }
}
