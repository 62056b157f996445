using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>A reply or license file for this environment that a trusted key signed.</summary>
    public sealed class VerifiedReply
    {
        internal const string ReplyType = "license-reply+jwt";
        internal const string LicenseFileType = "license-file+jwt";

        private VerifiedReply()
        {
        }

        /// <summary>The signed text, a compact JWS.</summary>
        public string Token { get; private set; }

        /// <summary>Whether it is a license file for a closed network instead of a reply.</summary>
        public bool IsLicenseFile { get; private set; }

        /// <summary>The issue time (iat), by the service's clock, in UTC.</summary>
        public DateTime IssuedAt
        {
            get { return UnixTime.ToDateTime(IssuedAtSeconds); }
        }

        /// <summary>The time of the next validation, in UTC.</summary>
        public DateTime RefreshAfter
        {
            get { return UnixTime.ToDateTime(RefreshAfterSeconds); }
        }

        /// <summary>The expiry time (exp), in UTC: until then it applies even if the service cannot be reached.</summary>
        public DateTime ExpiresAt
        {
            get { return UnixTime.ToDateTime(ExpiresAtSeconds); }
        }

        /// <summary>Whether the service could not read its records, and answered from records of up to a day ago.</summary>
        public bool IsStale { get; private set; }

        /// <summary>The support address; may be empty.</summary>
        public string SupportEmail { get; private set; }

        /// <summary>The licenses, one for each requested product, in the order of the request.</summary>
        public IList<ProductLicense> Products { get; private set; }

        /// <summary>Notices that are open or start within seven days.</summary>
        public IList<Notice> Notices { get; private set; }

        internal TrustedKey Signer { get; private set; }

        internal string Issuer { get; private set; }

        internal string Audience { get; private set; }

        internal string Subject { get; private set; }

        internal string Nonce { get; private set; }

        internal long IssuedAtSeconds { get; private set; }

        internal long RefreshAfterSeconds { get; private set; }

        internal long ExpiresAtSeconds { get; private set; }

        /// <summary>The license of a product, by its exact name; null where the reply does not name the product.</summary>
        public ProductLicense FindProduct(string productName)
        {
            return Products.FirstOrDefault(product => product.ProductName == productName);
        }

        /// <summary>Reads the claims of a verified token.</summary>
        /// <exception cref="LicenseCheckException">A required claim is missing or malformed.</exception>
        internal static VerifiedReply Parse(string token, string type, TrustedKey signer, Dictionary<string, object> claims)
        {
            long? iat = claims.GetUnixSeconds("iat");
            long? exp = claims.GetUnixSeconds("exp");
            long? refreshAfter = claims.GetUnixSeconds("refreshAfter");
            List<Dictionary<string, object>> products = claims.GetObjects("products");
            bool isComplete = iat != null && exp != null && refreshAfter != null && products != null;
            LicenseCheckException.ThrowIf(
                !isComplete || products.Any(each => each.GetString("productName") == null), LicenseCheckCode.MalformedClaims);
            return new VerifiedReply
            {
                Token = token,
                IsLicenseFile = type == LicenseFileType,
                Signer = signer,
                Issuer = claims.GetString("iss"),
                Audience = claims.GetString("aud"),
                Subject = claims.GetString("sub"),
                Nonce = claims.GetString("nonce"),
                IssuedAtSeconds = iat.Value,
                ExpiresAtSeconds = exp.Value,
                RefreshAfterSeconds = refreshAfter.Value,
                IsStale = claims.IsTrue("stale"),
                SupportEmail = claims.GetString("supportEmail") ?? "",
                Products = products.Select(each => new ProductLicense(each)).ToList().AsReadOnly(),
                Notices = (claims.GetObjects("notices") ?? products.GetRange(0, 0)).Select(each => new Notice(each)).ToList().AsReadOnly()
            };
        }
    }
}
