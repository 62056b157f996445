"""A table of Azure Table Storage: queries, transactions, and Azure's errors translated into ours.

The only module that knows the client library, with `entity_reader`, which uses its connections.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from licensing.errors import ConfigurationError, StorageUnavailable
from licensing.storage.batches import Operation, Row, check_limits
from licensing.storage.entity_reader import Authorize, EntityReader, FallbackRequired, by_identity, by_key
from licensing.storage.errors import ConcurrencyConflict, RowTooLarge
from licensing.telemetry.service import NULL_TELEMETRY, Telemetry

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableClient

type Condition = tuple[str, Literal["eq", "ge", "gt", "le", "lt"], str]
"""A property, how it compares, and with what."""
_MAX_PAGE_ROWS = 1000

_CONNECT_SECONDS = 2
_READ_SECONDS = 3
_RETRIES = 2
_RETRY_AFTER_SECONDS = 5
_BUSY_SECONDS = 0.2
_REJECTED_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_FALLBACK_SECONDS = 300
_REPORT_INTERVAL_SECONDS = 5

_log = logging.getLogger(__name__)


def _following(prefix: str) -> str:
    """The first text after all that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


_loading = threading.Lock()


def load_client(*, as_identity: bool) -> None:
    """Import Azure's client library, which takes 140 ms, with identities 360: indexing the functions need not wait.

    In one thread at a time: its modules import one another, and two threads that come by different ways would meet in a
    circle, which Python breaks by an ImportError.
    """
    with _loading:
        import azure.core.pipeline.transport  # noqa: PLC0415
        import azure.data.tables.aio  # noqa: PLC0415

        azure.core.pipeline.transport.AioHttpTransport  # noqa: B018 - to name it is to import it
        if as_identity:
            import azure.identity.aio  # noqa: PLC0415


