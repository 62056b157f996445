using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace LicenseManager.Client
{
    /// <summary>
    /// A compact JWS (RFC 7515 section 7.1) whose header is exactly alg, kid and typ. Its content is not verified before
    /// <see cref="VerifySignature"/> has returned.
    /// </summary>
    internal sealed class Jws
    {
        public const string Algorithm = "RS256";
        public const int MaxLength = 1 << 20;

        private static readonly Encoding StrictUtf8 = new UTF8Encoding(false, true);

        private readonly string unverifiedKid;
        private readonly byte[] signingInput;
        private readonly byte[] unverifiedPayload;
        private readonly byte[] signature;

        private Jws(string token, string[] types)
        {
            LicenseCheckException.ThrowIf(token.Length > MaxLength, LicenseCheckCode.TooLarge);
            string[] parts = token.Split('.');
            LicenseCheckException.ThrowIf(parts.Length != 3, LicenseCheckCode.Malformed);
            Dictionary<string, object> header;
            try
            {
                header = ParseObject(Base64Url.Decode(parts[0]));
                unverifiedPayload = Base64Url.Decode(parts[1]);
                signature = Base64Url.Decode(parts[2]);
            }
            catch (FormatException)
            {
                throw new LicenseCheckException(LicenseCheckCode.Malformed);
            }

            signingInput = Encoding.ASCII.GetBytes(parts[0] + "." + parts[1]);
            unverifiedKid = header.GetString("kid");
            Type = header.GetString("typ");
            LicenseCheckException.ThrowIf(header.GetString("alg") != Algorithm, LicenseCheckCode.InvalidAlgorithm);
            LicenseCheckException.ThrowIf(!types.Contains(Type), LicenseCheckCode.InvalidType);
            LicenseCheckException.ThrowIf(unverifiedKid == null || header.Count != 3, LicenseCheckCode.InvalidHeader);
        }

        /// <summary>The header's typ, one of those that the caller accepts.</summary>
        public string Type { get; private set; }

        /// <summary>Parses a token.</summary>
        /// <exception cref="LicenseCheckException">The token is malformed, or not of one of these types.</exception>
        public static Jws Parse(string token, params string[] types)
        {
            return new Jws(token, types);
        }

        /// <summary>Returns the trusted key that signed the token. The kid is only a hint.</summary>
        /// <exception cref="LicenseCheckException">No trusted key signed it.</exception>
        public TrustedKey VerifySignature(ICollection<TrustedKey> trusted)
        {
            TrustedKey signer = trusted.OrderByDescending(IsNamedByKid).FirstOrDefault(key => key.VerifyData(signingInput, signature));
            LicenseCheckException.ThrowIf(
                signer == null, trusted.Any(IsNamedByKid) ? LicenseCheckCode.InvalidSignature : LicenseCheckCode.UnknownKey);
            return signer;
        }

        /// <summary>Reads the payload. Call it after <see cref="VerifySignature"/>.</summary>
        /// <exception cref="LicenseCheckException">The payload is not a JSON object.</exception>
        public Dictionary<string, object> ReadClaims()
        {
            try
            {
                return ParseObject(unverifiedPayload);
            }
            catch (FormatException)
            {
                throw new LicenseCheckException(LicenseCheckCode.MalformedClaims);
            }
        }

        private bool IsNamedByKid(TrustedKey key)
        {
            return key.Thumbprint == unverifiedKid;
        }

        private static Dictionary<string, object> ParseObject(byte[] utf8)
        {
            try
            {
                return JsonReader.ParseObject(StrictUtf8.GetString(utf8));
            }
            catch (DecoderFallbackException)
            {
                throw new FormatException("not UTF-8");
            }
        }
    }
}
