"""Every case of tests/vectors/client, by the client in Python; and, for the signatures, by jose for Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.python.license_client import LEVELS, REASONS, Answer, Client, Stored, parse_keys
from devhost.node import node
from tests.vectors.client import make, parts
from tests.vectors.make import decoded

type Json = dict[str, Any]

FILES = ("replies", "failures", "stored", "products", "changes", "key-sets", "license-files")
KEYS: dict[str, Json] = json.loads((parts.FOLDER / "keys.json").read_text("utf-8"))
LISTED: list[Json] = [case for file in FILES for case in json.loads((parts.FOLDER / f"{file}.json").read_text("utf-8"))]
CASES = {case["name"]: case for case in LISTED}
JOSE = Path(__file__).parent / "verify_with_jose.mjs"


def test_client_vectors_match_generator_output() -> None:
    for name, content in make.build().items():
        assert (parts.FOLDER / name).read_bytes() == content.encode(), f"{name}: python -m tests.vectors.client.make"
    assert len(CASES) == len(LISTED), "each name is unlike every other"


def answer(exchange: Json) -> Answer:
    if "failure" in exchange:
        return Answer(failure=exchange["failure"])
    body = exchange["body"] + "A" * exchange["padding"]
    return Answer(body=body, status=exchange["status"], retry_after_seconds=exchange["retryAfter"])


def outcome(case: Json, pinned: str) -> Json:
    """What the client in Python makes of a case; its pinned keys are written as `jwk` or as `xml`."""
    client = Client(
        issuer=case["client"]["issuer"],
        publisher_id=case["client"]["publisherId"],
        serial_number=case["client"]["serialNumber"],
        pinned=pinned_keys(case["client"]["pinnedKeys"], pinned),
    )
    products, now, key_set_reason, reason = case["products"], case["now"], None, None
    stored_case = case["stored"]
    stored = Stored(
        reply=stored_case["reply"],
        key_sets=tuple(stored_case["keySets"]),
        latest_iat=stored_case["latestIat"],
        failing_since=stored_case["failingSince"],
        retry_at=stored_case["retryAt"],
    )
    if case["keySet"]:
        key_set_reason, stored = client.after_key_set(answer(case["keySet"]), stored, now)
    if case["reply"]:
        reason, stored = client.after_reply(answer(case["reply"]), case["nonce"], products, stored, now)
    if case["licenseFile"] is not None:
        reason, stored = client.after_license_file(case["licenseFile"], stored, now)
    state = client.state(products, stored, now)
    assert {key_set_reason, reason, state.reason} <= REASONS.keys() | {None}
    assert state.level in LEVELS
    return {
        "keySetReason": key_set_reason,
        "reason": reason,
        "storedReason": state.reason,
        "level": state.level,
        "actions": state.actions,
        "messages": {name: common_message(name, message, stored.reply) for name, message in state.messages.items()},
        "administratorsOnly": state.administrators_only,
        "refreshDue": state.refresh_due,
        "warn": state.warn,
        "stored": {
            "reply": stored.reply,
            "keySets": list(stored.key_sets),
            "latestIat": stored.latest_iat,
            "failingSince": stored.failing_since,
            "retryAt": stored.retry_at,
        },
    }


def common_message(product: str, message: str | None, token: str | None) -> str | None:
    """The message where every client words it alike: a signed one, and that of a pending disable; else None."""
    if message and message.startswith(f"Product {product} is enabled but not licensed"):
        return message
    payload = json.loads(decoded(token.split(".")[1])) if message and token and token.count(".") == 2 else {}
    entries = [each for product in payload.get("products", ()) for each in (product, *listed(product.get("changes")))]
    return message if message in [entry.get("message") for entry in entries] else None


def listed(changes: Any) -> list[Json]:
    return [each for each in changes if isinstance(each, dict)] if isinstance(changes, list) else []


def pinned_keys(names: list[str], form: str) -> Any:
    if form == "jwk":
        return parse_keys(json.dumps({"keys": [KEYS[name]["jwk"] for name in names]}))
    return {kid: key for name in names for kid, key in parse_keys(KEYS[name]["xml"]).items()}


@pytest.mark.parametrize("name", CASES)
def test_python_client_returns_expected_result_for_vector(name: str) -> None:
    case = CASES[name]
    assert outcome(case, "jwk") == outcome(case, "xml") == case["expected"]


# What jose is to refuse; all other reasons say that a signature holds.
NOT_SIGNED = {
    "tooLarge",
    "malformed",
    "invalidAlgorithm",
    "invalidType",
    "invalidHeader",
    "unknownKey",
    "invalidSignature",
}
# Sound signatures over what two readers could read differently: a library takes that, we do not.
JOSE_IS_LENIENT = {
    f"a reply is refused where {name}"
    for name in (
        "a line feed is behind it",
        "a space is in its signature",
        "padding is behind it",
        "an unused last bit is set",
        "its header names the algorithm twice",
        "its header names the algorithm twice, once by an escape",
        "it has no kid",
        "it brings our key",
        "it says where to fetch keys",
        "it says where to fetch a key",
        "it brings a certificate",
        "its payload is not encoded (b64)",
        "it says that it is zipped",
    )
} | {"the stored reply has another member in its header", "a reply by a key with the exponent 3"}


def test_jose_signature_verdicts_match_vectors() -> None:
    request = json.dumps({"keys": KEYS, "cases": LISTED}).encode()
    done = subprocess.run([node(), JOSE], input=request, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    verdicts = json.loads(done.stdout)
    assert verdicts.keys() == CASES.keys()
    differing = {
        (name, whose, verdict)
        for name, asked in verdicts.items()
        for whose, verdict in asked.items()
        if (verdict is True) is (CASES[name]["expected"][whose] in NOT_SIGNED)
    }
    assert {(name, verdict) for name, _, verdict in differing} == {(name, True) for name in JOSE_IS_LENIENT}
    assert sum(len(asked) for asked in verdicts.values()) > len(CASES)
