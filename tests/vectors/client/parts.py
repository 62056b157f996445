"""What the cases are made of: keys, claims, tokens, answers, and cases of a few kinds with what is expected of each."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from licensing.signing.jws import sign
from licensing.signing.keys import SigningKey
from tests.vectors import make
from tests.vectors.make import CLAIMS, ISSUER, TYPE

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
        **{name: make.key_of(more[name]) for name in ("later", "last", "weak", "cubic")},
    }


def product(name: str = PRODUCT, status: Any = "licensed", action: Any = "allow", **members: Any) -> Json:
    return {"productName": name, "status": status, "action": action, "warnings": [], "message": None, **members}


DISABLED = product(status="featureDisabled", action="disable")


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
            "messages": dict.fromkeys(expected["actions"]),
            "administratorsOnly": False,
            "refreshDue": False,
            "warn": False,
            "stored": stored,
            **expected,
        },
    }


NEVER_CHECKED: Json = {
    "storedReason": "nothingStored",
    "level": "neverChecked",
    "actions": {PRODUCT: "prompt"},
    "administratorsOnly": True,
}


def rejected_outcome(reason: str, before: Json, *, now: int = NOW, pause: int = 60, **more: Any) -> Json:
    """Expected of a reply that does not count: the stored one, which allows, goes on counting."""
    since = now if before["failingSince"] is None else min(now, before["failingSince"])
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
    outcome = rejected_outcome(reason, before, now=now, pause=pause, **(expected or {}))
    return case(name, outcome, reply=answer(reply) if isinstance(reply, str) else reply, **members)


def acceptance(
    name: str, token: str, actions: Json | None = None, *, expected: Json | None = None, **members: Any
) -> Json:
    """A good reply comes to a client that has nothing, or what is given as `stored`."""
    before = members.setdefault("stored", NOTHING_STORED)
    claims = json.loads(make.decoded(token.split(".")[1]))
    outcome = {
        "reason": "verified",
        "level": "fresh",
        "actions": actions or {PRODUCT: "allow"},
        "stored": NOTHING_STORED
        | {"reply": token, "keySets": before["keySets"], "latestIat": max(claims["iat"], before["latestIat"] or 0)},
        **(expected or {}),
    }
    return case(name, outcome, reply=answer(token), **members)


HTML = "<!DOCTYPE html>\n<html><head><title>Blocked</title></head><body>Access denied by the firewall</body></html>\n"
PROBLEM = json.dumps(
    {
        "type": "urn:license-manager:problem:tooManyRequests",
        "title": "Too many",
        "status": 429,
        "code": "tooManyRequests",
    }
)


def stored_case(name: str, level: str, action: str, before: Json, *, due: bool, **more: Any) -> Json:
    """Nothing comes: what counts by what is stored."""
    members = {member: more.pop(member) for member in ("now", "products", *CLIENT) if member in more}
    return case(
        name, {"level": level, "actions": {PRODUCT: action}, "refreshDue": due, **more}, stored=before, **members
    )


KEY_SET = "jwk-set+jwt"


def key_set_of(*names: str, by: str = "current", iat: int = NOW, **members: Any) -> str:
    """A signed key set that holds these keys."""
    return signed(
        {"iss": ISSUER, "iat": iat, "keys": [keys()[name].public_jwk for name in names], **members}, by, KEY_SET
    )
