"""The weekly digest: a mail to each publisher about what expires soon, and that it has not heard of yet.

It also lists what is overdue.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from licensing.catalogue.records import Publisher
from licensing.catalogue.store import CatalogueStore
from licensing.mail.message import Mailer
from licensing.reports.digest_email import digest_email
from licensing.reports.model import OVERDUE, OVERDUE_DAYS, THRESHOLDS, recipient, reminders
from licensing.reports.service import ExpiryReports
from licensing.reports.store import SentReminders
from licensing.settings import Settings

_AHEAD = timedelta(days=max(THRESHOLDS))
_BACK = timedelta(days=OVERDUE_DAYS)

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ExpiryDigest:
    """Reminds publishers: at least once of each customer product at each threshold, and once where nothing fails."""

    settings: Settings
    store: CatalogueStore
    reports: ExpiryReports
    sent_reminders: SentReminders
    mailer: Mailer | None
    clock: Callable[[], datetime]

    async def post(self) -> None:
        """Write to all publishers. One that cannot be written to does not stop the others, and is tried next time.

        Raises StorageUnavailable where not even the list of publishers can be read.
        """
        if self.mailer is None:
            _log.warning("no digest of what expires is sent: LICENSING_SMTP_HOST is not set")
            return
        for publisher_id in await self.store.register.publisher_ids():
            try:
                await self._post_to(publisher_id, self.mailer)
            except Exception as error:  # noqa: BLE001 - the others' mail must go out. Its message may hold names
                _log.error("the digest for publisher %s failed: %s", publisher_id, type(error).__name__)

    async def _post_to(self, publisher_id: str, mailer: Mailer) -> None:
        # A mark that is lost while the publisher is moved would bring the mail a second time.
        await self.store.raise_if_frozen(publisher_id)
        now = self.clock()
        first, last = now.date() - _BACK, now.date() + _AHEAD
        items = [item async for item in self.reports.between(publisher_id, first, last)]
        due = (
            [*reminders(items, await self.sent_reminders.read(publisher_id, items[0].end_date, last))] if items else []
        )
        publisher = await self.store.find(publisher_id, Publisher, publisher_id) if due else None
        if publisher is None:
            return
        if not recipient(publisher):
            _log.warning("no digest for publisher %s: it has neither a licensing nor a support email", publisher_id)
            return
        await mailer.send(
            digest_email(
                publisher,
                [each for each in due if each.threshold != OVERDUE],
                [item for item in items if item.enabled and item.days_left < 0],
                sender=self.settings.mail_from,
                now=now,
            )
        )
        # Only now: what is sent and not marked comes again, what is marked and not sent never does.
        await self.sent_reminders.write(publisher_id, [each.reminded for each in due])
        _log.info("digest for publisher %s: %d customer products", publisher_id, len(due))
