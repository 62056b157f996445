"""A publisher's records in memory, always as fresh as the question (docs/adr/0001, docs/adr/0004).

Invariants, each with the test that holds it (tests/catalogue/test_publisher_cache.py):

- A reader sees every change that was committed before it asked: each question reads the version row first, in a read
  that began after it (`returns_change_of_another_instance`, `reader_during_older_read_gets_newer_change`).
- The records of several kinds are of one version (`equals_stored_records_after_random_concurrent_changes`).
- Only what has changed is read again, as far as the audit tells; after many changes, or where the history is another
  one, everything is (`reads_only_changed_rows_again`, `reloads_after_storage_was_restored_from_backup`).
- What was read while a publisher was erased is never used after it was restored
  (`load_during_erase_is_not_used_after_restore`).
- A mapping that was returned never changes (`keeps_returned_mapping_unchanged`).
- Unknown publishers leave nothing in memory (`stores_no_unknown_publishers`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from licensing.catalogue.records import Customer, Publisher, Record
from licensing.catalogue.rows import OF_A_CUSTOMER
from licensing.catalogue.store import CatalogueStore, Version
from licensing.errors import PublisherNotFound, StorageUnavailable
from licensing.storage.coalesced_read import CoalescedRead

_KINDS_OF_A_CUSTOMER = {kind.kind for kind in OF_A_CUSTOMER}


@dataclass(frozen=True, slots=True, eq=False)
class WaitPolicy:
    """How a group of callers waits for storage. Callers with the same policy share their version reads."""

    timeout_seconds: float
    min_interval_seconds: float = 0
    """Between the starts of two shared version reads of a publisher."""


class CacheStats(NamedTuple):
    """The number of publishers, and of records of all of them, in memory."""

    publishers: int
    records: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """All records of one kind by id, in order, as of a version."""

    version: Version
    records: dict[str, Any]


class _History(NamedTuple):
    """The changes from one version to another: their ids by number, and the kinds, parents and ids they touched."""

    until: Version
    change_ids: Mapping[int, str]
    touched: Iterable[tuple[int, str, str, str]]


@dataclass(slots=True)
class _CachedPublisher:
    versions: dict[WaitPolicy, CoalescedRead[Version | None]] = field(default_factory=dict)
    kinds: dict[type, _Kind] = field(default_factory=dict)
    loading: dict[type, asyncio.Task[None]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while kinds are brought to a newer version."""


