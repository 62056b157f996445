using System;
using System.Collections.Generic;

namespace LicenseManager.Client
{
    /// <summary>A notice of the publisher, described in docs/protocol.md. Escape its texts when you show them.</summary>
    public sealed class Notice
    {
        internal Notice(Dictionary<string, object> json)
        {
            Id = json.GetString("id");
            Title = json.GetString("title");
            Kind = json.GetString("kind");
            Status = json.GetString("status");
            StartsAt = json.GetUtcDateTime("startsAt");
            EndsAt = json.GetUtcDateTime("endsAt");
            Url = json.GetString("url");
        }

        /// <summary>The id, a UUID.</summary>
        public string Id { get; private set; }

        /// <summary>The subject, in one line.</summary>
        public string Title { get; private set; }

        /// <summary>maintenance, incident or announcement.</summary>
        public string Kind { get; private set; }

        /// <summary>The progress, for example scheduled or resolved.</summary>
        public string Status { get; private set; }

        /// <summary>The start, in UTC; null where it is not set.</summary>
        public DateTime? StartsAt { get; private set; }

        /// <summary>The end, in UTC; null where it is not set.</summary>
        public DateTime? EndsAt { get; private set; }

        /// <summary>The address of the notice on the status page.</summary>
        public string Url { get; private set; }
    }
}
