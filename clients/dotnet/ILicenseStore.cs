namespace LicenseManager.Client
{
    /// <summary>
    /// Where an environment keeps what it knows of its licenses: one row of a table. It need not be safe from changes: what
    /// counts is signed, and verified on each use. What it throws passes through to the caller.
    /// </summary>
    public interface ILicenseStore
    {
        /// <summary>What was saved last; a new <see cref="StoredLicense"/> where nothing was.</summary>
        StoredLicense Load();

        /// <summary>Saves all of it, in place of what was there.</summary>
        void Save(StoredLicense stored);
    }
}
