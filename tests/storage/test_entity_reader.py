"""Rows read with a request of our own: no other than the client library reads, and its way where they are not plain."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import EdmType, EntityProperty

from devhost.azurite import Emulator
from licensing.errors import ConfigurationError, StorageUnavailable
from licensing.storage import table as table_module
from licensing.storage.batches import Operation
from licensing.storage.entity_reader import Authorize, Entity, EntityReader, FallbackRequired, by_identity
from licensing.storage.table import Table, etag
from licensing.telemetry.service import Telemetry
from tests.storage.test_table import VALUES
from tests.support.fault_proxy import Forward, busy, fault_proxy
from tests.support.waiting import long_timeout_table

ROW = {"odata.metadata": "m", "odata.etag": 'W/"1"', "PartitionKey": "p", "RowKey": "r", "number": 7}


@pytest.fixture
async def table(tables: Emulator) -> AsyncIterator[Table]:
    made = long_timeout_table(tables.connection_string, "pointread")
    await made.create()
    yield made
    await made.close()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
async def test_table_find_returns_same_row_as_client_library(table: Table, value: Any) -> None:
    partition = str(uuid4())
    await table.commit(partition, [Operation("create", {"RowKey": "r", "value": value, "other": None})])
    found = await table.find(partition, "r")
    known = await table.connect().get_entity(partition, "r")
    assert isinstance(found, Entity)
    assert (dict(found), etag(found)) == (dict(known), etag(known))


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 2, 28, 12, tzinfo=UTC),
        EntityProperty(2**40, EdmType.INT64),
        UUID("446d5d80-d20d-43c6-a96c-370628f5bd9f"),
        b"bytes",
    ],
    ids=["an instant", "a large number", "a GUID", "bytes"],
)
async def test_table_find_with_typed_value_falls_back_to_client_library(table: Table, value: Any) -> None:
    partition = str(uuid4())
    await table.connect().create_entity({"PartitionKey": partition, "RowKey": "r", "value": value})
    found = await table.find(partition, "r")
    assert not isinstance(found, Entity)
    assert found == await table.connect().get_entity(partition, "r")


@pytest.mark.parametrize("key", ["O'Neil''s", "100 %", "a&b=c", "Ærø 東京"])
async def test_table_find_with_special_characters_in_key_returns_row(table: Table, key: str) -> None:
    await table.commit(key, [Operation("put", {"RowKey": key, "number": 1})])
    assert isinstance(await table.find(key, key), Entity)


async def test_table_find_sends_one_request_even_for_missing_row(tables: Emulator, table: Table) -> None:
    await table.commit("p", [Operation("put", {"RowKey": "there", "number": 1})])

    async def plainly(_: web.BaseRequest, pass_on: Forward) -> web.Response:
        return await pass_on()

    async with fault_proxy(tables, plainly) as server:
        through = long_timeout_table(server.account, "pointread")
        assert await through.find("p", "there") is not None
        assert await through.find("p", "not there") is None
        assert server.requests == ["GET", "GET"]
        await through.close()


class _Credential:
    """NOT Entra ID: it gives out numbered tokens. What they would have to be, Azure alone can say."""

    def __init__(self, *lifetimes_seconds: float) -> None:
        self._lifetimes = list(lifetimes_seconds)
        self.given = 0

    async def get_token(self, scope: str) -> SimpleNamespace:
        assert scope == "https://storage.azure.com/.default"
        self.given += 1
        number = self.given
        await asyncio.sleep(0)  # as whoever asks over a network: others have their turn
        return SimpleNamespace(token=f"token-{number}", expires_on=time.time() + self._lifetimes.pop(0))


async def test_entity_reader_with_identity_reuses_cached_token(tables: Emulator) -> None:
    seen = []

    async def row(request: web.BaseRequest, _: Forward) -> web.Response:
        seen.append((request.headers["Authorization"], request.headers["x-ms-version"], "x-ms-date" in request.headers))
        return web.json_response(ROW)

    async with fault_proxy(tables, row) as server, open_reader(server.account) as (reads, _):
        assert [await reads.find("p", "r") for _ in range(3)] == [{"PartitionKey": "p", "RowKey": "r", "number": 7}] * 3
    assert seen == [("Bearer token-1", "2019-02-02", True)] * 3


async def test_by_identity_renews_token_that_is_about_to_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)  # so that no second passes between the calls
    renewing: Any = _Credential(299, 301, 3600)
    authorize = by_identity(renewing)
    assert [await authorize("", "") for _ in range(3)] == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


async def test_by_identity_shares_one_token_request_among_concurrent_calls() -> None:
    credential: Any = _Credential(3600)
    authorize = by_identity(credential)
    assert set(await asyncio.gather(*(authorize("", "") for _ in range(50)))) == {"Bearer token-1"}
    assert credential.given == 1


@asynccontextmanager
async def open_reader(
    account: str, authorize: Authorize | None = None
) -> AsyncIterator[tuple[EntityReader, AioHttpTransport]]:
    port = account.partition("127.0.0.1:")[2].partition("/")[0]
    lasting: Any = _Credential(3600)
    async with AioHttpTransport(use_env_settings=False) as transport:
        url = f"http://127.0.0.1:{port}/t"
        yield EntityReader(url, transport, authorize or by_identity(lasting), sock_connect=60, sock_read=60), transport


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response(ROW | {"at": "2026-02-28T12:00:00Z", "at@odata.type": "Edm.DateTime"}),
        web.json_response({"number": 7}),
        web.json_response([]),
        web.Response(text="<html>"),
        web.json_response({"odata.error": {"code": "TableNotFound"}}, status=404),
        web.json_response({}, status=404),
        web.json_response(ROW, status=403),
    ],
    ids=["typed", "no row", "a list", "a page", "no table", "another 404", "refused"],
)
async def test_entity_reader_with_unexpected_response_raises_fallback_required(
    tables: Emulator, answer: web.Response
) -> None:
    async def as_told(_request: web.BaseRequest, _pass_on: Forward) -> web.Response:
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    async with fault_proxy(tables, as_told) as server, open_reader(server.account) as (reads, _):
        with pytest.raises(FallbackRequired):
            await reads.find("p", "r")


async def test_entity_reader_does_not_follow_redirects(tables: Emulator) -> None:
    async def elsewhere(request: web.BaseRequest, _: Forward) -> web.Response:
        return web.json_response(ROW, status=307 if "RowKey" in request.path else 200, headers={"Location": "/there"})

    async with fault_proxy(tables, elsewhere) as server, open_reader(server.account) as (reads, _):
        with pytest.raises(FallbackRequired) as caught:
            await reads.find("p", "r")
        assert (caught.value.status, len(server.requests)) == (307, 1)


async def test_entity_reader_when_transport_closes_raises_fallback_required(tables: Emulator) -> None:
    async def close(_date: str, _path: str) -> str:
        await transport.close()
        return ""

    async with fault_proxy(tables, busy) as server, open_reader(server.account, close) as (reads, transport):
        assert transport.session is not None
        with pytest.raises(FallbackRequired):
            await reads.find("p", "r")


# --- with the client library behind it


def is_entity_reader_request(request: web.BaseRequest) -> bool:
    return "azsdk" not in request.headers.get("User-Agent", "")


async def test_table_find_on_busy_storage_waits_before_falling_back(tables: Emulator) -> None:
    at: list[float] = []

    async def note(request: web.BaseRequest, pass_on: Forward) -> web.Response:
        at.append(time.monotonic())
        return await busy(request, pass_on)

    async with fault_proxy(tables, note) as server:
        through = long_timeout_table(server.account, "pointread")
        with pytest.raises(StorageUnavailable):
            await through.find("p", "r")
        await through.close()
    assert len(at) == 3
    assert at[1] - at[0] > 0.15


async def test_table_find_after_own_request_is_rejected_uses_client_library_for_a_while(
    tables: Emulator, table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await table.commit("p", [Operation("put", {"RowKey": "r", "number": 1})])
    ours: list[bool] = []

    async def refuse(request: web.BaseRequest, pass_on: Forward) -> web.Response:
        ours.append(is_entity_reader_request(request))
        return web.json_response({"secret": "of the service"}, status=403) if ours[-1] else await pass_on()

    async with fault_proxy(tables, refuse) as server:
        through = long_timeout_table(server.account, "pointread")
        for _ in range(3):
            assert (await through.find("p", "r") or {})["number"] == 1
        assert ours == [True, False, False, False]
        assert len(caplog.messages) == 1
        assert "403" in caplog.text
        assert "secret" not in caplog.text
        monkeypatch.setattr(table_module, "_FALLBACK_SECONDS", 0)
        later = long_timeout_table(server.account, "pointread")
        for _ in range(2):
            assert await later.find("p", "r") is not None
        assert ours[4:] == [True, False] * 2
        await through.close()
        await later.close()


async def test_table_find_when_client_library_is_rejected_too_keeps_entity_reader(
    tables: Emulator, table: Table
) -> None:
    await table.commit("p", [Operation("put", {"RowKey": "r", "number": 1})])

    async def refuse_odd_keys(request: web.BaseRequest, pass_on: Forward) -> web.Response:
        return web.json_response({}, status=400) if "odd" in request.raw_path else await pass_on()

    async with fault_proxy(tables, refuse_odd_keys) as server:
        through = long_timeout_table(server.account, "pointread")
        with pytest.raises(StorageUnavailable):
            await through.find("p", "odd")
        assert isinstance(await through.find("p", "r"), Entity)
        await through.close()


async def test_table_find_with_fallback_records_one_storage_read(tables: Emulator, table: Table) -> None:
    class Telling(Telemetry):
        def storage(self, operation: str) -> AbstractContextManager[None]:
            told.append(operation)
            return nullcontext()

    told: list[str] = []
    await table.connect().create_entity({"PartitionKey": "typed", "RowKey": "r", "value": b"bytes"})
    telling = long_timeout_table(tables.connection_string, "pointread", Telling())
    assert await telling.find("typed", "r") is not None
    assert told == ["read"]
    await telling.close()


async def test_table_find_with_shared_access_signature_uses_client_library(tables: Emulator) -> None:
    ours: list[bool] = []

    async def note(request: web.BaseRequest, _: Forward) -> web.Response:
        ours.append(is_entity_reader_request(request))
        return web.json_response(ROW)

    async with fault_proxy(tables, note) as server:
        port = server.account.partition("127.0.0.1:")[2].partition("/")[0]
        account = f"TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1;SharedAccessSignature=sv=1&sig=x"
        through = Table(account, "pointread")
        assert await through.find("p", "r") is not None
        await through.close()
    assert ours == [False]


async def test_table_find_with_invalid_account_key_raises_configuration_error(tables: Emulator) -> None:
    account = re.sub("AccountKey=[^;]*", "AccountKey=abcde", tables.connection_string)
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            await Table(account, "pointread").find("p", "r")
