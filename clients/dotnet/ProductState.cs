namespace LicenseManager.Client
{
    /// <summary>What counts for one product now.</summary>
    public sealed class ProductState
    {
        internal ProductState(string productName, LicenseAction action, string message, ProductLicense license)
        {
            ProductName = productName;
            Action = action;
            Message = message;
            License = license;
        }

        /// <summary>The product's name, as it was asked for.</summary>
        public string ProductName { get; private set; }

        /// <summary>What to do.</summary>
        public LicenseAction Action { get; private set; }

        /// <summary>A sentence for the user, in English; null where the action is allow.</summary>
        public string Message { get; private set; }

        /// <summary>
        /// What the stored reply says of it, with the status, action and message that are in force now; null where it does not name
        /// the product, or is not valid.
        /// </summary>
        public ProductLicense License { get; private set; }
    }
}
