using System;
using System.Net;
using System.Net.Http;
using System.Security.Authentication;

namespace LicenseManager.Client
{
    /// <summary>How the service is reached.</summary>
    internal sealed class Transport
    {
        private static readonly TimeSpan LongestTimeout = TimeSpan.FromMinutes(5);

        /// <summary>Shared by all: one each would leave its connections behind, and use up the ports.</summary>
        private static readonly HttpClient Shared = NewClient(new HttpClientHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            SslProtocols = SslProtocols.Tls12
        });

        private readonly string service;

        public Transport(string serviceUrl, TimeSpan timeout, HttpMessageHandler handler)
        {
            service = ParseService(serviceUrl).AbsoluteUri.TrimEnd('/');
            if (timeout <= TimeSpan.Zero || timeout > LongestTimeout)
            {
                throw new ArgumentOutOfRangeException("timeout", "The time limit is more than nothing, and 5 minutes at most.");
            }

            Timeout = timeout;
            Http = handler == null ? Shared : NewClient(handler);
        }

        public HttpClient Http { get; private set; }

        public TimeSpan Timeout { get; private set; }

        public Uri Address(string path)
        {
            return new Uri(service + path);
        }

        private static HttpClient NewClient(HttpMessageHandler handler)
        {
            return new HttpClient(handler) { Timeout = System.Threading.Timeout.InfiniteTimeSpan };
        }

        private static Uri ParseService(string serviceUrl)
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
