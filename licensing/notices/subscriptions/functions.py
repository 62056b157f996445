"""Endpoints of subscriptions: for subscribers, by a program or a form, and for support, which manages subscribers."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from licensing.catalogue.crud import PUBLISHER
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Publisher
from licensing.errors import (
    MalformedRequest,
    NotFound,
    PreconditionFailed,
    RuleBroken,
    UnsupportedMediaType,
)
from licensing.fields import parse, text, value
from licensing.http.csv_response import CSV, JSON, csv_response, wants_csv
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, SEARCH, Page
from licensing.http.permissions import ANONYMOUS, Privilege, View, requires
from licensing.http.request import Request
from licensing.http.response import Response, json_response
from licensing.identifiers import fold
from licensing.notices.model import ChannelKind, Subscriber, SubscriberState
from licensing.notices.rendering import page
from licensing.notices.subscriptions.service import CONFIRM_WITHIN, ExpiredLink, PendingConfirmation, Subscriptions
from licensing.notices.subscriptions.store import SubscriberStore

endpoints = Endpoints()

_SUBSCRIPTIONS = f"{PUBLISHER}/subscriptions"
_SUBSCRIBERS = f"{PUBLISHER}/subscribers"
_GONE = 410
_ACCEPTED = 202
_FORM = "application/x-www-form-urlencoded"


# Whoever subscribes.


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRequest:
    """Who wants to be told of what."""

    email: str = text("Email", most=254, mandatory=True)
    products: tuple[str, ...] = value("Products", default=(), hint="By id or name; none means all.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The response to every subscription request."""

    message: str = text("Message", settable=False)


_LOOK = "Look into your mail, and open the link in it: it says what to do, within 48 hours."


@endpoints.route("POST", _SUBSCRIPTIONS, ANONYMOUS)
async def request_subscription(request: Request) -> Response:
    """Send a mail that asks to confirm. The answer is the same whether or not the address is known, and was mailed."""
    requested = SubscriptionRequest(**parse(SubscriptionRequest, request.json()))
    await request.services.get(Subscriptions).request(request.publisher_id, requested.email, requested.products)
    return json_response(Accepted(message=_LOOK), _ACCEPTED)


@endpoints.route("POST", "status/{publisherId}/subscriptions", ANONYMOUS)
async def request_subscription_by_form(request: Request) -> Response:
    """The same for a browser without scripts: a form in, a page out."""
    publisher = await _publisher(request)
    form = _form(request)
    email = next(iter(form.get("email", [])), "")
    try:
        await request.services.get(Subscriptions).request(publisher.id, email, form.get("product", []))
    except RuleBroken as error:
        sentences = [error.detail, "Go back, and try again."]
        return _page(request, publisher, "This could not be read", sentences, status=error.status)
    return _page(request, publisher, "Look into your mail", [_LOOK], status=_ACCEPTED)


@endpoints.route("GET", f"{_SUBSCRIPTIONS}/{{token}}", ANONYMOUS)
async def get_confirmation(request: Request) -> Response:
    """A page with a button. To open it changes nothing, since programs that look for malice open it too."""
    try:
        choice = await request.services.get(Subscriptions).pending(request.publisher_id, request.route_params["token"])
    except ExpiredLink:
        return await _dead_link(request)
    sentences = [f"Notices of {choice.publisher.name} would come to your address, about {_products(choice)}."]
    return _page(request, choice.publisher, "Confirm your subscription", sentences, button="Confirm")


@endpoints.route("POST", f"{_SUBSCRIPTIONS}/{{token}}", ANONYMOUS)
async def confirm_subscription(request: Request) -> Response:
    """What the button does. A second time it does the same."""
    try:
        choice = await request.services.get(Subscriptions).confirm(request.publisher_id, request.route_params["token"])
    except ExpiredLink:
        return await _dead_link(request)
    sentences = [
        f"From now on notices of {choice.publisher.name} come to your address, about {_products(choice)}.",
        "Each of them has a link that ends this.",
    ]
    return _page(request, choice.publisher, "You are subscribed", sentences)


