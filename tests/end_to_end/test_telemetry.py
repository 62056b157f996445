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
from devhost.ingestion_sink import Answer, Envelope, Ingestion, collecting
from licensing.catalogue.records import Publisher
from licensing.catalogue.rows import customer_key
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.storage.batches import Operation
from licensing.storage.table import etag
from tests.support.administration import OWN_DIRECTORY
from tests.support.hosting import (
    VALIDATE,
    LicenseFixture,
    Served,
    check_telemetry,
    create_licensed,
    question,
    served,
    settings_for,
)
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get, until_async

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
def telemetry_host(
    tables: Emulator, key_set: KeySet, own: Ingestion, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with collecting(answer=never) as hanging:
        settings = settings_for(
            tables.connection_string,
            key_set,
            LICENSING_NON_PRODUCTION_HOSTS="*.test.example.com",
            LICENSING_DIRECTORY_ID=OWN_DIRECTORY,
            LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
            **{OWN: own.connection_string, HANGING: hanging.connection_string},
        )
        with served(settings, tmp_path_factory.mktemp("telling")) as running:
            yield running
        check_telemetry(at(own))


@pytest.fixture(scope="module")
async def client(telemetry_host: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=telemetry_host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as made:
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


def arrived(ingestion: Ingestion, licensed: LicenseFixture) -> list[dict[str, Any]]:
    return validations(at(ingestion), licensed.serial_number)


async def create_custom_licensed(services: Services, **publisher: Any) -> LicenseFixture:
    made = await create_licensed(services, str(uuid4()))
    if publisher:
        await services.catalogue.update(
            made.publisher_id, Publisher, made.publisher_id, lambda it: replace(it, **publisher), actor="test"
        )
    return made


def asked(licensed: LicenseFixture, **members: Any) -> dict[str, Any]:
    body = question(licensed.publisher_id, licensed.serial_number, "SmartSend", "Other", **members)
    body["products"][0] |= {
        "modelName": "DXCSmartSend",
        "modelVersion": "10.0.34",
        "isInstalled": True,
        "isEnabled": False,
        "enabledUsersCount": 48,
        "surname": "planted",
    }
    return body


async def test_validation_event_per_product_contains_only_documented_fields(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services
) -> None:
    licensed = await create_custom_licensed(services)
    url = "https://planted:planted@Contoso.operations.dynamics.com:8443/planted?planted=1#planted"
    await client.post(VALIDATE, json=asked(licensed, hostUrl=url, isProductionEnvironment=True, user="planted"))
    found = await until_async(lambda: validations(telemetry_host.told, licensed.serial_number))
    of_all = {
        "serialNumber": licensed.serial_number,
        "hostUrl": "https://contoso.operations.dynamics.com",
        "isProductionEnvironment": "true",
    }
    json_body = {"productName": "SmartSend", "status": "licensed", "action": "allow"}
    sent = {"modelName": "DXCSmartSend", "modelVersion": "10.0.34", "isInstalled": "true", "isEnabled": "false"}
    unknown = {"productName": "Other", "status": "unknownProduct", "action": "prompt"}
    assert [each["properties"] for each in found] == [of_all | json_body | sent, of_all | unknown]
    assert [each["measurements"] for each in found] == [{}, {}]


@pytest.mark.parametrize(
    "host", ["contoso.sandbox.operations.dynamics.com", "usnconeboxax1aos.cloudax.dynamics.com", "a.test.example.com"]
)
async def test_validation_event_of_non_production_host_is_not_production(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services, host: str
) -> None:
    licensed = await create_custom_licensed(services)
    await client.post(VALIDATE, json=asked(licensed, hostUrl=f"https://{host}/", isProductionEnvironment=True))
    found = await until_async(lambda: validations(telemetry_host.told, licensed.serial_number))
    assert {each["properties"]["isProductionEnvironment"] for each in found} == {"false"}


async def test_validation_event_contains_enabled_users_only_if_publisher_opts_in(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services
) -> None:
    licensed = await create_custom_licensed(services, enabled_users_collected=True)
    await client.post(VALIDATE, json=asked(licensed))
    found = await until_async(lambda: validations(telemetry_host.told, licensed.serial_number))
    assert [each["measurements"] for each in found] == [{"enabledUsersCount": 48}, {}]


async def test_publisher_telemetry_reaches_service_destination_only_if_shared(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services, own: Ingestion
) -> None:
    alone = await create_custom_licensed(services, telemetry_setting=OWN, telemetry_shared=False)
    shared = await create_custom_licensed(services, telemetry_setting=OWN)
    for licensed in (alone, shared):
        await client.post(VALIDATE, json=asked(licensed))
    for licensed in (alone, shared):
        await until_async(partial(arrived, own, licensed))
    await until_async(lambda: validations(telemetry_host.told, shared.serial_number))
    assert validations(telemetry_host.told, alone.serial_number) == []
    assert {each["data"]["baseData"]["name"] for each in at(own)} == {"LicenseValidation"}


async def test_unavailable_publisher_destination_does_not_block_other_publishers(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services
) -> None:
    for setting in (HANGING, MISSING):
        broken = await create_custom_licensed(services, telemetry_setting=setting, telemetry_shared=False)
        answer = await client.post(VALIDATE, json=asked(broken))
        assert answer.status_code == 200
    well = await create_custom_licensed(services)
    await client.post(VALIDATE, json=asked(well))
    await until_async(lambda: validations(telemetry_host.told, well.serial_number))


async def test_request_trace_continues_caller_traceparent(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services
) -> None:
    licensed = await create_custom_licensed(services)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "planted=1", "baggage": "planted=1"}

    def traced() -> dict[str, Envelope]:
        of_it = [each for each in telemetry_host.told if each["tags"].get("ai.operation.id") == TRACE]
        return {each["data"]["baseData"]["name"]: each for each in of_it}

    # Tracing has to be loaded first, which no request waits for.
    async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
        while "validate" not in traced():
            await client.post(VALIDATE, json=asked(licensed), headers=headers)
            await asyncio.sleep(0.1)
    found = traced()["validate"]
    assert found["tags"]["ai.operation.parentId"] == SPAN
    assert found["data"]["baseData"]["responseCode"] == "200"


async def test_telemetry_and_log_contain_no_data_from_errors_urls_or_tokens(
    client: httpx.AsyncClient, telemetry_host: Served, services: Services
) -> None:
    """An exception that names a customer's row, a name in an address, a token, an address of mail."""
    licensed = await create_custom_licensed(services)
    table = services.table(licensed.publisher_id)
    row = await table.find(licensed.publisher_id, customer_key(licensed.customer_id))
    assert row is not None
    changed = {**row, "data": json.dumps("planted")} if "data" in row else {**row, "version": "planted"}
    await table.commit(licensed.publisher_id, [Operation("put", changed, etag(row))])
    answer = await client.post(VALIDATE, json=asked(licensed))
    assert answer.status_code == 500
    await client.get("/api/v1/publishers/planted@example.com/customers?search=planted@example.com")
    await client.get("/planted@example.com", headers={"User-Agent": "planted@example.com"})
    await client.get("/api/v1/me", headers={"Authorization": "Bearer planted@example.com"})
    await client.get(f"/api/v1/publishers/{licensed.publisher_id}/subscriptions/planted.token/unsubscribe")
    await until_async(lambda: events(telemetry_host.told, "SignInRefused", function="get_me"))
    await until_async(lambda: events(telemetry_host.told, "RequestServed", function="validate", status="500"))
    (told_of,) = [
        each["data"]["baseData"]["exceptions"]
        for each in telemetry_host.told
        if each["data"]["baseType"] == "ExceptionData"
    ]
    assert told_of[0]["message"].startswith("licensing.")
    everything = json.dumps([each for each in telemetry_host.told if "LicenseValidation" not in json.dumps(each)])
    for secret in ("planted", "example.com", licensed.serial_number, licensed.publisher_id, licensed.customer_id):
        assert secret not in everything
        assert secret not in telemetry_host.log.read_text()
