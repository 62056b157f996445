namespace LicenseManager.Client
{
    /// <summary>How far the stored reply can be relied on. The first that applies.</summary>
    public enum LicenseFreshness
    {
        /// <summary>No valid reply is stored: prompt, never disable.</summary>
        NeverChecked,

        /// <summary>The clock was set back: prompt, and disable only what the stored reply disables.</summary>
        ClockTurnedBack,

        /// <summary>The stored reply has expired: prompt, and disable only what it disables.</summary>
        Expired,

        /// <summary>The stored reply is fresh: it applies.</summary>
        Fresh,

        /// <summary>The last validation failed; the stored reply has not expired and applies.</summary>
        Unreachable,

        /// <summary>The stored reply applies, and should be refreshed in the background.</summary>
        Aged
    }
}
