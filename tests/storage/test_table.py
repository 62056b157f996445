"""Tables: against a real Azurite, and against servers that refuse, hang, throttle or are no table service at all."""

import asyncio
import re
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from devhost.azurite import Emulator, azurite, connection_string, free_port
from licensing.catalogue.rows import VERSION_ROW
from licensing.errors import ConfigurationError, StorageUnavailable
from licensing.services import Services
from licensing.settings import Settings
from licensing.storage import table as table_module
from licensing.storage.batches import Operation, Row, check_limits, in_batches
from licensing.storage.errors import ConcurrencyConflict, RowTooLarge
from licensing.storage.keys import encode_key, row_key
from licensing.storage.table import Table, etag
from licensing.telemetry.service import Telemetry
from tests.support.fault_proxy import Forward, busy, fault_proxy, hanging
from tests.support.records import a_publisher
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, long_timeout_table

_SAFE = set(string.ascii_letters + string.digits + "-_")
MAX_KEY = 512

ODD_TEXTS = {
    "nothing": "",
    "a slash": "a/b",
    "a backslash": "a\\b",
    "a hash": "a#b",
    "a question mark": "a?b",
    "a percent sign": "50%25",
    "single quotes": "O'Neil''s",
    "double quotes": 'say "cheese"',
    "the separator of row keys": "a|b",
    "the mark of escapes": "a_b_2F",
    "a space": "a b",
    "a tab and a line end": "a\tb\r\n",
    "a null": "a\0b",
    "a control character of Latin-1": "a\x85b",
    "another script": "Ærø 東京",
    "an emoji": "🧾",
    "half an emoji": "\ud83e",
    "what looks like a path": "../..",
    "a long text": "x" * 2000,
    "a long text of what is escaped": "/" * 2000,
    "another long text with the same beginning": "x" * 1999 + "y",
}
odd_texts = pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
texts = st.text(st.characters(exclude_categories=()), max_size=300) | st.sampled_from([*ODD_TEXTS.values()])


@pytest.fixture
async def table(tables: Emulator) -> AsyncIterator[Table]:
    made = long_timeout_table(tables.connection_string, "catalogue")
    await made.create()
    yield made
    await made.close()


@pytest.fixture
def partition() -> str:
    return str(uuid4())


def put(key: str, **properties: Any) -> Operation:
    return Operation("put", {"RowKey": key, **properties})


async def keys_of(table: Table, partition: str, prefix: str = "r") -> list[str]:
    return [row["RowKey"] async for row in table.rows(partition, prefix)]


@given(texts)
def test_encode_key_returns_only_characters_that_azure_accepts(text: str) -> None:
    assert set(encode_key(text)) <= _SAFE


@given(texts, texts)
def test_encode_key_maps_different_texts_to_different_keys(one: str, other: str) -> None:
    assert (encode_key(one) == encode_key(other)) == (one == other)


@given(st.text("_5F2", max_size=12), st.text("_5F2", max_size=12))
def test_encode_key_with_escape_like_texts_stays_unique(one: str, other: str) -> None:
    assert (encode_key(one) == encode_key(other)) == (one == other)


def test_encode_key_gives_every_odd_text_a_unique_key() -> None:
    assert len({encode_key(text) for text in ODD_TEXTS.values()}) == len(ODD_TEXTS)


@given(texts, texts, texts, texts)
def test_row_key_maps_different_parents_and_ids_to_different_keys(a: str, b: str, c: str, d: str) -> None:
    assert (row_key("kind", a, b) == row_key("kind", c, d)) == ((a, b) == (c, d))


@given(texts, texts)
def test_row_key_stays_within_azure_length_limit(parent: str, record_id: str) -> None:
    assert len(row_key("customerProduct", parent, record_id)) <= MAX_KEY


@odd_texts
async def test_table_find_returns_row_stored_under_odd_key(table: Table, partition: str, text: str) -> None:
    key = row_key("serial", text, text)
    await table.commit(partition, [Operation("create", {"RowKey": key, "value": 1}), put(row_key("other", text, ""))])
    found = await table.find(partition, key)
    assert found is not None
    assert (found["RowKey"], found["value"]) == (key, 1)
    assert await keys_of(table, partition, row_key("serial", text, "")) == [key]


