using System.Globalization;
using System.Text;

namespace LicenseManager.Client
{
    /// <summary>Writes JSON (RFC 8259). The caller must close every bracket. A member that is null is omitted.</summary>
    internal sealed class JsonWriter
    {
        private readonly StringBuilder text = new StringBuilder();

        public JsonWriter Begin(char bracket)
        {
            Separate();
            text.Append(bracket);
            return this;
        }

        public JsonWriter End(char bracket)
        {
            text.Append(bracket);
            return this;
        }

        public JsonWriter Name(string name)
        {
            Separate();
            Quote(name);
            text.Append(':');
            return this;
        }

        public JsonWriter Member(string name, string value)
        {
            return value == null ? this : Name(name).Quote(value);
        }

        public JsonWriter Member(string name, bool value)
        {
            return Name(name).Raw(value ? "true" : "false");
        }

        public JsonWriter Member(string name, long? value)
        {
            return value == null ? this : Name(name).Raw(value.Value.ToString(CultureInfo.InvariantCulture));
        }

        public override string ToString()
        {
            return text.ToString();
        }

        private JsonWriter Raw(string value)
        {
            text.Append(value);
            return this;
        }

        private JsonWriter Quote(string value)
        {
            text.Append('"');
            foreach (char c in value)
            {
                if (c == '"' || c == '\\')
                {
                    text.Append('\\').Append(c);
                }
                else if (c < ' ' || char.IsSurrogate(c))
                {
                    // UTF-8 cannot encode an unpaired surrogate.
                    text.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
                }
                else
                {
                    text.Append(c);
                }
            }

            return Raw("\"");
        }

        private void Separate()
        {
            if (text.Length > 0 && "{[:,".IndexOf(text[text.Length - 1]) < 0)
            {
                text.Append(',');
            }
        }
    }
}
