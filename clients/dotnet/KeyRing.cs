using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>
    /// The keys that are trusted now: the pinned ones, and those of the last key set that a chain of signed key sets leads to.
    /// </summary>
    internal sealed class KeyRing
    {
        private readonly string issuer;
        private readonly List<TrustedKey> pinned;
        private readonly List<SignedKeySet> chain = new List<SignedKeySet>();

        /// <summary>Walks along the key sets, one a line. A set that does not count is passed over.</summary>
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
                catch (RefusedException)
                {
                    // Somebody changed what is stored, or a pinned key has been withdrawn.
                }
            }
        }

        public List<TrustedKey> Keys
        {
            get { return KeysAfter(chain.Count); }
        }

        /// <summary>The last set that counts; null where there is none.</summary>
        public SignedKeySet Latest
        {
            get { return chain.LastOrDefault(); }
        }

        /// <summary>The set in the token, by the keys that are trusted now. Refused where it does not count.</summary>
        public SignedKeySet Parse(string token)
        {
            return SignedKeySet.Parse(token, issuer, Keys);
        }

        /// <summary>What to store once this set has come: it, behind the fewest of those before that lead to its signer.</summary>
        public string With(SignedKeySet newest)
        {
            int needed = Enumerable.Range(0, chain.Count + 1).First(
                count => count == chain.Count || KeysAfter(count).Any(key => key.Thumbprint == newest.Signer.Thumbprint));
            return string.Join("\n", chain.Take(needed).Select(set => set.Token).Concat(new[] { newest.Token }));
        }

        private List<TrustedKey> KeysAfter(int count)
        {
            return count == 0 ? pinned : pinned.Concat(chain[count - 1].Keys).ToList();
        }
    }
}
