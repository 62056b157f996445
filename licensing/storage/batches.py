"""Operations on rows, the limits of one transaction, and batches that fit into one.

Azure has these limits; its emulator does not have all of them
(https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model).
"""

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from licensing.storage.errors import RowTooLarge

type Row = Mapping[str, Any]
"""Properties by name, among them PartitionKey and RowKey."""

MAX_OPERATIONS = 100
_MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
_MAX_ROW_BYTES = 1024 * 1024
_SMALL_ROW_BYTES = 4 * 1024
_SENT_BYTES_A_ROW = 1024
_SENT_BYTES_A_PROPERTY = 64
"""What the client sends with each at most: headers, and of which type it is."""
_MAX_PROPERTIES = 252
_MAX_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a transaction: `create` fails where it exists, `put` replaces or creates, `delete` takes it away.

    `etag` makes a `put` or a `delete` fail unless the row is still as it was read.
    """

    verb: Literal["create", "put", "delete"]
    row: Row
    etag: str | None = None


def check_limits(partition: str, operations: Sequence[Operation]) -> None:
    """Raise RowTooLarge where this is more than one transaction takes."""
    if len(operations) > MAX_OPERATIONS:
        raise RowTooLarge(f"A change has {MAX_OPERATIONS} rows at most; this one has {len(operations)}.")
    sizes = [_row_bytes(partition, operation.row) for operation in operations]
    if sum(sizes) > _MAX_TRANSACTION_BYTES:
        raise RowTooLarge("A change has 4 MiB at most. Do it in smaller pieces.")


async def in_batches(
    operations: AsyncIterable[tuple[str, Operation]], *, reserved_rows: int
) -> AsyncIterator[tuple[str, list[Operation]]]:
    """Operations, each with its partition, in as many as fit into one transaction, in their order.

    `reserved_rows`: the number of small rows that each batch leaves room for. Raises RowTooLarge where one row alone is
    too large.
    """
    some: list[Operation] = []
    held, room_bytes = "", 0
    async for partition, operation in operations:
        size = _row_bytes(partition, operation.row)
        if some and (partition != held or len(some) == MAX_OPERATIONS - reserved_rows or size > room_bytes):
            yield held, some
            some = []
        if not some:
            held, room_bytes = partition, _MAX_TRANSACTION_BYTES - reserved_rows * _SMALL_ROW_BYTES
        some.append(operation)
        room_bytes -= size
    if some:
        yield held, some


def _row_bytes(partition: str, row: Row) -> int:
    """What the row takes of a transaction. Raises RowTooLarge.

    In Azure's count, 2 bytes a UTF-16 unit of keys, names and texts; or as the client sends it, if that is more: JSON
    with 6 bytes for each unit that is not ASCII.
    """
    own = {name: value for name, value in row.items() if name != "RowKey"}
    if len(own) > _MAX_PROPERTIES:
        raise RowTooLarge(f"A record has {_MAX_PROPERTIES} properties at most.")
    total = 4 + _text_bytes(partition) + _text_bytes(row["RowKey"])
    sent = _SENT_BYTES_A_ROW + total
    for name, value in own.items():
        value_bytes = _text_bytes(value) if isinstance(value, str) else 8
        if value_bytes > _MAX_TEXT_BYTES:
            raise RowTooLarge(f"{name} is too long: a text has {_MAX_TEXT_BYTES // 2} characters at most.")
        total += 8 + _text_bytes(name) + value_bytes + 4
        sent += _SENT_BYTES_A_PROPERTY + _text_bytes(name) + len(json.dumps(value, default=str))
    if total > _MAX_ROW_BYTES:
        raise RowTooLarge("A record has 1 MiB at most.")
    return max(total, sent)


def _text_bytes(text: str) -> int:
    return len(text.encode("utf-16-le"))
