namespace LicenseManager.Client
{
    /// <summary>The state of one product.</summary>
    public sealed class ProductState
    {
        internal ProductState(string productName, LicenseAction action, string message, ProductLicense license)
        {
            ProductName = productName;
            Action = action;
            Message = message;
            License = license;
        }

        /// <summary>The product's name, as in the request.</summary>
        public string ProductName { get; private set; }

        /// <summary>How the product must react.</summary>
        public LicenseAction Action { get; private set; }

        /// <summary>A sentence for the user, in English; null where the action is allow.</summary>
        public string Message { get; private set; }

        /// <summary>
        /// The product in the stored reply, with the status, action and message of its last change that this clock has reached. It is
        /// null where no verified reply is stored, or where that reply does not name the product. It is not null after the reply has
        /// expired or the clock was turned back, and its action does not consider that. Go by <see cref="Action" /> of this class.
        /// </summary>
        public ProductLicense License { get; private set; }
    }
}
