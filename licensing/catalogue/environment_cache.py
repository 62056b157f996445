"""What a validation needs to know of an environment: always fresh, mostly from memory (docs/adr/0001).

An instance keeps what it last read of an environment, with the version at which it read it. A validation then needs
one small read, shared with others: is the version still that? Every answer so sees each change that was committed
before the validation came.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from licensing.catalogue.records import CustomerProduct, Environment, Product, Publisher, Record
from licensing.catalogue.rows import CustomerDocument, customer_key, serial_key
from licensing.catalogue.store import CatalogueStore, Version
from licensing.errors import PublisherNotFound, RecordsInconsistent, StorageUnavailable
from licensing.identifiers import fold
from licensing.storage.coalesced_read import CoalescedRead

_TURNS = 20
"""How often an environment is read again because it has moved, within the time that a validation waits."""


@dataclass(frozen=True, slots=True)
class PublisherState:
    """A publisher and its products, by folded name, as of a version: its number and ETag.

    The number alone would not do: storage that was brought back from a copy counts the same numbers anew.
    `others`: what else of the publisher whoever made the snapshots wants to see, by kind.
    """

    number: int
    publisher: Publisher
    products: Mapping[str, Product]
    etag: str = ""
    others: Mapping[type[Record], Sequence[Any]] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        return Version(self.number, self.etag)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decides about an environment. `environment` is None where no environment has that serial number.

    `licenses`: the customer's products by product id. `stale`: storage could not be asked whether this still holds.
    """

    state: PublisherState
    environment: Environment | None
    licenses: Mapping[str, tuple[CustomerProduct, ...]]
    stale: bool = False


class _MovedMeanwhile(Exception):
    """A row is newer than the version that it was to be read at."""


def _known(version: Version | None) -> Version:
    if version is None:
        raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
    return version


def _retrieve(task: asyncio.Task[PublisherState]) -> None:
    """Look at the outcome, since all who waited for it may have given up."""
    if not task.cancelled():
        task.exception()


class _KnownPublisher:
    """What an instance knows of one publisher."""

    def __init__(self, version: CoalescedRead[Version | None]) -> None:
        self.version = version
        self.state: PublisherState | None = None
        self.state_read: tuple[Version, asyncio.Task[PublisherState]] | None = None


class _Kept(NamedTuple):
    snapshot: Snapshot
    checked_at: float
    """When this was last known to hold, on the monotonic clock."""