VALUES: dict[str, Any] = {
    "a text that looks like a date": "2026-02-28",
    "a text that looks like an instant": "2026-02-28T00:00:00.000Z",
    "a text that looks like a number": "007",
    "a text with spaces round it": "  x  ",
    "a text with quotes and line ends": "'\"\r\n\t",
    "a text of all planes": "Ærø 東京 🧾",
    "an empty text": "",
    "yes": True,
    "no": False,
    "a number": -(2**31),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
async def test_table_find_returns_value_unchanged_with_its_type(table: Table, partition: str, value: Any) -> None:
    await table.commit(partition, [put("r", value=value)])
    found = await table.find(partition, "r")
    assert found is not None
    assert (found["value"], type(found["value"])) == (value, type(value))


async def test_table_find_and_rows_without_stored_row_return_nothing(table: Table, partition: str) -> None:
    assert await table.find(partition, "r") is None
    assert await keys_of(table, partition) == []


async def test_table_find_with_select_returns_only_selected_properties(table: Table, partition: str) -> None:
    await table.commit(partition, [put("r", a=1, b=2)])
    found = await table.find(partition, "r", select=["a", "missing"])
    assert found is not None
    assert {name: found[name] for name in found if name in "ab"} == {"a": 1}


async def test_table_rows_returns_only_rows_of_prefix_and_partition(table: Table, partition: str) -> None:
    prefix = row_key("kind", "p", "")
    inside = [prefix, f"{prefix}-", f"{prefix}_5F", f"{prefix}a", f"{prefix}z"]
    outside = ["kind|o|z", "kind|p", "kind|p_2F|a", "kind|pa|a", "kind|q|a", "kine|p|a", "kin|p|a", "KIND|p|a"]
    await table.commit(partition, [put(key) for key in [*outside, *inside]])
    await table.commit(str(uuid4()), [put(key) for key in inside])
    assert await keys_of(table, partition, prefix) == sorted(inside)


async def test_table_rows_beyond_one_page_returns_all_in_order(table: Table, partition: str) -> None:
    keys = [f"r{number:04d}" for number in range(1100)]
    for at in range(0, len(keys), 100):
        await table.commit(partition, [put(key) for key in keys[at : at + 100]])
    assert await keys_of(table, partition) == keys


async def test_table_query_records_one_storage_operation_per_page(
    tables: Emulator, table: Table, partition: str
) -> None:
    asked = []

    class Watching(Telemetry):
        def storage(self, operation: str) -> AbstractContextManager[None]:
            asked.append(operation)
            return nullcontext()

    await table.commit(partition, [put(f"r{number}") for number in range(3)])
    watched = long_timeout_table(tables.connection_string, "catalogue", Watching())
    assert len(await keys_of(watched, partition)) == 3
    assert await keys_of(watched, partition, "none") == []
    assert asked == ["query"] * 2
    pages = watched._pages("PartitionKey eq @p", {"p": partition}, select=None, size=2)
    assert [len(page) async for page in pages] == [2, 1]
    assert asked == ["query"] * 4
    await watched.close()


async def test_commit_put_replaces_the_whole_row(table: Table, partition: str) -> None:
    await table.commit(partition, [put("r", a=1, b=2)])
    await table.commit(partition, [put("r", a=3)])
    found = await table.find(partition, "r")
    assert found is not None
    assert "b" not in found
    assert found["a"] == 3


FAILING_OPERATIONS: dict[str, Callable[[Row], Operation]] = {
    "a row to be created exists": lambda row: Operation("create", {"RowKey": row["RowKey"]}),
    "a row to be replaced has moved": lambda row: Operation("put", {"RowKey": row["RowKey"]}, _older_than(row)),
    "a row to be replaced is gone": lambda row: Operation("put", {"RowKey": "gone"}, etag(row)),
    "a row to be deleted is gone": lambda _: Operation("delete", {"RowKey": "gone"}),
}


def _older_than(row: Row) -> str:
    return re.sub(r"20\d\d", "2001", etag(row))


@pytest.mark.parametrize("refused", FAILING_OPERATIONS.values(), ids=FAILING_OPERATIONS.keys())
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "in the middle", "last"])
async def test_commit_with_failing_operation_raises_conflict_and_writes_nothing(
    table: Table, partition: str, refused: Callable[[Row], Operation], place: int
) -> None:
    await table.commit(partition, [put("r-kept", a=1), put("r-there", a=1)])
    kept = await table.find(partition, "r-kept")
    assert kept is not None
    operations = [put("r-new"), Operation("delete", {"RowKey": "r-there"})]
    operations.insert(place, refused(kept))
    with pytest.raises(ConcurrencyConflict):
        await table.commit(partition, operations)
    assert await keys_of(table, partition) == ["r-kept", "r-there"]
    found = await table.find(partition, "r-kept")
    assert found is not None
    assert (found["a"], etag(found)) == (1, etag(kept))


