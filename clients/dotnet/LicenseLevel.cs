namespace LicenseManager.Client
{
    /// <summary>How far what is known can be relied on: the first that applies.</summary>
    public enum LicenseLevel
    {
        /// <summary>No good reply is stored: prompt, never disable.</summary>
        NeverChecked,

        /// <summary>The clock is behind what it was: prompt, and disable only what the stored reply disables.</summary>
        ClockTurnedBack,

        /// <summary>The stored reply has expired: prompt, and disable only what it disables.</summary>
        Expired,

        /// <summary>The stored reply is new enough: as it says.</summary>
        Fresh,

        /// <summary>The last try failed, but the stored reply still counts: as it says.</summary>
        Unreachable,

        /// <summary>The stored reply should be refreshed in the background: as it says.</summary>
        Aged
    }
}
