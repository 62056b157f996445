"""Tokens good and bad, and a net in which their issuer lies. Nothing here is our own code: cryptography signs."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from licensing.access.tokens import TokenVerifier
from licensing.http.permissions import Identity

AUTHORITY = "https://login.microsoftonline.com"
DIRECTORY = "7c1a1f0e-58f4-4d5e-9d0c-1f2e3d4c5b6a"
OTHER_DIRECTORY = "8d2b2f1e-69a5-4e6f-8e1d-2a3f4e5d6c7b"
AUDIENCE = "b58a7f60-9a3c-4d4b-8f3e-0c1d2e3f4a5b"
CLIENT = "c69b8a71-ab4d-4e5c-9a4f-1d2e3f4a5b6c"
PERSON = "d7ac9b82-bc5e-4f6d-8b5a-2e3f4a5b6c7d"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())

KEY, STRANGER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SHORT = rsa.generate_private_key(65537, 1024)


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key: rsa.RSAPrivateKey = KEY, **members: Any) -> dict[str, Any]:
    """A public key as Entra ID publishes it; None takes a member away."""
    numbers = key.public_key().public_numbers()
    whole: dict[str, Any] = {
        "kty": "RSA",
        "use": "sig",
        "kid": "one",
        "n": base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
        "e": "AQAB",
        "issuer": f"{AUTHORITY}/{{tenantid}}/v2.0",
    }
    return without_none(whole | members)


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def person(**changes: Any) -> dict[str, Any]:
    """The claims of a person's token, as Entra ID writes them; None takes a claim away."""
    whole = {
        "aud": AUDIENCE,
        "iss": f"{AUTHORITY}/{DIRECTORY}/v2.0",
        "iat": T,
        "nbf": T,
        "exp": T + 3600,
        "azp": CLIENT,
        "azpacr": "1",
        "email": "planted@elsewhere.example",
        "name": "Ada Planted",
        "oid": PERSON,
        "preferred_username": "ada@contoso.example",
        "scp": "openid access_as_user",
        "sub": "planted-subject",
        "tid": DIRECTORY,
        "uti": "planted-uti",
        "ver": "2.0",
    }
    return without_none(whole | changes)


def application(**changes: Any) -> dict[str, Any]:
    """The claims of an application's token; None takes a claim away."""
    only_people = dict.fromkeys(("email", "name", "preferred_username", "scp"))
    return person(**{**only_people, "idtyp": "app", "sub": PERSON, "roles": ["Application"], **changes})


def header(**changes: Any) -> dict[str, Any]:
    return without_none({"typ": "JWT", "alg": "RS256", "kid": "one", "x5t": "one"} | changes)


def encoded(part: Any) -> str:
    """A header or claims: given as they are to be, or as the text that they are to be."""
    return base64url((part if isinstance(part, str) else json.dumps(part)).encode())


def token(claims: Any = None, head: Any = None, key: rsa.RSAPrivateKey = KEY) -> str:
    """A token with a signature that holds."""
    content = f"{encoded(header() if head is None else head)}.{encoded(person() if claims is None else claims)}"
    return f"{content}.{base64url(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


DISCOVERY_URL = f"{AUTHORITY}/{DIRECTORY}/v2.0/.well-known/openid-configuration"
JWKS_URL = f"{AUTHORITY}/{DIRECTORY}/discovery/v2.0/keys"
ONE_FETCH = [DISCOVERY_URL, JWKS_URL]


class FakeNetwork:
    """What lies where, and where somebody has looked. An exception in place of a page is raised."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {
            DISCOVERY_URL: {"issuer": f"{AUTHORITY}/{DIRECTORY}/v2.0", "jwks_uri": JWKS_URL},
            JWKS_URL: {"keys": [jwk()]},
        }
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        """While this is not set, nothing is answered."""
        self.answers.set()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)  # others have their turn, as with a real network
        await self.answers.wait()
        page = self.pages[url]
        if isinstance(page, Exception):
            raise page
        return page if isinstance(page, bytes) else json.dumps(page).encode()


class TokenVerifierFixture:
    """A verifier with its net and its clock, that trusts one directory."""

    def __init__(self) -> None:
        self.net, self.clock = FakeNetwork(), Clock()
        self.trusted = {DIRECTORY}
        self.verifier = TokenVerifier(authority=AUTHORITY, audience=AUDIENCE, fetch=self.net.fetch, clock=self.clock)

    async def is_trusted(self, directory_id: str) -> bool:
        return directory_id in self.trusted

    async def verify(self, authorization: str | None) -> Identity:
        return await self.verifier.verify(authorization, self.is_trusted)

    async def verify_new_token(self, **header_changes: Any) -> Identity:
        """With a good token of this moment. What is fetched in the background is there when this ends."""
        now = int(self.clock.now.timestamp())
        good = f"Bearer {token(person(iat=now, nbf=now, exp=now + 3600), header(**header_changes))}"
        try:
            return await self.verify(good)
        finally:
            for kept in self.verifier._keys._kept.values():
                if kept.in_the_background is not None:
                    await kept.in_the_background
