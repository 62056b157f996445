"""A publisher's records in memory, to list and to search them: always as fresh as the question (docs/adr/0004).

As with snapshots, one small read tells whether what is kept still holds. Where it does not, the audit tells which
records have changed since, and those alone are read again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from licensing.catalogue.model import Customer, Record
from licensing.catalogue.rows import OF_A_CUSTOMER
from licensing.catalogue.store import CatalogueStore, Version
from licensing.errors import PublisherNotFound, StorageUnavailable
from licensing.shared_read import SharedRead

_CATCH_UP_CHANGES = 50
"""So many changes are caught up with one by one; after more, all is read again."""
_KEPT_PUBLISHERS = 100


@dataclass(slots=True)
class _Shelf:
    """All records of one kind, by id, as of a version; `change_id` tells that version from another of its number."""

    version: Version
    change_id: str
    records: dict[str, Any]


@dataclass(slots=True)
class _Publisher:
    version: SharedRead[Version | None]
    shelves: dict[type, _Shelf] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Replica:
    """What an instance keeps to list. Belongs to one event loop."""

    def __init__(self, store: CatalogueStore, *, wait_seconds: float) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._publishers: OrderedDict[str, _Publisher] = OrderedDict()

    async def get[R: Record](self, publisher_id: str, kind: type[R]) -> Mapping[str, R]:
        """All records of the kind by id: those that the publisher has itself, with every change committed before now.

        Raises PublisherNotFound and StorageUnavailable.
        """
        (records,) = await self.several(publisher_id, kind)
        return records

    async def several(self, publisher_id: str, *kinds: type[Any]) -> tuple[Mapping[str, Any], ...]:
        """The records of each of the kinds, of one version or newer."""
        known = self._known(publisher_id)
        try:
            version = await known.version.get()
        except TimeoutError:
            raise StorageUnavailable(
                "The records cannot be read right now. Try again in a moment.", retry_after_seconds=5
            ) from None
        if version is None:
            self._publishers.pop(publisher_id, None)
            raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
        async with known.lock:
            return tuple([await self._shelf(publisher_id, known, kind, version) for kind in kinds])

    def _known(self, publisher_id: str) -> _Publisher:
        if publisher_id not in self._publishers:
            read = SharedRead(
                lambda: self._store.version(publisher_id), spacing_seconds=0, wait_seconds=self._wait_seconds
            )
            self._publishers[publisher_id] = _Publisher(read)
            if len(self._publishers) > _KEPT_PUBLISHERS:
                self._publishers.popitem(last=False)
        self._publishers.move_to_end(publisher_id)
        return self._publishers[publisher_id]

    async def _shelf(
        self, publisher_id: str, known: _Publisher, kind: type[Record], version: Version
    ) -> Mapping[str, Any]:
        shelf = known.shelves.get(kind)
        if shelf is not None and shelf.version.number >= version.number and shelf.version != version:
            # Somebody else has read on meanwhile; or the storage account was brought back from a copy.
            version = await self._store.version(publisher_id) or version
        if shelf is None or shelf.version != version:
            shelf = shelf and await self._caught_up(publisher_id, kind, shelf, version)
            known.shelves[kind] = shelf or await self._read(publisher_id, kind, version)
        return known.shelves[kind].records

    async def _read(self, publisher_id: str, kind: type[Record], version: Version) -> _Shelf:
        """All of it. What is changed while this reads is of a later version, and is read again with that."""
        changes = self._store.audit_since(publisher_id, version.number - 1, version.number)
        change_id = "".join([change_id async for _, change_id, _ in changes][:1])
        records = await self._store.under(publisher_id, kind)
        return _Shelf(version, change_id, {record.id: record for record in records})

    async def _caught_up(self, publisher_id: str, kind: type[Record], shelf: _Shelf, version: Version) -> _Shelf | None:
        """The shelf with what has changed since; None where that is too much, or the past is another one."""
        if not 0 < version.number - shelf.version.number <= _CATCH_UP_CHANGES:
            return None
        changed: set[str] = set()
        seen: dict[int, str] = {}
        async for number, change_id, address in self._store.audit_since(
            publisher_id, shelf.version.number - 1, version.number
        ):
            seen[number] = change_id
            record_kind, parent, record_id = address
            if number > shelf.version.number:
                if record_kind == kind.kind:
                    changed.add(record_id)
                elif kind is Customer and record_kind in _KINDS_OF_A_CUSTOMER:
                    changed.add(parent)
        if seen.get(shelf.version.number) != shelf.change_id:
            return None
        found = await asyncio.gather(*(self._store.find(publisher_id, kind, record_id) for record_id in changed))
        records = {record_id: record for record_id, record in shelf.records.items() if record_id not in changed}
        records |= {record.id: record for record in found if record is not None}
        return _Shelf(version, seen[version.number], records)


_KINDS_OF_A_CUSTOMER = {kind.kind for kind in OF_A_CUSTOMER}
