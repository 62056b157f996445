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
    /// <summary>The requests of one validation: together they have one time limit. What comes, whatever it is, is a value.</summary>
    internal sealed class Call
    {
        private const int BufferBytes = 16384;
        private static readonly Encoding OneCharacterEachByte = Encoding.GetEncoding("iso-8859-1");

        private readonly Transport transport;
        private readonly Stopwatch watch = Stopwatch.StartNew();

        public Call(Transport transport)
        {
            this.transport = transport;
        }

        private TimeSpan Left
        {
            get { return transport.Timeout - watch.Elapsed; }
        }

        public Exchange PostQuestion(string json)
        {
            return Limited(() => Question(json));
        }

        public Task<Exchange> PostQuestionAsync(string json)
        {
            return LimitedAsync(() => Question(json));
        }

        public Exchange GetKeySet()
        {
            return Limited(KeySet);
        }

        public Task<Exchange> GetKeySetAsync()
        {
            return LimitedAsync(KeySet);
        }

        private HttpRequestMessage Question(string json)
        {
            return new HttpRequestMessage(HttpMethod.Post, transport.Address("/api/v1/licenses/validate"))
            {
                Content = new StringContent(json, new UTF8Encoding(false), "application/json")
            };
        }

        private HttpRequestMessage KeySet()
        {
            return new HttpRequestMessage(HttpMethod.Get, transport.Address("/api/v1/keys/signed"));
        }

        /// <summary>The limit holds where no thread of the pool is free, too: to stop waiting takes none.</summary>
        private Exchange Limited(Func<HttpRequestMessage> newRequest)
        {
            TimeSpan left = Left;
            if (left <= TimeSpan.Zero)
            {
                return Exchange.Failed(LicenseCheckCode.Timeout);
            }

            // Not disposed: what was given up may still look at it.
            var cancellation = new CancellationTokenSource();
            Task<Exchange> sending = Task.Factory.StartNew(
                () => TwiceAsync(newRequest, cancellation.Token),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default).Unwrap();
            if (sending.Wait(left))
            {
                return sending.Result;
            }

            cancellation.Cancel();
            return Exchange.Failed(LicenseCheckCode.Timeout);
        }

        /// <summary>The limit holds whatever the network does: .NET Framework cannot cancel the look-up of a name.</summary>
        private async Task<Exchange> LimitedAsync(Func<HttpRequestMessage> newRequest)
        {
            TimeSpan left = Left;
            if (left <= TimeSpan.Zero)
            {
                return Exchange.Failed(LicenseCheckCode.Timeout);
            }

            // Not disposed: what was given up may still look at it.
            var cancellation = new CancellationTokenSource();
            Task<Exchange> sending = TwiceAsync(newRequest, cancellation.Token);
            Task first = await Task.WhenAny(sending, Task.Delay(left, cancellation.Token)).ConfigureAwait(false);
            cancellation.Cancel();
            return first == sending ? await sending.ConfigureAwait(false) : Exchange.Failed(LicenseCheckCode.Timeout);
        }

        /// <summary>Asks, and once more where that may help and there is time to wait for as long as the service says.</summary>
        private async Task<Exchange> TwiceAsync(Func<HttpRequestMessage> newRequest, CancellationToken cancellation)
        {
            Exchange first = await OnceAsync(newRequest(), cancellation).ConfigureAwait(false);
            TimeSpan pause = TimeSpan.FromSeconds(first.RetryAfter ?? 0) + Jitter();
            if (!first.MayRepeat || pause >= Left)
            {
                return first;
            }

            try
            {
                await Task.Delay(pause, cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return Exchange.Failed(LicenseCheckCode.Timeout);
            }

            return await OnceAsync(newRequest(), cancellation).ConfigureAwait(false);
        }

        private async Task<Exchange> OnceAsync(HttpRequestMessage request, CancellationToken cancellation)
        {
            // Else .NET Framework waits for a "100 Continue" before it sends the body.
            request.Headers.ExpectContinue = false;
            try
            {
                using (request)
                using (HttpResponseMessage response = await transport.Http
                    .SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false))
                using (cancellation.Register(response.Dispose))
                {
                    long? retryAfter = RetryAfter(response.Headers.RetryAfter);
                    return response.StatusCode == HttpStatusCode.OK
                        ? Exchange.Answered(await ReadAsync(response.Content, cancellation).ConfigureAwait(false), retryAfter)
                        : Exchange.Refused((int)response.StatusCode, retryAfter);
                }
            }
            catch (Exception error)
            {
                // The stacks below throw what they like; whatever it is, nothing was checked.
                return Exchange.Failed(cancellation.IsCancellationRequested ? LicenseCheckCode.Timeout : GetFailureCode(error));
            }
        }

        /// <summary>The body, cut off behind the character that makes it too large.</summary>
        private static async Task<string> ReadAsync(HttpContent content, CancellationToken cancellation)
        {
            var body = new StringBuilder();
            var buffer = new byte[BufferBytes];
            using (Stream stream = await content.ReadAsStreamAsync().ConfigureAwait(false))
            {
                int count = 1;
                while (count > 0 && body.Length <= Jws.MaxLength)
                {
                    count = await stream.ReadAsync(buffer, 0, buffer.Length, cancellation).ConfigureAwait(false);
                    body.Append(OneCharacterEachByte.GetString(buffer, 0, count));
                }
            }

            return body.ToString();
        }

        private static long? RetryAfter(RetryConditionHeaderValue header)
        {
            if (header == null)
            {
                return null;
            }

            TimeSpan? wait = header.Delta ?? header.Date - DateTimeOffset.UtcNow;
            return wait == null ? (long?)null : Math.Max(0, (long)Math.Ceiling(wait.Value.TotalSeconds));
        }

        /// <summary>100 to 500 ms, so that environments that failed together do not come back together.</summary>
        private static TimeSpan Jitter()
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
                    return BrokeOff(socket.SocketErrorCode) ? LicenseCheckCode.ConnectionReset : LicenseCheckCode.Unreachable;
                }

                if (web != null ? BrokeOff(web.Status) : cause is IOException)
                {
                    code = LicenseCheckCode.ConnectionReset;
                }
            }

            return code;
        }

        private static bool BrokeOff(WebExceptionStatus status)
        {
            return status == WebExceptionStatus.ReceiveFailure || status == WebExceptionStatus.SendFailure
                || status == WebExceptionStatus.ConnectionClosed || status == WebExceptionStatus.KeepAliveFailure
                || status == WebExceptionStatus.ServerProtocolViolation;
        }

        private static bool BrokeOff(SocketError code)
        {
            return code == SocketError.ConnectionReset || code == SocketError.ConnectionAborted || code == SocketError.Shutdown;
        }
    }
}
