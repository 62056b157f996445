using System;

namespace LicenseManager.Client
{
    /// <summary>A product to validate, and its use in the environment.</summary>
    public sealed class ProductUsage
    {
        private int? enabledUsersCount;

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
        }

        /// <summary>The product's name.</summary>
        public string ProductName { get; private set; }

        /// <summary>The model that contains the product; null is not sent.</summary>
        public string ModelName { get; set; }

        /// <summary>The version of that model; null is not sent.</summary>
        public string ModelVersion { get; set; }

        /// <summary>Whether it is installed; true unless set.</summary>
        public bool IsInstalled { get; set; }

        /// <summary>Whether it is enabled; true unless set.</summary>
        public bool IsEnabled { get; set; }

        /// <summary>The number of enabled users; null, the default, is not sent.</summary>
        /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
        public int? EnabledUsersCount
        {
            get
            {
                return enabledUsersCount;
            }

            set
            {
                if (value < 0)
                {
                    throw new ArgumentOutOfRangeException("value", "The number of enabled users is not negative.");
                }

                enabledUsersCount = value;
            }
        }

        /// <summary>Sets <see cref="EnabledUsersCount"/>. For X++, which has no nullable types.</summary>
        public void SetEnabledUsersCount(int count)
        {
            EnabledUsersCount = count;
        }
    }
}
