using System;
using System.Collections.Generic;

namespace LicenseManager.Client
{
    /// <summary>A key set that a trusted key has signed.</summary>
    internal sealed class SignedKeySet
    {
        public const string Type = "jwk-set+jwt";

        private SignedKeySet(string token, TrustedKey signer, long issuedAtSeconds, List<TrustedKey> keys)
        {
            Token = token;
            Signer = signer;
            IssuedAtSeconds = issuedAtSeconds;
            Keys = keys;
        }

        public string Token { get; private set; }

        public TrustedKey Signer { get; private set; }

        public long IssuedAtSeconds { get; private set; }

        /// <summary>The keys in the set that can be trusted; others are skipped.</summary>
        public List<TrustedKey> Keys { get; private set; }

        /// <summary>Verifies a signed key set.</summary>
        /// <exception cref="LicenseCheckException">The set is not verified.</exception>
        public static SignedKeySet Parse(string token, string issuer, ICollection<TrustedKey> trusted)
        {
            Jws jws = Jws.Parse(token, Type);
            TrustedKey signer = jws.VerifySignature(trusted);
            Dictionary<string, object> claims = jws.ReadClaims();
            List<Dictionary<string, object>> jwks = claims.GetObjects("keys");
            LicenseCheckException.ThrowIf(jwks == null || claims.GetUnixSeconds("iat") == null, LicenseCheckCode.MalformedClaims);
            LicenseCheckException.ThrowIf(claims.GetString("iss") != issuer, LicenseCheckCode.IssuerMismatch);
            return new SignedKeySet(token, signer, claims.GetUnixSeconds("iat").Value, ParseUsableKeys(jwks));
        }

        private static List<TrustedKey> ParseUsableKeys(List<Dictionary<string, object>> jwks)
        {
            var keys = new List<TrustedKey>();
            foreach (Dictionary<string, object> jwk in jwks)
            {
                try
                {
                    keys.Add(TrustedKey.FromJwk(jwk));
                }
                catch (FormatException)
                {
                    // A key for another use, or of a newer kind.
                }
            }

            return keys;
        }
    }
}
