using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>Members of a JSON object by their type: null where one is missing or of another type.</summary>
    internal static class JsonMembers
    {
        private static readonly string[] InstantFormats = { "yyyy-MM-dd'T'HH:mm:ssK", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFFK" };

        public static string Text(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) as string;
        }

        public static long? Whole(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) as long?;
        }

        /// <summary>An integer of 32 bits.</summary>
        public static int? GetInt32(this Dictionary<string, object> json, string name)
        {
            long? value = json.Whole(name);
            return value >= int.MinValue && value <= int.MaxValue ? (int?)value : null;
        }

        /// <summary>A calendar date such as 2026-12-20: midnight, of unspecified kind.</summary>
        public static DateTime? GetDate(this Dictionary<string, object> json, string name)
        {
            DateTime date;
            bool isDate = DateTime.TryParseExact(
                json.Text(name), "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out date);
            return isDate ? date : (DateTime?)null;
        }

        /// <summary>An RFC 3339 instant such as 2026-12-20T12:00:00.000000Z, in UTC.</summary>
        public static DateTime? GetUtcDateTime(this Dictionary<string, object> json, string name)
        {
            DateTime instant;
            bool isInstant = DateTime.TryParseExact(
                json.Text(name), InstantFormats, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal, out instant);
            return isInstant && instant.Kind == DateTimeKind.Utc ? instant : (DateTime?)null;
        }

        /// <summary>An instant as a JWT has it: seconds from 1970 to the end of the year 9999.</summary>
        public static long? Instant(this Dictionary<string, object> json, string name)
        {
            long? seconds = json.Whole(name);
            return seconds >= 0 && seconds <= UnixTime.Last ? seconds : null;
        }

        public static bool IsTrue(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) as bool? == true;
        }

        /// <summary>Whether there is such a member, other than null.</summary>
        public static bool Has(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) != null;
        }

        /// <summary>A list of objects; null where it is no list, or anything else is in it.</summary>
        public static List<Dictionary<string, object>> Objects(this Dictionary<string, object> json, string name)
        {
            var items = json.Value(name) as List<object>;
            return items == null || items.Any(item => !(item is Dictionary<string, object>))
                ? null
                : items.Cast<Dictionary<string, object>>().ToList();
        }

        /// <summary>The texts of a list; none where it is no list.</summary>
        public static List<string> Texts(this Dictionary<string, object> json, string name)
        {
            return (json.Value(name) as List<object> ?? new List<object>()).OfType<string>().ToList();
        }

        private static object Value(this Dictionary<string, object> json, string name)
        {
            object value;
            return json.TryGetValue(name, out value) ? value : null;
        }
    }
}
