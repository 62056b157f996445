using System;
using System.Net.Http;
using System.Threading.Tasks;

namespace LicenseManager.Client
{
    /// <summary>
    /// Asks the license service, and keeps what it has signed. Whatever comes or does not come, the answer is a value: only a
    /// fault in an argument, and what the store throws, is an exception. Safe in threads.
    /// </summary>
    public sealed class LicenseClient
    {
        /// <summary>What the service has at most in one question.</summary>
        private const int MaxProducts = 200;

        private static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(5);

        private readonly LicenseCache cache;
        private readonly Transport transport;

        /// <summary>A client with a time limit of 5 seconds.</summary>
        /// <param name="serviceUrl">Where the service is: https, or http to the loopback address.</param>
        /// <param name="cache">What the environment knows.</param>
        public LicenseClient(string serviceUrl, LicenseCache cache)
            : this(serviceUrl, cache, DefaultTimeout)
        {
        }

        /// <summary>A client with another time limit for a validation as a whole, repeats and waiting included.</summary>
        public LicenseClient(string serviceUrl, LicenseCache cache, TimeSpan timeout)
            : this(serviceUrl, cache, timeout, null)
        {
        }

        /// <summary>A client over another way to send requests, for tests. The handler must not follow redirects.</summary>
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
        /// Asks now, whether or not it is due, and waits. It does not deadlock, and calls the store on the caller's thread
        /// alone. Do not call it while a page loads or in a transaction.
        /// </summary>
        public ValidationResult Validate(ValidationRequest request)
        {
            Question question = Check(request);
            var call = new Call(transport);
            Exchange reply = call.PostQuestion(ToJson(request, question));
            VerificationResult verification = cache.Verify(question, reply);
            Exchange keySet = cache.NeedsKeySet(verification) ? call.GetKeySet() : null;
            return Take(question, reply, verification, keySet);
        }

        /// <summary>Asks now, whether or not it is due. It calls the store on threads of the pool.</summary>
        public async Task<ValidationResult> ValidateAsync(ValidationRequest request)
        {
            Question question = Check(request);
            var call = new Call(transport);
            Exchange reply = await call.PostQuestionAsync(ToJson(request, question)).ConfigureAwait(false);
            VerificationResult verification = cache.Verify(question, reply);
            Exchange keySet = cache.NeedsKeySet(verification) ? await call.GetKeySetAsync().ConfigureAwait(false) : null;
            return Take(question, reply, verification, keySet);
        }

        private static Question Check(ValidationRequest request)
        {
            if (request == null)
            {
                throw new ArgumentNullException("request");
            }

            if (request.Products.Count == 0 || request.Products.Count > MaxProducts)
            {
                throw new ArgumentException("A question is about 1 to 200 products.", "request");
            }

            return new Question(Question.NewNonce(), request.ProductNames);
        }

        private ValidationResult Take(Question question, Exchange reply, VerificationResult verification, Exchange keySet)
        {
            LicenseCheckResult keySetCheckResult = keySet == null ? null : cache.TakeKeySet(keySet);
            if (verification.CheckResult.Code == LicenseCheckCode.UnknownKey && keySetCheckResult.IsVerified)
            {
                verification = cache.Verify(question, reply);
            }

            cache.Keep(verification, reply.RetryAfter);
            return new ValidationResult(verification.CheckResult, keySetCheckResult, cache.GetState(question.ProductNames));
        }

        private string ToJson(ValidationRequest request, Question question)
        {
            return request.ToJson(cache.Verifier.PublisherId, cache.Verifier.SerialNumber, question.Nonce);
        }
    }
}
