"""A publisher's records in memory. Every read reflects all changes committed before it (docs/adr/0001, docs/adr/0004).

Invariants, each with the test that holds it (tests/catalogue/test_publisher_cache.py):

- Each question reads the version row first, in a read that began after it (`returns_change_of_another_instance`,
  `reader_during_older_read_gets_newer_change`).
- The records of every kind include all changes up to one version. A later change may be in some of them already
  (`never_returns_kinds_of_different_versions`, `equals_stored_records_after_random_concurrent_changes`).
- Only what has changed is read again, as far as the audit tells. After many changes, or with another history, the kind
  is loaded again (`reads_only_changed_rows_again`, `reloads_after_storage_was_restored_from_backup`).
- What was read while a publisher was erased is never used after it was restored
  (`load_during_erase_is_not_used_after_restore`).
- A read goes on where its caller gives up, so that slow storage is read to the end
  (`slow_catch_up_outlasts_its_caller`).
- A mapping that was returned never changes (`keeps_returned_mapping_unchanged`).
- Unknown publishers leave nothing in memory (`stores_no_unknown_publishers`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
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
    """The time-out of some callers. Callers that use the same object share their version reads."""

    timeout_seconds: float
    min_interval_seconds: float = 0
    """Between the starts of two shared version reads of a publisher."""


class PublisherCacheStats(NamedTuple):
    """The number of publishers, and of records of all of them, in memory."""

    publishers: int
    records: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """All records of one kind by id, in order, with all changes up to a version."""

    version: Version
    records: dict[str, Any]


class _History(NamedTuple):
    """The changes up to a version: their ids by number, and the kinds, parents and ids of the records they touched."""

    until: Version
    change_ids: Mapping[int, str]
    touched: Iterable[tuple[int, str, str, str]]


class _HistoryRead(NamedTuple):
    until: Version
    since: int
    read: asyncio.Task[_History]


@dataclass(slots=True)
class _CachedPublisher:
    versions: dict[WaitPolicy, CoalescedRead[Version | None]] = field(default_factory=dict)
    kinds: dict[type, _Kind] = field(default_factory=dict)
    updates: dict[type, asyncio.Task[None]] = field(default_factory=dict)
    """At most one for each kind."""
    history: _HistoryRead | None = None
    """The newest, shared by the updates of all kinds to its version."""


class PublisherCache:
    """The records that an instance keeps in memory. Belongs to one event loop."""

    def __init__(
        self,
        store: CatalogueStore,
        policy: WaitPolicy,
        *,
        max_records: int = 200_000,
        max_catch_up: int = 50,
        read_seconds: float = 60,
    ) -> None:
        """Set the policy of callers that name none.

        `max_records`: of all publishers; the least recently used publisher goes first. `max_catch_up`: the number of
        changes, and of changed records of a kind, that are read one by one. `read_seconds`: limit of a read that
        callers share, so that one that hangs does not block its kind for ever.
        """
        self._store = store
        self._policy = policy
        self._max_records = max_records
        self._max_catch_up = max_catch_up
        self._read_seconds = read_seconds
        self._publishers: OrderedDict[str, _CachedPublisher] = OrderedDict()
        self._pending: dict[str, _CachedPublisher] = {}

    async def get[R: Record](self, publisher_id: str, kind: type[R]) -> Mapping[str, R]:
        """Return all records of the kind by id, in their order: those that have a row of their own.

        Raises PublisherNotFound and StorageUnavailable.
        """
        (records,) = await self.several(publisher_id, kind)
        return records

    async def several(self, publisher_id: str, *kinds: type[Any]) -> tuple[Mapping[str, Any], ...]:
        """Return the records of each of the kinds, with all changes up to one version. Raises as `get`."""
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
            raise _unavailable() from None
        finally:
            self._pending.pop(publisher_id, None)
        if version is None:
            self._publishers.pop(publisher_id, None)
            raise _not_found()
        self._publishers.setdefault(publisher_id, cached)
        self._publishers.move_to_end(publisher_id)
        return version

    async def at_version(
        self, publisher_id: str, version: Version, kinds: Sequence[type[Any]], policy: WaitPolicy | None = None
    ) -> tuple[Version, tuple[Mapping[str, Any], ...]]:
        """Return the records of the kinds with all changes up to this version or a newer one, and which one that is.

        Raises PublisherNotFound and StorageUnavailable.
        """
        # Where the publisher was evicted or erased since its version was read, this serves the one caller.
        cached = self._publishers.get(publisher_id) or _CachedPublisher()
        is_newest = False
        while True:
            found = [cached.kinds.get(kind) for kind in kinds]
            if all(each is not None and each.version == version for each in found):
                return version, tuple(each.records for each in found if each)
            others = [each.version for each in found if each and each.version != version]
            if not is_newest and any(other.number >= version.number for other in others):
                # Another caller has brought a kind further; or the storage account was restored from a copy.
                newest = await self.version(publisher_id, policy)
                is_newest, version = newest == version, newest
                continue
            outdated = [kind for kind, each in zip(kinds, found, strict=True) if not each or each.version != version]
            await asyncio.gather(*(self._updated(publisher_id, cached, kind, version) for kind in outdated))
            is_newest = False

    def stats(self) -> PublisherCacheStats:
        return PublisherCacheStats(len(self._publishers), sum(map(_size, self._publishers.values())))

    def _evict(self) -> None:
        records = self.stats().records
        while records > self._max_records and len(self._publishers) > 1:
            records -= _size(self._publishers.popitem(last=False)[1])

    async def _updated(self, publisher_id: str, cached: _CachedPublisher, kind: type[Record], version: Version) -> None:
        """Wait for the update of the kind that is under way, or start one to that version."""
        if kind not in cached.updates:
            update = _start(self._update(publisher_id, cached, kind, version))
            cached.updates[kind] = update
            update.add_done_callback(lambda _: cached.updates.pop(kind))
        await asyncio.shield(cached.updates[kind])

    async def _update(self, publisher_id: str, cached: _CachedPublisher, kind: type[Record], version: Version) -> None:
        """Bring the kind to the version. A change during the read has a later version, and is read again then."""
        before = cached.kinds.get(kind)
        try:
            async with asyncio.timeout(self._read_seconds):
                records = await self._caught_up(publisher_id, cached, kind, before, version) if before else None
                if records is None:
                    records = _in_order(await self._load(publisher_id, kind))
        except TimeoutError:
            raise _unavailable() from None
        cached.kinds[kind] = _Kind(version, records)
        self._evict()

    async def _load(self, publisher_id: str, kind: type[Record]) -> Sequence[Record]:
        if kind is Publisher:
            publisher = await self._store.find(publisher_id, Publisher, publisher_id)
            return [publisher] if publisher else []
        return await self._store.list_records(publisher_id, kind)

    async def _caught_up(
        self, publisher_id: str, cached: _CachedPublisher, kind: type[Record], before: _Kind, version: Version
    ) -> dict[str, Any] | None:
        """The records with all changes since; None where those are too many, or the history is another one."""
        is_near = 0 < version.number - before.version.number <= self._max_catch_up
        if not is_near or version.epoch != before.version.epoch:
            return None
        history = await self._history(publisher_id, cached, before.version.number, version)
        if history.change_ids.get(before.version.number) != before.version.change_id:
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
        if not changed:
            return before.records
        found = await asyncio.gather(*(self._store.find(publisher_id, kind, record_id) for record_id in changed))
        unchanged = (record for record_id, record in before.records.items() if record_id not in changed)
        return _in_order([*unchanged, *(record for record in found if record is not None)])

    async def _history(self, publisher_id: str, cached: _CachedPublisher, since: int, until: Version) -> _History:
        """The history from that change up to that version. One read serves all kinds that can catch up."""
        known = cached.history
        if known is None or known.until != until or known.since > since or _has_failed(known.read):
            numbers = [each.version.number for each in cached.kinds.values()]
            first = min(since, *(number for number in numbers if 0 < until.number - number <= self._max_catch_up))
            known = cached.history = _HistoryRead(until, first, _start(self._read_history(publisher_id, first, until)))
        return await asyncio.shield(known.read)

    async def _read_history(self, publisher_id: str, since: int, until: Version) -> _History:
        change_ids: dict[int, str] = {}
        touched = []
        async with asyncio.timeout(self._read_seconds):
            async for number, change_id, address in self._store.audit_since(publisher_id, since - 1, until.number):
                change_ids[number] = change_id
                touched.append((number, *address))
        return _History(until, change_ids, touched)


def _not_found() -> PublisherNotFound:
    return PublisherNotFound("No publisher of this id is known here. Check the publisherId.")


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable("The records cannot be read right now. Try again in a moment.", retry_after_seconds=5)


def _start[T](read: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run the read in a task of its own, whose error counts as retrieved: all its callers may have given up."""
    task = asyncio.create_task(read, context=Context())  # in no caller's trace
    task.add_done_callback(_has_failed)
    return task


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _size(cached: _CachedPublisher) -> int:
    return sum(len(each.records) for each in cached.kinds.values())


def _in_order(records: Iterable[Record]) -> dict[str, Any]:
    return {record.id: record for record in sorted(records, key=lambda record: record.position)}
