using System;
using LicenseManager.Client;

/// <summary>A store that gives copies, as a table does, and remembers on which threads it was called.</summary>
internal sealed class MemoryStore : ILicenseStore
{
    private StoredLicense kept = new StoredLicense();

    public bool CalledElsewhere { get; private set; }

    public int Thread { get; set; }

    public bool Broken { get; set; }

    public StoredLicense Load()
    {
        if (Broken)
        {
            throw new InvalidOperationException("The table is locked.");
        }

        CalledElsewhere |= System.Threading.Thread.CurrentThread.ManagedThreadId != Thread;
        return Copy(kept);
    }

    public void Save(StoredLicense stored)
    {
        CalledElsewhere |= System.Threading.Thread.CurrentThread.ManagedThreadId != Thread;
        kept = Copy(stored);
    }

    private static StoredLicense Copy(StoredLicense stored)
    {
        return new StoredLicense
        {
            Reply = stored.Reply,
            KeySets = stored.KeySets,
            LatestIssuedAt = stored.LatestIssuedAt,
            FailingSince = stored.FailingSince,
            RetryAt = stored.RetryAt
        };
    }
}
