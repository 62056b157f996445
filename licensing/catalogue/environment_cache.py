"""What a validation needs to know of an environment, in memory (docs/adr/0001).

Invariants, each with the test that holds it (tests/catalogue/test_environment_cache.py):

- A reader sees every change that was committed before it asked (`returns_committed_change_on_next_read`,
  `concurrent_reads_return_every_earlier_commit`).
- A snapshot includes all changes up to one version, and no part of a later change of its environment or licenses
  (`returns_change_committed_during_read`, `when_environment_moves_during_read_returns_its_licenses`).
- A read that was held up while the publisher was erased or restored is discarded
  (`delayed_read_during_erase_raises_storage_unavailable`).
- While storage does not answer, an environment that is in memory is answered as it was, marked stale, up to a limit
  of age (`while_storage_is_down_returns_stale_data_unless_too_old`).
- Unknown serial numbers and publishers leave nothing in memory (`stores_no_unknown_publishers_and_serial_numbers`).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from licensing.catalogue.publisher_cache import PublisherCache, WaitPolicy
from licensing.catalogue.records import CustomerProduct, Environment, Product, Publisher, Record
from licensing.catalogue.rows import CustomerDocument, customer_key, serial_key
from licensing.catalogue.store import CatalogueStore, Version
from licensing.errors import PublisherNotFound, RecordsInconsistent, StorageUnavailable
from licensing.identifiers import fold

_ATTEMPTS = 20
"""How often an environment is read again because it has changed, within the time that a validation waits."""
_MAX_STATES = 1_000


@dataclass(frozen=True, slots=True)
class PublisherState:
    """A publisher and its products, by folded name, as of a version. `others`: its records of other kinds."""

    version: Version
    publisher: Publisher
    products: Mapping[str, Product]
    others: Mapping[type[Record], Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decides about an environment. `environment` is None where no environment has that serial number.

    `licenses`: the customer's products by product id. `stale`: storage could not be asked whether this still holds.
    """

    state: PublisherState
    environment: Environment | None
    licenses: Mapping[str, tuple[CustomerProduct, ...]]
    stale: bool = False


class EnvironmentCacheStats(NamedTuple):
    """The number of environments, and of publishers' states, in memory."""

    environments: int
    publishers: int


class _ChangedMeanwhile(Exception):
    """A row is newer than the version of the publisher's state."""


class _Cached(NamedTuple):
    snapshot: Snapshot
    checked_at: float
    """When the question was asked that this answered, on the monotonic clock."""


