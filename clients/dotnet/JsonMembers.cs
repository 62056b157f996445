using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>Members of a JSON object by their type: null where one is missing or of another type.</summary>
    internal static class JsonMembers
    {
        public static string Text(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) as string;
        }

        public static long? Whole(this Dictionary<string, object> json, string name)
        {
            return json.Value(name) as long?;
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
