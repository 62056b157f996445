using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using System.Text;
using System.Xml;

namespace LicenseManager.Client
{
    /// <summary>A public RSA key of the service, for RS256: at least 2,048 bits, exponent 65537.</summary>
    public sealed class TrustedKey
    {
        private const int MinModulusBytes = 256;
        private readonly RSAParameters parameters;

        private TrustedKey(byte[] modulus, byte[] exponent)
        {
            if (modulus.Length < MinModulusBytes || modulus[0] == 0 || (modulus.Length == MinModulusBytes && modulus[0] < 0x80))
            {
                throw new FormatException("The key has fewer than 2,048 bits, or zeros before it.");
            }

            if (Base64Url.Encode(exponent) != "AQAB")
            {
                throw new FormatException("The key's exponent is not 65537.");
            }

            parameters = new RSAParameters { Modulus = modulus, Exponent = exponent };
            string members = "{\"e\":\"AQAB\",\"kty\":\"RSA\",\"n\":\"" + Base64Url.Encode(modulus) + "\"}";
            using (SHA256 sha256 = SHA256.Create())
            {
                Thumbprint = Base64Url.Encode(sha256.ComputeHash(Encoding.ASCII.GetBytes(members)));
            }
        }

        /// <summary>The thumbprint of the key (RFC 7638), which is its kid.</summary>
        public string Thumbprint { get; private set; }

        /// <summary>Parses an RSAKeyValue element or a JWK.</summary>
        /// <exception cref="FormatException">The key is malformed, or too weak.</exception>
        public static TrustedKey Parse(string xmlOrJwk)
        {
            if (xmlOrJwk == null)
            {
                throw new ArgumentNullException("xmlOrJwk");
            }

            return xmlOrJwk.TrimStart().StartsWith("<", StringComparison.Ordinal)
                ? FromXml(xmlOrJwk)
                : FromJwk(JsonReader.ParseObject(xmlOrJwk));
        }

        /// <summary>Parses the members of a JWK (RFC 7518 section 6.3.1).</summary>
        /// <exception cref="FormatException">The key is malformed, too weak, or for another use.</exception>
        internal static TrustedKey FromJwk(Dictionary<string, object> jwk)
        {
            bool otherAlgorithm = jwk.ContainsKey("alg") && jwk.GetString("alg") != Jws.Algorithm;
            bool otherUse = jwk.ContainsKey("use") && jwk.GetString("use") != "sig";
            if (jwk.GetString("kty") != "RSA" || otherAlgorithm || otherUse)
            {
                throw new FormatException("The JWK is no RSA key for RS256 signatures.");
            }

            return new TrustedKey(Base64Url.Decode(jwk.GetString("n") ?? ""), Base64Url.Decode(jwk.GetString("e") ?? ""));
        }

        /// <summary>Whether this key signed the data with RSASSA-PKCS1-v1_5 and SHA-256.</summary>
        internal bool VerifyData(byte[] data, byte[] signature)
        {
            if (signature.Length != parameters.Modulus.Length)
            {
                return false;
            }

            try
            {
                using (var rsa = new RSACryptoServiceProvider())
                {
                    rsa.ImportParameters(parameters);
                    return rsa.VerifyData(data, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
                }
            }
            catch (CryptographicException)
            {
                return false;
            }
        }

        private static TrustedKey FromXml(string xml)
        {
            try
            {
                var document = new XmlDocument { XmlResolver = null };
                document.LoadXml(xml);
                XmlElement root = document.DocumentElement;
                if (root.Name != "RSAKeyValue" || root["Modulus"] == null || root["Exponent"] == null)
                {
                    throw new FormatException("The XML is no RSAKeyValue.");
                }

                return new TrustedKey(
                    Convert.FromBase64String(root["Modulus"].InnerText), Convert.FromBase64String(root["Exponent"].InnerText));
            }
            catch (XmlException)
            {
                throw new FormatException("The key is neither XML nor a JWK.");
            }
        }
    }
}
