using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>Typed members of a JSON object: null where a member is missing or of another type.</summary>
    internal static class JsonExtensions
    {
        private static readonly string[] InstantFormats = { "yyyy-MM-dd'T'HH:mm:ssK", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFFK" };

        public static string GetString(this Dictionary<string, object> json, string name)
        {
            return json.GetValue(name) as string;
        }

        public static long? GetInt64(this Dictionary<string, object> json, string name)
        {
            return json.GetValue(name) as long?;
        }

        public static int? GetInt32(this Dictionary<string, object> json, string name)
        {
            long? value = json.GetInt64(name);
            return value >= int.MinValue && value <= int.MaxValue ? (int?)value : null;
        }

        /// <summary>A calendar date such as 2026-12-20: midnight, of unspecified kind.</summary>
        public static DateTime? GetDate(this Dictionary<string, object> json, string name)
        {
            DateTime date;
            bool isDate = DateTime.TryParseExact(
                json.GetString(name), "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out date);
            return isDate ? date : (DateTime?)null;
        }

        /// <summary>An RFC 3339 instant such as 2026-12-20T12:00:00.000000Z, in UTC.</summary>
        public static DateTime? GetUtcDateTime(this Dictionary<string, object> json, string name)
        {
            DateTime instant;
            bool isInstant = DateTime.TryParseExact(
                json.GetString(name), InstantFormats, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal, out instant);
            return isInstant && instant.Kind == DateTimeKind.Utc ? instant : (DateTime?)null;
        }

        /// <summary>A NumericDate of a JWT (RFC 7519): seconds from 1970 to the end of the year 9999.</summary>
        public static long? GetUnixSeconds(this Dictionary<string, object> json, string name)
        {
            long? seconds = json.GetInt64(name);
            return seconds >= 0 && seconds <= UnixTime.MaxSeconds ? seconds : null;
        }

        public static bool IsTrue(this Dictionary<string, object> json, string name)
        {
            return json.GetValue(name) as bool? == true;
        }

        /// <summary>Whether the member exists and is not null.</summary>
        public static bool HasValue(this Dictionary<string, object> json, string name)
        {
            return json.GetValue(name) != null;
        }

        /// <summary>A list of objects; null where it is not a list, or contains anything else.</summary>
        public static List<Dictionary<string, object>> GetObjects(this Dictionary<string, object> json, string name)
        {
            var items = json.GetValue(name) as List<object>;
            return items == null || items.Any(item => !(item is Dictionary<string, object>))
                ? null
                : items.Cast<Dictionary<string, object>>().ToList();
        }

        /// <summary>The strings of a list; empty where it is not a list.</summary>
        public static List<string> GetStrings(this Dictionary<string, object> json, string name)
        {
            return (json.GetValue(name) as List<object> ?? new List<object>()).OfType<string>().ToList();
        }

        private static object GetValue(this Dictionary<string, object> json, string name)
        {
            object value;
            return json.TryGetValue(name, out value) ? value : null;
        }
    }
}