async def test_commit_with_same_etag_concurrently_succeeds_once(table: Table, partition: str) -> None:
    await table.commit(partition, [put("r", a=0)])
    read = await table.find(partition, "r")
    assert read is not None

    async def write(value: int) -> int | None:
        try:
            await table.commit(partition, [Operation("put", {"RowKey": "r", "a": value}, etag(read))])
        except ConcurrencyConflict:
            return None
        return value

    (winner,) = [value for value in await asyncio.gather(*map(write, range(1, 9))) if value]
    found = await table.find(partition, "r")
    assert found is not None
    assert found["a"] == winner


def _large_rows(rows: int, character: str = "x") -> list[Operation]:
    return [put(f"r{number:02d}", text=character * 32_000) for number in range(rows)]


_LARGEST_TEXT = 32 * 1024
# aiohttp has misgivings about sending more than 1 MiB at once, which nothing but these tests does.
large_bodies = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

TOO_LARGE: dict[str, tuple[Sequence[Operation], str]] = {
    "a text of more than 64 KiB": ([put("r", notes="x" * (_LARGEST_TEXT + 1))], "notes is too long: .* 32768 char"),
    "a text of more than 64 KiB, of emoji": ([put("r", notes="🧾" * (_LARGEST_TEXT // 2 + 1))], "notes is too long"),
    "more than 252 properties": ([put("r", **{f"p{n}": n for n in range(253)})], "252 properties at most"),
    "a row of more than 1 MiB": ([put("r", **{f"p{n}": "x" * 32_000 for n in range(17)})], "1 MiB at most"),
    "101 rows": ([put(f"r{n}") for n in range(101)], "100 rows at most; this one has 101"),
    "more than 4 MiB": (_large_rows(66), "4 MiB at most"),
    "more than 4 MiB once it is on its way": (_large_rows(22, "é"), "4 MiB at most"),
    "one row among others that is too large": (
        [put("r0"), put("r1", notes="x" * 40_000), put("r2")],
        "notes is too long",
    ),
}


@large_bodies
@pytest.mark.parametrize(("operations", "sentence"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_commit_over_azure_limit_raises_row_too_large_and_writes_nothing(
    table: Table, partition: str, operations: Sequence[Operation], sentence: str
) -> None:
    with pytest.raises(RowTooLarge, match=sentence) as refused:
        await table.commit(partition, operations)
    assert refused.value.detail.endswith(".")
    assert refused.value.status == 422
    assert await keys_of(table, partition) == []


LARGE: dict[str, Sequence[Operation]] = {
    "a text of 64 KiB": [put("r", notes="x" * _LARGEST_TEXT)],
    "252 properties": [put("r", **{f"p{n}": n for n in range(252)})],
    "100 rows": [put(f"r{n:02d}") for n in range(100)],
    "a row of 1 MiB, almost": [put("r", **{f"p{n:02d}": "x" * 32_700 for n in range(16)})],
    "almost 4 MiB": _large_rows(65),
    "almost 4 MiB once it is on its way": _large_rows(21, "é"),
}


@large_bodies
@pytest.mark.parametrize("operations", LARGE.values(), ids=LARGE.keys())
async def test_commit_at_azure_limit_stores_all_rows(
    table: Table, partition: str, operations: Sequence[Operation]
) -> None:
    await table.commit(partition, operations)
    assert await keys_of(table, partition) == [operation.row["RowKey"] for operation in operations]


@large_bodies
async def test_in_transactions_splits_non_latin_rows_into_accepted_batches(table: Table, partition: str) -> None:
    """The client sends 6 bytes for what Azure counts as 2."""
    rows = _large_rows(30, "東")

    async def operations() -> AsyncIterator[tuple[str, Operation]]:
        for row in rows:
            yield partition, row

    async for held, some in in_batches(operations(), reserved_rows=1):
        await table.commit(held, some)
    assert await keys_of(table, partition) == [row.row["RowKey"] for row in rows]


async def test_commit_on_413_raises_row_too_large(tables: Emulator, partition: str) -> None:
    async def answer(_request: web.BaseRequest, _pass_on: Forward) -> web.Response:
        return web.Response(status=413)

    async with fault_proxy(tables, answer) as server:
        through = long_timeout_table(server.account, "catalogue")
        with pytest.raises(RowTooLarge, match="larger than the storage service takes"):
            await through.commit(partition, [put("r")])
        await through.close()


def test_table_host_omits_the_account_key() -> None:
    table = Table("TableEndpoint=https://contoso.table.core.windows.net;SharedAccessSignature=sv=1&sig=secret", "t")
    assert table.host == "contoso.table.core.windows.net"


def test_check_limits_computes_row_size_like_azure() -> None:
    # 1 MiB to the byte, by https://learn.microsoft.com/archive/blogs/avkashchauhan/how-the-size-of-an-entity-is-caclulated-in-windows-azure-table-storage
    # 4 + keys * 2, and for each property 8 + name * 2 + value: a text has its characters * 2 + 4.
    partition, key = "p" * 36, "r"
    full = {f"p{number:02d}": "x" * 32_000 for number in range(16)}
    used = 4 + 2 * (36 + 1) + sum(8 + 2 * 3 + 2 * 32_000 + 4 for _ in full) + 8 + 2 * 4 + 4
    rest = (1024 * 1024 - used) // 2
    check_limits(partition, [put(key, **full, last="x" * rest)])
    with pytest.raises(RowTooLarge, match="1 MiB"):
        check_limits(partition, [put(key, **full, last="x" * (rest + 1))])


type StorageCall = Callable[[Table], Awaitable[object]]


async def _rows(table: Table) -> list[Row]:
    return [row async for row in table.rows("p", "r")]


STORAGE_CALLS: dict[str, StorageCall] = {
    "a row": lambda table: table.find("p", "r"),
    "rows": _rows,
    "a change": lambda table: table.commit("p", [put("r")]),
}
asked = pytest.mark.parametrize("ask", STORAGE_CALLS.values(), ids=STORAGE_CALLS.keys())


async def assert_unavailable(account: str, ask: StorageCall) -> StorageUnavailable:
    table = Table(account, "catalogue")
    try:
        with pytest.raises(StorageUnavailable, match="says nothing about any license") as refused:
            await ask(table)
    finally:
        await table.close()
    assert refused.value.retry_after_seconds
    assert refused.value.__cause__ is not None, "what storage said is kept for the log"
    assert str(refused.value.__cause__) not in str(refused.value)
    return refused.value


@asked
async def test_table_with_refused_connection_raises_storage_unavailable(ask: StorageCall) -> None:
    await assert_unavailable(connection_string(free_port()), ask)


async def test_table_with_hanging_storage_raises_storage_unavailable_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 2 <= table_module._CONNECT_SECONDS <= table_module._READ_SECONDS <= 3
    monkeypatch.setattr(table_module, "_READ_SECONDS", 0.3)  # three times, and nobody has time to wait
    async with hanging() as account:
        # Unbounded, the client would wait for 300 s, ten times over. Bounded, it tries three times.
        async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
            await asyncio.gather(*(assert_unavailable(account, ask) for ask in STORAGE_CALLS.values()))


@asked
async def test_table_with_briefly_busy_storage_retries(tables: Emulator, table: Table, ask: StorageCall) -> None:
    await table.commit("p", [put("r")])
    left = 2

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return await (busy(request, pass_on) if left >= 0 else pass_on())

    async with fault_proxy(tables, answer) as server:
        through = long_timeout_table(server.account, "catalogue")
        await ask(through)
        await through.close()
    assert len(server.requests) == 3


@asked
async def test_table_with_busy_storage_raises_after_three_requests(tables: Emulator, ask: StorageCall) -> None:
    async with fault_proxy(tables, busy) as server:
        error = await assert_unavailable(server.account, ask)
    assert len(server.requests) == 3
    assert "secret-of-the-server" not in f"{error} {error.detail}"


UNEXPECTED_RESPONSES: dict[str, Callable[[], web.Response]] = {
    "the page of a firewall": lambda: web.Response(text="<html>Sign in</html>", content_type="text/html"),
    "the page of a firewall, told to be JSON": lambda: web.Response(text="<html>", content_type="application/json"),
    "the page of a firewall, told to be accepted": lambda: web.Response(status=202, text="<html>Sign in</html>"),
    "a broken multipart": lambda: web.Response(
        status=202, body=b"--x\r\n", headers={"Content-Type": "multipart/mixed; boundary=x"}
    ),
    "nothing": web.Response,
    "null": lambda: web.json_response(None),
    "a redirection to itself": lambda: web.Response(status=302, headers={"Location": "/"}),
    "a refusal of the key": lambda: web.Response(status=403, text="no"),
    "not found, by somebody else": lambda: web.Response(status=404, text="<html>nginx", content_type="text/html"),
    "a request that it takes for bad": lambda: web.Response(status=400, text="no"),
}


@asked
@pytest.mark.parametrize("page", UNEXPECTED_RESPONSES.values(), ids=UNEXPECTED_RESPONSES.keys())
async def test_table_with_unexpected_response_raises_storage_unavailable(
    tables: Emulator, page: Callable[[], web.Response], ask: StorageCall
) -> None:
    async def answer(_request: web.BaseRequest, _pass_on: Forward) -> web.Response:
        return page()

    async with fault_proxy(tables, answer) as server:
        await assert_unavailable(server.account, ask)


@asked
async def test_table_that_does_not_exist_raises_storage_unavailable(tables: Emulator, ask: StorageCall) -> None:
    table = Table(tables.connection_string, "missing")
    with pytest.raises(StorageUnavailable):
        await ask(table)
    await table.close()


async def test_table_create_may_run_repeatedly_and_concurrently(tables: Emulator) -> None:
    table = long_timeout_table(tables.connection_string, f"t{uuid4().hex}")
    await asyncio.gather(*(table.create() for _ in range(4)))
    await table.create()
    assert await table.find("p", "r") is None
    await table.close()


async def test_table_after_close_reconnects(table: Table, partition: str) -> None:
    await table.commit(partition, [put("r")])
    await table.close()
    assert await table.find(partition, "r")


@pytest.mark.parametrize("account", ["secret", "AccountName=secret", "http://secret.example"])
async def test_table_with_invalid_account_raises_configuration_error_without_secret(account: str) -> None:
    with pytest.raises(ConfigurationError, match="LICENSING_STORAGE") as refused:
        await Table(account, "catalogue").find("p", "r")
    assert "secret" not in str(refused.value)


async def test_services_with_publisher_storage_store_each_publisher_in_its_account(tables: Emulator) -> None:
    apart, together = a_publisher(), a_publisher()
    with azurite() as own:
        settings = Settings(
            storage=tables.connection_string,
            publisher_storage={apart.id: own.connection_string},
            storage_timeout_seconds=30,
        )
        services = Services(settings)
        for record in (apart, together):
            await services.table(record.id).create()
            await services.catalogue.create_publisher(record, actor="test")
        where = {}
        for name, server in {"shared": tables, "own": own}.items():
            table = long_timeout_table(server.connection_string, "catalogue")
            where[name] = [await table.find(record.id, VERSION_ROW) is not None for record in (apart, together)]
            await table.close()
        assert where == {"shared": [False, True], "own": [True, False]}
        environment_cache = [await services.environment_cache.get(record.id, "S-1") for record in (apart, together)]
        assert [snapshot.state.publisher.id for snapshot in environment_cache] == [apart.id, together.id]
        await services.close()


async def test_services_with_one_account_down_serve_publishers_of_other_accounts(tables: Emulator) -> None:
    apart, together = a_publisher(), a_publisher()
    down = connection_string(free_port())
    services = Services(Settings(storage=tables.connection_string, publisher_storage={apart.id: down}))
    await services.table(together.id).create()
    with pytest.raises(StorageUnavailable):
        await services.catalogue.create_publisher(apart, actor="test")
    assert await services.catalogue.create_publisher(together, actor="test")
    await services.close()


def test_services_table_without_storage_raises_naming_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="LICENSING_STORAGE is not set"):
        Services(Settings()).table(str(uuid4()))
