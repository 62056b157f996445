using System.Globalization;

namespace LicenseManager.Client
{
    /// <summary>What became of something, as a code and as a sentence for people.</summary>
    public sealed class Outcome
    {
        internal Outcome(Reason reason, string message)
        {
            Reason = reason;
            Message = message;
        }

        /// <summary>The code.</summary>
        public Reason Reason { get; private set; }

        /// <summary>A sentence that says what is wrong and what to do; it repeats nothing of what came.</summary>
        public string Message { get; private set; }

        /// <summary>Whether it counts.</summary>
        public bool IsVerified
        {
            get { return Reason == Reason.Verified; }
        }

        /// <summary>The code and the sentence.</summary>
        public override string ToString()
        {
            return Reason + ": " + Message;
        }

        internal static Outcome Of(Reason reason)
        {
            return new Outcome(reason, Sentence(reason));
        }

        internal static Outcome OfStatus(int status)
        {
            string number = status.ToString(CultureInfo.InvariantCulture);
            // A request that the service refuses is refused again, but for a time-out and for too many requests.
            bool isRefused = status >= 400 && status < 500 && status != 408 && status != 429;
            string cure = isRefused ? ": check its address, the publisher's id and the proxy in the settings." : ": try again later.";
            return new Outcome(Reason.UnexpectedHttpStatus, "The license service answered with HTTP status " + number + cure);
        }

        private static string Sentence(Reason reason)
        {
            switch (reason)
            {
                case Reason.Verified:
                    return "It is signed by a trusted key and counts.";
                case Reason.NothingStored:
                    return "The licenses have not been checked yet: an administrator should validate them, or load a license file.";
                case Reason.Timeout:
                    return "The license service did not answer in time: try again later.";
                case Reason.ConnectionReset:
                    return "The connection to the license service broke off: try again later.";
                case Reason.Unreachable:
                    return "The license service cannot be reached: look at the network, the proxy and the firewall, and whether TLS 1.2 may pass.";
                case Reason.UnexpectedHttpStatus:
                    return "The license service answered with an error: try again later.";
                case Reason.TooLarge:
                    return "What came is larger than 1 MiB, so it is not from the license service: look at the proxy and the firewall.";
                case Reason.Malformed:
                    return "What came is nothing signed, perhaps the page of a proxy or a firewall: let the service's address pass.";
                case Reason.InvalidAlgorithm:
                    return "What came is not signed with RS256, so it is not from the license service.";
                case Reason.InvalidType:
                    return "What came is signed for another use: a license file is no reply, and a reply is no license file.";
                case Reason.InvalidHeader:
                    return "What came has a header that the license service does not write.";
                case Reason.UnknownKey:
                    return "What came is signed by a key that is not trusted here: update to a version of the product that has the newest keys.";
                case Reason.InvalidSignature:
                    return "What came was changed after it was signed, or was signed by somebody else.";
                case Reason.MalformedClaims:
                    return "What came is signed, but cannot be read: tell the publisher.";
                case Reason.IssuerMismatch:
                    return "What came is from another license service: compare the addresses in the settings of both.";
                case Reason.AudienceMismatch:
                    return "What came is about the products of another publisher.";
                case Reason.SubjectMismatch:
                    return "What came is for another environment: compare the serial numbers.";
                case Reason.NonceMismatch:
                    return "What came answers another question: somebody between here and the service repeats old replies.";
                case Reason.ProductMismatch:
                    return "What came is about other products than those asked for.";
                case Reason.OlderThanStored:
                    return "What came is older than what was seen before: take the newest.";
                case Reason.ClockTurnedBack:
                    return "This machine's clock is behind what it was: set it right.";
                case Reason.IssuedTooLongAgo:
                    return "The reply was made more than five minutes ago: compare this machine's clock with the true time.";
                case Reason.IssuedInFuture:
                    return "What came was made in the future: compare this machine's clock with the true time.";
                case Reason.CheckFailed:
                    return "The licenses could not be looked up: look at the settings and the store.";
                default:
                    return "It has expired: get a new one.";
            }
        }
    }
}
