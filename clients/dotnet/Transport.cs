using System;
using System.Net;
using System.Net.Http;
using System.Security.Authentication;

namespace LicenseManager.Client
{
    /// <summary>The address of the service and the HTTP client for it.</summary>
    internal sealed class Transport
    {
        private static readonly TimeSpan MaxTimeout = TimeSpan.FromMinutes(5);

        /// <summary>Shared by all instances: a client per instance would exhaust the ports.</summary>
        private static readonly HttpClient SharedClient = CreateClient(new HttpClientHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            SslProtocols = SslProtocols.Tls12
        });

        private readonly string baseUrl;

        public Transport(string serviceUrl, TimeSpan timeout, HttpMessageHandler handler)
        {
            baseUrl = ParseServiceUrl(serviceUrl).AbsoluteUri.TrimEnd('/');
            if (timeout <= TimeSpan.Zero || timeout > MaxTimeout)
            {
                throw new ArgumentOutOfRangeException("timeout", "The time limit is more than nothing, and 5 minutes at most.");
            }

            Timeout = timeout;
            HttpClient = handler == null ? SharedClient : CreateClient(handler);
        }

        public HttpClient HttpClient { get; private set; }

        public TimeSpan Timeout { get; private set; }

        public Uri GetUri(string path)
        {
            return new Uri(baseUrl + path);
        }

        private static HttpClient CreateClient(HttpMessageHandler handler)
        {
            return new HttpClient(handler) { Timeout = System.Threading.Timeout.InfiniteTimeSpan };
        }

        private static Uri ParseServiceUrl(string serviceUrl)
        {
            Uri uri;
            if (!Uri.TryCreate(serviceUrl, UriKind.Absolute, out uri) || uri.UserInfo + uri.Query + uri.Fragment != "")
            {
                throw new ArgumentException("The service's address is no plain absolute URL.", "serviceUrl");
            }

            if (uri.Scheme != Uri.UriSchemeHttps && !(uri.Scheme == Uri.UriSchemeHttp && IsLoopback(uri)))
            {
                throw new ArgumentException("The service's address must be https; http may go to the loopback address alone.", "serviceUrl");
            }

            return uri;
        }

        private static bool IsLoopback(Uri uri)
        {
            IPAddress address;
            bool isAddress = IPAddress.TryParse(uri.Host.Trim('[', ']'), out address);
            return isAddress ? IPAddress.IsLoopback(address) : uri.Host == "localhost";
        }
    }
}
