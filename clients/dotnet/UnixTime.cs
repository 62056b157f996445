using System;
using System.Globalization;

namespace LicenseManager.Client
{
    /// <summary>Instants as seconds since 1970 (RFC 7519).</summary>
    internal static class UnixTime
    {
        /// <summary>The last second of the year 9999, the latest of DateTime.</summary>
        public const long MaxSeconds = 253402300799;

        private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        /// <summary>The seconds of an instant in UTC, rounded down.</summary>
        public static long FromDateTime(DateTime utc)
        {
            return (long)Math.Floor((utc - Epoch).TotalSeconds);
        }

        /// <summary>The seconds of an instant in exactly this form: 2026-12-20T12:00:00Z. Null for any other text.</summary>
        public static long? ParseInstant(string text)
        {
            DateTime instant;
            return DateTime.TryParseExact(
                text,
                "yyyy-MM-dd'T'HH:mm:ss'Z'",
                CultureInfo.InvariantCulture,
                DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal,
                out instant) ? FromDateTime(instant) : (long?)null;
        }

        /// <summary>The instant in UTC, limited to the years 1970 to 9999.</summary>
        public static DateTime ToDateTime(long seconds)
        {
            return Epoch.AddSeconds(Math.Max(0, Math.Min(MaxSeconds, seconds)));
        }
    }
}
