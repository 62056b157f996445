using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace LicenseManager.Client
{
    /// <summary>
    /// Reads JSON (RFC 8259) strictly: what two readers could read differently is refused. An object becomes a
    /// Dictionary of string and object, an array a List of object, a whole number a long, another one a double.
    /// </summary>
    internal sealed class JsonReader
    {
        /// <summary>How deep arrays and objects may lie in each other.</summary>
        public const int MaxDepth = 64;

        private readonly string text;
        private int at;
        private int depth;

        private JsonReader(string text)
        {
            this.text = text;
        }

        /// <summary>
        /// The object in the text. FormatException where it is none, a member stands twice in an object at any depth,
        /// something follows it, or it is nested deeper than <see cref="MaxDepth"/>.
        /// </summary>
        public static Dictionary<string, object> ParseObject(string text)
        {
            var value = Parse(text) as Dictionary<string, object>;
            if (value == null)
            {
                throw new FormatException("not a JSON object");
            }

            return value;
        }

        /// <summary>The value in the text. FormatException as above.</summary>
        public static object Parse(string text)
        {
            var reader = new JsonReader(text);
            object value = reader.Value();
            reader.SkipSpace();
            if (reader.at < text.Length)
            {
                throw new FormatException("something follows the value");
            }

            return value;
        }

        private object Value()
        {
            SkipSpace();
            switch (Peek())
            {
                case '{':
                    return Object();
                case '[':
                    return Array();
                case '"':
                    return String();
                case 't':
                    return Word("true", true);
                case 'f':
                    return Word("false", false);
                case 'n':
                    return Word("null", null);
                default:
                    return Number();
            }
        }

        private Dictionary<string, object> Object()
        {
            var members = new Dictionary<string, object>(StringComparer.Ordinal);
            Enter();
            if (!SkipIf('}'))
            {
                do
                {
                    SkipSpace();
                    string name = String();
                    Expect(':');
                    if (members.ContainsKey(name))
                    {
                        throw new FormatException("a member stands twice");
                    }

                    members.Add(name, Value());
                }
                while (SkipIf(','));
                Expect('}');
            }

            depth--;
            return members;
        }

        private List<object> Array()
        {
            var items = new List<object>();
            Enter();
            if (!SkipIf(']'))
            {
                do
                {
                    items.Add(Value());
                }
                while (SkipIf(','));
                Expect(']');
            }

            depth--;
            return items;
        }

        private string String()
        {
            if (Next() != '"')
            {
                throw new FormatException("a text is expected");
            }

            var result = new StringBuilder();
            for (char c = Next(); c != '"'; c = Next())
            {
                if (c < ' ')
                {
                    throw new FormatException("a control character in a text");
                }

                result.Append(c == '\\' ? Escaped() : c);
            }

            return result.ToString();
        }

        private char Escaped()
        {
            char c = Next();
            if (c == 'u')
            {
                int code = 0;
                for (int i = 0; i < 4; i++)
                {
                    code = (code * 16) + HexDigit(Next());
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

        private static int HexDigit(char c)
        {
            int value = "0123456789abcdef".IndexOf(char.ToLowerInvariant(c));
            if (value < 0)
            {
                throw new FormatException("no hexadecimal digit");
            }

            return value;
        }

        /// <summary>A whole number beyond a long becomes the nearest long: no instant is so large.</summary>
        private object Number()
        {
            int start = at;
            bool negative = Peek() == '-';
            if (negative)
            {
                at++;
            }

            if (Peek() == '0')
            {
                at++;
            }
            else
            {
                Digits();
            }

            int wholeEnd = at;
            if (Peek() == '.')
            {
                at++;
                Digits();
            }

            if (Peek() == 'e' || Peek() == 'E')
            {
                at++;
                if (Peek() == '+' || Peek() == '-')
                {
                    at++;
                }

                Digits();
            }

            string number = text.Substring(start, at - start);
            if (at > wholeEnd)
            {
                return Double(number);
            }

            long whole;
            bool fits = long.TryParse(number, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out whole);
            return fits ? whole : negative ? long.MinValue : long.MaxValue;
        }

        private static object Double(string number)
        {
            double value;
            return double.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out value) ? value : double.NaN;
        }

        private void Digits()
        {
            int start = at;
            while (Peek() >= '0' && Peek() <= '9')
            {
                at++;
            }

            if (at == start)
            {
                throw new FormatException("a digit is expected");
            }
        }

        private object Word(string word, object value)
        {
            if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
            {
                throw new FormatException("an unknown word");
            }

            at += word.Length;
            return value;
        }

        private void Enter()
        {
            at++;
            if (++depth > MaxDepth)
            {
                throw new FormatException("nested too deeply");
            }
        }

        private bool SkipIf(char c)
        {
            SkipSpace();
            bool found = Peek() == c;
            at += found ? 1 : 0;
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
                at++;
            }
        }

        /// <summary>The character here; NUL at the end, which begins nothing in JSON.</summary>
        private char Peek()
        {
            return at < text.Length ? text[at] : '\0';
        }

        private char Next()
        {
            if (at == text.Length)
            {
                throw new FormatException("the text ends too early");
            }

            return text[at++];
        }
    }
}