class Table:
    """One table of one storage account. Belongs to the event loop in which it is first used."""

    def __init__(
        self,
        account: str,
        name: str,
        telemetry: Telemetry = NULL_TELEMETRY,
        *,
        connect_seconds: float = 0,
        read_seconds: float = 0,
    ) -> None:
        """`connect_seconds`, `read_seconds`: wait so long for storage, where that is longer than usual."""
        self.name = name
        self._account = account
        self._telemetry = telemetry
        self._connect_seconds = max(_CONNECT_SECONDS, connect_seconds)
        self._read_seconds = max(_READ_SECONDS, read_seconds)
        self._client: TableClient | None = None
        self._credential: AsyncTokenCredential | None = None
        self._entity_reader: EntityReader | None = None
        self._direct_reads_from = float("-inf")
        self._reported_at = float("-inf")

    def connect(self) -> "TableClient":
        """The client, made the first time. Raises ConfigurationError where the account is none."""
        if self._client is None:
            # At INFO, which is how Azure's worker logs, it tells of every request, with keys that callers sent.
            logging.getLogger("azure").setLevel(logging.WARNING)
            as_identity = self._account.startswith("https://")
            load_client(as_identity=as_identity)
            from azure.core.credentials import AzureNamedKeyCredential  # noqa: PLC0415
            from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415
            from azure.data.tables.aio import TableClient  # noqa: PLC0415

            # Without this the transport reads proxy settings and .netrc anew for every request: 40% of its time.
            # The time-outs belong to the transport: the client passes them over where it is given one.
            transport = AioHttpTransport(
                use_env_settings=False, connection_timeout=self._connect_seconds, read_timeout=self._read_seconds
            )
            # Left None for a shared access signature: the client library reads then.
            authorize: Authorize | None = None
            options: dict[str, Any] = {
                "transport": transport,
                "retry_total": _RETRIES,
                "retry_backoff_factor": 0.1,
                "retry_backoff_max": 1,
            }
            try:
                if as_identity:
                    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

                    self._credential = DefaultAzureCredential()
                    client = TableClient(self._account, self.name, credential=self._credential, **options)
                    authorize = by_identity(self._credential)
                else:
                    client = TableClient.from_connection_string(self._account, self.name, **options)
                    if isinstance(client.credential, AzureNamedKeyCredential):
                        authorize = by_key(*client.credential.named_key)
            except ValueError:
                raise ConfigurationError(
                    "LICENSING_STORAGE is neither a connection string nor an https address of a table service."
                ) from None
            self._client = client
            if authorize is not None:
                self._entity_reader = EntityReader(
                    f"{client.url}/{self.name}",
                    transport,
                    authorize,
                    sock_connect=self._connect_seconds,
                    sock_read=self._read_seconds,
                )
        return self._client

    @property
    def host(self) -> str:
        """Of its account, for people to read: nothing else that the account's setting holds."""
        return urlsplit(self.connect().url).netloc

    async def create(self) -> None:
        """Make the table, where it is not there yet."""
        from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415

        with self._translate_errors("create"), suppress(ResourceExistsError):
            await self.connect().create_table()

    async def exists(self) -> bool:
        """Whether there is such a table. Raises StorageUnavailable."""
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415

        with self._translate_errors("read"):
            try:
                await self.connect().get_entity("", "")
            except ResourceNotFoundError as error:
                return bool(error.error_code != "TableNotFound")  # type: ignore[attr-defined]
        return True

    async def is_empty(self) -> bool:
        """Whether there is no row at all. Raises StorageUnavailable."""
        async for page in self._pages("PartitionKey ge @least", {"least": ""}, select=["RowKey"], size=1):
            if page:
                return False
        return True

    async def find(self, partition: str, row: str, *, select: list[str] | None = None) -> Row | None:
        """The row, or None. Its ETag: `etag(row)`. Raises StorageUnavailable."""
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415

        client, retries, refused = self.connect(), _RETRIES, None
        with self._translate_errors("read"):
            if self._entity_reader is not None and select is None and time.monotonic() >= self._direct_reads_from:
                try:
                    return await self._entity_reader.find(partition, row)
                except FallbackRequired as error:
                    refused = error.status
                    retries -= 1
                if refused == HTTPStatus.TOO_MANY_REQUESTS or (refused or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    await asyncio.sleep(_BUSY_SECONDS)
            try:
                found = await client.get_entity(partition, row, select=select, retry_total=retries)
            except ResourceNotFoundError as error:
                if error.error_code == "TableNotFound":  # type: ignore[attr-defined]
                    raise
                return None
            if refused in _REJECTED_STATUSES:
                # Of us alone: to ask both ways each time would cost twice as much, and be told nowhere.
                self._direct_reads_from = time.monotonic() + _FALLBACK_SECONDS
                _log.warning("storage does not take plain reads, status %s: the client library reads instead", refused)
            return found

    async def rows(  # noqa: PLR0913 - what a query of the table service may say
        self,
        partition: str,
        prefix: str,
        *,
        after: str = "",
        until: str = "",
        where: Sequence[Condition] = (),
        select: list[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Row]:
        """The rows whose key begins with the prefix, in the order of their keys. Raises StorageUnavailable.

        Of them those that come `after` that key and before `until`, and whose properties are as `where` says: the first
        so many at most.
        """
        conditions: list[Condition] = [("PartitionKey", "eq", partition)]
        conditions += [("RowKey", "ge", prefix), ("RowKey", "lt", _following(prefix))] if prefix else []
        conditions += [("RowKey", "gt", after)] if after else []
        conditions += [("RowKey", "lt", until)] if until else []
        conditions += where
        query = " and ".join(f"{name} {operator} @p{index}" for index, (name, operator, _) in enumerate(conditions))
        parameters = {f"p{index}": value for index, (_, _, value) in enumerate(conditions)}
        size = limit if limit is not None and limit <= _MAX_PAGE_ROWS else None
        left = limit
        async for found in self._pages(query, parameters, select=select, size=size):
            for row in found[:left]:
                yield row
            if left is not None:
                left -= len(found)
                if left <= 0:
                    return

    async def partitions(
        self, prefix: str, *, after: tuple[str, str] | None = None, select: list[str] | None = None
    ) -> AsyncGenerator[Row]:
        """All rows of the partitions whose names begin with the prefix, by partition and row key.

        `after`: those that follow the row of that partition and key. Raises StorageUnavailable.
        """
        partition, key = after or (prefix, "")
        parameters = {"partition": partition, "row": key, "end": _following(prefix)}
        # Two queries, since Azure would answer one that says `or` by a scan of the whole table.
        for query in (
            "PartitionKey eq @partition and RowKey gt @row",
            "PartitionKey gt @partition and PartitionKey lt @end",
        ):
            async for page in self._pages(query, parameters, select=select):
                for row in page:
                    yield row

    async def _pages(
        self, query: str, parameters: dict[str, str], *, select: list[str] | None, size: int | None = None
    ) -> AsyncIterator[Sequence[Row]]:
        """The rows that a query finds, a request at a time: what is done with them meanwhile is not storage's time."""
        found = self.connect().query_entities(query, parameters=parameters, select=select, results_per_page=size)
        pages: Any = found.by_page()
        while True:
            with self._translate_errors("query"):
                rows = [row async for row in await anext(pages)]
            yield rows
            if pages.continuation_token is None:
                return

    async def commit(self, partition: str, operations: Sequence[Operation]) -> None:
        """Do all of the operations, or none of them.

        Raises ConcurrencyConflict where a row is not as the operations say, RowTooLarge beyond Azure's limits, and
        StorageUnavailable where storage did not answer: then nobody knows whether it was done.
        """
        from azure.core import MatchConditions  # noqa: PLC0415

        check_limits(partition, operations)
        batch: list[Any] = []
        for operation in operations:
            entity = {"PartitionKey": partition, **operation.row}
            known = operation.etag is not None
            condition = {"etag": operation.etag, "match_condition": MatchConditions.IfNotModified} if known else {}
            if operation.verb == "create":
                batch.append(("create", entity))
            elif operation.verb == "delete":
                batch.append(("delete", entity, condition))
            else:
                batch.append(("update" if known else "upsert", entity, {"mode": "replace", **condition}))
        with self._translate_errors("write"):
            await self.connect().submit_transaction(batch)

    @contextmanager
    def _translate_errors(self, operation: str) -> Iterator[None]:
        """Around one call of Azure: its errors as ours. What Azure says stays out of our sentence."""
        from azure.core.exceptions import AzureError, HttpResponseError  # noqa: PLC0415

        try:
            with self._telemetry.storage(operation):
                yield
        except HttpResponseError as error:
            code = str(getattr(error, "error_code", ""))
            if code == "ResourceNotFound" or error.status_code in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
                raise ConcurrencyConflict("The record has changed meanwhile.") from error
            if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise RowTooLarge("The change is larger than the storage service takes in one piece.") from error
            self._report_failure(operation, error, str(error.status_code), code)
            raise _unavailable() from error
        # The last three: something in between answered with a page of its own, and the client library trips over it.
        except (AzureError, OSError, AttributeError, TypeError, ValueError) as error:
            self._report_failure(operation, error, "", "")
            raise _unavailable() from error

    def _report_failure(self, operation: str, error: Exception, status: str, code: str) -> None:
        """Say why storage does not answer, now and then: without its message, which names rows that callers ask for."""
        if time.monotonic() - self._reported_at > _REPORT_INTERVAL_SECONDS:
            self._reported_at = time.monotonic()
            kind = type(error).__name__
            _log.warning("storage does not answer: %s, status %s, code %s", kind, status or None, code or None)
            self._telemetry.record("StorageFailed", operation=operation, type=kind, status=status, code=code)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._credential is not None:
            await self._credential.close()
            self._credential = None


def etag(row: Row) -> str:
    """The ETag with which the row was read."""
    return str(row.metadata["etag"])  # type: ignore[attr-defined]


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable(
        "The records cannot be read right now. This says nothing about any license; try again in a moment.",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )
