"""Endpoints of support for messages that could not be delivered."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from licensing.catalogue.crud import PUBLISHER
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.errors import (
    Conflict,
    LicensingError,
    NotFound,
)
from licensing.fields import text, value
from licensing.http.csv_response import JSON
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, Page
from licensing.http.permissions import Privilege, View, requires
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.notices.delivery.store import Delivery, DeliveryStore
from licensing.notices.model import Notice, is_obsolete
from licensing.notices.subscriptions.store import SubscriberStore
from licensing.storage.errors import ConcurrencyConflict

endpoints = Endpoints()

_UNDELIVERED = f"{PUBLISHER}/undelivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """A message that was given up."""

    delivery_id: str = text("Delivery", settable=False, hint="The same in each attempt.")
    notice_id: str = text("Notice", settable=False)
    announcement: str = text("Announcement", settable=False, hint="Which of the notice's announcements it was.")
    subscriber_id: str = text("Subscriber", settable=False)
    attempts: int = value("Attempts", settable=False)
    reason: str = text("Reason", settable=False, hint="A code that says why the last attempt failed.")
    at: datetime = value("At", settable=False, hint="When it was given up.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls(
            delivery_id=delivery.id,
            notice_id=delivery.notice_id,
            announcement=delivery.announcement,
            subscriber_id=str(UUID(delivery.subscriber_id)),
            attempts=delivery.attempts,
            reason=delivery.reason,
            at=delivery.next_at,
        )


@endpoints.route(
    "GET",
    _UNDELIVERED,
    requires(View.NOTICES, Privilege.READ),
    OperationSpec(summary="List undelivered messages", response_model=Undelivered, is_list=True, query=(LIMIT, CURSOR)),
)
async def list_undelivered(request: Request) -> Response:
    """The messages about notices that were given up."""
    page = Page.from_request(request)
    after = page.after[0] if page.after else ""
    dead = request.services.get(DeliveryStore).dead(request.publisher_id, after=after, limit=page.limit + 1)
    return await page.paginate_stream((Undelivered.of(each) async for each in dead), lambda each: [each.delivery_id])


@endpoints.route(
    "POST",
    f"{_UNDELIVERED}/{{deliveryId}}/replay",
    requires(View.NOTICES, Privilege.UPDATE),
    OperationSpec(summary="Replay an undelivered message", status=204, error_statuses=(404, 409)),
)
async def replay_undelivered(request: Request) -> Response:
    """Send the message again, as if it had not been tried yet: with the next run of the timer."""
    services, publisher_id = request.services, request.publisher_id
    found = await services.get(DeliveryStore).find_dead(publisher_id, request.route_params["deliveryId"])
    if found is None:
        raise _not_undelivered()
    now = services.clock()
    notices = await services.get(PublisherCache).get(publisher_id, Notice)
    if is_obsolete(notices.get(found.notice_id), found.announcement, now):
        raise Conflict("There is nothing to tell any more: the notice is over, or says something newer.")
    subscriber = await services.get(SubscriberStore).find_subscriber(publisher_id, found.subscriber_id)
    if subscriber is None or not subscriber.is_active:
        raise Conflict("The subscriber gets nothing now: add the address again first.")
    try:
        await services.get(DeliveryStore).replay(publisher_id, found, now)
    except ConcurrencyConflict:
        raise _not_undelivered() from None
    return Response(b"", JSON, 204)


def _not_undelivered() -> LicensingError:
    return NotFound("No such message is undelivered; it may have been replayed already.")
