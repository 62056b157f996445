using System;
using System.Collections.Generic;

namespace LicenseManager.Client
{
    /// <summary>A notice of the publisher, as docs/protocol.md describes it. Show its texts escaped.</summary>
    public sealed class Notice
    {
        internal Notice(Dictionary<string, object> json)
        {
            Id = json.Text("id");
            Title = json.Text("title");
            Kind = json.Text("kind");
            Status = json.Text("status");
            StartsAt = json.GetUtcDateTime("startsAt");
            EndsAt = json.GetUtcDateTime("endsAt");
            Url = json.Text("url");
        }

        /// <summary>Its id, a UUID.</summary>
        public string Id { get; private set; }

        /// <summary>What it is about, in one line.</summary>
        public string Title { get; private set; }

        /// <summary>maintenance, incident or announcement.</summary>
        public string Kind { get; private set; }

        /// <summary>How far it is.</summary>
        public string Status { get; private set; }

        /// <summary>The start, in UTC; null where it is not set.</summary>
        public DateTime? StartsAt { get; private set; }

        /// <summary>The end, in UTC; null where it is not set.</summary>
        public DateTime? EndsAt { get; private set; }

        /// <summary>The status page.</summary>
        public string Url { get; private set; }
    }
}
