namespace LicenseManager.Client
{
    /// <summary>What came of one request: a failure, or the body of an answer with status 200.</summary>
    internal sealed class Exchange
    {
        private Exchange(LicenseCheckResult failure, bool mayRepeat, string body, long? retryAfter)
        {
            Failure = failure;
            MayRepeat = mayRepeat;
            Body = body;
            RetryAfter = retryAfter;
        }

        /// <summary>Why there is no body to look at; null where there is one.</summary>
        public LicenseCheckResult Failure { get; private set; }

        /// <summary>Whether to ask again at once may help.</summary>
        public bool MayRepeat { get; private set; }

        /// <summary>The body, not verified; null where there is a failure.</summary>
        public string Body { get; private set; }

        /// <summary>The seconds of a Retry-After, 0 or more.</summary>
        public long? RetryAfter { get; private set; }

        public static Exchange Failed(LicenseCheckCode code)
        {
            return new Exchange(LicenseCheckResult.FromCode(code), code != LicenseCheckCode.Timeout, null, null);
        }

        public static Exchange Refused(int status, long? retryAfter)
        {
            return new Exchange(LicenseCheckResult.FromHttpStatus(status), status == 503, null, retryAfter);
        }

        public static Exchange Answered(string body, long? retryAfter)
        {
            return new Exchange(null, false, body, retryAfter);
        }
    }
}