class PublisherCache:
    """The records that an instance keeps in memory. Belongs to one event loop."""

    def __init__(
        self, store: CatalogueStore, policy: WaitPolicy, *, max_records: int = 200_000, max_catch_up: int = 50
    ) -> None:
        """Set the policy of callers that name none.

        `max_records`: of all publishers; the least recently used publisher goes first. `max_catch_up`: the number of
        changes, and of changed records, that are read one by one.
        """
        self._store = store
        self._policy = policy
        self._max_records = max_records
        self._max_catch_up = max_catch_up
        self._publishers: OrderedDict[str, _CachedPublisher] = OrderedDict()
        self._pending: dict[str, _CachedPublisher] = {}

    async def get[R: Record](self, publisher_id: str, kind: type[R]) -> Mapping[str, R]:
        """Return all records of the kind by id, in their order: those that have a row of their own.

        Raises PublisherNotFound and StorageUnavailable.
        """
        (records,) = await self.several(publisher_id, kind)
        return records

    async def several(self, publisher_id: str, *kinds: type[Any]) -> tuple[Mapping[str, Any], ...]:
        """Return the records of each of the kinds, all of one version. Raises as `get`."""
        version = await self.version(publisher_id)
        _, records = await self.at_version(publisher_id, version, kinds)
        return records

    async def version(self, publisher_id: str, policy: WaitPolicy | None = None) -> Version:
        """Return the publisher's version, read after this call. Raises PublisherNotFound and StorageUnavailable."""
        policy = policy or self._policy
        cached = self._publishers.get(publisher_id) or self._pending.get(publisher_id)
        if cached is None:
            # Connect before the time-out starts: the first connection includes the import of the client library.
            self._store.table(publisher_id).connect()
            cached = self._pending[publisher_id] = _CachedPublisher()
        read = cached.versions.get(policy)
        if read is None:
            read = cached.versions[policy] = CoalescedRead(
                partial(self._store.version, publisher_id),
                min_interval_seconds=policy.min_interval_seconds,
                timeout_seconds=policy.timeout_seconds,
            )
        try:
            version = await read.get()
        except TimeoutError:
            raise StorageUnavailable(
                "The records cannot be read right now. Try again in a moment.", retry_after_seconds=5
            ) from None
        finally:
            self._pending.pop(publisher_id, None)
        if version is None:
            self._publishers.pop(publisher_id, None)
            raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
        self._publishers.setdefault(publisher_id, cached)
        self._publishers.move_to_end(publisher_id)
        return version

    async def at_version(
        self, publisher_id: str, version: Version, kinds: Sequence[type[Any]]
    ) -> tuple[Version, tuple[Mapping[str, Any], ...]]:
        """Return the records of the kinds at this version or at a newer one, and which one that is."""
        cached = self._publishers.setdefault(publisher_id, _CachedPublisher())
        while True:
            async with cached.lock:
                version = await self._catch_up(publisher_id, cached, kinds, version)
                found = [cached.kinds.get(kind) for kind in kinds]
            if all(found):
                self._evict()
                return version, tuple(each.records for each in found if each)
            # What somebody else is loading may be of an older version than this one: then it is caught up with.
            missing = [kind for kind in kinds if kind not in cached.kinds]
            await asyncio.gather(*(self._loaded(publisher_id, cached, kind, version) for kind in missing))

    def stats(self) -> CacheStats:
        return CacheStats(len(self._publishers), sum(map(_size, self._publishers.values())))

    def _evict(self) -> None:
        records = self.stats().records
        while records > self._max_records and len(self._publishers) > 1:
            records -= _size(self._publishers.popitem(last=False)[1])

    async def _catch_up(
        self, publisher_id: str, cached: _CachedPublisher, kinds: Iterable[type[Record]], version: Version
    ) -> Version:
        """Bring the cached kinds to that version or to a newer one, and return which. Drop those that cannot be."""
        behind = _behind(cached, kinds, version)
        if any(each.version.number >= version.number for each in behind.values()):
            # Another caller has brought it further; or the storage account was restored from a copy.
            version = await self._store.version(publisher_id) or version
            behind = _behind(cached, kinds, version)
        if behind:
            since = min(each.version.number for each in behind.values())
            history = await self._history(publisher_id, since, version)
            for kind, each in behind.items():
                caught_up = await self._caught_up(publisher_id, kind, each, history)
                if caught_up is None:
                    del cached.kinds[kind]
                else:
                    cached.kinds[kind] = caught_up
        return version

    async def _history(self, publisher_id: str, since: int, until: Version) -> _History:
        """From that change on; empty where that is too long ago, or in the future."""
        change_ids: dict[int, str] = {}
        touched = []
        if 0 < until.number - since <= self._max_catch_up:
            async for number, change_id, address in self._store.audit_since(publisher_id, since - 1, until.number):
                change_ids[number] = change_id
                touched.append((number, *address))
        return _History(until, change_ids, touched)

    async def _caught_up(self, publisher_id: str, kind: type[Record], before: _Kind, history: _History) -> _Kind | None:
        """The kind with all changes since; None where those are too many, or the history is another one."""
        is_same_history = history.change_ids.get(before.version.number) == before.version.change_id
        if not is_same_history or history.until.epoch != before.version.epoch:
            return None
        changed: set[str] = set()
        for number, record_kind, parent, record_id in history.touched:
            if number > before.version.number:
                if record_kind == kind.kind:
                    changed.add(record_id)
                elif kind is Customer and record_kind in _KINDS_OF_A_CUSTOMER:
                    changed.add(parent)
        if len(changed) > self._max_catch_up:
            return None
        found = await asyncio.gather(*(self._store.find(publisher_id, kind, record_id) for record_id in changed))
        records = before.records
        if changed:
            unchanged = (record for record_id, record in records.items() if record_id not in changed)
            records = _in_order([*unchanged, *(record for record in found if record is not None)])
        return _Kind(history.until, records)

    async def _loaded(self, publisher_id: str, cached: _CachedPublisher, kind: type[Record], version: Version) -> None:
        """Load the kind, once for all callers. The load goes on where one of them gives up."""
        task = cached.loading.get(kind)
        if task is None:
            task = asyncio.create_task(self._load(publisher_id, cached, kind, version))
            cached.loading[kind] = task
            task.add_done_callback(partial(_end_load, cached, kind))
        await asyncio.shield(task)

    async def _load(self, publisher_id: str, cached: _CachedPublisher, kind: type[Record], version: Version) -> None:
        """Read all records of the kind. What changes meanwhile is of a later version, and is read again with that."""
        records: list[Any]
        if kind is Publisher:
            publisher = await self._store.find(publisher_id, Publisher, publisher_id)
            records = [publisher] if publisher else []
        else:
            records = await self._store.list_records(publisher_id, kind)
        cached.kinds[kind] = _Kind(version, _in_order(records))


def _behind(cached: _CachedPublisher, kinds: Iterable[type[Record]], version: Version) -> dict[type[Record], _Kind]:
    found = {kind: cached.kinds[kind] for kind in kinds if kind in cached.kinds}
    return {kind: each for kind, each in found.items() if each.version != version}


def _size(cached: _CachedPublisher) -> int:
    return sum(len(each.records) for each in cached.kinds.values())


def _end_load(cached: _CachedPublisher, kind: type[Record], task: asyncio.Task[None]) -> None:
    del cached.loading[kind]
    if not task.cancelled():
        task.exception()  # retrieved here, since every caller may have given up


def _in_order(records: Iterable[Record]) -> dict[str, Any]:
    return {record.id: record for record in sorted(records, key=lambda record: record.position)}
