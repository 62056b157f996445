"""Compact JWS (RFC 7515 section 7.1) with RS256: made for every reply, and read by those who get one.

What is not verified yet is called `unverified_`.
"""

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from licensing.errors import LicensingError
from licensing.signing.encoding import base64url, parse_base64url, parse_json_object
from licensing.signing.keys import ALGORITHM, SigningKey

_PADDING = padding.PKCS1v15()
_HASH = hashes.SHA256()


class SignatureInvalid(LicensingError):
    """The token is not what a trusted key has signed: nothing in it counts."""

    status, code, title = 400, "signatureInvalid", "The signature does not hold"


@lru_cache(maxsize=64)
def _encoded_header(kid: str, typ: str) -> bytes:
    return base64url(json.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ}, separators=(",", ":")).encode()).encode()


def sign(key: SigningKey, claims_json: bytes, typ: str) -> bytes:
    """The claims as a compact JWS, whose protected header has exactly alg, kid and typ."""
    signing_input = b".".join((_encoded_header(key.kid, typ), base64.urlsafe_b64encode(claims_json).rstrip(b"=")))
    return b".".join((signing_input, base64.urlsafe_b64encode(key.sign(signing_input)).rstrip(b"=")))


def verify(token: bytes | str, trusted: Mapping[str, rsa.RSAPublicKey], typ: str) -> dict[str, Any]:
    """The claims of a compact JWS of this type that one of the trusted keys has signed.

    Raises SignatureInvalid for anything else. The header must hold exactly what `sign` writes: the token
    chooses neither its algorithm nor where its key comes from, and `crit`, `jwk`, `jku`, `x5c`, `x5u` have no
    place in it.
    Not checked: `exp`, `iss`, `aud`, `nonce` and every other claim.
    """
    try:
        unverified_text = token.decode("ascii") if isinstance(token, bytes) else token
        parts = unverified_text.split(".")
        unverified_header_json, unverified_payload, signature = map(parse_base64url, parts)
        unverified_header = parse_json_object(unverified_header_json.decode())
    except ValueError:
        raise SignatureInvalid("This is no compact JWS: three parts of base64url, the first a JSON object.") from None
    kid = unverified_header.get("kid")
    if unverified_header != {"alg": ALGORITHM, "kid": kid, "typ": typ} or not isinstance(kid, str):
        raise SignatureInvalid(f"Its header must be exactly alg {ALGORITHM}, typ {typ}, and a kid.")
    if kid not in trusted:
        raise SignatureInvalid("It names a key that is not trusted here: take the signed key set first.")
    signing_input = unverified_text.rpartition(".")[0].encode("ascii")
    try:
        trusted[kid].verify(signature, signing_input, _PADDING, _HASH)
    except InvalidSignature:
        raise SignatureInvalid("Its content is not what the key it names has signed.") from None
    try:
        return parse_json_object(unverified_payload.decode())
    except ValueError:
        raise SignatureInvalid("Its content is signed, but is no JSON object that can be read in one way.") from None
