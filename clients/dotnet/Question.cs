using System.Security.Cryptography;

namespace LicenseManager.Client
{
    /// <summary>One validation: what it asks for, under a nonce of its own.</summary>
    internal sealed class Question
    {
        public Question(string nonce, string[] productNames)
        {
            Nonce = nonce;
            ProductNames = productNames;
        }

        public string Nonce { get; private set; }

        public string[] ProductNames { get; private set; }

        /// <summary>128 random bits, in base64url.</summary>
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
