using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace LicenseManager.Client
{
    /// <summary>
    /// A compact JWS (RFC 7515 section 7.1) whose header is exactly alg, kid and typ. What it says is not verified before
    /// <see cref="SignedBy"/> has returned.
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
            RefusedException.If(token.Length > MaxLength, LicenseCheckCode.TooLarge);
            string[] parts = token.Split('.');
            RefusedException.If(parts.Length != 3, LicenseCheckCode.Malformed);
            Dictionary<string, object> header;
            try
            {
                header = ParseObject(Base64Url.Decode(parts[0]));
                unverifiedPayload = Base64Url.Decode(parts[1]);
                signature = Base64Url.Decode(parts[2]);
            }
            catch (FormatException)
            {
                throw new RefusedException(LicenseCheckCode.Malformed);
            }

            signingInput = Encoding.ASCII.GetBytes(parts[0] + "." + parts[1]);
            unverifiedKid = header.Text("kid");
            Type = header.Text("typ");
            RefusedException.If(header.Text("alg") != Algorithm, LicenseCheckCode.InvalidAlgorithm);
            RefusedException.If(!types.Contains(Type), LicenseCheckCode.InvalidType);
            RefusedException.If(unverifiedKid == null || header.Count != 3, LicenseCheckCode.InvalidHeader);
        }

        /// <summary>Its typ, one of those that were asked for.</summary>
        public string Type { get; private set; }

        /// <summary>The parts of the token. Refused where it is not of one of these types.</summary>
        public static Jws Parse(string token, params string[] types)
        {
            return new Jws(token, types);
        }

        /// <summary>The trusted key that has signed it. Refused where none has; the kid only tells why.</summary>
        public TrustedKey SignedBy(ICollection<TrustedKey> trusted)
        {
            TrustedKey signer = trusted.OrderByDescending(Named).FirstOrDefault(key => key.HasSigned(signingInput, signature));
            RefusedException.If(signer == null, trusted.Any(Named) ? LicenseCheckCode.InvalidSignature : LicenseCheckCode.UnknownKey);
            return signer;
        }

        /// <summary>The payload's object, to be asked for once the signature holds. Refused where it is none.</summary>
        public Dictionary<string, object> ReadClaims()
        {
            try
            {
                return ParseObject(unverifiedPayload);
            }
            catch (FormatException)
            {
                throw new RefusedException(LicenseCheckCode.MalformedClaims);
            }
        }

        private bool Named(TrustedKey key)
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