class EnvironmentCache:
    """The snapshots of one instance. Belongs to one event loop."""

    def __init__(  # noqa: PLR0913 - how long to wait, what to keep
        self,
        store: CatalogueStore,
        *,
        wait_seconds: float,
        spacing_seconds: float,
        cached_environments: int,
        max_stale_seconds: float,
        others: Sequence[type[Record]] = (),
    ) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._spacing_seconds = spacing_seconds
        self._cached_environments = cached_environments
        self._max_stale_seconds = max_stale_seconds
        self._others = others
        self._publishers: dict[str, _KnownPublisher] = {}
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def get(self, publisher_id: str, serial_number: str) -> Snapshot:
        """The environment as it is now; as it was when storage last answered, where it does not answer in time.

        Raises PublisherNotFound, and StorageUnavailable where nothing is kept to answer with.
        """
        key = (publisher_id, fold(serial_number))
        try:
            return await self._fresh(key, serial_number)
        except (TimeoutError, StorageUnavailable):
            kept = self._kept.get(key)
            if kept is None or time.monotonic() - kept.checked_at > self._max_stale_seconds:
                raise StorageUnavailable(
                    "The licenses cannot be looked up right now. This says nothing about them: go on with the last "
                    "reply, and ask again in a moment.",
                    retry_after_seconds=5,
                ) from None
            return replace(kept.snapshot, stale=True)

    async def _fresh(self, key: tuple[str, str], serial_number: str) -> Snapshot:
        publisher_id = key[0]
        known = self._publishers.get(publisher_id)
        if known is None:
            # Before the clock runs: to connect the first time takes what importing the client library takes.
            self._store.table(publisher_id).connect()
            known = self._publishers[publisher_id] = _KnownPublisher(
                CoalescedRead(
                    lambda: self._store.version(publisher_id),
                    min_interval_seconds=self._spacing_seconds,
                    timeout_seconds=self._wait_seconds,
                )
            )
        asked_at = time.monotonic()
        try:
            version = _known(await known.version.get())
            kept = self._kept.get(key)
            if kept is not None and kept.snapshot.state.version == version:
                snapshot = kept.snapshot
            else:
                async with asyncio.timeout(self._wait_seconds):
                    snapshot = await self._read_anew(known, key, serial_number, version)
                # Who erases or restores waits so long before the first row goes. An instance that was held up meanwhile
                # would tell of rows that are missing as if there had never been any.
                if time.monotonic() - asked_at > 2 * self._wait_seconds:
                    raise TimeoutError
        finally:
            # Whoever asks for made-up publishers leaves nothing behind.
            if known.state is None and self._publishers.get(publisher_id) is known:
                del self._publishers[publisher_id]
        self._keep(key, snapshot)
        return snapshot

    def _keep(self, key: tuple[str, str], snapshot: Snapshot) -> None:
        if snapshot.environment is None:
            # Neither do made-up serial numbers; and one that is gone is not to answer for storage.
            self._kept.pop(key, None)
            return
        self._kept[key] = _Kept(snapshot, time.monotonic())
        self._kept.move_to_end(key)
        if len(self._kept) > self._cached_environments:
            self._kept.popitem(last=False)

    async def _read_anew(
        self, known: _KnownPublisher, key: tuple[str, str], serial_number: str, version: Version
    ) -> Snapshot:
        for _ in range(_TURNS):
            try:
                return await self._read(known, key[0], serial_number, version)
            except _MovedMeanwhile:
                newer = _known(await known.version.get())
                if newer == version:
                    raise RecordsInconsistent(
                        "Rows of an environment contradict each other, and nothing is changing them: was the table "
                        "brought back from a copy that was made while it was written to?"
                    ) from None
                version = newer
        raise StorageUnavailable("These records are changing all the time.")

    async def _read(self, known: _KnownPublisher, publisher_id: str, serial_number: str, version: Version) -> Snapshot:
        state = await self._state(known, publisher_id, version)
        table = self._store.table(publisher_id)
        serial = await table.find(publisher_id, serial_key(serial_number))
        if serial is None:
            return Snapshot(state, None, {})
        row = await table.find(publisher_id, customer_key(serial["customerId"]))
        # A customer lasts as long as its environments.
        if row is None or row["version"] > version.number:
            raise _MovedMeanwhile
        document = CustomerDocument.from_row(row)
        environment = document.environments.get(serial["environmentId"])
        if environment is None:
            raise _MovedMeanwhile
        licenses: dict[str, tuple[CustomerProduct, ...]] = {}
        for license_ in document.customer_products.values():
            licenses[license_.product_id] = (*licenses.get(license_.product_id, ()), license_)
        return Snapshot(state, environment, licenses)

    async def _state(self, known: _KnownPublisher, publisher_id: str, version: Version) -> PublisherState:
        """The publisher's own state at that version, read once for all who need it."""
        if known.state is not None and known.state.version == version:
            return known.state
        if known.state_read is None or known.state_read[0] != version:
            task = asyncio.create_task(self._read_state(known, publisher_id, version))
            task.add_done_callback(_retrieve)
            known.state_read = (version, task)
        return await asyncio.shield(known.state_read[1])

    async def _read_state(self, known: _KnownPublisher, publisher_id: str, version: Version) -> PublisherState:
        try:
            publisher, products, others = await asyncio.gather(
                self._store.find(publisher_id, Publisher, publisher_id),
                self._store.list_records(publisher_id, Product),
                asyncio.gather(*(self._store.list_records(publisher_id, kind) for kind in self._others)),
            )
        finally:
            if known.state_read is not None and known.state_read[1] is asyncio.current_task():
                known.state_read = None
        if publisher is None:
            raise _MovedMeanwhile
        by_name = {fold(product.name): product for product in products}
        more = dict(zip(self._others, others, strict=True))
        known.state = PublisherState(version.number, publisher, by_name, version.etag, more)
        return known.state
