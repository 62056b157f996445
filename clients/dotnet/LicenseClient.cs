using System;
using System.Net.Http;
using System.Threading.Tasks;

namespace LicenseManager.Client
{
    /// <summary>
    /// Validates licenses at the license service, and stores its signed replies. A failed validation is a result: only an invalid
    /// argument and an exception of the store throw. Thread-safe.
    /// </summary>
    public sealed class LicenseClient
    {
        /// <summary>The service's limit for one request.</summary>
        private const int MaxProducts = 200;

        private static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(5);

        private readonly LicenseCache cache;
        private readonly Transport transport;

        /// <summary>A client with a time limit of 5 seconds.</summary>
        /// <param name="serviceUrl">The address of the service: https, or http to the loopback address.</param>
        /// <param name="cache">The licenses of the environment.</param>
        public LicenseClient(string serviceUrl, LicenseCache cache)
            : this(serviceUrl, cache, DefaultTimeout)
        {
        }

        /// <summary>A client with another time limit for a whole validation, including retries and their delays.</summary>
        public LicenseClient(string serviceUrl, LicenseCache cache, TimeSpan timeout)
            : this(serviceUrl, cache, timeout, null)
        {
        }

        /// <summary>A client with another HTTP handler, for tests. The handler must not follow redirects.</summary>
        public LicenseClient(string serviceUrl, LicenseCache cache, TimeSpan timeout, HttpMessageHandler handler)
        {
            if (cache == null)
            {
                throw new ArgumentNullException("cache");
            }

            this.cache = cache;
            transport = new Transport(serviceUrl, timeout, handler);
        }

        /// <summary>
        /// Validates now, whether or not a refresh is due, and waits for the result. It does not deadlock, and calls the store only
        /// on the caller's thread. Do not call it while a page loads or in a transaction.
        /// </summary>
        public ValidationResult Validate(ValidationRequest request)
        {
            ValidationAttempt attempt = CreateAttempt(request);
            var call = new ValidationCall(transport);
            ServiceResponse response = call.PostValidation(ToJson(request, attempt));
            VerificationResult verification = cache.Verify(attempt, response);
            ServiceResponse keySet = cache.NeedsKeySet(verification) ? call.GetKeySet() : null;
            return Complete(attempt, response, verification, keySet);
        }

        /// <summary>Validates now, whether or not a refresh is due. It calls the store on thread pool threads.</summary>
        public async Task<ValidationResult> ValidateAsync(ValidationRequest request)
        {
            ValidationAttempt attempt = CreateAttempt(request);
            var call = new ValidationCall(transport);
            ServiceResponse response = await call.PostValidationAsync(ToJson(request, attempt)).ConfigureAwait(false);
            VerificationResult verification = cache.Verify(attempt, response);
            ServiceResponse keySet = cache.NeedsKeySet(verification) ? await call.GetKeySetAsync().ConfigureAwait(false) : null;
            return Complete(attempt, response, verification, keySet);
        }

        private static ValidationAttempt CreateAttempt(ValidationRequest request)
        {
            if (request == null)
            {
                throw new ArgumentNullException("request");
            }

            if (request.Products.Count == 0 || request.Products.Count > MaxProducts)
            {
                throw new ArgumentException("A question is about 1 to 200 products.", "request");
            }

            return new ValidationAttempt(ValidationAttempt.NewNonce(), request.ProductNames);
        }

        private ValidationResult Complete(
            ValidationAttempt attempt, ServiceResponse response, VerificationResult verification, ServiceResponse keySet)
        {
            LicenseCheckResult keySetCheckResult = keySet == null ? null : cache.AcceptKeySet(keySet);
            if (verification.CheckResult.Code == LicenseCheckCode.UnknownKey && keySetCheckResult.IsVerified)
            {
                verification = cache.Verify(attempt, response);
            }

            cache.StoreResult(verification, response.RetryAfterSeconds);
            return new ValidationResult(verification.CheckResult, keySetCheckResult, cache.GetState(attempt.ProductNames));
        }

        private string ToJson(ValidationRequest request, ValidationAttempt attempt)
        {
            return request.ToJson(cache.Verifier.PublisherId, cache.Verifier.SerialNumber, attempt.Nonce);
        }
    }
}