class EnvironmentCache:
    """The environments that an instance keeps in memory. Belongs to one event loop."""

    def __init__(  # noqa: PLR0913 - how long to wait, how much to cache
        self,
        store: CatalogueStore,
        publishers: PublisherCache,
        policy: WaitPolicy,
        *,
        max_environments: int,
        max_stale_seconds: float,
        others: Sequence[type[Record]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`others`: the kinds of `PublisherState.others`."""
        self._store = store
        self._publishers = publishers
        self._policy = policy
        self._max_environments = max_environments
        self._max_stale_seconds = max_stale_seconds
        self._kinds = (Publisher, Product, *others)
        self._clock = clock
        self._states: OrderedDict[str, PublisherState] = OrderedDict()
        self._newest: dict[str, Version] = {}
        """The version of each publisher that was read last. Of publishers that exist."""
        self._cached: OrderedDict[tuple[str, str], _Cached] = OrderedDict()

    async def get(self, publisher_id: str, serial_number: str) -> Snapshot:
        """Return the environment as it is now; as it was last known, marked stale, where storage does not answer.

        Raises PublisherNotFound, and StorageUnavailable where nothing is cached to answer with.
        """
        key = (publisher_id, fold(serial_number))
        try:
            return await self._fresh(key, serial_number)
        except PublisherNotFound:
            self._forget(publisher_id)
            raise
        except (TimeoutError, StorageUnavailable):
            cached = self._cached.get(key)
            if cached is None or self._clock() - cached.checked_at > self._max_stale_seconds:
                raise StorageUnavailable(
                    "The licenses cannot be looked up right now. This says nothing about them: go on with the last "
                    "reply, and ask again in a moment.",
                    retry_after_seconds=5,
                ) from None
            return replace(cached.snapshot, stale=True)

    def stats(self) -> EnvironmentCacheStats:
        return EnvironmentCacheStats(len(self._cached), len(self._states))

    async def _fresh(self, key: tuple[str, str], serial_number: str) -> Snapshot:
        asked_at = self._clock()
        version = await self._publishers.version(key[0], self._policy)
        self._newest[key[0]] = version
        cached = self._cached.get(key)
        if cached is not None and cached.snapshot.state.version == version:
            snapshot = cached.snapshot
        else:
            async with asyncio.timeout(self._policy.timeout_seconds):
                snapshot = await self._read(key[0], serial_number, version)
            # A run that erases or restores a publisher waits this long before it deletes the first row. An instance
            # that was held up meanwhile would take missing rows for records that do not exist.
            if self._clock() - asked_at > 2 * self._policy.timeout_seconds:
                raise TimeoutError
        self._keep(key, snapshot, asked_at)
        return snapshot

    def _keep(self, key: tuple[str, str], snapshot: Snapshot, asked_at: float) -> None:
        newest = self._newest.get(key[0])
        if newest is None or (newest != snapshot.state.version and newest.number >= snapshot.state.version.number):
            return  # a later question has learned more: that the publisher is erased, or a newer version
        if snapshot.environment is None:
            # A deleted environment must not be answered during an outage.
            self._cached.pop(key, None)
            return
        self._cached[key] = _Cached(snapshot, asked_at)
        self._cached.move_to_end(key)
        if len(self._cached) > self._max_environments:
            self._cached.popitem(last=False)

    def _forget(self, publisher_id: str) -> None:
        """Drop an erased publisher: it must not be answered for during an outage."""
        if self._newest.pop(publisher_id, None) is not None:
            self._states.pop(publisher_id, None)
            for key in [key for key in self._cached if key[0] == publisher_id]:
                del self._cached[key]

    async def _read(self, publisher_id: str, serial_number: str, version: Version) -> Snapshot:
        for _ in range(_ATTEMPTS):
            read_at = version
            try:
                state = await self._state(publisher_id, version)
                read_at = state.version
                return await self._read_environment(state, publisher_id, serial_number)
            except _ChangedMeanwhile:
                version = await self._publishers.version(publisher_id, self._policy)
                if version == read_at:
                    raise RecordsInconsistent(
                        "Rows of an environment contradict each other, and nothing is changing them: was the table "
                        "brought back from a copy that was made while it was written to?"
                    ) from None
        raise StorageUnavailable("These records are changing all the time.")

    async def _read_environment(self, state: PublisherState, publisher_id: str, serial_number: str) -> Snapshot:
        table = self._store.table(publisher_id)
        serial = await table.find(publisher_id, serial_key(serial_number))
        if serial is None:
            return Snapshot(state, None, {})
        row = await table.find(publisher_id, customer_key(serial["customerId"]))
        # A customer cannot be deleted before its environments.
        if row is None or row["version"] > state.version.number:
            raise _ChangedMeanwhile
        document = CustomerDocument.from_row(row)
        environment = document.environments.get(serial["environmentId"])
        if environment is None:
            raise _ChangedMeanwhile
        licenses: dict[str, tuple[CustomerProduct, ...]] = {}
        for license_ in document.customer_products.values():
            licenses[license_.product_id] = (*licenses.get(license_.product_id, ()), license_)
        return Snapshot(state, environment, licenses)

    async def _state(self, publisher_id: str, version: Version) -> PublisherState:
        """The publisher's state at that version or a newer one: one object for all its environments."""
        version, (publishers, products, *others) = await self._publishers.at_version(
            publisher_id, version, self._kinds, self._policy
        )
        state = self._states.get(publisher_id)
        if state is None or state.version != version:
            if publisher_id not in publishers:
                raise _ChangedMeanwhile
            more = {kind: [*records.values()] for kind, records in zip(self._kinds[2:], others, strict=True)}
            by_name = {fold(product.name): product for product in products.values()}
            state = self._states[publisher_id] = PublisherState(version, publishers[publisher_id], by_name, more)
            self._states.move_to_end(publisher_id)
            if len(self._states) > _MAX_STATES:
                self._states.popitem(last=False)
        return state
