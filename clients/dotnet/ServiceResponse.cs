namespace LicenseManager.Client
{
    /// <summary>The result of one HTTP request: the body of a response with status 200, or a failure.</summary>
    internal sealed class ServiceResponse
    {
        private ServiceResponse(LicenseCheckResult failure, bool isRetryable, string body, long? retryAfterSeconds)
        {
            Failure = failure;
            IsRetryable = isRetryable;
            Body = body;
            RetryAfterSeconds = retryAfterSeconds;
        }

        /// <summary>Why there is no body; null where there is one.</summary>
        public LicenseCheckResult Failure { get; private set; }

        /// <summary>Whether an immediate retry may succeed.</summary>
        public bool IsRetryable { get; private set; }

        /// <summary>The body, not verified; null after a failure.</summary>
        public string Body { get; private set; }

        /// <summary>The delay of a Retry-After header, 0 or more.</summary>
        public long? RetryAfterSeconds { get; private set; }

        public static ServiceResponse FromFailure(LicenseCheckCode code)
        {
            return new ServiceResponse(LicenseCheckResult.FromCode(code), code != LicenseCheckCode.Timeout, null, null);
        }

        public static ServiceResponse FromErrorStatus(int status, long? retryAfterSeconds)
        {
            return new ServiceResponse(LicenseCheckResult.FromHttpStatus(status), status == 503, null, retryAfterSeconds);
        }

        public static ServiceResponse FromBody(string body, long? retryAfterSeconds)
        {
            return new ServiceResponse(null, false, body, retryAfterSeconds);
        }
    }
}
