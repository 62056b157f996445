using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseManager.Client
{
    /// <summary>A request to the service: 1 to 200 products, and their environment.</summary>
    public sealed class ValidationRequest
    {
        private readonly List<ProductUsage> products = new List<ProductUsage>();

        /// <summary>A request for these products, without further information; <see cref="Add"/> adds others.</summary>
        public ValidationRequest(params string[] productNames)
        {
            if (productNames == null)
            {
                throw new ArgumentNullException("productNames");
            }

            products.AddRange(productNames.Select(name => new ProductUsage(name)));
        }

        /// <summary>The environment's address; null is not sent.</summary>
        public string HostUrl { get; set; }

        /// <summary>Whether it is a production environment.</summary>
        public bool IsProductionEnvironment { get; set; }

        /// <summary>The requested products, in order.</summary>
        public IList<ProductUsage> Products
        {
            get { return products.AsReadOnly(); }
        }

        /// <summary>Adds a product.</summary>
        public void Add(ProductUsage product)
        {
            if (product == null)
            {
                throw new ArgumentNullException("product");
            }

            products.Add(product);
        }

        internal string[] ProductNames
        {
            get { return products.Select(product => product.ProductName).ToArray(); }
        }

        internal string ToJson(string publisherId, string serialNumber, string nonce)
        {
            var json = new JsonWriter();
            json.Begin('{').Member("publisherId", publisherId).Member("serialNumber", serialNumber).Member("nonce", nonce);
            json.Member("hostUrl", HostUrl).Member("isProductionEnvironment", IsProductionEnvironment);
            json.Name("products").Begin('[');
            foreach (ProductUsage product in products)
            {
                json.Begin('{').Member("productName", product.ProductName);
                json.Member("modelName", product.ModelName).Member("modelVersion", product.ModelVersion);
                json.Member("isInstalled", product.IsInstalled).Member("isEnabled", product.IsEnabled);
                json.Member("enabledUsersCount", product.EnabledUsersCount);
                json.End('}');
            }

            return json.End(']').End('}').ToString();
        }
    }
}
