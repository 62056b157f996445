"""A publisher's records in memory, to list and to search them: always as fresh as the question (docs/adr/0004).

As with snapshots, one small read tells whether what is kept still holds. Where it does not, the audit tells which
records have changed since, and those alone are read again.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from licensing.catalogue.records import Customer, Record
from licensing.catalogue.rows import OF_A_CUSTOMER
from licensing.catalogue.store import CatalogueStore, Version
from licensing.errors import PublisherNotFound, StorageUnavailable
from licensing.storage.coalesced_read import CoalescedRead

_CATCH_UP_CHANGES = 50
_CATCH_UP_RECORDS = 50
"""So many changes, of so many records, are caught up with one by one; after more, all is read again."""
_KEPT_RECORDS = 200_000
"""Of all publishers together: those that were not asked for longest go first."""
_KINDS_OF_A_CUSTOMER = {kind.kind for kind in OF_A_CUSTOMER}


@dataclass(slots=True)
class _Shelf:
    """All records of one kind by id, in order, as of a version; `change_id` tells it from another of its number."""

    version: Version
    change_id: str
    records: dict[str, Any]


class _Story(NamedTuple):
    """What happened from one version to another: of each change its id, and the kinds, parents and ids it touched."""

    until: Version
    change_ids: Mapping[int, str]
    touched: Iterable[tuple[int, str, str, str]]


@dataclass(slots=True)
class _Publisher:
    version: CoalescedRead[Version | None]
    shelves: dict[type, _Shelf] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    reading: defaultdict[type, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))


class PublisherCache:
    """What an instance keeps to list. Belongs to one event loop."""

    def __init__(self, store: CatalogueStore, *, wait_seconds: float) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._publishers: OrderedDict[str, _Publisher] = OrderedDict()
        self._asked_for: dict[str, _Publisher] = {}

    async def get[R: Record](self, publisher_id: str, kind: type[R]) -> Mapping[str, R]:
        """All records of the kind by id, in their order: those that the publisher has itself, as they are now.

        Raises PublisherNotFound and StorageUnavailable.
        """
        (records,) = await self.several(publisher_id, kind)
        return records

    async def several(self, publisher_id: str, *kinds: type[Any]) -> tuple[Mapping[str, Any], ...]:
        """The records of each of the kinds, of one version or newer."""
        known, version = await self._current(publisher_id)
        while True:
            async with known.lock:
                version = await self._catch_up(publisher_id, known, kinds, version)
                shelves = [known.shelves.get(kind) for kind in kinds]
            if all(shelves):
                self._let_go()
                return tuple(shelf.records for shelf in shelves if shelf)
            for kind in kinds:
                # Whoever wants a kind that is read already does not wait for one that is not. What somebody else has
                # read meanwhile may be older than what we were asked for: it is caught up with then.
                async with known.reading[kind]:
                    if kind not in known.shelves:
                        known.shelves[kind] = await self._read(publisher_id, kind, version)

    async def _current(self, publisher_id: str) -> tuple[_Publisher, Version]:
        """What is known of the publisher, and where it stands now. Made-up publishers leave nothing behind."""
        known = self._publishers.get(publisher_id) or self._asked_for.get(publisher_id)
        if known is None:
            read = CoalescedRead(
                lambda: self._store.version(publisher_id), min_interval_seconds=0, timeout_seconds=self._wait_seconds
            )
            known = self._asked_for[publisher_id] = _Publisher(read)
        try:
            version = await known.version.get()
        except TimeoutError:
            raise StorageUnavailable(
                "The records cannot be read right now. Try again in a moment.", retry_after_seconds=5
            ) from None
        finally:
            self._asked_for.pop(publisher_id, None)
        if version is None:
            self._publishers.pop(publisher_id, None)
            raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
        known = self._publishers.setdefault(publisher_id, known)
        self._publishers.move_to_end(publisher_id)
        return known, version

    def _let_go(self) -> None:
        def size(known: _Publisher) -> int:
            return sum(len(shelf.records) for shelf in known.shelves.values())

        kept = sum(map(size, self._publishers.values()))
        while kept > _KEPT_RECORDS and len(self._publishers) > 1:
            kept -= size(self._publishers.popitem(last=False)[1])

    async def _catch_up(
        self, publisher_id: str, known: _Publisher, kinds: Iterable[type[Record]], version: Version
    ) -> Version:
        """Bring the shelves to that version, or to a newer one, which it says. What cannot be brought up is let go."""
        shelves = {kind: shelf for kind in kinds if (shelf := known.shelves.get(kind)) and shelf.version != version}
        if any(shelf.version.number >= version.number for shelf in shelves.values()):
            # Somebody else has read on meanwhile; or the storage account was brought back from a copy.
            version = await self._store.version(publisher_id) or version
        behind = {kind: shelf for kind, shelf in shelves.items() if shelf.version != version}
        if behind:
            since = min(shelf.version.number for shelf in behind.values())
            story = await self._story(publisher_id, since, version)
            for kind, shelf in behind.items():
                caught_up = await self._caught_up(publisher_id, kind, shelf, story)
                if caught_up is None:
                    del known.shelves[kind]
                else:
                    known.shelves[kind] = caught_up
        return version

    async def _story(self, publisher_id: str, since: int, until: Version) -> _Story:
        """From that number on; nothing where that is too long ago, or lies ahead."""
        change_ids: dict[int, str] = {}
        touched = []
        if 0 < until.number - since <= _CATCH_UP_CHANGES:
            async for number, change_id, address in self._store.audit_since(publisher_id, since - 1, until.number):
                change_ids[number] = change_id
                touched.append((number, *address))
        return _Story(until, change_ids, touched)

    async def _caught_up(self, publisher_id: str, kind: type[Record], shelf: _Shelf, story: _Story) -> _Shelf | None:
        """The shelf with what has changed since; None where that is too much, or the past is another one."""
        if story.change_ids.get(shelf.version.number) != shelf.change_id:
            return None
        changed: set[str] = set()
        for number, record_kind, parent, record_id in story.touched:
            if number > shelf.version.number:
                if record_kind == kind.kind:
                    changed.add(record_id)
                elif kind is Customer and record_kind in _KINDS_OF_A_CUSTOMER:
                    changed.add(parent)
        if len(changed) > _CATCH_UP_RECORDS:
            return None
        found = await asyncio.gather(*(self._store.find(publisher_id, kind, record_id) for record_id in changed))
        records = shelf.records
        if changed:
            kept = (record for record_id, record in records.items() if record_id not in changed)
            records = _in_order([*kept, *(record for record in found if record is not None)])
        return _Shelf(story.until, story.change_ids[story.until.number], records)

    async def _read(self, publisher_id: str, kind: type[Record], version: Version) -> _Shelf:
        """All of it. What is changed while this reads is of a later version, and is read again with that."""
        changes = self._store.audit_since(publisher_id, version.number - 1, version.number)
        change_id = "".join([change_id async for _, change_id, _ in changes][:1])
        return _Shelf(version, change_id, _in_order(await self._store.list_records(publisher_id, kind)))


def _in_order(records: Iterable[Record]) -> dict[str, Any]:
    return {record.id: record for record in sorted(records, key=lambda record: record.position)}
