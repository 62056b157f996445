"""Rotation, as a table of named cases: what happens, in order, to a service and to a client that pinned its keys."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from clients.python.license_client import Answer, Client, Refused, Stored, parse_keys
from licensing.errors import ConfigurationError, Conflict, NotFound
from licensing.signing.keys import KeySet, KeyState
from licensing.signing.service import Signer
from tests.vectors import make


class RotationScenario:
    """A service, and a client that pinned its keys and stores what it is given."""

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys
        self.now = make.NOW
        self.stored = Stored()
        self.repin()

    def rotate(self) -> None:
        self.keys = self.keys.rotated(self.now)

    def create(self) -> None:
        self.keys = self.keys.created(self.now)

    def retire_next(self) -> None:
        assert self.keys.next
        self.keys = self.keys.without(self.keys.next.kid)

    def retire_retired(self) -> None:
        for key in self.keys.keys:
            if key.state is KeyState.RETIRED:
                self.keys = self.keys.without(key.kid)

    def wait_a_second(self) -> None:
        self.now += timedelta(seconds=1)

    def wait_400_days(self) -> None:
        self.now += timedelta(days=400)

    def sign(self) -> None:
        reply = Signer(self.keys).sign(json.dumps(make.CLAIMS).encode(), make.TYPE).decode()
        self.stored = replace(self.stored, reply=reply)

    def fetch(self) -> None:
        signed = Signer(self.keys).signed_jwk_set(self.now, make.ISSUER).decode()
        reason, self.stored = self.client.after_key_set(Answer(body=signed), self.stored, int(self.now.timestamp()))
        if reason != "verified":
            raise Refused(reason)

    def repin(self) -> None:
        self.client = Client(
            issuer=make.ISSUER,
            publisher_id=make.CLAIMS["aud"],
            serial_number=make.CLAIMS["sub"],
            pinned=parse_keys(json.dumps(Signer(self.keys).jwk_set(self.now))),
        )
        self.stored = Stored(reply=self.stored.reply)

    def verify(self) -> None:
        state = self.client.state(["SmartSend"], self.stored, int(self.now.timestamp()))
        if state.reason != "verified":
            raise Refused(state.reason)


# A reply by a key that the client has not pinned, but taken from a key set; it knows the next one too.
LEARNT = "rotate fetch rotate fetch sign"
# What is shown, and what happens. The client has pinned current and next. A step with "!" must be refused.
CASES = [
    ("a reply verifies", "sign verify"),
    ("a client that pinned current and next verifies after a rotation", "rotate sign verify"),
    ("and, once it has fetched, through a second one", "rotate fetch rotate sign verify"),
    ("and through any number, fetching once between two", "rotate fetch rotate fetch rotate fetch rotate sign verify"),
    ("it need not verify a reply to fetch", "rotate fetch rotate fetch sign verify"),
    ("a client that never fetches is lost after two", "rotate rotate sign !verify"),
    ("it cannot fetch either, for it trusts no key that signs", "rotate rotate !fetch sign !verify"),
    ("it must be given the keys anew", "rotate rotate !fetch repin sign verify"),
    ("a reply from before a rotation verifies after it", "sign rotate verify"),
    ("and for who has fetched since", "sign rotate fetch verify"),
    ("and after a second rotation", "sign rotate fetch rotate fetch verify"),
    ("a license file of 400 days verifies to its last second", "sign rotate wait_400_days fetch verify"),
    ("and longer where its key was pinned", "sign rotate wait_400_days wait_a_second fetch verify"),
    (
        "a key that was not pinned is then published no more",
        f"{LEARNT} rotate wait_400_days wait_a_second fetch !verify",
    ),
    ("for who has not fetched since, it still counts", f"{LEARNT} rotate wait_400_days wait_a_second verify"),
    ("a next key that is abandoned is replaced", "retire_next create fetch rotate sign verify"),
    ("not for who has not fetched since", "retire_next create rotate sign !verify"),
    ("a next key cannot be rotated to when there is none", "retire_next !rotate"),
    ("a second next key is not made", "!create"),
    ("a compromised key: rotate, retire, fetch", f"{LEARNT} rotate retire_retired fetch !verify"),
    ("a client learns it only when it fetches", f"{LEARNT} rotate retire_retired verify"),
    ("one that was pinned counts until other keys are pinned", "sign rotate retire_retired fetch verify"),
    ("which ends it", "sign rotate retire_retired repin !verify"),
]


@pytest.mark.parametrize("steps", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_rotation_scenario_verifies_or_fails_as_named(fresh_key_set: KeySet, steps: str) -> None:
    scenario = RotationScenario(KeySet(fresh_key_set.keys[:2]))
    for step in steps.split():
        if step.startswith("!"):
            with pytest.raises(Conflict if step in ("!rotate", "!create") else Refused):
                getattr(scenario, step[1:])()
        else:
            getattr(scenario, step)()


def states(keys: KeySet) -> dict[str, str]:
    return {key.kid: key.state.value for key in keys.keys}


def test_rotated_advances_every_key_by_one_state(key_set: KeySet) -> None:
    current, upcoming, retired = (key.kid for key in key_set.keys)
    rotated = key_set.rotated(make.NOW)
    assert rotated.next
    assert states(rotated) == {upcoming: "current", rotated.next.kid: "next", current: "retired", retired: "retired"}
    assert rotated.keys[2].retired_at == rotated.next.created_at == make.NOW
    assert rotated.current.created_at == key_set.keys[1].created_at
    assert states(key_set) == {current: "current", upcoming: "next", retired: "retired"}, "the old set is as it was"


def test_rotated_drops_retired_key_after_publication_period(key_set: KeySet) -> None:
    retired = key_set.keys[2]
    assert retired.published_until
    last = retired.published_until
    assert retired in key_set.rotated(last).keys
    assert retired not in key_set.rotated(last + timedelta(seconds=1)).keys


def test_created_adds_missing_keys(key_set: KeySet) -> None:
    first = KeySet().created(make.NOW)
    assert list(states(first).values()) == ["current", "next"]
    lacking = KeySet((key_set.keys[0], key_set.keys[2]))
    completed = lacking.created(make.NOW)
    assert list(states(completed).values()) == ["current", "next", "retired"]
    assert (completed.keys[0], completed.keys[2]) == lacking.keys


def test_without_current_key_raises_conflict(key_set: KeySet) -> None:
    with pytest.raises(Conflict, match="rotate first"):
        key_set.without(key_set.current.kid)


def test_without_unknown_key_raises_not_found(key_set: KeySet) -> None:
    with pytest.raises(NotFound, match="keys list"):
        key_set.without("unknown")


def test_rotated_of_empty_key_set_raises_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="keys create"):
        KeySet().rotated(make.NOW)
