"""The vectors that follow from the keys in key-set.json: `python -m tests.vectors.make` writes them."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from licensing.signing.keys import KeySet, KeyState, SigningKey, thumbprint
from licensing.signing.service import Signer

FOLDER = Path(__file__).parent
NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
ISSUER = "https://licenses.example.com"
TYPE = "license-reply+jwt"
IAT = int(NOW.timestamp())
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "446d5d80-d20d-43c6-a96c-370628f5bd9f",
    "sub": "C0FFEE-0042",
    "nonce": "9c1f8b0e6f5d4c3ab2a19087f6e5d4c3",
    "jti": "0b7f4f0e-3a52-4c53-9a3c-5ad7d1f2c0de",
    "ver": 1,
    "iat": IAT,
    "refreshAfter": IAT + 24 * 3600,
    "exp": IAT + 7 * 24 * 3600,
    "products": [{"productName": "SmartSend", "action": "disable", "message": "Größe und 日本語 bleiben ganz."}],
}
# The alphabet of base64url in order, so that a neighbour differs in the last bit alone.
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@cache
def key_set() -> KeySet:
    return KeySet.parse((FOLDER / "key-set.json").read_text("utf-8"))


def key_of(jwk: dict[str, str]) -> SigningKey:
    """The key in a private JWK that has neither kid nor state, as the RFCs print them."""
    n, e, d, p, q, dp, dq, qi = (int.from_bytes(decoded(jwk[m])) for m in ("n", "e", "d", "p", "q", "dp", "dq", "qi"))
    private_key = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()
    public_key = private_key.public_key()
    return SigningKey(
        kid=thumbprint(public_key),
        state=KeyState.CURRENT,
        created_at=NOW,
        public_key=public_key,
        private_key=private_key,
    )


def stranger() -> SigningKey:
    """A sound key that is none of ours."""
    return key_of(json.loads((FOLDER / "rfc7515-a2.json").read_text("utf-8"))["jwk"])


def encoded(data: bytes | str) -> str:
    return urlsafe_b64encode(data.encode() if isinstance(data, str) else data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def forged(header: dict[str, Any] | str | bytes, payload: str, signature: Callable[[bytes], bytes]) -> str:
    """A compact JWS with this header, whether or not it makes sense."""
    header = json.dumps(header, separators=(",", ":")) if isinstance(header, dict) else header
    signing_input = f"{encoded(header)}.{payload}"
    return f"{signing_input}.{encoded(signature(signing_input.encode()))}"


def build() -> dict[str, str]:
    """The content of each file by its name."""
    keys = key_set()
    signer = Signer(keys)
    claims_json = json.dumps(CLAIMS, ensure_ascii=False, separators=(",", ":"))
    return {
        "jwk-set.json": json.dumps(signer.jwk_set(NOW), indent=2) + "\n",
        "current.pem": keys.current.public_pem,
        "current.xml": keys.current.public_xml + "\n",
        "reply.json": claims_json,
        "reply.jws": signer.sign(claims_json.encode(), TYPE).decode(),
        "jwk-set.jws": signer.signed_jwk_set(NOW, ISSUER).decode(),
    }


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(content, "utf-8", newline="\n")
