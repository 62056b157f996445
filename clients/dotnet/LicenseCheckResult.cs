using System.Globalization;

namespace LicenseManager.Client
{
    /// <summary>The result of checking a reply, a license file or a key set: a code, and a sentence for people.</summary>
    public sealed class LicenseCheckResult
    {
        internal LicenseCheckResult(LicenseCheckCode code, string message)
        {
            Code = code;
            Message = message;
        }

        /// <summary>The code.</summary>
        public LicenseCheckCode Code { get; private set; }

        /// <summary>A sentence in English that names the fault and its remedy. It contains nothing of the checked text.</summary>
        public string Message { get; private set; }

        /// <summary>Whether a trusted key has signed it, it is meant for this environment, and it is valid.</summary>
        public bool IsVerified
        {
            get { return Code == LicenseCheckCode.Verified; }
        }

        /// <summary>The code and the sentence.</summary>
        public override string ToString()
        {
            return Code + ": " + Message;
        }

        internal static LicenseCheckResult FromCode(LicenseCheckCode code)
        {
            return new LicenseCheckResult(code, GetMessage(code));
        }

        internal static LicenseCheckResult FromHttpStatus(int status)
        {
            string number = status.ToString(CultureInfo.InvariantCulture);
            // A request that the service refuses is refused again, but for a time-out and for too many requests.
            bool isRefused = status >= 400 && status < 500 && status != 408 && status != 429;
            string remedy = isRefused ? ": check its address, the publisher's id and the proxy in the settings." : ": try again later.";
            return new LicenseCheckResult(LicenseCheckCode.UnexpectedHttpStatus, "The license service answered with HTTP status " + number + remedy);
        }

        private static string GetMessage(LicenseCheckCode code)
        {
            switch (code)
            {
                case LicenseCheckCode.Verified:
                    return "It is signed by a trusted key and counts.";
                case LicenseCheckCode.NothingStored:
                    return "The licenses have not been checked yet: an administrator should validate them, or load a license file.";
                case LicenseCheckCode.Timeout:
                    return "The license service did not answer in time: try again later.";
                case LicenseCheckCode.ConnectionReset:
                    return "The connection to the license service broke off: try again later.";
                case LicenseCheckCode.Unreachable:
                    return "The license service cannot be reached: look at the network, the proxy and the firewall, and whether TLS 1.2 may pass.";
                case LicenseCheckCode.UnexpectedHttpStatus:
                    return "The license service answered with an error: try again later.";
                case LicenseCheckCode.TooLarge:
                    return "What came is larger than 1 MiB, so it is not from the license service: look at the proxy and the firewall.";
                case LicenseCheckCode.Malformed:
                    return "What came is nothing signed, perhaps the page of a proxy or a firewall: let the service's address pass.";
                case LicenseCheckCode.InvalidAlgorithm:
                    return "What came is not signed with RS256, so it is not from the license service.";
                case LicenseCheckCode.InvalidType:
                    return "What came is signed for another use: a license file is no reply, and a reply is no license file.";
                case LicenseCheckCode.InvalidHeader:
                    return "What came has a header that the license service does not write.";
                case LicenseCheckCode.UnknownKey:
                    return "What came is signed by a key that is not trusted here: update to a version of the product that has the newest keys.";
                case LicenseCheckCode.InvalidSignature:
                    return "What came was changed after it was signed, or was signed by somebody else.";
                case LicenseCheckCode.MalformedClaims:
                    return "What came is signed, but cannot be read: tell the publisher.";
                case LicenseCheckCode.IssuerMismatch:
                    return "What came is from another license service: compare the addresses in the settings of both.";
                case LicenseCheckCode.AudienceMismatch:
                    return "What came is about the products of another publisher.";
                case LicenseCheckCode.SubjectMismatch:
                    return "What came is for another environment: compare the serial numbers.";
                case LicenseCheckCode.NonceMismatch:
                    return "What came answers another question: somebody between here and the service repeats old replies.";
                case LicenseCheckCode.ProductMismatch:
                    return "What came is about other products than those asked for.";
                case LicenseCheckCode.OlderThanStored:
                    return "What came is older than what was seen before: take the newest.";
                case LicenseCheckCode.ClockTurnedBack:
                    return "This machine's clock is behind what it was: set it right.";
                case LicenseCheckCode.IssuedTooLongAgo:
                    return "The reply was made more than five minutes ago: compare this machine's clock with the true time.";
                case LicenseCheckCode.IssuedInFuture:
                    return "What came was made in the future: compare this machine's clock with the true time.";
                case LicenseCheckCode.CheckFailed:
                    return "The licenses could not be looked up: look at the settings and the store.";
                default:
                    return "It has expired: get a new one.";
            }
        }
    }
}
