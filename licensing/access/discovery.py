"""The keys with which a directory of Entra ID signs access tokens: found by OpenID discovery, and kept.

Sources: OpenID Connect Discovery 1.0 section 4, RFC 7517 (JWK Set), RFC 8725 section 3 (best practice).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from licensing.errors import SignInUnavailable
from licensing.signing.encoding import parse_base64url_uint, parse_json_object

type Fetch = Callable[[str], Awaitable[bytes]]
"""What lies at a URL. Raises OSError, TimeoutError among them, where it cannot be had."""

MIN_BITS = 2048
CACHED_FOR = timedelta(hours=24)
COOL_DOWN = timedelta(minutes=5)
"""The least time between two fetches of a directory's keys: whatever kids strangers make up, its issuer is not asked
more often."""
RETRY_SECONDS = 5
"""The same, while no key of the directory is known."""
MAX_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_log = logging.getLogger(__name__)


async def fetch(url: str) -> bytes:
    """What the URL answers with 200, at most 1 MiB, within 5 s. No redirect is followed. Raises OSError."""
    import aiohttp  # noqa: PLC0415 - takes long, and a validation does without it

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise OSError(f"{url} answered {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise OSError(f"{url} answered with more than {MAX_BYTES:,} bytes")
            return bytes(body)
    except TimeoutError:
        raise TimeoutError(f"{url} did not answer within {TIMEOUT_SECONDS:g} s") from None
    except aiohttp.ClientError as error:
        raise OSError(f"{url} cannot be reached: {type(error).__name__}") from None


@dataclass(slots=True)
class _CachedKeys:
    """What is known of one directory's keys, by kid."""

    keys: Mapping[str, rsa.RSAPublicKey] = field(default_factory=dict)
    fresh_until: datetime = _LONG_AGO
    next_fetch_at: datetime = _LONG_AGO
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_the_background: asyncio.Task[None] | None = None
    """Held here, since the loop alone would let it go."""

    def needs_fetch(self, kid: str, now: datetime) -> bool:
        return now >= self.next_fetch_at and (kid not in self.keys or now >= self.fresh_until)


class DirectoryKeys:
    """The keys of every directory that was asked for. Ask for trusted ones only: each is fetched for, and kept.

    Belongs to one event loop.
    """

    def __init__(self, *, authority: str, fetch: Fetch, clock: Callable[[], datetime]) -> None:
        self._authority = authority
        self._fetch = fetch
        self._clock = clock
        self._kept: dict[str, _CachedKeys] = {}

    async def find(self, directory_id: str, kid: str) -> rsa.RSAPublicKey | None:
        """The key of that directory and name; None where it has none such.

        Keys older than a day go on serving while they are fetched anew, and where that fails. Raises SignInUnavailable
        where no key of the directory is known, and none can be had.
        """
        kept = self._kept.setdefault(directory_id, _CachedKeys())
        if kept.needs_fetch(kid, self._clock()):
            fetched = asyncio.create_task(self._refresh_once(directory_id, kept, kid))
            if kid not in kept.keys:
                await fetched
            else:
                kept.in_the_background = fetched
        if not kept.keys:
            raise SignInUnavailable(
                "The keys of your directory cannot be fetched: try again in a moment, with the same token.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return kept.keys.get(kid)

    async def _refresh_once(self, directory_id: str, kept: _CachedKeys, kid: str) -> None:
        async with kept.fetching:
            # Whoever waited here finds it done.
            if kept.needs_fetch(kid, self._clock()):
                await self._refresh(directory_id, kept)

    async def _refresh(self, directory_id: str, kept: _CachedKeys) -> None:
        """Fetch the keys. What is empty or broken replaces nothing."""
        try:
            kept.keys = await self._read(directory_id)
            kept.fresh_until = self._clock() + CACHED_FOR
        except (OSError, ValueError) as error:
            _log.warning("The keys of directory %s cannot be fetched: %s", directory_id, error)
        kept.next_fetch_at = self._clock() + (COOL_DOWN if kept.keys else timedelta(seconds=RETRY_SECONDS))

    async def _read(self, directory_id: str) -> dict[str, rsa.RSAPublicKey]:
        """The keys that the directory's issuer publishes now. Raises OSError, ValueError."""
        issuer = issuer_of(self._authority, directory_id)
        discovered = parse_json_object((await self._fetch(f"{issuer}/.well-known/openid-configuration")).decode())
        if discovered.get("issuer") != issuer:
            raise ValueError("the discovery document is that of another issuer")
        jwks_uri, authority = discovered.get("jwks_uri"), urlsplit(self._authority)
        if not isinstance(jwks_uri, str) or not jwks_uri.startswith(f"{authority.scheme}://{authority.netloc}/"):
            raise ValueError("the discovery document names keys of another host")
        jwks = parse_json_object((await self._fetch(jwks_uri)).decode()).get("keys")
        keys = {}
        for jwk in jwks if isinstance(jwks, list) else ():
            with contextlib.suppress(ValueError):
                kid, key = _parse_key(jwk, directory_id, issuer)
                keys[kid] = key
        if not keys:
            raise ValueError("the JWK Set holds no key that can be used")
        return keys


def issuer_of(authority: str, directory_id: str) -> str:
    """The `iss` of a directory's v2.0 tokens."""
    return f"{authority}/{directory_id}/v2.0"


def _parse_key(jwk: Any, directory_id: str, issuer: str) -> tuple[str, rsa.RSAPublicKey]:
    """The kid and the key, if it is an RSA key of this issuer for signing with RS256. Raises ValueError."""
    match jwk:
        case {"kty": "RSA", "kid": str(kid), "n": str(modulus), "e": str(exponent)}:
            pass
        case _:
            raise ValueError("no RSA key with a kid")
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        raise ValueError("not for signing with RS256")
    # Entra ID says beside each key whose it is: that of personal accounts signs for no organisation.
    if str(jwk.get("issuer", issuer)).replace("{tenantid}", directory_id) != issuer:
        raise ValueError("the key of another issuer")
    key = rsa.RSAPublicNumbers(parse_base64url_uint(exponent), parse_base64url_uint(modulus)).public_key()
    if key.key_size < MIN_BITS:
        raise ValueError("too short")
    return kid, key
