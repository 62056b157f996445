"""An incident by itself: opened for every publisher while the service is not well, and closed once it is again.

What it counts lies in a row of the service's own account, so that it goes on after a restart, and on another instance.
While storage does not answer it counts in memory.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore
from licensing.errors import AlreadyExists, LicensingError, PublisherNotFound
from licensing.fields import instant
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus, Update, begun, updated
from licensing.storage.batches import Operation, Row

ITSELF = "the service"
FAILURES_TO_OPEN = 3
SUCCESSES_TO_CLOSE = 5
_PARTITION, _KEY = "watch", "health||"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """How often in a row the service was well, or was not. `since`: when it was not for the first time."""

    at: datetime
    failures: int = 0
    successes: int = 0
    since: datetime | None = None
    alarmed: bool = False
    """There may be incidents to close."""

    @classmethod
    def from_row(cls, row: Row) -> "Streak":
        return cls(
            at=datetime.fromisoformat(row["at"]),
            failures=row["failures"],
            successes=row["successes"],
            since=datetime.fromisoformat(row["since"]) if row["since"] else None,
            alarmed=row["alarmed"],
        )

    def to_row(self) -> Row:
        return {
            "RowKey": _KEY,
            "at": instant(self.at),
            "failures": self.failures,
            "successes": self.successes,
            "since": instant(self.since) if self.since else "",
            "alarmed": self.alarmed,
        }

    def counted(self, now: datetime, *, well: bool) -> "Streak":
        if well:
            return replace(self, at=now, failures=0, successes=min(self.successes + 1, SUCCESSES_TO_CLOSE))
        since = self.since if self.failures else now
        return replace(self, at=now, failures=min(self.failures + 1, FAILURES_TO_OPEN), successes=0, since=since)


@dataclass(kw_only=True)
class HealthMonitor:
    """Looks at the service's health, once a run of the timer."""

    store: CatalogueStore
    catalogue: Catalogue
    publisher_cache: PublisherCache
    clock: Callable[[], datetime]
    _kept: Streak | None = None

    async def observe(self, *, well: bool) -> None:
        """Take in whether the service is well, and open or close what is due.

        What fails is tried again with the next run, if it still applies.
        """
        streak = (await self._read()).counted(self.clock(), well=well)
        if streak.failures >= FAILURES_TO_OPEN and streak.since:
            # First of all: should this die half-way, what was opened is closed all the same.
            streak = await self._keep(replace(streak, alarmed=True))
            await self._for_each(lambda publisher_id: self._open(publisher_id, streak))
        elif streak.alarmed and streak.successes >= SUCCESSES_TO_CLOSE:
            streak = replace(streak, alarmed=not await self._for_each(self._close))
        await self._keep(streak)

    async def _read(self) -> Streak:
        """The newest that is known: the row may lag behind what was counted while storage did not answer."""
        known = [self._kept] if self._kept else []
        try:
            row = await self.store.table("").find(_PARTITION, _KEY)
            known += [Streak.from_row(row)] if row else []
        except LicensingError as error:
            _log.warning("the health monitor continues from memory: %s", type(error).__name__)
        return max(known, key=lambda streak: streak.at, default=Streak(at=self.clock()))

    async def _keep(self, streak: Streak) -> Streak:
        self._kept = streak
        try:
            await self.store.table("").commit(_PARTITION, [Operation("put", streak.to_row())])
        except LicensingError as error:
            _log.warning("the health monitor keeps its count in memory: %s", type(error).__name__)
        return streak

    async def _for_each(self, do: Callable[[str], Awaitable[None]]) -> bool:
        """Whether it was done for all publishers."""
        done = True
        try:
            publisher_ids = await self.store.register.publisher_ids()
        except LicensingError as error:
            _log.warning("no incident could be opened or closed: %s", type(error).__name__)
            return False
        for publisher_id in publisher_ids:
            try:
                with suppress(PublisherNotFound):  # it is being made
                    await do(publisher_id)
            except Exception as error:  # noqa: BLE001 - the others are to be told
                _log.warning("the incident of publisher %s failed: %s", publisher_id, type(error).__name__)
                done = False
        return done

    async def _open(self, publisher_id: str, streak: Streak) -> None:
        """One incident an outage, also where several look at once, or somebody has closed it already."""
        notices = await self.publisher_cache.get(publisher_id, Notice)
        if any(True for _ in _open_ones(notices)):
            return
        now, since = self.clock(), streak.since or self.clock()
        incident = Notice(
            id=str(uuid5(NAMESPACE_URL, f"{publisher_id}|{instant(since)}")),
            created_at=now,
            updated_at=now,
            notice_kind=NoticeKind.INCIDENT,
            title="The license service is disturbed",
            body=(
                f"Since {since:%Y-%m-%d %H:%M} UTC parts of the license service do not answer as they should. "
                "Licenses go on counting: the last reply that an environment has got stays good meanwhile. We are "
                "looking into it."
            ),
            impact=Impact.MAJOR,
            author=ITSELF,
            automatic=True,
        )
        if incident.id not in notices:
            with suppress(AlreadyExists):  # another instance was faster
                await self.catalogue.create(publisher_id, begun(incident, NoticeKind.INCIDENT), actor=ITSELF)

    async def _close(self, publisher_id: str) -> None:
        for notice in _open_ones(await self.publisher_cache.get(publisher_id, Notice)):
            await self.catalogue.update(publisher_id, Notice, notice.id, self._closed, actor=ITSELF)

    def _closed(self, notice: Notice) -> Notice:
        """The incident, resolved; as it is where somebody has taken it into their own hands."""
        if not notice.is_open or notice.held or any(update.author != ITSELF for update in notice.updates):
            return notice
        body = "All parts of the license service have answered as they should for some minutes."
        return updated(notice, Update(at=self.clock(), author=ITSELF, status=NoticeStatus.RESOLVED, body=body))


def _open_ones(notices: Mapping[str, Notice]) -> Iterable[Notice]:
    return (notice for notice in notices.values() if notice.automatic and notice.is_open)
