using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>A reply or license file that a trusted key has signed, for this environment.</summary>
    public sealed class VerifiedReply
    {
        internal const string ReplyType = "license-reply+jwt";
        internal const string LicenseFileType = "license-file+jwt";

        private VerifiedReply()
        {
        }

        /// <summary>It as it was signed.</summary>
        public string Token { get; private set; }

        /// <summary>Whether it is a license file for a closed network, not a reply.</summary>
        public bool IsLicenseFile { get; private set; }

        /// <summary>When it was made, by the service's clock, in UTC.</summary>
        public DateTime IssuedAt
        {
            get { return UnixTime.ToDateTime(Iat); }
        }

        /// <summary>When to validate again, in UTC.</summary>
        public DateTime RefreshAfter
        {
            get { return UnixTime.ToDateTime(RefreshAfterSeconds); }
        }

        /// <summary>Until when it counts where the service cannot be reached, in UTC.</summary>
        public DateTime ExpiresAt
        {
            get { return UnixTime.ToDateTime(Exp); }
        }

        /// <summary>Whether the service could not look, so that the records were up to a day old.</summary>
        public bool IsStale { get; private set; }

        /// <summary>Whom to ask; may be empty.</summary>
        public string SupportEmail { get; private set; }

        /// <summary>The licenses, one for each product asked for, in that order.</summary>
        public IList<ProductLicense> Products { get; private set; }

        /// <summary>Notices that are open or start within seven days.</summary>
        public IList<Notice> Notices { get; private set; }

        internal TrustedKey Signer { get; private set; }

        internal string Issuer { get; private set; }

        internal string Audience { get; private set; }

        internal string Subject { get; private set; }

        internal string Nonce { get; private set; }

        internal long Iat { get; private set; }

        internal long RefreshAfterSeconds { get; private set; }

        internal long Exp { get; private set; }

        /// <summary>The license of a product, by its exact name; null where the reply does not name the product.</summary>
        public ProductLicense FindProduct(string productName)
        {
            return Products.FirstOrDefault(product => product.ProductName == productName);
        }

        /// <summary>What the claims say. Refused where what everybody needs is not there.</summary>
        internal static VerifiedReply Parse(string token, string type, TrustedKey signer, Dictionary<string, object> claims)
        {
            long? iat = claims.Instant("iat");
            long? exp = claims.Instant("exp");
            long? refreshAfter = claims.Instant("refreshAfter");
            List<Dictionary<string, object>> products = claims.Objects("products");
            bool readable = iat != null && exp != null && refreshAfter != null && products != null;
            RefusedException.If(!readable || products.Any(each => each.Text("productName") == null), LicenseCheckCode.MalformedClaims);
            return new VerifiedReply
            {
                Token = token,
                IsLicenseFile = type == LicenseFileType,
                Signer = signer,
                Issuer = claims.Text("iss"),
                Audience = claims.Text("aud"),
                Subject = claims.Text("sub"),
                Nonce = claims.Text("nonce"),
                Iat = iat.Value,
                Exp = exp.Value,
                RefreshAfterSeconds = refreshAfter.Value,
                IsStale = claims.IsTrue("stale"),
                SupportEmail = claims.Text("supportEmail") ?? "",
                Products = products.Select(each => new ProductLicense(each)).ToList().AsReadOnly(),
                Notices = (claims.Objects("notices") ?? products.GetRange(0, 0)).Select(each => new Notice(each)).ToList().AsReadOnly()
            };
        }
    }
}
