namespace LicenseManager.Client
{
    /// <summary>
    /// The content of an <see cref="ILicenseStore"/>. Instants are seconds since 1970 in UTC, 0 for none: a store written in X++
    /// has an int64, and no nullable types.
    /// </summary>
    public sealed class StoredLicense
    {
        /// <summary>The last good reply or license file, as it was signed; null or empty where there was none.</summary>
        public string Reply { get; set; }

        /// <summary>Signed key sets, one a line, oldest first: each leads from the pinned keys to those of the next. May be null.</summary>
        public string KeySets { get; set; }

        /// <summary>The latest iat of all verified replies and license files, by the service's clock. It shows a clock that was set back.</summary>
        public long LatestIssuedAt { get; set; }

        /// <summary>When the first try failed since the last good reply.</summary>
        public long FailingSince { get; set; }

        /// <summary>Do not try again by yourself before.</summary>
        public long RetryAt { get; set; }
    }
}
