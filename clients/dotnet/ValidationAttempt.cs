using System.Security.Cryptography;

namespace LicenseManager.Client
{
    /// <summary>One request to the service: the nonce and the products that its reply must contain.</summary>
    internal sealed class ValidationAttempt
    {
        public ValidationAttempt(string nonce, string[] productNames)
        {
            Nonce = nonce;
            ProductNames = productNames;
        }

        public string Nonce { get; private set; }

        public string[] ProductNames { get; private set; }

        /// <summary>128 random bits in base64url.</summary>
        public static string NewNonce()
        {
            using (var random = new RNGCryptoServiceProvider())
            {
                var bytes = new byte[16];
                random.GetBytes(bytes);
                return Base64Url.Encode(bytes);
            }
        }
    }
}
