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
        /// <summary>How far the clocks of this machine and of the service may be apart.</summary>
        internal const long ClockSeconds = 300;

        private readonly List<TrustedKey> pinned;

        /// <summary>
        /// A verifier that trusts these keys, each an RSAKeyValue element or a JWK: pin the service's current and its next one. Without any
        /// nothing is believed.
        /// </summary>
        /// <param name="issuer">The service's public address, as its replies name it.</param>
        /// <param name="publisherId">The publisher's GUID, with hyphens.</param>
        /// <param name="serialNumber">The environment's serial number, 1 to 128 characters.</param>
        /// <param name="pinnedKeys">The keys. FormatException where one may not be trusted.</param>
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

            Require(pinnedKeys, "pinnedKeys");
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

        /// <summary>A reply that came just now, to a question with this nonce about these products.</summary>
        public VerificationResult VerifyReply(string token, string nonce, string[] productNames, StoredLicense stored, DateTime utcNow)
        {
            Require(token, "token");
            Require(nonce, "nonce");
            Require(productNames, "productNames");
            Require(stored, "stored");
            long now = UnixTime.Of(utcNow);
            return Outcomes(stored, ring =>
            {
                VerifiedReply reply = Read(token, ring, VerifiedReply.ReplyType);
                RefusedException.If(reply.Nonce != nonce, LicenseCheckCode.NonceMismatch);
                RefusedException.If(!reply.Products.Select(each => each.ProductName).SequenceEqual(productNames), LicenseCheckCode.ProductMismatch);
                RefusedException.If(now < stored.LatestIssuedAt - ClockSeconds, LicenseCheckCode.ClockTurnedBack);
                RefusedException.If(reply.Iat < now - ClockSeconds, LicenseCheckCode.IssuedTooLongAgo);
                RefusedException.If(reply.Iat > now + ClockSeconds, LicenseCheckCode.IssuedInFuture);
                RefusedException.If(reply.Exp <= now, LicenseCheckCode.Expired);
                return reply;
            });
        }

        /// <summary>A license file that somebody loads.</summary>
        public VerificationResult VerifyLicenseFile(string token, StoredLicense stored, DateTime utcNow)
        {
            Require(token, "token");
            Require(stored, "stored");
            long now = UnixTime.Of(utcNow);
            return Outcomes(stored, ring =>
            {
                VerifiedReply file = Read(token, ring, VerifiedReply.LicenseFileType);
                RefusedException.If(file.Iat < stored.LatestIssuedAt, LicenseCheckCode.OlderThanStored);
                RefusedException.If(now < stored.LatestIssuedAt - ClockSeconds, LicenseCheckCode.ClockTurnedBack);
                RefusedException.If(file.Iat > now + ClockSeconds, LicenseCheckCode.IssuedInFuture);
                RefusedException.If(file.Exp <= now, LicenseCheckCode.Expired);
                return file;
            });
        }

        /// <summary>The reply or license file that is stored. Not checked: its age, see <see cref="LicenseState"/>.</summary>
        public VerificationResult VerifyStored(StoredLicense stored)
        {
            Require(stored, "stored");
            return Outcomes(stored, ring =>
            {
                RefusedException.If(string.IsNullOrEmpty(stored.Reply), LicenseCheckCode.NothingStored);
                return Read(stored.Reply, ring, VerifiedReply.ReplyType, VerifiedReply.LicenseFileType);
            });
        }

        /// <summary>
        /// What became of a signed key set. Where it counts, it is put into what is stored: its keys are trusted from now on.
        /// </summary>
        internal LicenseCheckResult TakeKeySet(string token, StoredLicense stored, long now)
        {
            try
            {
                KeyRing ring = Ring(stored);
                SignedKeySet set = ring.Parse(token);
                RefusedException.If(ring.Latest != null && set.IssuedAt < ring.Latest.IssuedAt, LicenseCheckCode.OlderThanStored);
                RefusedException.If(set.IssuedAt > now + ClockSeconds, LicenseCheckCode.IssuedInFuture);
                stored.KeySets = ring.With(set);
                return LicenseCheckResult.FromCode(LicenseCheckCode.Verified);
            }
            catch (RefusedException refused)
            {
                return LicenseCheckResult.FromCode(refused.Code);
            }
        }

        private static void Require(object argument, string name)
        {
            if (argument == null)
            {
                throw new ArgumentNullException(name);
            }
        }

        private KeyRing Ring(StoredLicense stored)
        {
            return new KeyRing(Issuer, pinned, stored.KeySets);
        }

        private VerifiedReply Read(string token, KeyRing ring, params string[] types)
        {
            Jws jws = Jws.Parse(token, types);
            TrustedKey signer = jws.SignedBy(ring.Keys);
            VerifiedReply reply = VerifiedReply.Parse(token, jws.Type, signer, jws.ReadClaims());
            RefusedException.If(reply.Issuer != Issuer, LicenseCheckCode.IssuerMismatch);
            RefusedException.If(reply.Audience != PublisherId, LicenseCheckCode.AudienceMismatch);
            RefusedException.If(reply.Subject != SerialNumber, LicenseCheckCode.SubjectMismatch);
            return reply;
        }

        private VerificationResult Outcomes(StoredLicense stored, Func<KeyRing, VerifiedReply> read)
        {
            try
            {
                KeyRing ring = Ring(stored);
                return new VerificationResult(LicenseCheckResult.FromCode(LicenseCheckCode.Verified), read(ring), ring);
            }
            catch (RefusedException refused)
            {
                return new VerificationResult(LicenseCheckResult.FromCode(refused.Code), null, null);
            }
        }
    }
}
