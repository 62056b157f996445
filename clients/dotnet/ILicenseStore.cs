namespace LicenseManager.Client
{
    /// <summary>
    /// Stores the last reply of an environment, for example in one row of a table. It needs no protection from changes: replies are
    /// signed, and verified on each use. An exception reaches the caller.
    /// </summary>
    public interface ILicenseStore
    {
        /// <summary>Returns what was saved last, or a new <see cref="StoredLicense"/>.</summary>
        StoredLicense Load();

        /// <summary>Replaces what was saved before.</summary>
        void Save(StoredLicense stored);
    }
}
