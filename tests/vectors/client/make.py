"""The cases of README.md: `python -m tests.vectors.client.make` writes them.

What is expected is written here by hand: no implementation is asked.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils

from licensing.signing.jws import sign
from licensing.signing.keys import SigningKey
from tests.vectors import make
from tests.vectors.make import ALPHABET, CLAIMS, ISSUER, TYPE, forged

FOLDER = Path(__file__).parent
type Json = dict[str, Any]

NOW = make.IAT
HOUR, DAY = 3600, 86400
NONCE = CLAIMS["nonce"]
PRODUCT = "SmartSend"
CLIENT: Json = {
    "issuer": ISSUER,
    "publisherId": CLAIMS["aud"],
    "serialNumber": CLAIMS["sub"],
    "pinnedKeys": ["current", "next"],
}
NOTHING_STORED: Json = {"reply": None, "keySets": [], "latestIat": None, "failingSince": None, "retryAt": None}


@cache
def keys() -> dict[str, SigningKey]:
    """The keys by the names that cases give them."""
    key_set = make.key_set()
    assert key_set.next
    more = json.loads((FOLDER / "test-keys.json").read_text("utf-8"))
    return {
        "current": key_set.current,
        "next": key_set.next,
        "stranger": make.stranger(),
        **{name: make.key_of(more[name]) for name in ("later", "last", "weak")},
    }


def product(name: str = PRODUCT, status: Any = "licensed", action: Any = "allow", **members: Any) -> Json:
    return {"productName": name, "status": status, "action": action, "warnings": [], "message": None, **members}


DISABLED = product(status="featureDisabled", action="disable", message="SmartSend: switched off.")


def claims_at(iat: int = NOW, *products: Json, **members: Any) -> Json:
    """The claims of a reply made at `iat`, by default one that allows."""
    return {
        **CLAIMS,
        "iat": iat,
        "refreshAfter": iat + DAY,
        "exp": iat + 7 * DAY,
        "stale": False,
        "supportEmail": "support@example.com",
        "products": list(products) or [product()],
        "notices": [],
        **members,
    }


def signed(claims: Json, key: str = "current", typ: str = TYPE) -> str:
    return sign(keys()[key], json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode(), typ).decode()


def answer(body: str, status: int = 200, content_type: str = "application/jose", **members: Any) -> Json:
    return {
        "status": status,
        "contentType": content_type,
        "retryAfter": None,
        "body": body,
        "padding": 0,
        **members,
    }


def stored(iat: int = NOW - 2 * DAY, *products: Json, **members: Any) -> Json:
    """What a client has stored that got a good reply at `iat`, and has asked for no key set."""
    return {**NOTHING_STORED, "reply": signed(claims_at(iat, *products)), "latestIat": iat, **members}


def case(  # noqa: PLR0913 - the members of a case
    name: str,
    expected: Json,
    *,
    stored: Json = NOTHING_STORED,
    key_set: Json | None = None,
    reply: Json | None = None,
    license_file: str | None = None,
    now: int = NOW,
    products: tuple[str, ...] = (PRODUCT,),
    **client: Any,
) -> Json:
    return {
        "name": name,
        "client": CLIENT | client,
        "nonce": NONCE,
        "products": list(products),
        "now": now,
        "stored": stored,
        "keySet": key_set,
        "reply": reply,
        "licenseFile": license_file,
        "expected": {
            "keySetReason": None,
            "reason": None,
            "storedReason": "verified",
            "refreshDue": False,
            "warn": False,
            "stored": stored,
            **expected,
        },
    }


NEVER: Json = {"storedReason": "none", "level": "neverChecked", "actions": {PRODUCT: "prompt"}}


def not_taken(reason: str, before: Json, *, now: int = NOW, pause: int = 60, **more: Any) -> Json:
    """Expected of a reply that does not count: the stored one, which allows, goes on counting."""
    since = now if before["failingSince"] is None else before["failingSince"]
    return {
        "reason": reason,
        "level": "unreachable",
        "actions": {PRODUCT: "allow"},
        "stored": before | {"failingSince": since, "retryAt": now + pause},
        **more,
    }


def refusal(
    name: str, reason: str, reply: Json | str, *, pause: int = 60, expected: Json | None = None, **members: Any
) -> Json:
    """What comes does not count; the client has a good reply of two days ago, which allows, or what is given."""
    before, now = members.setdefault("stored", stored()), members.get("now", NOW)
    outcome = not_taken(reason, before, now=now, pause=pause, **(expected or {}))
    return case(name, outcome, reply=answer(reply) if isinstance(reply, str) else reply, **members)


def acceptance(name: str, token: str, actions: Json | None = None, **members: Any) -> Json:
    """A good reply comes to a client that has nothing, or what is given as `stored`."""
    before = members.setdefault("stored", NOTHING_STORED)
    claims = json.loads(make.decoded(token.split(".")[1]))
    expected = {
        "reason": "verified",
        "level": "fresh",
        "actions": actions or {PRODUCT: "allow"},
        "stored": NOTHING_STORED
        | {"reply": token, "keySets": before["keySets"], "latestIat": max(claims["iat"], before["latestIat"] or 0)},
    }
    return case(name, expected, reply=answer(token), **members)


def forgeries() -> list[Json]:
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
        "wrongAlgorithm": {
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
        "wrongType": {
            "it is a license file": signed(claims, typ="license-file+jwt"),
            "it is a key set": signed(claims, typ="jwk-set+jwt"),
            "its type is JWT": with_header(typ="JWT"),
            "its type has application/ before it": with_header(typ=f"application/{TYPE}"),
            "its type is in upper case": with_header(typ=TYPE.upper()),
            "its type is no text": with_header(typ=[TYPE]),
            "it has no type": forged({"alg": "RS256", "kid": ours.kid}, payload, ours.sign),
        },
        "wrongHeader": {
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
        "signatureInvalid": {
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


def others() -> list[Json]:
    """Replies with a sound signature, to another question or from another time."""

    def other(name: str, reason: str, iat: int = NOW, *products: Json, **changed: Any) -> Json:
        claims = claims_at(iat, *(products or [DISABLED]), **changed)
        return refusal(name, reason, signed({claim: value for claim, value in claims.items() if value is not None}))

    publisher_id = CLIENT["publisherId"]
    return [
        other("the reply of another service", "otherIssuer", iss="https://licenses.example.org"),
        other("the issuer with a slash behind it", "otherIssuer", iss=f"{ISSUER}/"),
        other("a reply without an issuer", "otherIssuer", iss=None),
        other("a reply for another publisher", "otherPublisher", aud="00000000-0000-4000-8000-000000000000"),
        other("a reply for our publisher in upper case", "otherPublisher", aud=str(publisher_id).upper()),
        other("a reply for a list of publishers", "otherPublisher", aud=[publisher_id]),
        other("a reply without a publisher", "otherPublisher", aud=None),
        other("a reply for another serial number", "otherEnvironment", sub="C0FFEE-0043"),
        other("a reply for our serial number in another case", "otherEnvironment", sub="c0ffee-0042"),
        other("a reply without a serial number", "otherEnvironment", sub=None),
        other("a reply to an earlier question", "otherNonce", nonce="0" * 32),
        other("a reply without a nonce", "otherNonce", nonce=None),
        other("a reply with our nonce in another case", "otherNonce", nonce=NONCE.upper()),
        other("a reply about no product", "otherProducts", products=[]),
        other("a reply about another product", "otherProducts", NOW, product("BankFeeds", "notEnabled", "disable")),
        other(
            "a reply about our product in another case", "otherProducts", NOW, product("smartsend", action="disable")
        ),
        other("a reply about one product more", "otherProducts", NOW, DISABLED, product("BankFeeds")),
        other("a reply about our product twice", "otherProducts", NOW, DISABLED, DISABLED),
        refusal(
            "a reply about our products in another order",
            "otherProducts",
            signed(claims_at(NOW, product("BankFeeds"), DISABLED)),
            products=(PRODUCT, "BankFeeds"),
            stored=stored(NOW - 2 * DAY, product(), product("BankFeeds")),
            expected={"actions": {PRODUCT: "allow", "BankFeeds": "allow"}},
        ),
        other("a reply of 301 seconds ago", "iatTooOld", NOW - 301),
        other("a reply of last week that has not expired", "iatTooOld", NOW - 6 * DAY),
        other("a reply of 301 seconds ahead", "iatAhead", NOW + 301),
        other("a reply of next year", "iatAhead", NOW + 365 * DAY),
        other("a reply that expires now", "expired", exp=NOW),
        other("a reply that had expired before it was made", "expired", exp=NOW - DAY),
    ]


def replies() -> list[Json]:
    disabled = signed(claims_at(NOW, DISABLED))
    unheard: Json = {"newClaim": {"deep": [1, 2.5e3, None, True]}}
    wide = signed(claims_at(NOW, product(message='Größe und 日本語 \U0001f511 " \\ \n')))
    named = product("Größe 日本語 \U0001f511")
    good_header = {"alg": "RS256", "kid": keys()["current"].kid, "typ": TYPE}
    payload = signed(claims_at()).split(".")[1]
    two = (product(), product("BankFeeds", "notEnabled", "disable"), product("LeaseBook", "notLicensed", "prompt"))
    return [
        acceptance("a good reply", signed(claims_at())),
        acceptance("a good reply that disables", disabled, {PRODUCT: "disable"}),
        acceptance("a good reply takes the place of another", disabled, {PRODUCT: "disable"}, stored=stored()),
        acceptance(
            "a good reply ends a week of failures",
            signed(claims_at()),
            stored=stored(NOW - 9 * DAY, DISABLED, failingSince=NOW - 8 * DAY, retryAt=NOW + 1800),
        ),
        acceptance(
            "a good reply about three products",
            signed(claims_at(NOW, *two)),
            {PRODUCT: "allow", "BankFeeds": "disable", "LeaseBook": "prompt"},
            products=(PRODUCT, "BankFeeds", "LeaseBook"),
        ),
        acceptance("a reply by the next key, which is pinned too", signed(claims_at(), "next")),
        acceptance(
            "a reply by the next key in the current key's name, since kid is a hint",
            forged(good_header, payload, keys()["next"].sign),
        ),
        acceptance(
            "a reply by a pinned key in the name of none, since kid is a hint",
            forged(good_header | {"kid": "../../dev/null"}, payload, keys()["current"].sign),
        ),
        acceptance(
            "a header in another order and with spaces",
            forged(json.dumps(dict(reversed(good_header.items())), indent=1), payload, keys()["current"].sign),
        ),
        acceptance("a reply of 300 seconds ago", signed(claims_at(NOW - 300))),
        acceptance("a reply of 300 seconds ahead", signed(claims_at(NOW + 300))),
        acceptance("a reply that expires in a second", signed(claims_at(exp=NOW + 1))),
        acceptance(
            "a reply that is a little older than the one stored, as instances' clocks differ",
            signed(claims_at(NOW - 30)),
            stored=stored(NOW + 30),
        ),
        acceptance(
            "a reply with claims and members that nobody knows yet",
            signed(claims_at(NOW, product(**unheard), **unheard)),
        ),
        acceptance("a reply with letters of many scripts", wide),
        acceptance(
            "a product with letters of many scripts",
            signed(claims_at(NOW, named)),
            {named["productName"]: "allow"},
            products=(named["productName"],),
        ),
        acceptance(
            "letters that are written as escapes",
            forged(good_header, make.encoded(json.dumps(claims_at(NOW, named))), keys()["current"].sign),
            {named["productName"]: "allow"},
            products=(named["productName"],),
        ),
        acceptance(
            "white space around and within the claims",
            forged(good_header, make.encoded(f"\r\n\t {json.dumps(claims_at(), indent=4)} \n"), keys()["current"].sign),
        ),
        acceptance(
            "a client that writes its publisher in upper case",
            signed(claims_at()),
            publisherId=str(CLIENT["publisherId"]).upper(),
        ),
        acceptance("a stale reply counts like any other", signed(claims_at(stale=True))),
        *(
            refusal(name, "unknownKey", signed(claims_at()), pinnedKeys=pinned, stored=NOTHING_STORED, expected=NEVER)
            for name, pinned in (("a client without a pinned key", []), ("a client with other keys", ["next"]))
        ),
        *forgeries(),
        *others(),
    ]


HTML = "<!DOCTYPE html>\n<html><head><title>Blocked</title></head><body>Access denied by the firewall</body></html>\n"
PROBLEM = json.dumps(
    {
        "type": "urn:license-manager:problem:tooManyRequests",
        "title": "Too many",
        "status": 429,
        "code": "tooManyRequests",
    }
)


def failures() -> list[Json]:
    denial = signed(claims_at(NOW, DISABLED))
    return [
        refusal("no answer in time", "timeout", {"failure": "timeout"}),
        refusal("the connection is reset", "connectionReset", {"failure": "connectionReset"}),
        refusal("the service cannot be reached", "unreachable", {"failure": "unreachable"}),
        refusal("a page of HTML with 200", "malformed", answer(HTML, content_type="text/html")),
        refusal("a page of HTML under the name of a reply", "malformed", answer(HTML)),
        refusal("a firewall's page with 403", "httpStatus", answer(HTML, 403, "text/html")),
        refusal("a proxy's page with 407", "httpStatus", answer(HTML, 407, "text/html")),
        refusal("a captive portal's redirect", "httpStatus", answer("", 302, "text/html")),
        refusal(
            "a captive portal's page behind a redirect that was followed", "malformed", answer(HTML, 200, "text/html")
        ),
        refusal("an empty body", "malformed", answer("")),
        refusal("no content", "httpStatus", answer("", 204)),
        refusal("a huge payload", "tooLarge", answer(denial, padding=1_048_577)),
        refusal("a huge page", "tooLarge", answer(HTML, content_type="text/html", padding=1_048_577)),
        refusal(
            "a JSON text that disables",
            "malformed",
            answer('{"products":[{"productName":"SmartSend","action":"disable"}]}', content_type="application/json"),
        ),
        refusal("a problem with 400", "httpStatus", answer(PROBLEM, 400, "application/problem+json")),
        refusal("a problem with 404", "httpStatus", answer(PROBLEM, 404, "application/problem+json")),
        refusal("a problem with 200", "malformed", answer(PROBLEM, 200, "application/problem+json")),
        refusal("500", "httpStatus", answer("", 500, "text/plain")),
        refusal("a signed reply with 500", "httpStatus", answer(denial, 500)),
        refusal("a signed reply with 403", "httpStatus", answer(denial, 403)),
        refusal("a signed reply with 201", "httpStatus", answer(denial, 201)),
        refusal("503", "httpStatus", answer(PROBLEM, 503, "application/problem+json")),
        refusal(
            "503 with Retry-After",
            "httpStatus",
            answer(PROBLEM, 503, "application/problem+json", retryAfter=5),
            pause=5,
        ),
        refusal(
            "429 with Retry-After",
            "httpStatus",
            answer(PROBLEM, 429, "application/problem+json", retryAfter=120),
            pause=120,
        ),
        refusal(
            "429 with a Retry-After of a day",
            "httpStatus",
            answer(PROBLEM, 429, "application/problem+json", retryAfter=DAY),
            pause=HOUR,
        ),
        refusal(
            "a page with 200 and Retry-After",
            "malformed",
            answer(HTML, content_type="text/html", retryAfter=30),
            pause=30,
        ),
        refusal(
            "the second failure, a minute after the first",
            "timeout",
            {"failure": "timeout"},
            stored=stored(failingSince=NOW - 60, retryAt=NOW),
        ),
        refusal(
            "a failure four minutes after the first",
            "timeout",
            {"failure": "timeout"},
            stored=stored(failingSince=NOW - 240, retryAt=NOW),
            pause=240,
        ),
        refusal(
            "a failure two hours after the first",
            "timeout",
            {"failure": "timeout"},
            stored=stored(failingSince=NOW - 2 * HOUR, retryAt=NOW),
            pause=HOUR,
        ),
        refusal(
            "a failure a second before it has failed for a day",
            "timeout",
            {"failure": "timeout"},
            stored=stored(failingSince=NOW - DAY + 1, retryAt=NOW),
            pause=HOUR,
        ),
        refusal(
            "a failure a day after the first",
            "timeout",
            {"failure": "timeout"},
            stored=stored(failingSince=NOW - DAY, retryAt=NOW),
            pause=HOUR,
            expected={"warn": True},
        ),
        refusal(
            "a validation by hand fails while the reply is fresh",
            "timeout",
            {"failure": "timeout"},
            stored=stored(NOW - HOUR),
            expected={"level": "fresh"},
        ),
        refusal(
            "no answer, and nothing stored", "timeout", {"failure": "timeout"}, stored=NOTHING_STORED, expected=NEVER
        ),
        refusal(
            "a forged denial, and nothing stored",
            "unknownKey",
            signed(claims_at(NOW, DISABLED), "stranger"),
            stored=NOTHING_STORED,
            expected=NEVER,
        ),
        refusal(
            "no answer, and the last good reply disables",
            "timeout",
            {"failure": "timeout"},
            stored=stored(NOW - 2 * DAY, DISABLED),
            expected={"actions": {PRODUCT: "disable"}},
        ),
        refusal(
            "no answer, and the last good reply has expired",
            "timeout",
            {"failure": "timeout"},
            stored=stored(NOW - 8 * DAY),
            expected={"level": "expired", "actions": {PRODUCT: "prompt"}},
        ),
        refusal(
            "no answer, and the last good reply, which disables, has expired",
            "timeout",
            {"failure": "timeout"},
            stored=stored(NOW - 8 * DAY, DISABLED),
            expected={"level": "expired", "actions": {PRODUCT: "disable"}},
        ),
        refusal(
            "a page of HTML, and the last good reply has expired",
            "malformed",
            answer(HTML, content_type="text/html"),
            stored=stored(NOW - 8 * DAY, failingSince=NOW - 7 * DAY, retryAt=NOW),
            pause=HOUR,
            expected={"level": "expired", "actions": {PRODUCT: "prompt"}, "warn": True},
        ),
        refusal(
            "a sound reply to a clock that was turned back a week",
            "iatAhead",
            signed(claims_at(NOW + 7 * DAY, DISABLED)),
            stored=stored(NOW - 2 * DAY),
        ),
        refusal(
            "a reply of the time that the clock was turned back to",
            "clockTurnedBack",
            signed(claims_at(NOW)),
            stored=stored(NOW + 301),
            expected={"level": "clockTurnedBack", "actions": {PRODUCT: "prompt"}},
        ),
    ]


def kept(name: str, level: str, action: str, before: Json, *, due: bool, **more: Any) -> Json:
    """Nothing comes: what counts by what is stored."""
    members = {member: more.pop(member) for member in ("now", "products", *CLIENT) if member in more}
    return case(
        name, {"level": level, "actions": {PRODUCT: action}, "refreshDue": due, **more}, stored=before, **members
    )


def stored_cases() -> list[Json]:
    good = signed(claims_at(NOW - 2 * DAY))
    header, payload, signature = good.split(".")
    allowing = make.encoded(json.dumps(claims_at(NOW - 2 * DAY)))
    denial_header, _, denial_signature = signed(claims_at(NOW - 2 * DAY, DISABLED)).split(".")

    def worthless(name: str, reason: str, before: Json, **members: Any) -> Json:
        return kept(name, "neverChecked", "prompt", before, due=True, storedReason=reason, **members)

    def with_reply(token: str) -> Json:
        return NOTHING_STORED | {"reply": token, "latestIat": NOW - 2 * DAY}

    def with_claims(**members: Any) -> Json:
        return with_reply(signed(claims_at(NOW - 2 * DAY, **members)))

    return [
        worthless("nothing is stored", "none", NOTHING_STORED),
        kept("a reply of an hour ago", "fresh", "allow", stored(NOW - HOUR), due=False),
        kept("a second before refreshAfter", "fresh", "allow", stored(NOW - DAY + 1), due=False),
        kept("refreshAfter is now", "aged", "allow", stored(NOW - DAY), due=True),
        kept("a reply of two days ago that was not refreshed", "aged", "allow", stored(), due=True),
        kept("a reply of two days ago that disables", "aged", "disable", stored(NOW - 2 * DAY, DISABLED), due=True),
        kept("a second before exp", "aged", "allow", stored(NOW - 7 * DAY + 1), due=True),
        kept("exp is now", "expired", "prompt", stored(NOW - 7 * DAY), due=True),
        kept("a reply of last month", "expired", "prompt", stored(NOW - 30 * DAY), due=True),
        kept("a reply of last month that disables", "expired", "disable", stored(NOW - 30 * DAY, DISABLED), due=True),
        kept(
            "a reply of last month that prompts",
            "expired",
            "prompt",
            stored(NOW - 30 * DAY, product(status="expired", action="prompt")),
            due=True,
        ),
        kept(
            "the last try failed, and the next is not due yet",
            "unreachable",
            "allow",
            stored(failingSince=NOW - 90, retryAt=NOW + 1),
            due=False,
        ),
        kept(
            "the last try failed, and the next is due now",
            "unreachable",
            "allow",
            stored(failingSince=NOW - 90, retryAt=NOW),
            due=True,
        ),
        kept(
            "a second before it has failed for a day",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY + 1, retryAt=NOW),
            due=True,
        ),
        kept(
            "it has failed for a day",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY, retryAt=NOW + 9),
            due=False,
            warn=True,
        ),
        kept(
            "it has failed for a week, and the reply has expired",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, failingSince=NOW - 7 * DAY, retryAt=NOW),
            due=True,
            warn=True,
        ),
        kept(
            "it has failed for a day from the start",
            "neverChecked",
            "prompt",
            NOTHING_STORED | {"failingSince": NOW - DAY, "retryAt": NOW + 9},
            due=False,
            warn=True,
            storedReason="none",
        ),
        kept(
            "a try by hand failed while the reply is fresh",
            "fresh",
            "allow",
            stored(NOW - HOUR, failingSince=NOW - 90, retryAt=NOW - 30),
            due=False,
        ),
        kept(
            "a product that the fresh reply does not name",
            "fresh",
            "allow",
            stored(NOW - HOUR),
            due=True,
            products=(PRODUCT, "BankFeeds"),
            actions={PRODUCT: "allow", "BankFeeds": "prompt"},
        ),
        kept(
            "a product that the fresh reply does not name, and the next try is not due yet",
            "fresh",
            "allow",
            stored(NOW - HOUR, failingSince=NOW - 90, retryAt=NOW + 30),
            due=False,
            products=("BankFeeds",),
            actions={"BankFeeds": "prompt"},
        ),
        kept(
            "a product whose name the fresh reply writes in another case",
            "fresh",
            "allow",
            stored(NOW - HOUR),
            due=True,
            products=("smartsend",),
            actions={"smartsend": "prompt"},
        ),
        kept(
            "one product of the three that the reply names",
            "fresh",
            "disable",
            stored(NOW - HOUR, product("BankFeeds"), DISABLED, product("LeaseBook")),
            due=False,
        ),
        kept("the clock is 300 seconds behind the stored reply", "fresh", "allow", stored(NOW + 300), due=False),
        kept(
            "the clock was turned back behind the stored reply",
            "clockTurnedBack",
            "prompt",
            stored(NOW + 301),
            due=True,
        ),
        kept(
            "the clock was turned back, and the stored reply disables",
            "clockTurnedBack",
            "disable",
            stored(NOW + 30 * DAY, DISABLED),
            due=True,
        ),
        kept(
            "the clock was turned back behind what was seen before",
            "clockTurnedBack",
            "prompt",
            stored(NOW - HOUR, latestIat=NOW + 301),
            due=True,
        ),
        kept(
            "the clock is 300 seconds behind what was seen before",
            "fresh",
            "allow",
            stored(NOW - HOUR, latestIat=NOW + 300),
            due=False,
        ),
        kept(
            "the clock was turned back, and what was seen is forgotten",
            "clockTurnedBack",
            "prompt",
            stored(NOW + 301, latestIat=None),
            due=True,
        ),
        kept(
            "the clock was turned back before the stored reply had expired",
            "clockTurnedBack",
            "prompt",
            stored(NOW - 8 * DAY, latestIat=NOW + DAY),
            due=True,
        ),
        worthless("the stored reply was changed", "signatureInvalid", with_reply(f"{header}.{allowing}.{signature}")),
        worthless(
            "the stored denial was changed to allow",
            "signatureInvalid",
            with_reply(f"{denial_header}.{payload}.{denial_signature}"),
        ),
        worthless(
            "the stored reply was signed by a stranger",
            "unknownKey",
            with_reply(signed(claims_at(NOW - 2 * DAY), "stranger")),
        ),
        worthless("the stored reply was cut off", "malformed", with_reply(good[:200])),
        worthless("the stored reply is an empty text", "none", with_reply("")),
        worthless("the stored reply is JSON without a signature", "malformed", with_reply(json.dumps(claims_at()))),
        worthless(
            "the stored reply has the algorithm none",
            "wrongAlgorithm",
            with_reply(forged({"alg": "none", "kid": "x", "typ": TYPE}, payload, lambda _: b"")),
        ),
        worthless("a key set lies where the reply should", "wrongType", with_reply(signed(claims_at(), typ=KEY_SET))),
        worthless(
            "the stored reply has another member in its header",
            "wrongHeader",
            with_reply(
                forged(
                    {"alg": "RS256", "kid": keys()["current"].kid, "typ": TYPE, "x": 1}, payload, keys()["current"].sign
                )
            ),
        ),
        worthless("the stored reply does not say when to ask again", "malformedClaims", with_claims(refreshAfter=None)),
        worthless(
            "the stored reply comes from another service",
            "otherIssuer",
            with_claims(iss="https://licenses.example.org"),
        ),
        worthless(
            "the stored reply was meant for another publisher",
            "otherPublisher",
            with_claims(aud="00000000-0000-4000-8000-000000000000"),
        ),
        worthless(
            "the stored reply came with a database of another environment",
            "otherEnvironment",
            with_claims(sub="PRODUCTION-1"),
        ),
        worthless(
            "the stored reply was signed by a key that is pinned no more", "unknownKey", stored(), pinnedKeys=["next"]
        ),
        kept(
            "the stored reply answers an earlier question, as it must",
            "aged",
            "allow",
            with_claims(nonce="0" * 32),
            due=True,
        ),
    ]


KNOWN = (
    ("licensed", "allow"),
    ("unknownProduct", "prompt"),
    ("unknownEnvironment", "prompt"),
    ("environmentInactive", "prompt"),
    ("notLicensed", "prompt"),
    ("notEnabled", "disable"),
    ("featureDisabled", "disable"),
    ("notStarted", "prompt"),
    ("expired", "prompt"),
)


def products() -> list[Json]:
    def unknown(name: str, **members: Any) -> Json:
        changed = {member: value for member, value in (product() | members).items() if value != "absent"}
        return acceptance(name, signed(claims_at(NOW, changed)), {PRODUCT: "prompt"})

    return [
        *(
            acceptance(
                f"the status {status}", signed(claims_at(NOW, product(status=status, action=action))), {PRODUCT: action}
            )
            for status, action in KNOWN
        ),
        acceptance(
            "a known status with another known action goes by the action",
            signed(claims_at(NOW, product(status="expired", action="disable"))),
            {PRODUCT: "disable"},
        ),
        acceptance(
            "warnings change nothing, known or not",
            signed(claims_at(NOW, product(warnings=["usersExceeded", "unheardOf"]))),
            {PRODUCT: "allow"},
        ),
        unknown("an action that is not known", action="remind"),
        unknown("an action in another case", action="Disable"),
        unknown("an action that is null", action=None),
        unknown("an action that is a list", action=["disable"]),
        unknown("an action that is an empty text", action=""),
        unknown("no action", action="absent"),
        unknown("a status that is not known, with allow", status="onTrial"),
        unknown("a status that is not known, with prompt", status="onTrial", action="prompt"),
        unknown("a status that is not known, with disable", status="revoked", action="disable"),
        unknown("a status in another case", status="Licensed"),
        unknown("a status that is null", status=None),
        unknown("a status that is an object", status={"licensed": True}),
        unknown("no status", status="absent"),
        unknown("neither is known", status="revoked", action="erase"),
        acceptance(
            "one product that is not understood leaves the others alone",
            signed(
                claims_at(
                    NOW,
                    product(),
                    product("BankFeeds", "revoked", "erase"),
                    product("LeaseBook", "notEnabled", "disable"),
                )
            ),
            {PRODUCT: "allow", "BankFeeds": "prompt", "LeaseBook": "disable"},
            products=(PRODUCT, "BankFeeds", "LeaseBook"),
        ),
        kept(
            "an unknown action, after exp",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, product(action="erase")),
            due=True,
        ),
        kept(
            "disable with an unknown status, after exp",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, product(status="revoked", action="disable")),
            due=True,
        ),
        kept(
            "each product by itself, after exp",
            "expired",
            "allow",
            stored(
                NOW - 8 * DAY,
                product(),
                product("BankFeeds", "featureDisabled", "disable"),
                product("LeaseBook", "expired", "prompt"),
            ),
            due=True,
            products=(PRODUCT, "BankFeeds", "LeaseBook", "EdiConnect"),
            actions={PRODUCT: "prompt", "BankFeeds": "disable", "LeaseBook": "prompt", "EdiConnect": "prompt"},
        ),
    ]


KEY_SET = "jwk-set+jwt"


def key_set_of(*names: str, by: str = "current", iat: int = NOW, **members: Any) -> str:
    """A signed key set that holds these keys."""
    return signed(
        {"iss": ISSUER, "iat": iat, "keys": [keys()[name].public_jwk for name in names], **members}, by, KEY_SET
    )


def key_sets() -> list[Json]:
    first = key_set_of("current", "next", "later", iat=NOW - 90 * DAY)
    second = key_set_of("next", "later", "last", by="later", iat=NOW - 30 * DAY)
    by_later = signed(claims_at(), "later")
    by_last = signed(claims_at(), "last")

    def took(
        name: str, came: str, before: tuple[str, ...] = (), after: tuple[str, ...] | None = None, **members: Any
    ) -> Json:
        """A good key set comes, by itself."""
        was = NOTHING_STORED | {"keySets": list(before)}
        now_stored = NOTHING_STORED | {"keySets": list(after or (came,))}
        outcome = NEVER | {"keySetReason": "verified", "refreshDue": True, "stored": now_stored}
        return case(name, outcome, stored=was, key_set=answer(came), **members)

    def refused(name: str, reason: str, came: Json | str, before: tuple[str, ...] = (), **members: Any) -> Json:
        """A key set that does not count comes, by itself, to a client that has a good reply."""
        outcome = {"keySetReason": reason, "level": "fresh", "actions": {PRODUCT: "allow"}}
        return case(
            name,
            outcome,
            stored=stored(NOW - HOUR, keySets=list(before)),
            key_set=answer(came) if isinstance(came, str) else came,
            **members,
        )

    def trusting(name: str, reply: str, before: tuple[str, ...]) -> Json:
        return acceptance(name, reply, stored=NOTHING_STORED | {"keySets": list(before)})

    def distrusting(name: str, reason: str, reply: str, before: tuple[str, ...]) -> Json:
        return refusal(name, reason, reply, stored=stored(keySets=list(before)))

    def both(name: str, came: str, reply: str, *reasons: str, before: tuple[str, ...] = ()) -> Json:
        """A key set and a reply come; what becomes of either."""
        key_set_reason, reason = reasons
        taken = {"keySets": [came]} if key_set_reason == "verified" else {}
        made = (
            acceptance(name, reply, stored=NOTHING_STORED | {"keySets": list(before)})
            if reason == "verified"
            else refusal(name, reason, reply, stored=stored(keySets=list(before)))
        )
        made["keySet"] = answer(came)
        made["expected"] |= {"keySetReason": key_set_reason, "stored": made["expected"]["stored"] | taken}
        return made

    def odd(jwk: Json) -> str:
        """A set with a key that is not for us, before one that is."""
        return key_set_of(iat=NOW - DAY, keys=[jwk, keys()["last"].public_jwk])

    later_jwk = keys()["later"].public_jwk
    ec: Json = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    not_for_us: dict[str, Json] = {
        "a key of another kind": ec,
        "a key that lacks its number": {"kty": "RSA", "e": "AQAB"},
        "a key whose number is no base64url": later_jwk | {"n": "==="},
        "a key whose number is no text": later_jwk | {"n": 1},
        "an empty object": {},
    }
    changed = f"{first.rpartition('.')[0]}.{second.rpartition('.')[2]}"
    return [
        took("a key set by a pinned key", first),
        took("a key set by the next key, which is pinned too", key_set_of("next", "later", by="next")),
        took(
            "a newer key set by a pinned key takes the place of all before",
            key_set_of("next", "later", by="next"),
            (first, second),
        ),
        took("a newer key set by a key of the last one goes behind it", second, (first,), (first, second)),
        took(
            "a newer key set by the same key takes the place of the last",
            key_set_of("later", "last", by="later"),
            (first, second),
            (first, key_set_of("later", "last", by="later")),
        ),
        took("the same key set again", first, (first,)),
        took("another key set of the same second", key_set_of("current", "later", iat=NOW - 90 * DAY), (first,)),
        took("a key set of 300 seconds ahead", key_set_of("current", "next", iat=NOW + 300)),
        took(
            "a key set behind two that lead to its key",
            key_set_of("last", by="last"),
            (first, second),
            (first, second, key_set_of("last", by="last")),
        ),
        took("a key set takes the place of one that counts no more", first, (changed,)),
        took("a key set with claims that nobody knows yet", key_set_of("current", "later", newClaim=[1])),
        trusting("a reply by a key of the stored set", by_later, (first,)),
        trusting("a reply by a key of the second stored set", by_last, (first, second)),
        trusting(
            "a reply by a pinned key that the stored set has dropped",
            signed(claims_at()),
            (key_set_of("later", iat=NOW - DAY),),
        ),
        trusting(
            "a reply by a pinned key, where the stored set holds no key at all",
            signed(claims_at()),
            (key_set_of(iat=NOW - DAY),),
        ),
        trusting(
            "a key counts by what it is, whatever the set calls it",
            by_later,
            (key_set_of(iat=NOW - DAY, keys=[later_jwk | {"kid": "mine"}]),),
        ),
        trusting(
            "a key without kid, alg and use",
            by_later,
            (key_set_of(iat=NOW - DAY, keys=[{m: later_jwk[m] for m in ("kty", "n", "e")}]),),
        ),
        *(trusting(f"a set with {name} is read past it", by_last, (odd(jwk),)) for name, jwk in not_for_us.items()),
        both("a key set, and a reply by a key that only it holds", first, by_later, "verified", "verified"),
        both(
            "a key set that drops the pinned keys, and a reply by one of them",
            key_set_of("later"),
            signed(claims_at()),
            "verified",
            "verified",
        ),
        both(
            "a stranger's key set, and a reply by the stranger",
            key_set_of("stranger", "current", by="stranger"),
            signed(claims_at(NOW, DISABLED), "stranger"),
            "unknownKey",
            "unknownKey",
        ),
        both(
            "a key set that drops a key, and a reply by that key",
            key_set_of("current", "next"),
            by_later,
            "verified",
            "unknownKey",
            before=(first,),
        ),
        distrusting("a reply by a key that no set has brought", "unknownKey", by_later, ()),
        distrusting(
            "a reply by a key of the first set that the second has dropped",
            "unknownKey",
            signed(claims_at(), "later"),
            (first, key_set_of("next", "last", by="later", iat=NOW - DAY)),
        ),
        distrusting("a reply by a key of a set that was changed", "unknownKey", by_later, (changed,)),
        distrusting(
            "a reply by a key of a set that a stranger has signed",
            "unknownKey",
            by_later,
            (key_set_of("later", by="stranger", iat=NOW - DAY),),
        ),
        distrusting("a reply by a key of a set whose first one is gone", "unknownKey", by_last, (second,)),
        distrusting("a reply by a key of a set behind one that was changed", "unknownKey", by_last, (changed, second)),
        distrusting(
            "a reply by a key of a set of another service",
            "unknownKey",
            by_later,
            (key_set_of("later", iss="https://licenses.example.org"),),
        ),
        distrusting(
            "a reply by a key of 1,024 bits",
            "unknownKey",
            signed(claims_at(), "weak"),
            (key_set_of("weak", iat=NOW - DAY),),
        ),
        distrusting(
            "a reply by a key for another algorithm", "unknownKey", by_later, (odd(later_jwk | {"alg": "PS256"}),)
        ),
        distrusting("a reply by a key for encryption", "unknownKey", by_later, (odd(later_jwk | {"use": "enc"}),)),
        distrusting(
            "a forged reply in the name of a key of the stored set",
            "signatureInvalid",
            forged(
                {"alg": "RS256", "kid": keys()["later"].kid, "typ": TYPE},
                by_later.split(".")[1],
                keys()["stranger"].sign,
            ),
            (first,),
        ),
        refused("a key set by an unknown key", "unknownKey", key_set_of("stranger", by="stranger")),
        refused("a key set by a key that only it holds", "unknownKey", key_set_of("later", "current", by="later")),
        refused("a key set after two rotations were missed", "unknownKey", second),
        refused(
            "a key set in our key's name by a stranger",
            "signatureInvalid",
            forged(
                {"alg": "RS256", "kid": keys()["current"].kid, "typ": KEY_SET},
                first.split(".")[1],
                keys()["stranger"].sign,
            ),
        ),
        refused(
            "a key set by a key that the last one has dropped",
            "unknownKey",
            key_set_of("later", by="later"),
            (key_set_of("current", "next", iat=NOW - DAY),),
        ),
        refused("an older key set", "olderThanStored", first, (key_set_of("current", "next", iat=NOW - 30 * DAY),)),
        refused(
            "a key set that is a second older",
            "olderThanStored",
            key_set_of("current", "later", iat=NOW - 90 * DAY - 1),
            (first,),
        ),
        refused(
            "an older key set than the second",
            "olderThanStored",
            key_set_of("current", "last", iat=NOW - 60 * DAY),
            (first, second),
        ),
        refused("a key set of 301 seconds ahead", "iatAhead", key_set_of("current", "later", iat=NOW + 301)),
        refused("a reply in place of a key set", "wrongType", signed(claims_at())),
        refused("a JWK Set without a signature", "malformed", json.dumps({"keys": [later_jwk]})),
        refused(
            "a key set of another service",
            "otherIssuer",
            key_set_of("current", "later", iss="https://licenses.example.org"),
        ),
        refused(
            "a key set that does not say when it was made",
            "malformedClaims",
            signed({"iss": ISSUER, "keys": [keys()["current"].public_jwk]}, typ=KEY_SET),
        ),
        refused("a key set without keys", "malformedClaims", key_set_of(keys=None)),
        refused("a key set whose keys are texts", "malformedClaims", key_set_of(keys=["current"])),
        refused("a key set with a page of HTML in its place", "malformed", answer(HTML, content_type="text/html")),
        refused("a key set that is not there", "httpStatus", answer(PROBLEM, 404, "application/problem+json")),
        refused("a key set that does not come in time", "timeout", {"failure": "timeout"}),
        refused("a key set that is huge", "tooLarge", answer(first, padding=1_048_577)),
    ]


def license_files() -> list[Json]:
    def file(
        iat: int = NOW - 10 * DAY, *entries: Json, key: str = "current", typ: str = "license-file+jwt", **members: Any
    ) -> str:
        claims = claims_at(iat, *entries, **{"exp": iat + 400 * DAY, "refreshAfter": iat + 400 * DAY, **members})
        return signed({claim: value for claim, value in claims.items() if claim != "nonce"}, key, typ)

    def loaded(name: str, token: str, action: str = "allow", **members: Any) -> Json:
        before = members.setdefault("stored", NOTHING_STORED)
        after = NOTHING_STORED | {"reply": token, "keySets": before["keySets"], "latestIat": NOW - 10 * DAY}
        expected = {"reason": "verified", "level": "fresh", "actions": {PRODUCT: action}, "stored": after}
        return case(name, expected, license_file=token, **members)

    def not_loaded(name: str, reason: str, token: str, before: Json | None = None, **expected: Any) -> Json:
        outcome = {"reason": reason, "level": "aged", "actions": {PRODUCT: "allow"}, "refreshDue": True, **expected}
        return case(name, outcome, license_file=token, stored=before or stored())

    def lying(iat: int, *entries: Json) -> Json:
        return NOTHING_STORED | {"reply": file(iat, *entries), "latestIat": iat}

    turned = stored(NOW + 301)
    return [
        loaded("a license file", file()),
        loaded("a license file that disables", file(NOW - 10 * DAY, DISABLED), "disable"),
        loaded(
            "a license file ends a year of failures",
            file(),
            stored=stored(NOW - 400 * DAY, failingSince=NOW - 365 * DAY, retryAt=NOW + 60),
        ),
        loaded("a license file as old as what is stored", file(), stored=stored(NOW - 10 * DAY)),
        loaded(
            "a license file by a key of the stored set",
            file(key="later"),
            stored=NOTHING_STORED | {"keySets": [key_set_of("current", "later", iat=NOW - 20 * DAY)]},
        ),
        loaded(
            "a license file that names a product twice goes by the first",
            file(NOW - 10 * DAY, DISABLED, product()),
            "disable",
        ),
        case(
            "a license file without our product",
            {
                "reason": "verified",
                "level": "fresh",
                "actions": {PRODUCT: "prompt"},
                "refreshDue": True,
                "stored": lying(NOW - 10 * DAY, product("BankFeeds")),
            },
            license_file=file(NOW - 10 * DAY, product("BankFeeds")),
        ),
        not_loaded("a reply in place of a license file", "wrongType", signed(claims_at())),
        not_loaded("a key set in place of a license file", "wrongType", key_set_of("current")),
        not_loaded("a license file by a stranger", "unknownKey", file(key="stranger")),
        not_loaded(
            "a license file that was changed",
            "signatureInvalid",
            ".".join((*file().split(".")[:2], file(NOW).split(".")[2])),
        ),
        not_loaded("a license file that is a page of HTML", "malformed", HTML),
        not_loaded("a license file for another serial number", "otherEnvironment", file(sub="C0FFEE-0043")),
        not_loaded(
            "a license file of another publisher", "otherPublisher", file(aud="00000000-0000-4000-8000-000000000000")
        ),
        not_loaded("a license file of another service", "otherIssuer", file(iss="https://licenses.example.org")),
        not_loaded("a license file without an end", "malformedClaims", file(exp=None)),
        not_loaded("a license file that has expired", "expired", file(NOW - DAY, exp=NOW)),
        not_loaded(
            "a license file that is older than what is stored",
            "olderThanStored",
            file(NOW - 10 * DAY),
            stored(NOW - 2 * DAY),
        ),
        not_loaded("a license file of 301 seconds ahead", "iatAhead", file(NOW + 301)),
        not_loaded(
            "a license file where the clock was turned back",
            "clockTurnedBack",
            file(NOW + 301),
            turned,
            level="clockTurnedBack",
            actions={PRODUCT: "prompt"},
        ),
        kept("a license file of 399 days ago", "fresh", "allow", lying(NOW - 399 * DAY), due=False),
        kept("a license file that has reached its end", "expired", "prompt", lying(NOW - 400 * DAY), due=True),
        acceptance("a reply takes the place of a license file", signed(claims_at()), stored=lying(NOW - 10 * DAY)),
        refusal(
            "no answer, and a license file is stored",
            "timeout",
            {"failure": "timeout"},
            stored=lying(NOW - 10 * DAY),
            expected={"level": "fresh"},
        ),
    ]


def build() -> dict[str, str]:
    """The content of each file by its name."""
    files: dict[str, Any] = {
        "keys.json": {name: {"jwk": key.public_jwk, "xml": key.public_xml} for name, key in keys().items()},
        "replies.json": replies(),
        "failures.json": failures(),
        "stored.json": stored_cases(),
        "products.json": products(),
        "key-sets.json": key_sets(),
        "license-files.json": license_files(),
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in files.items()}


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(content, "utf-8", newline="\n")
