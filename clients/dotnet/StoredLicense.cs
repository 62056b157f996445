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

        /// <summary>Signed key sets, one per line, oldest first: a chain from the pinned keys to the newest set. May be null.</summary>
        public string KeySets { get; set; }

        /// <summary>The latest iat of all verified replies and license files. It reveals that this machine's clock was set back.</summary>
        public long LatestIssuedAt { get; set; }

        /// <summary>The time of the first failed validation since the last good reply.</summary>
        public long FailingSince { get; set; }

        /// <summary>No background validation is due before this time.</summary>
        public long RetryAt { get; set; }
    }
}
