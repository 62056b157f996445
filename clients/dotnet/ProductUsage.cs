using System;

namespace LicenseManager.Client
{
    /// <summary>A product to ask about, and what the environment says of it.</summary>
    public sealed class ProductUsage
    {
        /// <summary>A product by its name, 1 to 128 characters.</summary>
        public ProductUsage(string productName)
        {
            if (string.IsNullOrEmpty(productName) || productName.Length > 128)
            {
                throw new ArgumentException("The name of a product has 1 to 128 characters.", "productName");
            }

            ProductName = productName;
            IsInstalled = true;
            IsEnabled = true;
            EnabledUsersCount = -1;
        }

        /// <summary>The product's name.</summary>
        public string ProductName { get; private set; }

        /// <summary>The model that the product came in; null is not told.</summary>
        public string ModelName { get; set; }

        /// <summary>That model's version; null is not told.</summary>
        public string ModelVersion { get; set; }

        /// <summary>Whether it is installed; true unless set.</summary>
        public bool IsInstalled { get; set; }

        /// <summary>Whether it is enabled; true unless set.</summary>
        public bool IsEnabled { get; set; }

        /// <summary>How many enabled users there are; -1, which is the default, is not told.</summary>
        public int EnabledUsersCount { get; set; }
    }
}
