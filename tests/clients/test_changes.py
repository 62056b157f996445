"""A client with a reply of any age decides by date as the service would: in Python and in C#."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.python.license_client import LICENSE_FILE, REPLY, Client, Keys, Stored, parse_keys
from licensing.catalogue.environment_cache import Snapshot
from licensing.catalogue.records import CustomerProduct, LicenseType
from tests.support.mono import run_all
from tests.validation.test_reply import (
    ENVIRONMENT,
    PUBLISHER_ID,
    SETTINGS,
    SMART_SEND,
    license_of,
    reply_claims,
    request,
    snapshot,
)
from tests.vectors.client.parts import NOTHING_STORED, case, keys, signed

type Json = dict[str, Any]

NAME, SERIAL = "SmartSend", " c0ffee-0042"


@dataclass(frozen=True)
class Scenario:
    """A reply or a license file that is stored, and the client's clock some time before its `exp`."""

    token: str
    is_license_file: bool
    iat: int
    now: int
    has_failed: bool
    """A validation has failed since."""
    action: str
    """What the client must do."""
    message: str | None
    """The sentence that it must show."""


def scenario(random: Random) -> Scenario:
    """Any licenses; the clock often stands at a change or a second before it."""
    known, file_days = records(random), random.choice([None, None, 30, 400])
    reply = reply_claims(request(NAME), known, file_days=file_days)
    (product,) = reply["products"]
    changes = [int(datetime.fromisoformat(each["at"]).timestamp()) for each in product["changes"]]
    edges = [each for at in changes for each in (at - 1, at)] or [reply["iat"], reply["exp"] - 1]
    now = random.choice([random.choice(edges), random.randrange(reply["iat"], reply["exp"])])
    (fresh,) = reply_claims(request(NAME), known, at=datetime.fromtimestamp(now, UTC))["products"]
    has_failed = random.random() < 0.5
    since = {"disable"} - {product["action"]}
    # What a reply says only of a later instant is not disabled before a try has failed.
    waits = fresh["action"] in since and file_days is None and not has_failed
    return Scenario(
        token=signed(reply, typ=REPLY if file_days is None else LICENSE_FILE),
        is_license_file=file_days is not None,
        iat=reply["iat"],
        now=now,
        has_failed=has_failed,
        action="prompt" if waits else fresh["action"],
        message=pending(product, reply) if waits else fresh["message"],
    )


def pending(product: Json, reply: Json) -> str:
    return (
        f"Product {NAME} is enabled but not licensed: its license expired on {product['endDate']}. "
        f"Validate the licenses, or contact {product['supportEmail'] or reply['supportEmail']}."
    )


def records(random: Random) -> Snapshot:
    licenses = [any_license(random, name) for name in "abc"[: random.randint(1, 3)]]
    return snapshot(
        *licenses,
        environment=random.choice([ENVIRONMENT] * 8 + [replace(ENVIRONMENT, active=False), None]),
        product=random.choice(
            [SMART_SEND] * 8 + [replace(SMART_SEND, license_control_disabled=True), replace(SMART_SEND, active=False)]
        ),
    )


def any_license(random: Random, name: str) -> CustomerProduct:
    def day() -> int | None:
        return random.choice([None, random.randint(-5, 10), random.randint(-40, 60)])

    license_: CustomerProduct = license_of(
        day(),
        day(),
        day(),
        id=name,
        enabled=random.random() < 0.9,
        license_type=random.choice([LicenseType.ANNUAL, LicenseType.PERPETUAL]),
        site_license=random.choice([True, False]),
        number_of_users=random.randint(50, 52),
    )
    return license_


@pytest.fixture(scope="module")
def pinned() -> Keys:
    return parse_keys(keys()["current"].public_xml)


@given(st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_python_client_state_at_any_time_matches_service_decision(pinned: Keys, random: Random) -> None:
    it = scenario(random)
    client = Client(issuer=SETTINGS.public_url, publisher_id=PUBLISHER_ID, serial_number=SERIAL, pinned=pinned)
    failing_since = it.now if it.has_failed else None
    state = client.state([NAME], Stored(reply=it.token, latest_iat=it.iat, failing_since=failing_since), it.now)
    assert state.actions == {NAME: it.action}
    assert state.messages == {NAME: it.message}
    assert state.level in {"fresh", "aged", "unreachable"}


def test_dotnet_client_state_at_any_time_matches_service_decision(dotnet_runner: Path) -> None:
    drawn = [scenario(Random(seed)) for seed in range(600)]
    # All that may happen does.
    assert {(it.is_license_file, it.has_failed, it.action) for it in drawn} >= {
        (is_file, has_failed, action)
        for is_file in (True, False)
        for has_failed in (True, False)
        for action in ("allow", "prompt", "disable")
    }
    outcomes = run_all(dotnet_runner, [as_case(it) for it in drawn])
    for it, outcome in zip(drawn, outcomes, strict=True):
        assert (outcome["actions"], outcome["messages"].get(NAME)) == ({NAME: it.action}, it.message), it


def as_case(it: Scenario) -> Json:
    stored = NOTHING_STORED | {
        "reply": it.token,
        "latestIat": it.iat,
        "failingSince": it.now if it.has_failed else None,
    }
    client: Json = {"issuer": SETTINGS.public_url, "publisherId": PUBLISHER_ID, "serialNumber": SERIAL}
    command = case("", {"actions": {}}, stored=stored, now=it.now, products=(NAME,), **client)
    command["client"]["pinnedKeys"] = [json.dumps(keys()["current"].public_jwk)]
    return command
