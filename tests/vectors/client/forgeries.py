"""Replies that no client may believe: by what is wrong with them, and why they are refused."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils

from tests.vectors import make
from tests.vectors.client.parts import (
    DAY,
    DISABLED,
    NOW,
    PRODUCT,
    Json,
    claims_at,
    keys,
    product,
    refusal,
    signed,
)
from tests.vectors.make import ALPHABET, TYPE, forged


def cases() -> list[Json]:
    """Replies that disable, and that no client may believe: by what is wrong with them, and why they are refused.

    Where it is the header alone, the signature over it is sound.
    """
    ours, strange = keys()["current"], keys()["stranger"]
    claims = claims_at(NOW, DISABLED)
    token = signed(claims)
    header, payload, signature = token.split(".")
    raw = make.decoded(signature)
    other = make.encoded(json.dumps(claims | {"exp": NOW + 365 * DAY}))
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

    def without_hash_name(message: bytes) -> bytes:
        """PKCS #1 v1.5 over the bare digest: what a verifier must not take that only looks at the end."""
        assert ours.private_key
        digest = hashlib.sha256(message).digest()
        return ours.private_key.sign(digest, padding.PKCS1v15(), utils.NoDigestInfo())

    def with_header(**members: Any) -> str:
        return forged(good | members, payload, ours.sign)

    def with_payload(text: str | bytes) -> str:
        return forged(good, make.encoded(text), ours.sign)

    def flipped(text: str, position: int) -> str:
        data = bytearray(make.decoded(text))
        data[position] ^= 1
        return make.encoded(bytes(data))

    whole = json.dumps(claims)
    tokens = {
        "malformed": {
            "its signature and its dot are taken away": f"{header}.{payload}",
            "it is cut off in its payload": f"{header}.{payload[:40]}",
            "it has a fourth part": f"{token}.{signature}",
            "a dot is behind it": f"{token}.",
            "it comes twice": f"{token}{token}",
            "a line feed is behind it": f"{token}\n",
            "a space is before it": f" {token}",
            "a byte order mark is before it": f"\ufeff{token}",
            "a line feed is in its payload": f"{header}.{payload[:40]}\n{payload[40:]}.{signature}",
            "a space is in its signature": f"{header}.{payload}.{signature[:40]} {signature[40:]}",
            "padding is behind it": f"{token}==",
            "padding is behind its header": f"{header}=.{payload}.{signature}",
            "it is base64 in place of base64url": f"{header}.{payload}.{signature.replace('-', '+').replace('_', '/')}",
            "an unused last bit is set": f"{header}.{payload}.{last_bit_set}",
            "it is written in full-width letters": token.replace("e", "\uff45"),
            "it is a JWS in JSON": json.dumps({"protected": header, "payload": payload, "signature": signature}),
            "it is a JSON text": json.dumps(token),
            "it is two dots": "..",
            "its header is empty": f".{payload}.{signature}",
            "its header is a list": forged('["RS256"]', payload, ours.sign),
            "its header is no JSON": forged("RS256", payload, ours.sign),
            "its header is no UTF-8": forged(b"\xff\xfe", payload, ours.sign),
            "its header is in UTF-16": forged(json.dumps(good).encode("utf-16"), payload, ours.sign),
            "its header names the algorithm twice": forged(
                f'{{"alg":"none","alg":"RS256","kid":"{ours.kid}","typ":"{TYPE}"}}', payload, ours.sign
            ),
            "its header names the algorithm twice, once by an escape": forged(
                f'{{"\\u0061lg":"none","alg":"RS256","kid":"{ours.kid}","typ":"{TYPE}"}}', payload, ours.sign
            ),
            "its header has more behind it": forged(json.dumps(good) + "{}", payload, ours.sign),
            "its header is nested 12,000 deep": forged(
                '{"x":' + "[" * 12_000 + "]" * 12_000 + "}", "e30", lambda _: b""
            ),
        },
        "invalidAlgorithm": {
            "its algorithm is none, without a signature": forged(good | {"alg": "none"}, payload, lambda _: b""),
            "its algorithm is None, in another case": forged(good | {"alg": "None"}, payload, lambda _: b""),
            "its algorithm is none, with a sound signature": with_header(alg="none"),
            "it is an HMAC with the public PEM": forged(
                good | {"alg": "HS256"}, payload, hs256(ours.public_pem.encode())
            ),
            "it is an HMAC with the public XML": forged(
                good | {"alg": "HS256"}, payload, hs256(ours.public_xml.encode())
            ),
            "it is an HMAC with the public JWK": forged(
                good | {"alg": "HS256"}, payload, hs256(json.dumps(ours.public_jwk).encode())
            ),
            "it is an HMAC with no secret": forged(good | {"alg": "HS256"}, payload, hs256(b"")),
            "it is RS512 by our key": forged(good | {"alg": "RS512"}, payload, rs512),
            "it is PS256 by our key": forged(good | {"alg": "PS256"}, payload, ps256),
            "its algorithm is rs256, in lower case": with_header(alg="rs256"),
            "its algorithm is no text": with_header(alg=["RS256"]),
            "it has no algorithm": forged({"kid": ours.kid, "typ": TYPE}, payload, ours.sign),
        },
        "invalidType": {
            "it is a license file": signed(claims, typ="license-file+jwt"),
            "it is a key set": signed(claims, typ="jwk-set+jwt"),
            "its type is JWT": with_header(typ="JWT"),
            "its type has application/ before it": with_header(typ=f"application/{TYPE}"),
            "its type is in upper case": with_header(typ=TYPE.upper()),
            "its type is no text": with_header(typ=[TYPE]),
            "it has no type": forged({"alg": "RS256", "kid": ours.kid}, payload, ours.sign),
        },
        "invalidHeader": {
            "it has no kid": forged({"alg": "RS256", "typ": TYPE}, payload, ours.sign),
            "its kid is no text": with_header(kid=0),
            "its kid is a list": with_header(kid=[ours.kid]),
            "its kid is null": with_header(kid=None),
            "it brings a stranger's key": forged(good | {"jwk": strange_jwk}, payload, strange.sign),
            "it brings a stranger's key, and its name": forged(
                good | {"kid": strange.kid, "jwk": strange_jwk}, payload, strange.sign
            ),
            "it brings our key": with_header(jwk=strange_jwk | {"n": ours.public_jwk["n"]}),
            "it says where to fetch keys": with_header(jku="https://example.org/jwks.json"),
            "it says where to fetch a key": with_header(x5u="https://example.org/key.pem"),
            "it brings a certificate": with_header(x5c=["AAAA"]),
            "it has crit": with_header(crit=["exp"], exp=1),
            "its payload is not encoded (b64)": with_header(b64=False, crit=["b64"]),
            "it says that it is zipped": with_header(zip="DEF"),
        },
        "unknownKey": {
            "a stranger has signed it": signed(claims, "stranger"),
            "a bit of its kid is flipped": f"{flipped(header, 25)}.{payload}.{signature}",
        },
        "invalidSignature": {
            "a stranger has signed it in our key's name": forged(good, payload, strange.sign),
            "it is RS512 by our key, called RS256": forged(good, payload, rs512),
            "it is PS256 by our key, called RS256": forged(good, payload, ps256),
            "its signature does not name its hash": forged(good, payload, without_hash_name),
            "it has another payload": f"{header}.{other}.{signature}",
            "it has no payload": f"{header}..{signature}",
            "its header is written otherwise": f"{make.encoded(json.dumps(good))}.{payload}.{signature}",
            "its signature is taken away": f"{header}.{payload}.",
            "its signature is one byte short": f"{header}.{payload}.{make.encoded(raw[:-1])}",
            "its signature is one byte long": f"{header}.{payload}.{make.encoded(raw + bytes(1))}",
            "its signature has a zero before it": f"{header}.{payload}.{make.encoded(bytes(1) + raw)}",
            "its signature is all zeros": f"{header}.{payload}.{make.encoded(bytes(256))}",
            "its signature is the number one": f"{header}.{payload}.{make.encoded(bytes(255) + bytes([1]))}",
            "its signature is half of it": f"{header}.{payload}.{signature[:160]}",
            "its signature and payload changed places": f"{header}.{signature}.{payload}",
            "a bit of its payload is flipped": f"{header}.{flipped(payload, 0)}.{signature}",
            "a bit in the middle of its payload is flipped": f"{header}.{flipped(payload, 200)}.{signature}",
            "the first bits of its signature are flipped": f"{header}.{payload}.{flipped(signature, 0)}",
            "the last bit of its signature is flipped": f"{header}.{payload}.{flipped(signature, 255)}",
        },
        "malformedClaims": {
            "it has a claim twice": with_payload(whole.replace("{", '{"exp":1,', 1)),
            "it has a claim twice, once by an escape": with_payload(whole.replace("{", '{"\\u0065xp":1,', 1)),
            "it has a claim twice, deeper": with_payload(whole.replace('"action":', '"action":"allow","action":')),
            "a claim is NaN": with_payload(whole.replace("{", '{"x":NaN,', 1)),
            "its claims are a list": with_payload(f"[{whole}]"),
            "its claims are no JSON": with_payload("exp=1"),
            "its claims are nothing": with_payload(""),
            "its claims have more behind them": with_payload(f"{whole}{{}}"),
            "its claims are in UTF-16": with_payload(whole.encode("utf-16")),
            "its claims are not all UTF-8": with_payload(whole.encode().replace(b"SmartSend", b"Smart\xff\xfe")),
            "its claims are in single quotes": with_payload(whole.replace('"', "'")),
            "its claims have a comment": with_payload(f"{whole}//"),
            "its claims have a comma too many": with_payload(whole[:-1] + ",}"),
            "a line feed is in a text of its claims": with_payload(whole.replace("SmartSend", "Smart\nSend")),
            "a number of its claims begins with a zero": with_payload(whole.replace(f"{NOW}", f"0{NOW}")),
            "a word of its claims has another end": with_payload(whole.replace("{", '{"x":nullify,', 1)),
        },
    }
    wrong_claims: dict[str, Json] = {
        "it does not say when it was made": {"iat": None},
        "its iat is a text": {"iat": str(NOW)},
        "its iat has a decimal point": {"iat": float(NOW)},
        "its iat is true": {"iat": True},
        "its iat is negative": {"iat": -1},
        "it does not say until when it counts": {"exp": None},
        "its exp is beyond the year 9999": {"exp": 253402300800},
        "its exp is larger than any number": {"exp": 10**400},
        "it does not say when to ask again": {"refreshAfter": None},
        "its refreshAfter is a list": {"refreshAfter": [NOW]},
        "it has no products": {"products": None},
        "its products are an object": {"products": {PRODUCT: DISABLED}},
        "its products are texts": {"products": [PRODUCT]},
        "a product has no name": {"products": [{"status": "licensed", "action": "allow"}]},
        "the name of a product is a number": {"products": [product() | {"productName": 1}]},
    }
    return [
        *(
            refusal(f"a reply is refused where {name}", reason, each)
            for reason, named in tokens.items()
            for name, each in named.items()
        ),
        *(
            refusal(f"a reply is refused where {name}", "malformedClaims", signed(claims | members))
            for name, members in wrong_claims.items()
        ),
    ]
