"""The vectors that follow from the keys in key-set.json: `python -m tests.vectors.make` writes them."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from licensing.signing.jws import sign
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


def refused(ours: SigningKey, upcoming: SigningKey, strange: SigningKey) -> dict[str, str]:
    """Tokens by what is wrong with them. Where it is the header alone, the signature over it is sound."""
    token = sign(ours, json.dumps(CLAIMS).encode(), TYPE).decode()
    header, payload, signature = token.split(".")
    better = encoded(json.dumps(CLAIMS | {"exp": 32503680000}))
    good = {"alg": "RS256", "kid": ours.kid, "typ": TYPE}
    strange_jwk = {name: text for name, text in strange.public_jwk.items() if name in ("kty", "n", "e")}
    last_bit_set = signature[:-1] + ALPHABET[ALPHABET.index(signature[-1]) ^ 1]

    def hs256(secret: bytes) -> Callable[[bytes], bytes]:
        return lambda message: hmac.digest(secret, message, hashlib.sha256)

    def rs512(message: bytes) -> bytes:
        assert ours.private_key
        return ours.private_key.sign(message, padding.PKCS1v15(), hashes.SHA512())

    def ps256(message: bytes) -> bytes:
        assert ours.private_key
        return ours.private_key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 0), hashes.SHA256())

    def with_header(**members: Any) -> str:
        return forged(good | members, payload, ours.sign)

    def with_payload(text: str) -> str:
        return forged(good, encoded(text), ours.sign)

    return {
        # The algorithm is the attacker's.
        "algorithm none, no signature": forged(good | {"alg": "none"}, better, lambda _: b""),
        "algorithm None, in another case": forged(good | {"alg": "None"}, better, lambda _: b""),
        "algorithm none, sound signature": with_header(alg="none"),
        "HS256 with the public PEM as secret": forged(good | {"alg": "HS256"}, better, hs256(ours.public_pem.encode())),
        "HS256 with the public XML as secret": forged(good | {"alg": "HS256"}, better, hs256(ours.public_xml.encode())),
        "HS256 with no secret": forged(good | {"alg": "HS256"}, better, hs256(b"")),
        "RS512 by our key": forged(good | {"alg": "RS512"}, payload, rs512),
        "RS512 by our key, called RS256": forged(good, payload, rs512),
        "PS256 by our key": forged(good | {"alg": "PS256"}, payload, ps256),
        "PS256 by our key, called RS256": forged(good, payload, ps256),
        "algorithm rs256, in lower case": with_header(alg="rs256"),
        "algorithm no text": with_header(alg=["RS256"]),
        "no algorithm": forged({"kid": ours.kid, "typ": TYPE}, payload, ours.sign),
        # The key is the attacker's.
        "signed by a stranger": forged(good | {"kid": strange.kid}, better, strange.sign),
        "signed by a stranger in our key's name": forged(good, better, strange.sign),
        "signed by our next key in the current key's name": forged(good, payload, upcoming.sign),
        "signed by our current key in the next key's name": with_header(kid=upcoming.kid),
        "a stranger's key in the header": forged(good | {"jwk": strange_jwk}, better, strange.sign),
        "a stranger's key in the header, and its name": forged(
            good | {"kid": strange.kid, "jwk": strange_jwk}, better, strange.sign
        ),
        "our key in the header": with_header(jwk=strange_jwk | {"n": ours.public_jwk["n"]}),
        "jku in the header": with_header(jku="https://example.org/jwks.json"),
        "x5u in the header": with_header(x5u="https://example.org/key.pem"),
        "x5c in the header": with_header(x5c=["AAAA"]),
        "no kid": forged({"alg": "RS256", "typ": TYPE}, payload, ours.sign),
        "kid no text": with_header(kid=0),
        "kid a list": with_header(kid=[ours.kid]),
        "kid null": with_header(kid=None),
        "kid a path": with_header(kid="../../dev/null"),
        # The content is the attacker's.
        "another payload under our signature": f"{header}.{better}.{signature}",
        "no payload under our signature": f"{header}..{signature}",
        "another header under our signature": f"{encoded(json.dumps(good))}.{payload}.{signature}",
        "signature taken away": f"{header}.{payload}.",
        "signature and its dot taken away": f"{header}.{payload}",
        "signature one byte short": f"{header}.{payload}.{encoded(decoded(signature)[:-1])}",
        "signature one byte long": f"{header}.{payload}.{encoded(decoded(signature) + bytes(1))}",
        "signature with a zero before it": f"{header}.{payload}.{encoded(bytes(1) + decoded(signature))}",
        "signature all zeros": f"{header}.{payload}.{encoded(bytes(256))}",
        "signature the number one": f"{header}.{payload}.{encoded(bytes(255) + bytes([1]))}",
        "signature and payload changed places": f"{header}.{signature}.{payload}",
        # The type is another's.
        "a license file": sign(ours, json.dumps(CLAIMS).encode(), "license-file+jwt").decode(),
        "a key set": sign(ours, json.dumps(CLAIMS).encode(), "jwk-set+jwt").decode(),
        "type JWT": with_header(typ="JWT"),
        "type with application/ before it": with_header(typ=f"application/{TYPE}"),
        "type in upper case": with_header(typ=TYPE.upper()),
        "no type": forged({"alg": "RS256", "kid": ours.kid}, payload, ours.sign),
        # Two readers could read it differently.
        "crit in the header": with_header(crit=["exp"], exp=1),
        "b64 false": with_header(b64=False, crit=["b64"]),
        "zip in the header": with_header(zip="DEF"),
        "a member of the header twice": forged(
            f'{{"alg":"none","alg":"RS256","kid":"{ours.kid}","typ":"{TYPE}"}}', payload, ours.sign
        ),
        "a claim twice": with_payload('{"exp":1,"exp":32503680000}'),
        "a claim twice, deeper": with_payload('{"products":[{"action":"disable","action":"allow"}]}'),
        "a claim that is no number": with_payload('{"exp":NaN}'),
        "claims that are a list": with_payload("[]"),
        "claims that are no JSON": with_payload("exp=1"),
        "claims with more behind them": with_payload("{}{}"),
        "claims in UTF-16": forged(good, encoded("{}".encode("utf-16")), ours.sign),
        "header a list": forged('["RS256"]', payload, ours.sign),
        "header no JSON": forged("RS256", payload, ours.sign),
        "header no UTF-8": forged(b"\xff\xfe", payload, ours.sign),
        "header in UTF-16": forged(json.dumps(good).encode("utf-16"), payload, ours.sign),
        "header empty": f".{payload}.{signature}",
        # It is not the one way to write it.
        "line feed behind it": f"{token}\n",
        "space before it": f" {token}",
        "byte order mark before it": f"\ufeff{token}",
        "line feed in the payload": f"{header}.{payload[:40]}\n{payload[40:]}.{signature}",
        "padding behind it": f"{token}==",
        "padding behind the header": f"{header}=.{payload}.{signature}",
        "base64 in place of base64url": f"{header}.{payload}.{signature.replace('-', '+').replace('_', '/')}",
        "an unused last bit set": f"{header}.{payload}.{last_bit_set}",
        "a fourth part": f"{token}.{signature}",
        "a dot behind it": f"{token}.",
        "twice": f"{token}{token}",
        "full-width letters": token.replace("e", "\uff45"),
        "in JSON": json.dumps({"protected": header, "payload": payload, "signature": signature}),
        "in flattened JSON parts": json.dumps(token),
        "nothing": "",
        "two dots": "..",
    }


def build() -> dict[str, str]:
    """The content of each file by its name."""
    keys = key_set()
    signer = Signer(keys)
    assert keys.next
    claims_json = json.dumps(CLAIMS, ensure_ascii=False, separators=(",", ":"))
    return {
        "jwk-set.json": json.dumps(signer.jwk_set(NOW), indent=2) + "\n",
        "current.pem": keys.current.public_pem,
        "current.xml": keys.current.public_xml + "\n",
        "reply.json": claims_json,
        "reply.jws": signer.sign(claims_json.encode(), TYPE).decode(),
        "jwk-set.jws": signer.signed_jwk_set(NOW, ISSUER).decode(),
        "refused.json": json.dumps(refused(keys.current, keys.next, stranger()), indent=2) + "\n",
    }


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(content, "utf-8", newline="\n")
