namespace LicenseManager.Client
{
    /// <summary>What to do about a product.</summary>
    public enum LicenseAction
    {
        /// <summary>Go on.</summary>
        Allow,

        /// <summary>Tell the user, and go on.</summary>
        Prompt,

        /// <summary>Switch the feature off where that can be done, else prompt.</summary>
        Disable
    }
}
