using System;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace LicenseManager.Client
{
    /// <summary>The HTTP requests of one validation, which share one time limit. A failed request is a result, not an exception.</summary>
    internal sealed class ValidationCall
    {
        private const int BufferBytes = 16384;
        private static readonly Encoding Latin1 = Encoding.GetEncoding("iso-8859-1");

        private readonly Transport transport;
        private readonly Stopwatch watch = Stopwatch.StartNew();

        public ValidationCall(Transport transport)
        {
            this.transport = transport;
        }

        private TimeSpan Remaining
        {
            get { return transport.Timeout - watch.Elapsed; }
        }

        public ServiceResponse PostValidation(string json)
        {
            return SendWithTimeLimit(() => CreateValidationRequest(json));
        }

        public Task<ServiceResponse> PostValidationAsync(string json)
        {
            return SendWithTimeLimitAsync(() => CreateValidationRequest(json));
        }

        public ServiceResponse GetKeySet()
        {
            return SendWithTimeLimit(CreateKeySetRequest);
        }

        public Task<ServiceResponse> GetKeySetAsync()
        {
            return SendWithTimeLimitAsync(CreateKeySetRequest);
        }

        private HttpRequestMessage CreateValidationRequest(string json)
        {
            return new HttpRequestMessage(HttpMethod.Post, transport.GetUri("/api/v1/licenses/validate"))
            {
                Content = new StringContent(json, new UTF8Encoding(false), "application/json")
            };
        }

        private HttpRequestMessage CreateKeySetRequest()
        {
            return new HttpRequestMessage(HttpMethod.Get, transport.GetUri("/api/v1/keys/signed"));
        }

        /// <summary>The time limit applies even if the thread pool is exhausted: the wait ends without a pool thread.</summary>
        private ServiceResponse SendWithTimeLimit(Func<HttpRequestMessage> createRequest)
        {
            TimeSpan remaining = Remaining;
            if (remaining <= TimeSpan.Zero)
            {
                return ServiceResponse.FromFailure(LicenseCheckCode.Timeout);
            }

            // Not disposed: an abandoned request may still use it.
            var cancellation = new CancellationTokenSource();
            Task<ServiceResponse> sending = Task.Factory.StartNew(
                () => SendWithRetryAsync(createRequest, cancellation.Token),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default).Unwrap();
            if (sending.Wait(remaining))
            {
                return sending.Result;
            }

            cancellation.Cancel();
            return ServiceResponse.FromFailure(LicenseCheckCode.Timeout);
        }

        /// <summary>The time limit applies to a name lookup too, which .NET Framework cannot cancel.</summary>
        private async Task<ServiceResponse> SendWithTimeLimitAsync(Func<HttpRequestMessage> createRequest)
        {
            TimeSpan remaining = Remaining;
            if (remaining <= TimeSpan.Zero)
            {
                return ServiceResponse.FromFailure(LicenseCheckCode.Timeout);
            }

            // Not disposed: an abandoned request may still use it.
            var cancellation = new CancellationTokenSource();
            Task<ServiceResponse> sending = SendWithRetryAsync(createRequest, cancellation.Token);
            Task first = await Task.WhenAny(sending, Task.Delay(remaining, cancellation.Token)).ConfigureAwait(false);
            cancellation.Cancel();
            return first == sending ? await sending.ConfigureAwait(false) : ServiceResponse.FromFailure(LicenseCheckCode.Timeout);
        }

        /// <summary>Sends a request, and retries once if that may succeed and Retry-After ends within the time limit.</summary>
        private async Task<ServiceResponse> SendWithRetryAsync(Func<HttpRequestMessage> createRequest, CancellationToken cancellation)
        {
            ServiceResponse first = await SendOnceAsync(createRequest(), cancellation).ConfigureAwait(false);
            TimeSpan delay = TimeSpan.FromSeconds(first.RetryAfterSeconds ?? 0) + GetJitter();
            if (!first.IsRetryable || delay >= Remaining)
            {
                return first;
            }

            try
            {
                await Task.Delay(delay, cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return ServiceResponse.FromFailure(LicenseCheckCode.Timeout);
            }

            return await SendOnceAsync(createRequest(), cancellation).ConfigureAwait(false);
        }

        private async Task<ServiceResponse> SendOnceAsync(HttpRequestMessage request, CancellationToken cancellation)
        {
            // Otherwise .NET Framework waits for "100 Continue" before it sends the body.
            request.Headers.ExpectContinue = false;
            try
            {
                using (request)
                using (HttpResponseMessage response = await transport.HttpClient
                    .SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false))
                using (cancellation.Register(response.Dispose))
                {
                    long? retryAfterSeconds = GetRetryAfterSeconds(response.Headers.RetryAfter);
                    if (response.StatusCode != HttpStatusCode.OK)
                    {
                        return ServiceResponse.FromErrorStatus((int)response.StatusCode, retryAfterSeconds);
                    }

                    string body = await ReadBodyAsync(response.Content, cancellation).ConfigureAwait(false);
                    return ServiceResponse.FromBody(body, retryAfterSeconds);
                }
            }
            catch (Exception error)
            {
                // The HTTP stacks throw exceptions of many types. Each means that nothing was checked.
                return ServiceResponse.FromFailure(cancellation.IsCancellationRequested ? LicenseCheckCode.Timeout : GetFailureCode(error));
            }
        }

        /// <summary>The body, up to one buffer more than the limit: then it is too large.</summary>
        private static async Task<string> ReadBodyAsync(HttpContent content, CancellationToken cancellation)
        {
            var body = new StringBuilder();
            var buffer = new byte[BufferBytes];
            using (Stream stream = await content.ReadAsStreamAsync().ConfigureAwait(false))
            {
                int count = 1;
                while (count > 0 && body.Length <= Jws.MaxLength)
                {
                    count = await stream.ReadAsync(buffer, 0, buffer.Length, cancellation).ConfigureAwait(false);
                    body.Append(Latin1.GetString(buffer, 0, count));
                }
            }

            return body.ToString();
        }

        private static long? GetRetryAfterSeconds(RetryConditionHeaderValue header)
        {
            if (header == null)
            {
                return null;
            }

            TimeSpan? wait = header.Delta ?? header.Date - DateTimeOffset.UtcNow;
            return wait == null ? (long?)null : Math.Max(0, (long)Math.Ceiling(wait.Value.TotalSeconds));
        }

        /// <summary>100 to 500 ms, so that environments that failed at the same time do not retry at the same time.</summary>
        private static TimeSpan GetJitter()
        {
            using (var random = new RNGCryptoServiceProvider())
            {
                var bytes = new byte[2];
                random.GetBytes(bytes);
                return TimeSpan.FromMilliseconds(100 + (BitConverter.ToUInt16(bytes, 0) % 401));
            }
        }

        /// <summary>The code of a failed request, by the innermost exception that shows the cause.</summary>
        private static LicenseCheckCode GetFailureCode(Exception error)
        {
            LicenseCheckCode code = LicenseCheckCode.Unreachable;
            for (Exception cause = error; cause != null; cause = cause.InnerException)
            {
                var web = cause as WebException;
                var socket = cause as SocketException;
                if (socket != null)
                {
                    return IsConnectionReset(socket.SocketErrorCode) ? LicenseCheckCode.ConnectionReset : LicenseCheckCode.Unreachable;
                }

                if (web != null ? IsConnectionReset(web.Status) : cause is IOException)
                {
                    code = LicenseCheckCode.ConnectionReset;
                }
            }

            return code;
        }

        private static bool IsConnectionReset(WebExceptionStatus status)
        {
            return status == WebExceptionStatus.ReceiveFailure || status == WebExceptionStatus.SendFailure
                || status == WebExceptionStatus.ConnectionClosed || status == WebExceptionStatus.KeepAliveFailure
                || status == WebExceptionStatus.ServerProtocolViolation;
        }

        private static bool IsConnectionReset(SocketError code)
        {
            return code == SocketError.ConnectionReset || code == SocketError.ConnectionAborted || code == SocketError.Shutdown;
        }
    }
}
