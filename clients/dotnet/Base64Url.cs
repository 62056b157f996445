using System;

namespace LicenseManager.Client
{
    /// <summary>Unpadded base64url (RFC 7515 section 2) in canonical form: exactly one text for the same bytes.</summary>
    internal static class Base64Url
    {
        public static string Encode(byte[] data)
        {
            return Convert.ToBase64String(data).TrimEnd('=').Replace('+', '-').Replace('/', '_');
        }

        /// <summary>Decodes a text.</summary>
        /// <exception cref="FormatException">The text is not what Encode returns for any bytes.</exception>
        public static byte[] Decode(string text)
        {
            string padded = text.Replace('-', '+').Replace('_', '/') + new string('=', (4 - (text.Length % 4)) % 4);
            byte[] data = Convert.FromBase64String(padded);
            if (Encode(data) != text)
            {
                throw new FormatException("not canonical base64url");
            }

            return data;
        }
    }
}
