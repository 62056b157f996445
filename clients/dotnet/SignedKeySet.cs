using System;
using System.Collections.Generic;

namespace LicenseManager.Client
{
    /// <summary>A key set that a trusted key has signed.</summary>
    internal sealed class SignedKeySet
    {
        public const string Type = "jwk-set+jwt";

        private SignedKeySet(string token, TrustedKey signer, long issuedAt, List<TrustedKey> keys)
        {
            Token = token;
            Signer = signer;
            IssuedAt = issuedAt;
            Keys = keys;
        }

        public string Token { get; private set; }

        public TrustedKey Signer { get; private set; }

        public long IssuedAt { get; private set; }

        /// <summary>The keys in it that may be trusted; others are passed over.</summary>
        public List<TrustedKey> Keys { get; private set; }

        /// <summary>The set in the token. Refused where it does not count.</summary>
        public static SignedKeySet Parse(string token, string issuer, ICollection<TrustedKey> trusted)
        {
            Jws jws = Jws.Parse(token, Type);
            TrustedKey signer = jws.SignedBy(trusted);
            Dictionary<string, object> claims = jws.ReadClaims();
            List<Dictionary<string, object>> jwks = claims.Objects("keys");
            RefusedException.If(jwks == null || claims.Instant("iat") == null, LicenseCheckCode.MalformedClaims);
            RefusedException.If(claims.Text("iss") != issuer, LicenseCheckCode.IssuerMismatch);
            return new SignedKeySet(token, signer, claims.Instant("iat").Value, Usable(jwks));
        }

        private static List<TrustedKey> Usable(List<Dictionary<string, object>> jwks)
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
                    // A key for something else, or of a later kind.
                }
            }

            return keys;
        }
    }
}
