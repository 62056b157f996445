namespace LicenseManager.Client
{
    /// <summary>What became of something that came, or was stored, in the order in which it is looked for.</summary>
    public enum Reason
    {
        /// <summary>It is signed by a trusted key, meant for this environment, and counts.</summary>
        Verified,

        /// <summary>Nothing is stored.</summary>
        NothingStored,

        /// <summary>No answer came within the time limit.</summary>
        Timeout,

        /// <summary>The connection broke off.</summary>
        ConnectionReset,

        /// <summary>No connection: no such name, no route, nobody listens, or TLS failed.</summary>
        Unreachable,

        /// <summary>The HTTP status is not 200.</summary>
        UnexpectedHttpStatus,

        /// <summary>It is larger than 1 MiB.</summary>
        TooLarge,

        /// <summary>It is no compact JWS: an error page, for example.</summary>
        Malformed,

        /// <summary>Its header names another algorithm than RS256.</summary>
        InvalidAlgorithm,

        /// <summary>It is signed for another use: a license file is no reply, a reply no license file.</summary>
        InvalidType,

        /// <summary>Its header has members that do not belong there, or lacks one.</summary>
        InvalidHeader,

        /// <summary>It is signed by a key that is not trusted here.</summary>
        UnknownKey,

        /// <summary>Its content is not what the key that it names has signed.</summary>
        InvalidSignature,

        /// <summary>It is signed, but cannot be read.</summary>
        MalformedClaims,

        /// <summary>It is from another service.</summary>
        IssuerMismatch,

        /// <summary>It is about another publisher.</summary>
        AudienceMismatch,

        /// <summary>It is for another environment.</summary>
        SubjectMismatch,

        /// <summary>It answers another question: somebody repeats an old reply.</summary>
        NonceMismatch,

        /// <summary>It is about other products than those asked for.</summary>
        ProductMismatch,

        /// <summary>It is older than what was seen before.</summary>
        OlderThanStored,

        /// <summary>This machine's clock is behind what it was.</summary>
        ClockTurnedBack,

        /// <summary>It was made more than five minutes ago by this machine's clock.</summary>
        IssuedTooLongAgo,

        /// <summary>It was made more than five minutes from now by this machine's clock.</summary>
        IssuedInFuture,

        /// <summary>It counts no more.</summary>
        Expired,

        /// <summary>What is stored could not be looked at: a setting is at fault, or the store threw.</summary>
        CheckFailed
    }
}
