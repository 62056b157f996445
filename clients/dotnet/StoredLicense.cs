namespace LicenseManager.Client
{
    /// <summary>What is kept between two uses. Instants are seconds since 1970 in UTC, 0 where there is none.</summary>
    public sealed class StoredLicense
    {
        /// <summary>The last good reply or license file, as it was signed; null or empty where there was none.</summary>
        public string Reply { get; set; }

        /// <summary>Signed key sets, one a line, oldest first: each leads from the pinned keys to those of the next. May be null.</summary>
        public string KeySets { get; set; }

        /// <summary>When the newest good reply or license file was made, by the service's clock.</summary>
        public long LatestIat { get; set; }

        /// <summary>When the first try failed since the last good reply.</summary>
        public long FailingSince { get; set; }

        /// <summary>Do not try again by yourself before.</summary>
        public long RetryAt { get; set; }
    }
}
