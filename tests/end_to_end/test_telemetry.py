"""What leaves a whole service on its way to Application Insights: what was promised, to whom it was promised."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devhost.azurite import Emulator
from devhost.ingestion import Answer, Envelope, Ingestion, collecting
from licensing.catalogue.model import Publisher
from licensing.catalogue.rows import customer_key
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.tables import Operation, etag
from tests.end_to_end.administration import OWN_DIRECTORY
from tests.end_to_end.hosting import VALIDATE, Holding, Served, check_told, hold, question, served, settings_for
from tests.waiting import PATIENCE_SECONDS, http_get, until_async

OWN = "LICENSING_TELEMETRY_OF_CONTOSO"
HANGING = "LICENSING_TELEMETRY_OF_HANGING"
MISSING = "LICENSING_TELEMETRY_OF_NOBODY"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def never(_: Any) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture(scope="module")
def own() -> Iterator[Ingestion]:
    """Where a publisher has its own telemetry sent."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def told_host(
    tables: Emulator, key_set: KeySet, own: Ingestion, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with collecting(answer=never) as hanging:
        settings = settings_for(
            tables.connection_string,
            key_set,
            LICENSING_TEST_HOSTS="*.test.example.com",
            LICENSING_DIRECTORY_ID=OWN_DIRECTORY,
            LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
            **{OWN: own.connection_string, HANGING: hanging.connection_string},
        )
        with served(settings, tmp_path_factory.mktemp("telling")) as running:
            yield running
        check_told(at(own))


@pytest.fixture(scope="module")
async def client(told_host: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=told_host.url, timeout=PATIENCE_SECONDS, trust_env=False) as made:
        yield made


def events(told: list[Envelope], name: str, **properties: str) -> list[dict[str, Any]]:
    """The events of that name, and with those properties."""
    all_of_it = [each["data"]["baseData"] for each in told if each["data"]["baseType"] == "EventData"]
    return [each for each in all_of_it if each["name"] == name and properties.items() <= each["properties"].items()]


def validations(told: list[Envelope], serial_number: str) -> list[dict[str, Any]]:
    return events(told, "LicenseValidation", serialNumber=serial_number)


def at(ingestion: Ingestion) -> list[Envelope]:
    found: list[Envelope] = http_get(f"{ingestion.url}/envelopes").json()
    return found


def arrived(ingestion: Ingestion, holding: Holding) -> list[dict[str, Any]]:
    return validations(at(ingestion), holding.serial_number)


async def a_holding(services: Services, **publisher: Any) -> Holding:
    made = await hold(services, str(uuid4()))
    if publisher:
        await services.catalogue.update(
            made.publisher_id, Publisher, made.publisher_id, lambda it: replace(it, **publisher), actor="test"
        )
    return made


def asked(holding: Holding, **members: Any) -> dict[str, Any]:
    body = question(holding.publisher_id, holding.serial_number, "SmartSend", "Other", **members)
    body["products"][0] |= {
        "modelName": "DXCSmartSend",
        "modelVersion": "10.0.34",
        "isInstalled": True,
        "isEnabled": False,
        "enabledUsersCount": 48,
        "surname": "planted",
    }
    return body


async def test_a_validation_is_told_by_one_event_a_product_with_what_was_promised_and_nothing_else(
    client: httpx.AsyncClient, told_host: Served, services: Services
) -> None:
    holding = await a_holding(services)
    url = "https://planted:planted@Contoso.operations.dynamics.com:8443/planted?planted=1#planted"
    await client.post(VALIDATE, json=asked(holding, hostUrl=url, isProductionEnvironment=True, user="planted"))
    found = await until_async(lambda: validations(told_host.told, holding.serial_number))
    of_all = {
        "serialNumber": holding.serial_number,
        "hostUrl": "https://contoso.operations.dynamics.com",
        "isProductionEnvironment": "true",
    }
    answered = {"productName": "SmartSend", "status": "licensed", "action": "allow"}
    sent = {"modelName": "DXCSmartSend", "modelVersion": "10.0.34", "isInstalled": "true", "isEnabled": "false"}
    unknown = {"productName": "Other", "status": "unknownProduct", "action": "prompt"}
    assert [each["properties"] for each in found] == [of_all | answered | sent, of_all | unknown]
    assert [each["measurements"] for each in found] == [{}, {}]


