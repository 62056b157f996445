using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace LicenseManager.Client
{
    /// <summary>
    /// Reads JSON (RFC 8259) strictly: a text that two readers could read differently is refused. An object becomes a
    /// Dictionary of string and object, an array a List of object, an integer a long, any other number a double.
    /// </summary>
    internal sealed class JsonReader
    {
        /// <summary>The maximum nesting depth of arrays and objects.</summary>
        public const int MaxDepth = 64;

        private readonly string text;
        private int position;
        private int depth;

        private JsonReader(string text)
        {
            this.text = text;
        }

        /// <summary>Parses a JSON object.</summary>
        /// <exception cref="FormatException">
        /// The text is not exactly one JSON object, an object in it has a duplicate member, or it is nested deeper than
        /// <see cref="MaxDepth"/>.
        /// </exception>
        public static Dictionary<string, object> ParseObject(string text)
        {
            var value = Parse(text) as Dictionary<string, object>;
            if (value == null)
            {
                throw new FormatException("not a JSON object");
            }

            return value;
        }

        /// <summary>Parses a JSON value.</summary>
        /// <exception cref="FormatException">As in <see cref="ParseObject"/>.</exception>
        public static object Parse(string text)
        {
            var reader = new JsonReader(text);
            object value = reader.ReadValue();
            reader.SkipSpace();
            if (reader.position < text.Length)
            {
                throw new FormatException("something follows the value");
            }

            return value;
        }

        private object ReadValue()
        {
            SkipSpace();
            switch (Peek())
            {
                case '{':
                    return ReadObject();
                case '[':
                    return ReadArray();
                case '"':
                    return ReadString();
                case 't':
                    return ReadLiteral("true", true);
                case 'f':
                    return ReadLiteral("false", false);
                case 'n':
                    return ReadLiteral("null", null);
                default:
                    return ReadNumber();
            }
        }

        private Dictionary<string, object> ReadObject()
        {
            var members = new Dictionary<string, object>(StringComparer.Ordinal);
            BeginNested();
            if (!SkipIf('}'))
            {
                do
                {
                    SkipSpace();
                    string name = ReadString();
                    Expect(':');
                    if (members.ContainsKey(name))
                    {
                        throw new FormatException("a member stands twice");
                    }

                    members.Add(name, ReadValue());
                }
                while (SkipIf(','));
                Expect('}');
            }

            depth--;
            return members;
        }

        private List<object> ReadArray()
        {
            var items = new List<object>();
            BeginNested();
            if (!SkipIf(']'))
            {
                do
                {
                    items.Add(ReadValue());
                }
                while (SkipIf(','));
                Expect(']');
            }

            depth--;
            return items;
        }

        private string ReadString()
        {
            if (ReadChar() != '"')
            {
                throw new FormatException("a text is expected");
            }

            var result = new StringBuilder();
            for (char c = ReadChar(); c != '"'; c = ReadChar())
            {
                if (c < ' ')
                {
                    throw new FormatException("a control character in a text");
                }

                result.Append(c == '\\' ? ReadEscape() : c);
            }

            return result.ToString();
        }

        private char ReadEscape()
        {
            char c = ReadChar();
            if (c == 'u')
            {
                int code = 0;
                for (int i = 0; i < 4; i++)
                {
                    code = (code * 16) + ParseHexDigit(ReadChar());
                }

                return (char)code;
            }

            int index = "\"\\/bfnrt".IndexOf(c);
            if (index < 0)
            {
                throw new FormatException("an unknown escape");
            }

            return "\"\\/\b\f\n\r\t"[index];
        }

        private static int ParseHexDigit(char c)
        {
            int value = "0123456789abcdef".IndexOf(char.ToLowerInvariant(c));
            if (value < 0)
            {
                throw new FormatException("no hexadecimal digit");
            }

            return value;
        }

        /// <summary>An integer out of the range of long becomes the nearest long: no instant is so large.</summary>
        private object ReadNumber()
        {
            int start = position;
            bool negative = Peek() == '-';
            if (negative)
            {
                position++;
            }

            if (Peek() == '0')
            {
                position++;
            }
            else
            {
                SkipDigits();
            }

            int wholeEnd = position;
            if (Peek() == '.')
            {
                position++;
                SkipDigits();
            }

            if (Peek() == 'e' || Peek() == 'E')
            {
                position++;
                if (Peek() == '+' || Peek() == '-')
                {
                    position++;
                }

                SkipDigits();
            }

            string number = text.Substring(start, position - start);
            if (position > wholeEnd)
            {
                return ParseDouble(number);
            }

            long whole;
            bool fits = long.TryParse(number, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out whole);
            return fits ? whole : negative ? long.MinValue : long.MaxValue;
        }

        private static object ParseDouble(string number)
        {
            double value;
            return double.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out value) ? value : double.NaN;
        }

        private void SkipDigits()
        {
            int start = position;
            while (Peek() >= '0' && Peek() <= '9')
            {
                position++;
            }

            if (position == start)
            {
                throw new FormatException("a digit is expected");
            }
        }

        private object ReadLiteral(string literal, object value)
        {
            if (string.CompareOrdinal(text, position, literal, 0, literal.Length) != 0)
            {
                throw new FormatException("an unknown word");
            }

            position += literal.Length;
            return value;
        }

        private void BeginNested()
        {
            position++;
            if (++depth > MaxDepth)
            {
                throw new FormatException("nested too deeply");
            }
        }

        private bool SkipIf(char c)
        {
            SkipSpace();
            bool found = Peek() == c;
            position += found ? 1 : 0;
            return found;
        }

        private void Expect(char c)
        {
            if (!SkipIf(c))
            {
                throw new FormatException("another character is expected");
            }
        }

        private void SkipSpace()
        {
            while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r')
            {
                position++;
            }
        }

        /// <summary>The current character; NUL at the end, which begins no JSON token.</summary>
        private char Peek()
        {
            return position < text.Length ? text[position] : '\0';
        }

        private char ReadChar()
        {
            if (position == text.Length)
            {
                throw new FormatException("the text ends too early");
            }

            return text[position++];
        }
    }
}
