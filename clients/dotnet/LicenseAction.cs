namespace LicenseManager.Client
{
    /// <summary>How a product must react.</summary>
    public enum LicenseAction
    {
        /// <summary>Continue.</summary>
        Allow,

        /// <summary>Show the message to the user, and continue.</summary>
        Prompt,

        /// <summary>Switch the feature off if possible, otherwise prompt.</summary>
        Disable
    }
}
