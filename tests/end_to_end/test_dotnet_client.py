"""The client in C#, run by Mono, against a live host: what a customer sees when all is well, and when little is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devhost import azurite
from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.services import Services
from licensing.signing.keys import KeySet
from tests.end_to_end.test_end_to_end import DEMO
from tests.support.hosting import PUBLIC_URL, LicenseFixture, Served, seed_demo, served, settings_for
from tests.support.mono import Environment, environment
from tests.support.scripted_server import says, scripted_server
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

pytestmark = pytest.mark.mono

FIREWALL = b"<html><head><title>Blocked</title></head><body>Ask your administrator.</body></html>"


def about(key_set: KeySet, serial_number: str = DEMO_SERIAL_NUMBER) -> dict[str, Any]:
    """What a product has built in: the current and the next key of the day. It is patient with a slow machine."""
    assert key_set.next
    return {
        "timeoutMilliseconds": 1000 * WAIT_TIMEOUT_SECONDS,
        "issuer": PUBLIC_URL,
        "publisherId": DEMO_PUBLISHER_ID,
        "serialNumber": serial_number,
        "pinnedKeys": [key_set.current.public_xml, key_set.next.public_xml],
    }


@pytest.fixture(scope="module")
def process(dotnet_runner: Path, tmp_path_factory: pytest.TempPathFactory, key_set: KeySet) -> Iterator[Environment]:
    home = tmp_path_factory.mktemp("home")
    with environment(dotnet_runner, home, **about(key_set), url="http://127.0.0.1:1") as running:
        yield running


@pytest.fixture
def client(process: Environment, host: Served, key_set: KeySet) -> Environment:
    """The demo's environment, which has never validated."""
    assert "threw" not in process.do("connect", **about(key_set), url=host.url)
    return process


def test_dotnet_client_validate_returns_status_and_action_per_product(client: Environment) -> None:
    result = client.validate(*DEMO)
    assert (result["checkResult"]["code"], result["level"], result["stale"]) == ("verified", "fresh", False)
    assert result["keySetCheckResult"]["code"] == "verified"
    told = {name: (result["statuses"][name], result["actions"][name]) for name in DEMO}
    assert told == {name: (status, action) for name, (status, action, _, _) in DEMO.items()}
    for name, (_, action, _, _) in DEMO.items():
        assert (name in result["messages"][name]) is (action != "allow")
    assert client.get_state(*DEMO)["actions"] == result["actions"], "by what is stored"


def test_dotnet_client_with_expired_license_prompts_with_expiry_date(client: Environment) -> None:
    result = client.validate("ForexRates")
    assert (result["statuses"], result["actions"]) == ({"ForexRates": "expired"}, {"ForexRates": "prompt"})
    assert "license expired on 20" in result["messages"]["ForexRates"]


def test_dotnet_client_in_unknown_environment_prompts(client: Environment, host: Served, key_set: KeySet) -> None:
    client.do("connect", **about(key_set, "S-nobody"), url=host.url)
    result = client.validate("SmartSend")
    assert (result["checkResult"]["code"], result["statuses"]["SmartSend"]) == ("verified", "unknownEnvironment")
    assert result["actions"] == {"SmartSend": "prompt"}


async def test_dotnet_client_license_file_is_valid_offline_until_expiry(
    client: Environment, external_services: Services, licensed: LicenseFixture, key_set: KeySet
) -> None:
    of_holding = about(key_set, licensed.serial_number) | {"publisherId": licensed.publisher_id}
    client.do("connect", **of_holding, url="http://127.0.0.1:1")
    assert client.get_state("SmartSend")["level"] == "neverChecked"
    snapshot = await external_services.environment_cache.get(licensed.publisher_id, licensed.serial_number)
    assert snapshot.environment
    token = await external_services.validator.license_file(
        licensed.publisher_id, snapshot.environment, 365, actor="test"
    )

    loaded = client.do("loadLicenseFile", token=token.decode(), products=["SmartSend"])
    assert (loaded["checkResult"]["code"], loaded["level"]) == ("verified", "fresh")
    assert loaded["actions"] == {"SmartSend": "allow"}
    client.advance(days=364)
    assert client.get_state("SmartSend")["actions"] == {"SmartSend": "allow"}
    client.advance(days=2)
    assert (client.get_state("SmartSend")["level"], client.get_state("SmartSend")["actions"]["SmartSend"]) == (
        "expired",
        "prompt",
    )


