using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// Verifies replies, license files and key sets for one environment of one publisher. It reads no clock, no store and no network.
    /// Thread-safe. A failed check is a result; only an invalid argument throws.
    /// </summary>
    public sealed class ReplyVerifier
    {
        /// <summary>The accepted difference between the clocks of this machine and of the service.</summary>
        internal const long ClockSkewSeconds = 300;

        private readonly List<TrustedKey> pinned;

        /// <summary>
        /// A verifier that trusts these keys, each an RSAKeyValue element or a JWK: pin the service's current and next key. Without a
        /// key nothing is verified.
        /// </summary>
        /// <param name="issuer">The service's public address, the iss of its replies.</param>
        /// <param name="publisherId">The publisher's GUID, with hyphens.</param>
        /// <param name="serialNumber">The environment's serial number, 1 to 128 characters.</param>
        /// <param name="pinnedKeys">The keys.</param>
        /// <exception cref="FormatException">A key is malformed, or too weak.</exception>
        public ReplyVerifier(string issuer, string publisherId, string serialNumber, params string[] pinnedKeys)
        {
            Guid guid;
            if (string.IsNullOrEmpty(issuer))
            {
                throw new ArgumentException("The issuer is missing: it is the public address of the license service.", "issuer");
            }

            if (!Guid.TryParseExact(publisherId, "D", out guid))
            {
                throw new ArgumentException("The publisher's id is no GUID with hyphens.", "publisherId");
            }

            if (string.IsNullOrEmpty(serialNumber) || serialNumber.Length > 128)
            {
                throw new ArgumentException("The serial number has 1 to 128 characters.", "serialNumber");
            }

            ThrowIfNull(pinnedKeys, "pinnedKeys");
            Issuer = issuer;
            PublisherId = publisherId.ToLowerInvariant();
            SerialNumber = serialNumber;
            pinned = pinnedKeys.Select(TrustedKey.Parse).ToList();
        }

        /// <summary>The service's public address.</summary>
        public string Issuer { get; private set; }

        /// <summary>The publisher's GUID in lower case.</summary>
        public string PublisherId { get; private set; }

        /// <summary>The environment's serial number.</summary>
        public string SerialNumber { get; private set; }

        /// <summary>Verifies a reply that arrived now, to a request with this nonce for these products.</summary>
        public VerificationResult VerifyReply(string token, string nonce, string[] productNames, StoredLicense stored, DateTime utcNow)
        {
            ThrowIfNull(token, "token");
            ThrowIfNull(nonce, "nonce");
            ThrowIfNull(productNames, "productNames");
            ThrowIfNull(stored, "stored");
            long now = UnixTime.FromDateTime(utcNow);
            return Verify(stored, keyRing =>
            {
                VerifiedReply reply = ReadToken(token, keyRing, VerifiedReply.ReplyType);
                LicenseCheckException.ThrowIf(reply.Nonce != nonce, LicenseCheckCode.NonceMismatch);
                LicenseCheckException.ThrowIf(
                    !reply.Products.Select(each => each.ProductName).SequenceEqual(productNames), LicenseCheckCode.ProductMismatch);
                LicenseCheckException.ThrowIf(now < stored.LatestIssuedAt - ClockSkewSeconds, LicenseCheckCode.ClockTurnedBack);
                LicenseCheckException.ThrowIf(reply.IssuedAtSeconds < now - ClockSkewSeconds, LicenseCheckCode.IssuedTooLongAgo);
                LicenseCheckException.ThrowIf(reply.IssuedAtSeconds > now + ClockSkewSeconds, LicenseCheckCode.IssuedInFuture);
                LicenseCheckException.ThrowIf(reply.ExpiresAtSeconds <= now, LicenseCheckCode.Expired);
                return reply;
            });
        }

        /// <summary>Verifies a license file that a user loads.</summary>
        public VerificationResult VerifyLicenseFile(string token, StoredLicense stored, DateTime utcNow)
        {
            ThrowIfNull(token, "token");
            ThrowIfNull(stored, "stored");
            long now = UnixTime.FromDateTime(utcNow);
            return Verify(stored, keyRing =>
            {
                VerifiedReply file = ReadToken(token, keyRing, VerifiedReply.LicenseFileType);
                LicenseCheckException.ThrowIf(file.IssuedAtSeconds < stored.LatestIssuedAt, LicenseCheckCode.OlderThanStored);
                LicenseCheckException.ThrowIf(now < stored.LatestIssuedAt - ClockSkewSeconds, LicenseCheckCode.ClockTurnedBack);
                LicenseCheckException.ThrowIf(file.IssuedAtSeconds > now + ClockSkewSeconds, LicenseCheckCode.IssuedInFuture);
                LicenseCheckException.ThrowIf(file.ExpiresAtSeconds <= now, LicenseCheckCode.Expired);
                return file;
            });
        }

        /// <summary>Verifies the stored reply or license file. Its age is not checked: see <see cref="LicenseState"/>.</summary>
        public VerificationResult VerifyStoredReply(StoredLicense stored)
        {
            ThrowIfNull(stored, "stored");
            return Verify(stored, keyRing =>
            {
                LicenseCheckException.ThrowIf(string.IsNullOrEmpty(stored.Reply), LicenseCheckCode.NothingStored);
                return ReadToken(stored.Reply, keyRing, VerifiedReply.ReplyType, VerifiedReply.LicenseFileType);
            });
        }

        /// <summary>
        /// Verifies a signed key set. If it is verified, it is added to <paramref name="stored"/>: then its keys are trusted.
        /// </summary>
        internal LicenseCheckResult AcceptKeySet(string token, StoredLicense stored, long now)
        {
            try
            {
                KeyRing keyRing = CreateKeyRing(stored);
                SignedKeySet keySet = keyRing.Parse(token);
                SignedKeySet latest = keyRing.LatestKeySet;
                LicenseCheckException.ThrowIf(
                    latest != null && keySet.IssuedAtSeconds < latest.IssuedAtSeconds, LicenseCheckCode.OlderThanStored);
                LicenseCheckException.ThrowIf(keySet.IssuedAtSeconds > now + ClockSkewSeconds, LicenseCheckCode.IssuedInFuture);
                stored.KeySets = keyRing.Append(keySet);
                return LicenseCheckResult.FromCode(LicenseCheckCode.Verified);
            }
            catch (LicenseCheckException exception)
            {
                return LicenseCheckResult.FromCode(exception.Code);
            }
        }

        private static void ThrowIfNull(object argument, string name)
        {
            if (argument == null)
            {
                throw new ArgumentNullException(name);
            }
        }

        private KeyRing CreateKeyRing(StoredLicense stored)
        {
            return new KeyRing(Issuer, pinned, stored.KeySets);
        }

        private VerifiedReply ReadToken(string token, KeyRing keyRing, params string[] types)
        {
            Jws jws = Jws.Parse(token, types);
            TrustedKey signer = jws.VerifySignature(keyRing.Keys);
            VerifiedReply reply = VerifiedReply.Parse(token, jws.Type, signer, jws.ReadClaims());
            LicenseCheckException.ThrowIf(reply.Issuer != Issuer, LicenseCheckCode.IssuerMismatch);
            LicenseCheckException.ThrowIf(reply.Audience != PublisherId, LicenseCheckCode.AudienceMismatch);
            LicenseCheckException.ThrowIf(reply.Subject != SerialNumber, LicenseCheckCode.SubjectMismatch);
            return reply;
        }

        private VerificationResult Verify(StoredLicense stored, Func<KeyRing, VerifiedReply> read)
        {
            try
            {
                KeyRing keyRing = CreateKeyRing(stored);
                return new VerificationResult(LicenseCheckResult.FromCode(LicenseCheckCode.Verified), read(keyRing), keyRing);
            }
            catch (LicenseCheckException exception)
            {
                return new VerificationResult(LicenseCheckResult.FromCode(exception.Code), null, null);
            }
        }
    }
}
