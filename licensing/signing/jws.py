"""Compact JWS (RFC 7515 section 7.1) with RS256, made for every reply. Those who get one verify it: clients/."""

import json
from functools import lru_cache

from licensing.signing.encoding import base64url
from licensing.signing.keys import ALGORITHM, SigningKey


@lru_cache(maxsize=64)
def _encoded_header(kid: str, typ: str) -> str:
    return base64url(json.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ}, separators=(",", ":")).encode())


def sign(key: SigningKey, claims_json: bytes, typ: str) -> bytes:
    """The claims as a compact JWS, whose protected header has exactly alg, kid and typ."""
    signing_input = f"{_encoded_header(key.kid, typ)}.{base64url(claims_json)}".encode()
    return signing_input + f".{base64url(key.sign(signing_input))}".encode()