@pytest.mark.slow
def test_dotnet_client_verifies_replies_across_two_key_rotations(
    process: Environment, tables: azurite.Emulator, key_set: KeySet, tmp_path: Path
) -> None:
    def settings(keys: KeySet) -> dict[str, str]:
        return settings_for(tables.connection_string, keys, LICENSING_STORAGE_TABLE="rotated")

    seed_demo(settings(key_set))
    keys = key_set
    for rotation in range(3):
        folder = tmp_path / str(rotation)
        folder.mkdir()
        with served(settings(keys), folder) as host:
            if rotation == 0:
                process.do("connect", **about(key_set), url=host.url)
            else:
                process.do("reconnect", **about(key_set), url=host.url)
            result = process.validate("SmartSend")
            assert result["checkResult"]["code"] == "verified", rotation
            assert result["keySetCheckResult"]["code"] == "verified"
            assert result["actions"] == {"SmartSend": "allow"}
            assert "keySetCheckResult" not in process.validate("SmartSend"), "only after a rotation, or a day"
        keys = keys.rotated(datetime.now(UTC))
    assert process.get_state("SmartSend")["level"] == "fresh", "by the keys of the sets that are stored"

    keys_of_nobody = KeySet().created(datetime.now(UTC))
    with served(settings(keys_of_nobody), tmp_path) as host:
        process.do("reconnect", **about(key_set), url=host.url)
        result = process.validate("SmartSend")
    assert (result["checkResult"]["code"], result["keySetCheckResult"]["code"]) == ("unknownKey", "unknownKey")
    assert result["actions"] == {"SmartSend": "allow"}, "no valid signature, no denial"


def test_dotnet_client_during_outage_keeps_last_decision_until_reply_expires(
    process: Environment, key_set: KeySet, tmp_path: Path
) -> None:
    products = ("SmartSend", "ForexRates", "DocuFlow")
    as_told = {"SmartSend": "allow", "ForexRates": "prompt", "DocuFlow": "disable"}
    expired = {"SmartSend": "prompt", "ForexRates": "prompt", "DocuFlow": "disable"}
    tables = azurite.start()
    try:
        settings = settings_for(tables.connection_string, key_set)
        seed_demo(settings)
        with served(settings, tmp_path) as host:
            process.do("connect", **about(key_set), url=host.url)
            assert process.validate(*products)["stale"] is False
            tables.process.kill()
            tables.process.wait()
            result = process.validate(*products)
            assert (result["checkResult"]["code"], result["stale"]) == ("verified", True)
            assert (result["level"], result["actions"]) == ("fresh", as_told)
    finally:
        azurite.stop(tables)

    # The service is gone. It is asked by hand, then every hour or so.
    result = process.validate(*products)
    assert result["checkResult"]["code"] == "unreachable"
    assert (result["level"], result["actions"], result["warn"]) == ("fresh", as_told, False)
    process.advance(hours=23)
    assert process.get_state(*products)["level"] == "fresh"
    process.advance(hours=2)
    result = process.get_state(*products)
    assert (result["level"], result["actions"]) == ("unreachable", as_told)
    assert (result["refreshDue"], result["warn"]) == (True, True)

    # A firewall shows a page in its place, whatever status it calls that.
    for status in ("200 OK", "403 Forbidden", "302 Found"):
        with scripted_server(says(status, FIREWALL, Content_Type="text/html", Location="/blocked")) as firewall:
            process.do("reconnect", **about(key_set), url=firewall.url)
            result = process.validate(*products)
            assert result["checkResult"]["code"] == ("malformed" if status == "200 OK" else "unexpectedHttpStatus")
            assert (result["level"], result["actions"]) == ("unreachable", as_told)

    # Seven days after the last good reply: prompt, and disable only what that reply disabled.
    process.advance(days=5, hours=22)
    assert process.get_state(*products)["actions"] == as_told
    process.advance(hours=2)
    result = process.get_state(*products)
    assert (result["level"], result["actions"]) == ("expired", expired)

    # To turn the clock back helps nobody: what was seen is remembered.
    process.advance(days=-8)
    result = process.get_state(*products)
    assert (result["level"], result["actions"]) == ("clockTurnedBack", expired)
