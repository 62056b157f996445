"""Signed key sets, and what is signed by their keys."""

import json
from typing import Any

from tests.vectors.client.parts import (
    DAY,
    DISABLED,
    HOUR,
    HTML,
    KEY_SET,
    NEVER_CHECKED,
    NOTHING_STORED,
    NOW,
    PROBLEM,
    PRODUCT,
    Json,
    acceptance,
    answer,
    case,
    claims_at,
    key_set_of,
    keys,
    refusal,
    signed,
    stored,
)
from tests.vectors.make import ISSUER, TYPE, forged


def cases() -> list[Json]:
    first = key_set_of("current", "next", "later", iat=NOW - 90 * DAY)
    second = key_set_of("next", "later", "last", by="later", iat=NOW - 30 * DAY)
    by_later = signed(claims_at(), "later")
    by_last = signed(claims_at(), "last")

    def accepted(
        name: str, came: str, before: tuple[str, ...] = (), after: tuple[str, ...] | None = None, **members: Any
    ) -> Json:
        """A good key set comes, by itself."""
        was = NOTHING_STORED | {"keySets": list(before)}
        now_stored = NOTHING_STORED | {"keySets": list(after or (came,))}
        outcome = NEVER_CHECKED | {"keySetReason": "verified", "refreshDue": True, "stored": now_stored}
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

    def trusting(name: str, reply: str, before: tuple[str, ...], **members: Any) -> Json:
        return acceptance(name, reply, stored=NOTHING_STORED | {"keySets": list(before)}, **members)

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
        accepted("a key set by a pinned key", first),
        accepted("a key set by the next key, which is pinned too", key_set_of("next", "later", by="next")),
        accepted(
            "a newer key set by a pinned key takes the place of all before",
            key_set_of("next", "later", by="next"),
            (first, second),
        ),
        accepted("a newer key set by a key of the last one goes behind it", second, (first,), (first, second)),
        accepted(
            "a newer key set by the same key takes the place of the last",
            key_set_of("later", "last", by="later"),
            (first, second),
            (first, key_set_of("later", "last", by="later")),
        ),
        accepted("the same key set again", first, (first,)),
        accepted("another key set of the same second", key_set_of("current", "later", iat=NOW - 90 * DAY), (first,)),
        accepted("a key set of 300 seconds ahead", key_set_of("current", "next", iat=NOW + 300)),
        accepted(
            "a key set behind two that lead to its key",
            key_set_of("last", by="last"),
            (first, second),
            (first, second, key_set_of("last", by="last")),
        ),
        accepted("a key set takes the place of one that counts no more", first, (changed,)),
        accepted(
            "a key set behind one that counts, which lies behind one whose key is pinned no more",
            key_set_of("last", by="last"),
            (first, second),
            (second, key_set_of("last", by="last")),
            pinnedKeys=["later"],
        ),
        accepted("a key set with claims that nobody knows yet", key_set_of("current", "later", newClaim=[1])),
        trusting("a reply by a key of the stored set", by_later, (first,)),
        trusting("a reply by a key of the second stored set", by_last, (first, second)),
        trusting(
            "a reply by a key of a set by a pinned key, behind a set whose key is pinned no more",
            by_last,
            (first, second),
            pinnedKeys=["later"],
        ),
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
            "a reply by a key with the exponent 3",
            "unknownKey",
            signed(claims_at(), "cubic"),
            (key_set_of("cubic", iat=NOW - DAY),),
        ),
        distrusting(
            "a reply by a key for another algorithm", "unknownKey", by_later, (odd(later_jwk | {"alg": "PS256"}),)
        ),
        distrusting("a reply by a key for encryption", "unknownKey", by_later, (odd(later_jwk | {"use": "enc"}),)),
        distrusting(
            "a forged reply in the name of a key of the stored set",
            "invalidSignature",
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
            "invalidSignature",
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
        refused("a key set of 301 seconds ahead", "issuedInFuture", key_set_of("current", "later", iat=NOW + 301)),
        refused("a reply in place of a key set", "invalidType", signed(claims_at())),
        refused("a JWK Set without a signature", "malformed", json.dumps({"keys": [later_jwk]})),
        refused(
            "a key set of another service",
            "issuerMismatch",
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
        refused(
            "a key set that is not there", "unexpectedHttpStatus", answer(PROBLEM, 404, "application/problem+json")
        ),
        refused("a key set that does not come in time", "timeout", {"failure": "timeout"}),
        refused("a key set that is huge", "tooLarge", answer(first, padding=1_048_577)),
    ]