@endpoints.route("GET", f"{_SUBSCRIPTIONS}/{{token}}/unsubscribe", ANONYMOUS)
async def get_unsubscription(request: Request) -> Response:
    """A page with a button. It is the same for any token."""
    publisher = await _publisher(request)
    sentences = [f"No notices of {publisher.name} will come to your address any more, and it will be forgotten."]
    return _page(request, publisher, "End your subscription", sentences, button="Unsubscribe")


@endpoints.route("POST", f"{_SUBSCRIPTIONS}/{{token}}/unsubscribe", ANONYMOUS)
async def unsubscribe(request: Request) -> Response:
    """Unsubscribe in one click (RFC 8058), whatever the body says. It is the same for any token, and a second time."""
    publisher = await _publisher(request)
    await request.services.get(Subscriptions).unsubscribe(publisher.id, request.route_params["token"])
    return _page(
        request, publisher, "You are unsubscribed", [f"No notices of {publisher.name} come to your address any more."]
    )


async def _publisher(request: Request) -> Publisher:
    found = await request.services.get(PublisherCache).get(request.publisher_id, Publisher)
    return found[request.publisher_id]


def _form(request: Request) -> dict[str, list[str]]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        raise UnsupportedMediaType(f"Send the form as Content-Type: {_FORM}.")
    try:
        return parse_qs(request.body.decode(), errors="strict", max_num_fields=1000)
    except ValueError:
        raise MalformedRequest("The form cannot be read.") from None


def _products(choice: PendingConfirmation) -> str:
    return ", ".join(choice.products) or "all products"


async def _dead_link(request: Request) -> Response:
    hours = CONFIRM_WITHIN.total_seconds() / 3600
    sentences = [f"It is older than {hours:g} hours, or was not copied whole. Subscribe again to get a new one."]
    return _page(request, await _publisher(request), "This link counts no more", sentences, status=_GONE)


def _page(  # noqa: PLR0913 - all that a page says
    request: Request, publisher: Publisher, title: str, sentences: Sequence[str], *, button: str = "", status: int = 200
) -> Response:
    return page(
        "question.html" if button else "message.html",
        status=status,
        title=title,
        name=publisher.name,
        support_email=publisher.support_email or request.services.settings.support_email,
        sentences=sentences,
        button=button,
    )


