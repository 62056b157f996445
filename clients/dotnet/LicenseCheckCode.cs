namespace LicenseManager.Client
{
    /// <summary>
    /// The result of checking a reply, a license file or a key set, in the order of the checks. docs/protocol.md and
    /// tests/vectors/client define each code.
    /// </summary>
    public enum LicenseCheckCode
    {
        /// <summary>A trusted key has signed it, it is meant for this environment, and it is valid.</summary>
        Verified,

        /// <summary>No reply or license file is stored.</summary>
        NothingStored,

        /// <summary>No response arrived within the time limit.</summary>
        Timeout,

        /// <summary>The connection was reset.</summary>
        ConnectionReset,

        /// <summary>No connection: the name is unknown, there is no route, the connection is refused, or TLS failed.</summary>
        Unreachable,

        /// <summary>The HTTP status is not 200.</summary>
        UnexpectedHttpStatus,

        /// <summary>It is larger than 1 MiB.</summary>
        TooLarge,

        /// <summary>It is not a compact JWS, but for example an error page.</summary>
        Malformed,

        /// <summary>The header's alg is not RS256.</summary>
        InvalidAlgorithm,

        /// <summary>The header's typ is of another use: a license file instead of a reply, or a reply instead of a license file.</summary>
        InvalidType,

        /// <summary>The header has an unexpected member, or lacks one.</summary>
        InvalidHeader,

        /// <summary>It is signed by a key that is not trusted here.</summary>
        UnknownKey,

        /// <summary>The key that it names has not signed this content.</summary>
        InvalidSignature,

        /// <summary>The signature is valid, but the claims cannot be read.</summary>
        MalformedClaims,

        /// <summary>The issuer (iss) is another service.</summary>
        IssuerMismatch,

        /// <summary>The audience (aud) is another publisher.</summary>
        AudienceMismatch,

        /// <summary>The subject (sub) is the serial number of another environment.</summary>
        SubjectMismatch,

        /// <summary>The nonce is not the one of this request: it may be a replayed reply.</summary>
        NonceMismatch,

        /// <summary>The products are not those of this request.</summary>
        ProductMismatch,

        /// <summary>It was issued before the newest one that was seen.</summary>
        OlderThanStored,

        /// <summary>This machine's clock was set back.</summary>
        ClockTurnedBack,

        /// <summary>It was issued (iat) more than five minutes ago by this machine's clock.</summary>
        IssuedTooLongAgo,

        /// <summary>It was issued (iat) more than five minutes in the future by this machine's clock.</summary>
        IssuedInFuture,

        /// <summary>It has expired (exp).</summary>
        Expired,

        /// <summary>The check itself failed: a setting is invalid, or the store threw.</summary>
        CheckFailed
    }
}
