"""Every case of tests/vectors/client, by the client in Python; and, for the signatures, by jose for Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.python.license_client import REASONS, Answer, Client, Stored, parse_keys
from tests.vectors.client import make

type Json = dict[str, Any]

FILES = ("replies", "failures", "stored", "products", "key-sets", "license-files")
KEYS: dict[str, Json] = json.loads((make.FOLDER / "keys.json").read_text("utf-8"))
CASES: dict[str, Json] = {
    case["name"]: case for file in FILES for case in json.loads((make.FOLDER / f"{file}.json").read_text("utf-8"))
}
JOSE = Path(__file__).parent / "verify_with_jose.mjs"


def test_the_cases_are_what_their_generator_makes() -> None:
    for name, content in make.build().items():
        assert (make.FOLDER / name).read_bytes() == content.encode(), f"{name}: python -m tests.vectors.client.make"


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
    kept = case["stored"]
    stored = Stored(
        reply=kept["reply"],
        key_sets=tuple(kept["keySets"]),
        latest_iat=kept["latestIat"],
        failing_since=kept["failingSince"],
        retry_at=kept["retryAt"],
    )
    if case["keySet"]:
        key_set_reason, stored = client.after_key_set(answer(case["keySet"]), stored, now)
    if case["reply"]:
        reason, stored = client.after_reply(answer(case["reply"]), case["nonce"], products, stored, now)
    if case["licenseFile"] is not None:
        reason, stored = client.after_license_file(case["licenseFile"], stored, now)
    state = client.state(products, stored, now)
    assert {key_set_reason, reason, state.reason} <= REASONS.keys() | {None}
    return {
        "keySetReason": key_set_reason,
        "reason": reason,
        "storedReason": state.reason,
        "level": state.level,
        "actions": state.actions,
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


def pinned_keys(names: list[str], form: str) -> Any:
    if form == "jwk":
        return parse_keys(json.dumps({"keys": [KEYS[name]["jwk"] for name in names]}))
    return {kid: key for name in names for kid, key in parse_keys(KEYS[name]["xml"]).items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pinned", ["jwk", "xml"])
def test_the_client_in_python_makes_of_it_what_is_expected(name: str, pinned: str) -> None:
    assert outcome(CASES[name], pinned) == CASES[name]["expected"]
