"""What the service does with its keys: sign, and publish what is needed to verify.

Invariants, each with the test that holds it:

- Only the current key signs; every published key verifies (tests/signing/test_signing_rotation.py).
- A caller gets the signature of its own claims, whatever else is signed with it or fails
  (`returns_each_caller_the_signature_of_its_claims`, `when_one_call_fails_signs_the_others`).
- The event loop is held up for 16 signatures at most (`yields_to_event_loop_after_16_signatures`).
- No private key leaves the process: not in a log, an error or a published document
  (tests/signing/test_signing_keys.py).
"""

import asyncio
import json
from collections import Counter, deque
from datetime import datetime
from typing import Any

from licensing.errors import NotFound
from licensing.signing import jws
from licensing.signing.keys import KeySet, KeyState, SigningKey

JWK_SET_TYPE = "jwk-set+jwt"
_MOST_AT_ONCE = 16
"""Signatures for which the event loop is held up, some 4 ms; then others have a turn."""


class Signer:
    """The keys of a service, loaded once: to load one costs a hundred signatures. Safe in threads."""

    def __init__(self, key_set: KeySet) -> None:
        """Take the keys. Raises ConfigurationError where there is no current one."""
        self._key_set = key_set
        self._current = key_set.current
        self._asked: deque[tuple[bytes, str, asyncio.Future[bytes]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def sign(self, claims_json: bytes, typ: str) -> bytes:
        """The claims as a compact JWS, signed by the current key."""
        return jws.sign(self._current, claims_json, typ)

    async def sign_together(self, claims_json: bytes, typ: str) -> bytes:
        """Like `sign`, but queues all calls made in one event-loop iteration. Bound to that loop.

        An instance under load answers 8 % more this way: a signature between other work leaves the processor's caches
        cold for both.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # nobody waits any more in one that has ended
            self._loop = loop
            self._asked.clear()
        if not self._asked:
            loop.call_soon(self._sign_some)
        token: asyncio.Future[bytes] = loop.create_future()
        self._asked.append((claims_json, typ, token))
        return await token

    def _sign_some(self) -> None:
        try:
            for _ in range(min(len(self._asked), _MOST_AT_ONCE)):
                claims_json, typ, token = self._asked.popleft()
                if token.done():  # its caller has gone
                    continue
                try:
                    token.set_result(self.sign(claims_json, typ))
                except Exception as error:  # noqa: BLE001 - told to who asked, whatever it is: the next have theirs
                    token.set_exception(error)
        finally:
            if self._asked:
                asyncio.get_running_loop().call_soon(self._sign_some)

    def secrets(self, purpose: str) -> list[bytes]:
        """Secrets for what else a service seals. What the last one seals, the list opens, also after the next rotation.

        They come from the private keys, and tell nothing of them.
        """
        following = [key for key in self._key_set.keys if key.state is KeyState.NEXT]
        return [key.secret(purpose) for key in (self._current, *following)]

    def facts(self, now: datetime) -> dict[str, Any]:
        """What tells of a rotation, or that one is due: which key signs, how old it is, how many others there are."""
        states = Counter(key.state for key in self._key_set.keys)
        return {
            "currentKeyId": self._current.kid,
            "currentKeyAgeDays": (now - self._current.created_at).days,
            "nextKeys": states[KeyState.NEXT],
            "retiredKeys": states[KeyState.RETIRED],
        }

    def jwk_set(self, now: datetime) -> dict[str, Any]:
        """Every published key as a JWK Set (RFC 7517 section 5)."""
        return {"keys": [key.public_jwk for key in self._key_set.published(now)]}

    def signed_jwk_set(self, now: datetime, issuer: str) -> bytes:
        """The JWK Set as a compact JWS: who trusts the current key can trust the others through it."""
        claims = {"iss": issuer, "iat": int(now.timestamp()), **self.jwk_set(now)}
        return self.sign(json.dumps(claims, separators=(",", ":")).encode(), JWK_SET_TYPE)

    def public_pem(self, kid: str, now: datetime) -> str:
        """A published key as PEM. Raises NotFound."""
        return self._get_published(kid, now).public_pem

    def public_xml(self, kid: str, now: datetime) -> str:
        """A published key as .NET's XML. Raises NotFound."""
        return self._get_published(kid, now).public_xml

    def _get_published(self, kid: str, now: datetime) -> SigningKey:
        if key := self._key_set.find_published(kid, now):
            return key
        raise NotFound("No key of this name is published here: /api/v1/keys lists those that are.")
