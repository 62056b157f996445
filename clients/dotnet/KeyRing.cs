using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// The trusted keys: the pinned keys, and those of the last key set in a chain of signed key sets that begins with a pinned key.
    /// </summary>
    internal sealed class KeyRing
    {
        private readonly string issuer;
        private readonly List<TrustedKey> pinned;
        private readonly List<SignedKeySet> chain = new List<SignedKeySet>();

        /// <summary>Verifies the key sets, one per line, in their order. A set that is not verified is skipped.</summary>
        public KeyRing(string issuer, List<TrustedKey> pinned, string keySets)
        {
            this.issuer = issuer;
            this.pinned = pinned;
            foreach (string token in (keySets ?? "").Split(new[] { '\r', '\n' }, StringSplitOptions.RemoveEmptyEntries))
            {
                try
                {
                    chain.Add(Parse(token));
                }
                catch (LicenseCheckException)
                {
                    // The store was changed, or a key is no longer pinned.
                }
            }
        }

        public List<TrustedKey> Keys
        {
            get { return GetKeysAfter(chain.Count); }
        }

        /// <summary>The last verified set; null where there is none.</summary>
        public SignedKeySet LatestKeySet
        {
            get { return chain.LastOrDefault(); }
        }

        /// <summary>Verifies a key set by the trusted keys.</summary>
        /// <exception cref="LicenseCheckException">The set is not verified.</exception>
        public SignedKeySet Parse(string token)
        {
            return SignedKeySet.Parse(token, issuer, Keys);
        }

        /// <summary>Appends a set, and returns the chain to store: the new set after as few as needed to trust its signer.</summary>
        public string Append(SignedKeySet newest)
        {
            int needed = Enumerable.Range(0, chain.Count + 1).First(
                count => count == chain.Count || GetKeysAfter(count).Any(key => key.Thumbprint == newest.Signer.Thumbprint));
            return string.Join("\n", chain.Take(needed).Select(set => set.Token).Concat(new[] { newest.Token }));
        }

        private List<TrustedKey> GetKeysAfter(int count)
        {
            return count == 0 ? pinned : pinned.Concat(chain[count - 1].Keys).ToList();
        }
    }
}
