"""What support does with notices: every change a change of the publisher's records, with its rules and its audit."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Product, Publisher
from licensing.catalogue.service import Catalogue, register_rule
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Frozen
from licensing.health import Status, overall
from licensing.notices.delivery.outbox import Outbox
from licensing.notices.health_monitor import ITSELF, HealthMonitor
from licensing.notices.message_text import change_of_plan
from licensing.notices.model import (
    Notice,
    NoticeStatus,
    Update,
    begun,
    check_notice,
    is_to_begin,
    started,
    updated,
)
from licensing.notices.subscriptions.service import Subscriptions
from licensing.telemetry.service import Telemetry

_log = logging.getLogger(__name__)
_RUN_FOR = timedelta(seconds=50)
"""A run ends before the next one is due."""


async def _check_rules(draft: Draft, notice: Notice) -> Notice:
    """The notice; where its times were changed, with an update that says so, and that is announced as any other."""
    before = await draft.find(Notice, notice.id)
    known = [product.id for product in await draft.list_records(Product)] if notice.product_ids else []
    # A product that was deleted since may stay: whoever cancels a notice does not care.
    check_notice(notice, [*known, *(before.product_ids if before else ())])
    if before is None or before.plan == notice.plan or not notice.is_open:
        return notice
    publisher = await draft.find(Publisher, draft.publisher_id)
    body = change_of_plan(notice, before.plan, publisher.time_zone if publisher else "")
    told = Update(at=draft.now, author=draft.actor, status=notice.status, body=body, previous_plan=before.plan)
    return updated(notice, told)


register_rule(Notice, _check_rules)


@dataclass(kw_only=True)
class Notices:
    """The use cases. `actor` is who asks."""

    store: CatalogueStore
    catalogue: Catalogue
    outbox: Outbox
    subscriptions: Subscriptions
    health_monitor: HealthMonitor | None
    checks: Callable[[], Awaitable[dict[str, Status]]]
    telemetry: Telemetry
    clock: Callable[[], datetime]

    def new(self, notice: Notice, actor: str) -> Notice:
        """The notice as its kind begins."""
        return replace(begun(notice, notice.notice_kind), author=actor)

    async def update(self, publisher_id: str, notice_id: str, status: NoticeStatus, body: str, *, actor: str) -> Notice:
        """Say one thing more. Raises NotFound, and Conflict where the notice's status cannot become that."""
        return await self.catalogue.update(
            publisher_id,
            Notice,
            notice_id,
            lambda before: updated(before, Update(at=self.clock(), author=actor, status=status, body=body)),
            actor=actor,
        )

    async def run(self) -> None:
        """Begin what is to begin, announce what is due, deliver what is on its way: for every publisher.

        What fails for one publisher does not stop the others. First of all the service looks at its own health.
        """
        loop = asyncio.get_running_loop()
        started, deliveries = loop.time(), 0
        until = started + _RUN_FOR.total_seconds()
        await self._observe_health()
        publisher_ids = await self.store.register.publisher_ids()
        # In another order each time: whoever comes last when the time is up is not always the same.
        for publisher_id in random.sample(publisher_ids, len(publisher_ids)):
            try:
                await self.store.raise_if_frozen(publisher_id)
                await self._begin_maintenances(publisher_id)
                deliveries += await self.outbox.run(publisher_id, until)
                await self.subscriptions.purge_expired(publisher_id)
            except Frozen:
                _log.info("the notices of publisher %s wait: it is frozen", publisher_id)
            except Exception as error:  # noqa: BLE001 - the others' notices must go out. Its message may hold addresses
                _log.error("the notices of publisher %s failed: %s", publisher_id, type(error).__name__)
        self.telemetry.record(
            "NoticesPosted",
            publishers=len(publisher_ids),
            deliveries=deliveries,
            durationMs=(loop.time() - started) * 1e3,
        )

    async def _observe_health(self) -> None:
        try:
            checks = await self.checks()
            self.telemetry.record("HealthChecked", **checks)
            if self.health_monitor is not None:
                await self.health_monitor.observe(well=overall(checks) is Status.HEALTHY)
        except Exception as error:  # noqa: BLE001 - the notices must go out all the same
            _log.error("the health monitor failed: %s", type(error).__name__)

    async def _begin_maintenances(self, publisher_id: str) -> None:
        """A maintenance is under way from its start on. That it is over is for somebody to say."""
        now = self.clock()
        for notice in (await self.outbox.publisher_cache.get(publisher_id, Notice)).values():
            if is_to_begin(notice, now):
                await self.catalogue.update(publisher_id, Notice, notice.id, started, actor=ITSELF)
