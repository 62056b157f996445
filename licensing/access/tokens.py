"""Who signed in: access tokens of Entra ID, v2.0, verified.

Sources: RFC 6750 (Bearer), RFC 7515 section 7.1 (compact JWS), RFC 8725 (best practice), and Entra ID's documents on
access token claims and their validation. What is not verified yet is called `unverified_`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from licensing.access.discovery import DirectoryKeys, Fetch, issuer_of
from licensing.errors import Unauthenticated
from licensing.http.permissions import Identity
from licensing.identifiers import is_guid
from licensing.signing.encoding import parse_base64url, parse_json_object

SCOPE = "access_as_user"
"""What a person's program must have asked for, to act for that person here."""
APPLICATION_ROLES = frozenset({"GlobalAdmin", "Application"})
"""The app roles of which an application must have one, to act for itself."""
LEEWAY_SECONDS = 60
MAX_CHARACTERS = 16 * 1024

_ALGORITHM = "RS256"
# Where a key comes from, and how a signature is to be read, is not for the token to say (RFC 8725 section 3.10).
_REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u"})


@dataclass(frozen=True, slots=True)
class _UnverifiedToken:
    """A token of the right form. Nobody has said yet that anything in it is true."""

    text: str
    kid: str
    claims: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Unauthenticated where it is no compact JWS with RS256 that can be read in one way only."""
        try:
            unverified_header_json, unverified_claims_json, _ = map(parse_base64url, text.split("."))
            unverified_header = parse_json_object(unverified_header_json.decode())
            unverified_claims = parse_json_object(unverified_claims_json.decode())
        except ValueError:
            raise Unauthenticated(
                "This is no access token: three parts of base64url, the first two JSON objects without duplicates."
            ) from None
        kid = unverified_header.get("kid")
        if (
            unverified_header.get("alg") != _ALGORITHM
            or unverified_header.get("typ", "JWT") not in ("JWT", "at+jwt")
            or not isinstance(kid, str)
            or _REFUSED_HEADERS & unverified_header.keys()
        ):
            raise Unauthenticated(
                f"The access token's header is not as Entra ID writes it, with alg {_ALGORITHM} and a kid: "
                "get a token from there."
            )
        return cls(text, kid, unverified_claims)


class TokenVerifier:
    """Verifies access tokens for one audience. Belongs to one event loop."""

    def __init__(self, *, authority: str, audience: str, fetch: Fetch, clock: Callable[[], datetime]) -> None:
        self._authority = authority
        self._audience = audience
        self._clock = clock
        self._keys = DirectoryKeys(authority=authority, fetch=fetch, clock=clock)

    async def verify(self, authorization: str | None, is_trusted: Callable[[str], Awaitable[bool]]) -> Identity:
        """Who the Authorization header's token says is asking. `is_trusted`: whether a directory's word counts here.

        Raises Unauthenticated with what is wrong, and SignInUnavailable where that cannot be found out. Nothing is
        fetched for a token that could not be ours whatever its signature.
        Not checked: whether they may do what they ask for, and whether the token has been revoked.
        """
        unverified = _UnverifiedToken.parse(_bearer_token(authorization))
        unverified_directory_id = self._check(unverified.claims)
        if not await is_trusted(unverified_directory_id):
            raise _not_known()
        key = await self._keys.find(unverified_directory_id, unverified.kid)
        if key is None:
            raise _not_known()
        return _identity(self._verified_claims(unverified, key, issuer_of(self._authority, unverified_directory_id)))

    def _check(self, unverified_claims: Mapping[str, Any]) -> str:
        """The directory of which the claims say that they are. Raises Unauthenticated where they cannot be for us."""
        if unverified_claims.get("ver") != "2.0":
            raise Unauthenticated(
                "The access token is not of version 2.0: set requestedAccessTokenVersion of the service's app "
                "registration to 2."
            )
        if unverified_claims.get("aud") != self._audience:
            raise Unauthenticated("The access token is for another service: get one for this service.")
        directory_id = unverified_claims.get("tid")
        if not is_guid(directory_id) or unverified_claims.get("iss") != issuer_of(self._authority, directory_id):
            raise Unauthenticated("The access token is of another issuer: get one from the service's own.")
        self._check_times(*(unverified_claims.get(name) for name in ("exp", "nbf", "iat")))
        return directory_id

    def _check_times(self, *unverified_times: Any) -> None:
        if not all(type(time) is int for time in unverified_times):
            raise Unauthenticated("The access token does not say in numbers when it counts (exp, nbf, iat).")
        expires_at, *begins_at = unverified_times
        now = self._clock().timestamp()
        if now >= expires_at + LEEWAY_SECONDS:
            raise Unauthenticated("The access token has expired: get a new one.")
        if now < max(begins_at) - LEEWAY_SECONDS:
            raise Unauthenticated("The access token does not count yet: compare the clocks.")

    def _verified_claims(self, unverified: _UnverifiedToken, key: rsa.RSAPublicKey, issuer: str) -> Mapping[str, Any]:
        import jwt  # noqa: PLC0415 - takes long, and a validation does without it

        try:
            claims: dict[str, Any] = jwt.decode(
                unverified.text,
                key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=issuer,
                options={
                    "verify_signature": True,
                    "enforce_minimum_key_length": True,
                    "require": ["aud", "exp", "iat", "iss", "nbf", "sub"],
                    "verify_aud": True,
                    "strict_aud": True,
                    "verify_iss": True,
                    "verify_sub": True,
                    "verify_jti": True,
                    # Checked already, by the service's clock.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.PyJWTError:
            raise Unauthenticated("The access token is not what its directory has signed: get a new one.") from None
        return claims


def _not_known() -> Unauthenticated:
    """One sentence for both: nobody is to find out by it whose directories are known here."""
    return Unauthenticated(
        "The access token is of a directory, or signed by a key, that is not known here: sign in with an account of "
        "one that is. A directory's new key is known after five minutes."
    )


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("There is no access token: sign in, and send it as Authorization: Bearer TOKEN.")
    if len(token) > MAX_CHARACTERS:
        raise Unauthenticated(f"The access token has more than {MAX_CHARACTERS:,} characters: get one of fewer claims.")
    return token.strip(" ")


def _identity(claims: Mapping[str, Any]) -> Identity:
    """Who verified claims name. Raises Unauthenticated where they name nobody, or do not let them act here."""
    object_id, application_id = claims.get("oid"), claims.get("azp")
    if not (is_guid(object_id) and is_guid(application_id)):
        raise Unauthenticated("The access token does not say who asks (oid), or through which program (azp).")
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise Unauthenticated("The access token's roles are no list of names.")
    is_application = "scp" not in claims
    kind = "app" if is_application else "user"
    # Where Entra ID does not say idtyp, the subject of an application's token is the application itself.
    if claims.get("idtyp", kind) != kind or (
        is_application and "idtyp" not in claims and claims.get("sub") != object_id
    ):
        raise Unauthenticated("The access token is of neither a person nor an application.")
    if is_application and APPLICATION_ROLES.isdisjoint(roles):
        raise Unauthenticated(
            "The access token has neither a scope nor an app role of this service: an application needs the role "
            "Application, with an administrator's consent."
        )
    if not (is_application or (isinstance(claims["scp"], str) and SCOPE in claims["scp"].split(" "))):
        raise Unauthenticated(f"The access token does not have the scope {SCOPE}: ask for that of this service.")
    return Identity(
        directory_id=claims["tid"],
        object_id=object_id,
        email="" if is_application else _email(claims),
        application_id=application_id,
        name=claims["name"] if isinstance(claims.get("name"), str) else "",
        is_application=is_application,
        roles=frozenset(roles),
    )


def _email(claims: Mapping[str, Any]) -> str:
    names = (claims.get("preferred_username"), claims.get("upn"))
    return next((name for name in names if isinstance(name, str) and "@" in name), "")
