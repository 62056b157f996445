"""What anybody may read of a publisher: its notices as they are, or as they were when they could last be read."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Product, Publisher
from licensing.errors import PublisherNotFound, StorageUnavailable
from licensing.notices.model import Notice
from licensing.notices.public.feeds import Published, worth_showing
from licensing.settings import Settings

_WAIT_SECONDS = 3.0
"""Whoever looks at a status page in an outage should not look at an empty one."""
_KEPT = 400


@dataclass(frozen=True, slots=True)
class Revision:
    """A document as it is: what names it, and since when it is so, as far as this instance has seen."""

    etag: str
    since: datetime


@dataclass(kw_only=True)
class PublicView:
    """The use cases. Belongs to one event loop."""

    publisher_cache: PublisherCache
    settings: Settings
    clock: Callable[[], datetime]
    _last: OrderedDict[str, Published] = field(default_factory=OrderedDict)
    _revisions: OrderedDict[str, Revision] = field(default_factory=OrderedDict)

    async def read(self, publisher_id: str) -> Published:
        """All that was committed before now. Raises PublisherNotFound and StorageUnavailable."""
        try:
            UUID(publisher_id)  # nobody else is asked for at the expense of storage
        except ValueError:
            raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.") from None
        try:
            async with asyncio.timeout(max(_WAIT_SECONDS, self.settings.storage_timeout_seconds)):
                publishers, products, notices = await self.publisher_cache.several(
                    publisher_id, Publisher, Product, Notice
                )
        except TimeoutError:
            raise StorageUnavailable(
                "The notices cannot be read right now. Try again in a moment.", retry_after_seconds=30
            ) from None
        now = self.clock()
        (publisher,) = publishers.values()
        return _kept(
            self._last,
            publisher_id,
            Published(
                publisher=publisher,
                products=products,
                notices=worth_showing(notices.values(), now),
                now=now,
                read_at=now,
                public_url=self.settings.public_url,
                support_email=publisher.support_email or self.settings.support_email,
            ),
        )

    def last_read(self, publisher_id: str) -> Published | None:
        """What this instance knows of the publisher without storage; None where that is nothing."""
        known = self._last.get(publisher_id)
        return known and replace(known, now=self.clock())

    def revision(self, address: str, body: bytes) -> Revision:
        """Return the revision of the document at this address that the body is.

        When it became so no record tells: some are deleted, and time changes what is overdue. So it counts from when
        this instance first saw it, which is never before it did become so.
        """
        etag = hashlib.sha256(body).hexdigest()[:32]
        before = self._revisions.get(address)
        since = self.clock().replace(microsecond=0)
        if before is not None and before.etag == etag:
            since = before.since
        elif before is not None:  # two revisions within one second must differ
            since = max(since, before.since + timedelta(seconds=1))
        return _kept(self._revisions, address, Revision(etag, since))


def _kept[T](kept: OrderedDict[str, T], name: str, value: T) -> T:
    """The value, kept by that name: in the place of what was not asked for longest, where there is too much."""
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > _KEPT:
        kept.popitem(last=False)
    return value
