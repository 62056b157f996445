"""The cases of README.md: `python -m tests.vectors.client.make` writes them.

What is expected is written here by hand: no implementation is asked.
"""

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
CLIENT = {
    "issuer": ISSUER,
    "publisherId": CLAIMS["aud"],
    "serialNumber": CLAIMS["sub"],
    "pinnedKeys": ["current", "next"],
}
NOTHING_STORED = {"reply": None, "keySets": [], "latestIat": None, "failingSince": None, "retryAt": None}


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


def replies() -> list[Json]:
    good = signed(claims_at())
    return [
        case(
            "a good reply",
            {
                "reason": "verified",
                "level": "fresh",
                "actions": {PRODUCT: "allow"},
                "stored": NOTHING_STORED | {"reply": good, "latestIat": NOW},
            },
            reply=answer(good),
        ),
        case(
            "a stranger has signed the reply",
            {
                "reason": "unknownKey",
                "level": "unreachable",
                "actions": {PRODUCT: "allow"},
                "stored": stored(failingSince=NOW, retryAt=NOW + 60),
            },
            stored=stored(),
            reply=answer(signed(claims_at(NOW, product(action="disable")), "stranger")),
        ),
    ]


def failures() -> list[Json]:
    return [
        case(
            "no answer in time, and nothing stored",
            {
                "reason": "timeout",
                "storedReason": "none",
                "level": "neverChecked",
                "actions": {PRODUCT: "prompt"},
                "stored": NOTHING_STORED | {"failingSince": NOW, "retryAt": NOW + 60},
            },
            reply={"failure": "timeout"},
        ),
    ]


def build() -> dict[str, str]:
    """The content of each file by its name."""
    files: dict[str, Any] = {
        "keys.json": {name: {"jwk": key.public_jwk, "xml": key.public_xml} for name, key in keys().items()},
        "replies.json": replies(),
        "failures.json": failures(),
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in files.items()}


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(content, "utf-8", newline="\n")