# Support.


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSubscriber:
    """Who is told of notices, as far as it is shown."""

    id: str = text("ID", settable=False, hint="Follows from the address.")
    channel: ChannelKind = value("Channel", settable=False)
    address: str = text("Address", settable=False, hint="Of a webhook its host alone: its whole address is a secret.")
    product_ids: tuple[str, ...] = value("Products", settable=False, hint="Those to be told of; none means all.")
    state: SubscriberState = value("State", settable=False)
    bounces: int = value("Bounces", settable=False, hint="How often the address refused our mail for good, in a row.")
    created_at: datetime = value("Created at", settable=False)
    updated_at: datetime = value("Updated at", settable=False)
    etag: str = text("ETag", settable=False, hint="Names this state of the subscriber: for If-Match.")

    @classmethod
    def of(cls, subscriber: Subscriber, **more: str) -> Self:
        return cls(
            id=str(UUID(subscriber.id)),
            channel=subscriber.channel,
            address=_shown(subscriber),
            product_ids=subscriber.product_ids,
            state=subscriber.state,
            bounces=subscriber.bounces,
            created_at=subscriber.created_at,
            updated_at=subscriber.updated_at,
            # That of the table service moves with each request for the address, which changes nothing.
            etag=hashlib.sha256(repr(replace(subscriber, etag="")).encode()).hexdigest()[:16],
            **more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedSubscriber(ListedSubscriber):
    """A subscriber who has just been added."""

    secret: str = text("Secret", settable=False, hint="With it a webhook verifies what comes. It is never shown again.")


def _shown(subscriber: Subscriber) -> str:
    if subscriber.channel is ChannelKind.EMAIL:
        return subscriber.address
    return f"{urlsplit(subscriber.address).hostname}/\u2026"


@endpoints.route(
    "GET",
    _SUBSCRIBERS,
    requires(View.NOTICES, Privilege.READ),
    OperationSpec(
        summary="List subscribers",
        response_model=ListedSubscriber,
        is_list=True,
        query=(SEARCH, LIMIT, CURSOR),
        produces=(JSON, CSV),
    ),
)
async def list_subscribers(request: Request) -> Response:
    """Who is told of notices, in no order that means anything: a page of them as JSON, or all as CSV."""
    page = Page.from_request(request, SEARCH)
    search = fold(request.parameter(SEARCH) or "")

    async def found(after: str = "") -> AsyncIterator[ListedSubscriber]:
        async for each in request.services.get(SubscriberStore).subscribers(request.publisher_id, after=after):
            listed = ListedSubscriber.of(each)
            if search in fold(listed.address):  # in what is shown: nobody guesses a secret letter by letter
                yield listed

    if wants_csv(request):
        items = [each async for each in found()]
        return csv_response(ListedSubscriber, items, f"subscribers-{request.services.clock():%Y-%m-%d}")
    after = page.after[0].replace("-", "") if page.after else ""
    return await page.paginate_stream(found(after), lambda each: [each.id])


@endpoints.route(
    "POST",
    _SUBSCRIBERS,
    requires(View.NOTICES, Privilege.CREATE),
    OperationSpec(
        summary="Create a subscriber",
        response_model=AddedSubscriber,
        request_model=Subscriber,
        status=201,
        error_statuses=(409, 422),
    ),
)
async def create_subscriber(request: Request) -> Response:
    """Add a subscriber who counts at once, without being asked; one who was paused counts again."""
    given, now = parse(Subscriber, request.json()), request.services.clock()
    asked = Subscriber(id="", created_at=now, updated_at=now, **given)
    added = await request.services.get(Subscriptions).add(request.publisher_id, asked)
    shown = AddedSubscriber.of(added, secret=added.secret)
    location = f"{request.services.settings.public_url}{request.path.rstrip('/')}/{shown.id}"
    return json_response(shown, 201, Location=location)


@endpoints.route(
    "GET",
    f"{_SUBSCRIBERS}/{{subscriberId}}",
    requires(View.NOTICES, Privilege.READ),
    OperationSpec(summary="Get a subscriber", response_model=ListedSubscriber, error_statuses=(404,)),
)
async def get_subscriber(request: Request) -> Response:
    return json_response(ListedSubscriber.of(await _subscriber(request)))


@endpoints.route(
    "DELETE",
    f"{_SUBSCRIBERS}/{{subscriberId}}",
    requires(View.NOTICES, Privilege.DELETE),
    OperationSpec(summary="Delete a subscriber", status=204, error_statuses=(404, 412)),
)
async def delete_subscriber(request: Request) -> Response:
    """Forget the subscriber: nothing is sent there any more."""
    found = await _subscriber(request)
    if request.if_match not in (None, "*", ListedSubscriber.of(found).etag):
        raise PreconditionFailed("The subscriber has changed since you read it. Read it again, then delete it.")
    await request.services.get(Subscriptions).remove(request.publisher_id, found.id)
    return Response(b"", JSON, 204)


async def _subscriber(request: Request) -> Subscriber:
    subscriber_id = request.route_params["subscriberId"].lower().replace("-", "")
    found = await request.services.get(SubscriberStore).find_subscriber(request.publisher_id, subscriber_id)
    if found is None:
        raise NotFound("There is no such subscriber; it may have unsubscribed.")
    return found
