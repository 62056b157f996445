"""The keys that sign replies: their states, what makes a set of them safe, and how one set follows another.

Pure: the time is an argument, and nothing is read or written. A private JWK Set is what an operator keeps;
`state`, `createdAt` and `retiredAt` are members of our own in it, which RFC 7517 section 4 allows.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from licensing.errors import ConfigurationError, Conflict, NotFound
from licensing.signing.encoding import base64url, base64url_uint, parse_base64url_uint, parse_json_object

# .NET Framework, which D365FO runs, verifies this with what is built in; PS256 and Ed25519 it does not.
ALGORITHM = "RS256"
EXPONENT = 65537
MIN_BITS = 2048
# 3072 bits would cost every reply nearly three times the processor time, and a key is replaced long before
# 2048 are weak.
NEW_KEY_BITS = 2048
# In its last second a key may have signed a reply, which counts for up to 30 days, or a license file for a
# closed network, which counts for up to 400: a verifier must find it for as long.
PUBLISHED_AFTER_RETIREMENT = timedelta(days=400)

_PADDING = padding.PKCS1v15()
_HASH = hashes.SHA256()
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"
# RFC 7518 section 6.3.2, in the order of its parts.
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi")


class KeyState(StrEnum):
    """Where a key is in its life: published ahead of use, signing, or only verifying what it has signed."""

    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"


def thumbprint(public_key: rsa.RSAPublicKey) -> str:
    """The key's name: base64url of the SHA-256 of its required members in order (RFC 7638 section 3)."""
    numbers = public_key.public_numbers()
    members = {"e": base64url_uint(numbers.e), "kty": "RSA", "n": base64url_uint(numbers.n)}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return base64url(digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One RSA key and its state. Equal where kid, state and instants are: the kid stands for the key."""

    kid: str
    state: KeyState
    created_at: datetime
    retired_at: datetime | None = None
    public_key: rsa.RSAPublicKey = field(compare=False, repr=False)
    # None once retired: what will never sign again need not be kept, be stolen, or be loaded at every start.
    private_key: rsa.RSAPrivateKey | None = field(compare=False, repr=False)

    @classmethod
    def generate(cls, state: KeyState, now: datetime) -> Self:
        """A new key, which takes tens of milliseconds to find."""
        private_key = rsa.generate_private_key(EXPONENT, NEW_KEY_BITS)
        public_key = private_key.public_key()
        return cls(
            kid=thumbprint(public_key),
            state=state,
            created_at=_whole_second(now),
            public_key=public_key,
            private_key=private_key,
        )

    def retired(self, now: datetime) -> Self:
        """The same key, only verifying from now on: without its private half."""
        return replace(self, state=KeyState.RETIRED, retired_at=_whole_second(now), private_key=None)

    @property
    def published_until(self) -> datetime | None:
        """The last instant at which something it signed may count; None while it is not retired."""
        return None if self.retired_at is None else self.retired_at + PUBLISHED_AFTER_RETIREMENT

    def is_published(self, now: datetime) -> bool:
        return self.published_until is None or now <= self.published_until

    def sign(self, message: bytes) -> bytes:
        """The RSASSA-PKCS1-v1_5 SHA-256 signature of the message (RFC 7518 section 3.3)."""
        if self.private_key is None:
            raise ValueError("a retired key signs nothing")
        return self.private_key.sign(message, _PADDING, _HASH)

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only who has the private key can know, others for each purpose (HKDF, RFC 5869)."""
        if self.private_key is None:
            raise ValueError("a retired key has no secrets")
        exponent = self.private_key.private_numbers().d
        derivation = HKDF(_HASH, 32, salt=None, info=purpose.encode())
        return derivation.derive(exponent.to_bytes(self.private_key.key_size // 8))

    @property
    def public_jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517 section 4, RFC 7518 section 6.3.1)."""
        numbers = self.public_key.public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": ALGORITHM,
            "kid": self.kid,
            "n": base64url_uint(numbers.n),
            "e": base64url_uint(numbers.e),
        }

    @property
    def public_pem(self) -> str:
        """The public key as a PEM SubjectPublicKeyInfo (RFC 7468 section 13)."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public_key.public_bytes(encoding, form).decode("ascii")

    @property
    def public_xml(self) -> str:
        """The public key as .NET's `RSA.FromXmlString` reads it (XML Signature section 4.5.2.2)."""
        numbers = self.public_key.public_numbers()
        modulus, exponent = (
            base64.b64encode(number.to_bytes((number.bit_length() + 7) // 8)).decode("ascii")
            for number in (numbers.n, numbers.e)
        )
        return f"<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent></RSAKeyValue>"

    def _dump(self) -> dict[str, str]:
        jwk = self.public_jwk | {"state": self.state.value, "createdAt": self.created_at.strftime(_INSTANT)}
        if self.retired_at is not None:
            jwk["retiredAt"] = self.retired_at.strftime(_INSTANT)
        if self.private_key is not None:
            numbers = self.private_key.private_numbers()
            parts = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
            jwk |= dict(zip(_PRIVATE_MEMBERS, map(base64url_uint, parts), strict=True))
        return jwk


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of a service: none yet; or one current, at most one next, and any number of retired keys."""

    keys: tuple[SigningKey, ...] = ()

    def __post_init__(self) -> None:
        if len({key.kid for key in self.keys}) != len(self.keys):
            raise ConfigurationError("The signing keys hold one key twice: take one of the two out.")
        current, waiting = (len(self._in_state(state)) for state in (KeyState.CURRENT, KeyState.NEXT))
        if self.keys and current != 1:
            raise ConfigurationError(
                f'The signing keys hold {current or "no"} current keys: give exactly one "state": "current".'
            )
        if waiting > 1:
            raise ConfigurationError(
                f'The signing keys hold {waiting} next keys: at most one may have "state": "next".'
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The keys in a private JWK Set (RFC 7517 section 5), proven consistent and safe to sign with.

        Raises ConfigurationError, which repeats nothing of the text. Members that are not known are ignored.
        """
        try:
            document = parse_json_object(text)
        except ValueError as error:
            raise ConfigurationError(
                f"The signing keys cannot be read as a private JWK Set ({error}): "
                "`python -m licensing keys create` makes one."
            ) from None
        keys = _parse_keys(document)
        if not keys:
            raise ConfigurationError(
                "The signing keys hold no key at all: `python -m licensing keys create` makes the first two."
            )
        return cls(tuple(keys))

    def dump(self) -> str:
        """The keys as a private JWK Set, on one line, as `parse` reads it. A secret."""
        return json.dumps({"keys": [key._dump() for key in self.keys]}, separators=(",", ":"))  # noqa: SLF001 - its own half

    def _in_state(self, state: KeyState) -> tuple[SigningKey, ...]:
        return tuple(key for key in self.keys if key.state is state)

    @property
    def current(self) -> SigningKey:
        """The key that signs. Raises ConfigurationError where there are no keys yet."""
        for key in self._in_state(KeyState.CURRENT):
            return key
        raise ConfigurationError("There are no signing keys yet: `python -m licensing keys create` makes them.")

    @property
    def next(self) -> SigningKey | None:
        """The key that will sign after the next rotation, if one has been made."""
        return next(iter(self._in_state(KeyState.NEXT)), None)

    def published(self, now: datetime) -> tuple[SigningKey, ...]:
        """The keys a verifier may need: next, current, and retired where what they signed may still count."""
        return tuple(key for key in self.keys if key.is_published(now))

    def find_published(self, kid: str, now: datetime) -> SigningKey | None:
        return next((key for key in self.published(now) if key.kid == kid), None)

    def created(self, now: datetime) -> Self:
        """The set with the keys it lacked: current and next, or next. Raises Conflict where it lacks none."""
        if not self.keys:
            return replace(
                self,
                keys=tuple(SigningKey.generate(state, now) for state in (KeyState.CURRENT, KeyState.NEXT)),
            )
        if self.next is not None:
            raise Conflict(f"There is a next key already, {self.next.kid}: rotate to it, or retire it.")
        made = SigningKey.generate(KeyState.NEXT, now)
        return replace(self, keys=(self.current, made, *self._in_state(KeyState.RETIRED)))

    def rotated(self, now: datetime) -> Self:
        """The set one step on: next signs, current only verifies, a next is made, what counts no more goes.

        Raises Conflict without a next key: clients could not verify what a key they have never seen signs.
        """
        old = self.current
        if self.next is None:
            raise Conflict("There is no next key to rotate to: create one, and rotate once clients have fetched it.")
        return replace(
            self,
            keys=(
                replace(self.next, state=KeyState.CURRENT),
                SigningKey.generate(KeyState.NEXT, now),
                old.retired(now),
                *(key for key in self._in_state(KeyState.RETIRED) if key.is_published(now)),
            ),
        )

    def without(self, kid: str) -> Self:
        """The set without a next or retired key: compromised or not wanted, it is published no more.

        Raises NotFound for a key it does not hold, Conflict for the current one.
        """
        if kid not in {key.kid for key in self.keys}:
            raise NotFound("The signing keys hold no key with this kid: `python -m licensing keys list` shows them.")
        if kid == self.current.kid:
            raise Conflict("This key is the current one, and signs: rotate first, then retire it.")
        return replace(self, keys=tuple(key for key in self.keys if key.kid != kid))


def _parse_keys(document: Mapping[str, Any]) -> list[SigningKey]:
    jwks = document.get("keys")
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise ConfigurationError('The signing keys are no JWK Set: {"keys": [{...}, ...]} is needed.')
    keys = []
    for position, jwk in enumerate(jwks, start=1):
        try:
            keys.append(_parse_key(jwk))
        except ValueError as error:
            # By its position: a kid that is not what it should be may be anything, even a secret.
            raise ConfigurationError(f"Number {position} of the signing keys cannot be used: {error}.") from None
    return keys


def _parse_public_key(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    if jwk.get("kty") != "RSA":
        raise ValueError('it is no RSA key ("kty")')
    if jwk.get("alg", ALGORITHM) != ALGORITHM or jwk.get("use", "sig") != "sig":
        raise ValueError(f'it is not for signing with {ALGORITHM} ("alg", "use")')
    modulus, exponent = _parse_number(jwk, "n"), _parse_number(jwk, "e")
    if exponent != EXPONENT:
        raise ValueError(f"its public exponent is not {EXPONENT}: make a new key")
    if modulus.bit_length() < MIN_BITS:
        raise ValueError(f"it has {modulus.bit_length()} bits, and {MIN_BITS} are the least: make a new key")
    public_key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if jwk.get("kid") != thumbprint(public_key):
        raise ValueError(f'its "kid" is not its RFC 7638 thumbprint, {thumbprint(public_key)}')
    return public_key


def _parse_key(jwk: Mapping[str, Any]) -> SigningKey:
    public_key = _parse_public_key(jwk)
    try:
        state = KeyState(_parse_text(jwk, "state"))
    except ValueError:
        raise ValueError(f'its "state" is none of {", ".join(KeyState)}') from None
    is_retired = state is KeyState.RETIRED
    if is_retired is not ("retiredAt" in jwk):
        raise ValueError('"retiredAt" belongs to a retired key, and only to it')
    return SigningKey(
        kid=thumbprint(public_key),
        state=state,
        created_at=_parse_instant(jwk, "createdAt"),
        retired_at=_parse_instant(jwk, "retiredAt") if is_retired else None,
        public_key=public_key,
        private_key=None if is_retired else _parse_private_key(jwk, public_key.public_numbers()),
    )


def _parse_private_key(jwk: Mapping[str, Any], public: rsa.RSAPublicNumbers) -> rsa.RSAPrivateKey:
    if "oth" in jwk:
        raise ValueError('it has more than two primes ("oth"): make a new key')
    if "d" not in jwk:
        raise ValueError('it is a public key only, "d" is missing: what signs needs its private half')
    d, p, q, dp, dq, qi = (_parse_number(jwk, name) for name in _PRIVATE_MEMBERS)
    try:
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()
    except ValueError:
        raise ValueError("its private members do not belong together: take it anew from where it was made") from None


def _parse_text(jwk: Mapping[str, Any], name: str) -> str:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise ValueError("missing, or no text")  # noqa: TRY004 - one kind of error for all that cannot be read
    return value


def _parse_number(jwk: Mapping[str, Any], name: str) -> int:
    try:
        return parse_base64url_uint(_parse_text(jwk, name))
    except ValueError as error:
        raise ValueError(f'its "{name}" cannot be read: {error}') from None


def _parse_instant(jwk: Mapping[str, Any], name: str) -> datetime:
    try:
        return datetime.strptime(_parse_text(jwk, name), _INSTANT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f'its "{name}" is no instant like 2026-11-24T02:00:00Z') from None


def _whole_second(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0)