@pytest.mark.parametrize(
    "host", ["contoso.sandbox.operations.dynamics.com", "usnconeboxax1aos.cloudax.dynamics.com", "a.test.example.com"]
)
async def test_a_host_for_tests_is_not_production_whatever_it_says(
    client: httpx.AsyncClient, told_host: Served, services: Services, host: str
) -> None:
    holding = await a_holding(services)
    await client.post(VALIDATE, json=asked(holding, hostUrl=f"https://{host}/", isProductionEnvironment=True))
    found = await until_async(lambda: validations(told_host.told, holding.serial_number))
    assert {each["properties"]["isProductionEnvironment"] for each in found} == {"false"}


async def test_users_are_counted_only_where_the_publisher_has_it_switched_on(
    client: httpx.AsyncClient, told_host: Served, services: Services
) -> None:
    holding = await a_holding(services, enabled_users_collected=True)
    await client.post(VALIDATE, json=asked(holding))
    found = await until_async(lambda: validations(told_host.told, holding.serial_number))
    assert [each["measurements"] for each in found] == [{"enabledUsersCount": 48}, {}]


async def test_a_publishers_own_gets_its_events_and_the_services_only_where_it_shares(
    client: httpx.AsyncClient, told_host: Served, services: Services, own: Ingestion
) -> None:
    alone = await a_holding(services, telemetry_setting=OWN, telemetry_shared=False)
    shared = await a_holding(services, telemetry_setting=OWN)
    for holding in (alone, shared):
        await client.post(VALIDATE, json=asked(holding))
    for holding in (alone, shared):
        await until_async(partial(arrived, own, holding))
    await until_async(lambda: validations(told_host.told, shared.serial_number))
    assert validations(told_host.told, alone.serial_number) == []
    assert {each["data"]["baseData"]["name"] for each in at(own)} == {"LicenseValidation"}


async def test_a_publisher_whose_own_hangs_or_is_not_there_holds_up_nobody(
    client: httpx.AsyncClient, told_host: Served, services: Services
) -> None:
    for setting in (HANGING, MISSING):
        broken = await a_holding(services, telemetry_setting=setting, telemetry_shared=False)
        answer = await client.post(VALIDATE, json=asked(broken))
        assert answer.status_code == 200
    well = await a_holding(services)
    await client.post(VALIDATE, json=asked(well))
    await until_async(lambda: validations(told_host.told, well.serial_number))


async def test_a_request_continues_the_trace_of_whoever_asks_with_what_it_asked_of_storage(
    client: httpx.AsyncClient, told_host: Served, services: Services
) -> None:
    holding = await a_holding(services)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "planted=1", "baggage": "planted=1"}

    def traced() -> dict[str, Envelope]:
        of_it = [each for each in told_host.told if each["tags"].get("ai.operation.id") == TRACE]
        return {each["data"]["baseData"]["name"]: each for each in of_it}

    # Tracing has to be loaded first, which no request waits for.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "validate" not in traced():
            await client.post(VALIDATE, json=asked(holding), headers=headers)
            await asyncio.sleep(0.1)
    found = traced()["validate"]
    assert found["tags"]["ai.operation.parentId"] == SPAN
    assert found["data"]["baseData"]["responseCode"] == "200"


async def test_what_is_planted_in_errors_addresses_and_tokens_never_leaves(
    client: httpx.AsyncClient, told_host: Served, services: Services
) -> None:
    """An exception that names a customer's row, a name in an address, a token, an address of mail."""
    holding = await a_holding(services)
    table = services.table(holding.publisher_id)
    row = await table.find(holding.publisher_id, customer_key(holding.customer_id))
    assert row is not None
    changed = {**row, "data": json.dumps("planted")} if "data" in row else {**row, "version": "planted"}
    await table.commit(holding.publisher_id, [Operation("put", changed, etag(row))])
    answer = await client.post(VALIDATE, json=asked(holding))
    assert answer.status_code == 500
    await client.get("/api/v1/publishers/planted@example.com/customers?search=planted@example.com")
    await client.get("/planted@example.com", headers={"User-Agent": "planted@example.com"})
    await client.get("/api/v1/me", headers={"Authorization": "Bearer planted@example.com"})
    await client.get(f"/api/v1/publishers/{holding.publisher_id}/subscriptions/planted.token/unsubscribe")
    await until_async(lambda: events(told_host.told, "SignInRefused", function="get_me"))
    await until_async(lambda: events(told_host.told, "RequestServed", function="validate", status="500"))
    (told_of,) = [
        each["data"]["baseData"]["exceptions"] for each in told_host.told if each["data"]["baseType"] == "ExceptionData"
    ]
    assert told_of[0]["message"].startswith("licensing.")
    everything = json.dumps([each for each in told_host.told if "LicenseValidation" not in json.dumps(each)])
    for secret in ("planted", "example.com", holding.serial_number, holding.publisher_id, holding.customer_id):
        assert secret not in everything
        assert secret not in told_host.log.read_text()
