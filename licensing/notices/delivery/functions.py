"""Endpoints of support for messages that could not be delivered."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from licensing.catalogue.crud import PUBLISHER
from licensing.fields import text, value
from licensing.http.csv_response import JSON
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, Page
from licensing.http.permissions import Privilege, View, requires
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.notices.delivery.outbox import Outbox
from licensing.notices.delivery.store import Delivery, DeliveryStore

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
    await request.services.get(Outbox).replay(request.publisher_id, request.route_params["deliveryId"])
    return Response(b"", JSON, 204)
