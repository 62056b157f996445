"""Public endpoints of notices: feeds for programs, and the status page for people."""

import asyncio
import re
from collections.abc import Mapping
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from http import HTTPStatus

from licensing.catalogue.crud import PUBLISHER
from licensing.errors import PublisherNotFound, StorageUnavailable
from licensing.health import Health, Status
from licensing.http.endpoints import Endpoints
from licensing.http.permissions import ANONYMOUS
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.notices.message_text import html_of, instant_text, one_line, status_word, title_of
from licensing.notices.model import is_overdue
from licensing.notices.public.feeds import Published, atom_of, json_of
from licensing.notices.public.status_page import StatusPage, parts, severity_of, summary_of
from licensing.notices.public.view import PublicView, Revision
from licensing.notices.rendering import page

endpoints = Endpoints()

_ETAGS = re.compile(r'"([^"]*)"')
_LATER = {"Retry-After": "60"}
_UNREADABLE = (
    "The records cannot be read right now, so this page cannot tell what is under way.",
    "Products that were validated within the last few days keep working. Look again in a minute.",
)
_UNKNOWN = "No publisher of this address is known here. Check the link that brought you here."


# Azure tries routes in the order of their functions' names: this one comes before those of one notice.
@endpoints.route("GET", f"{PUBLISHER}/notices/public", ANONYMOUS)
async def browse_notices(request: Request) -> Response:
    """The notices as JSON."""
    published = await request.services.get(PublicView).read(request.publisher_id)
    return _published(request, Response(json_of(published), "application/json"))


@endpoints.route("GET", f"{PUBLISHER}/notices.atom", ANONYMOUS)
async def browse_notices_as_atom(request: Request) -> Response:
    """The notices as an Atom feed."""
    published = await request.services.get(PublicView).read(request.publisher_id)
    return _published(request, Response(atom_of(published), "application/atom+xml; charset=utf-8"))


@endpoints.route("GET", f"{PUBLISHER}/notices.ics", ANONYMOUS)
async def browse_notices_as_calendar(request: Request) -> Response:
    """The maintenances as a calendar."""
    from licensing.notices.public.ical import calendar_of  # noqa: PLC0415 - its library takes long, and few ask

    published = await request.services.get(PublicView).read(request.publisher_id)
    return _published(request, Response(calendar_of(published), "text/calendar; charset=utf-8; method=PUBLISH"))


@endpoints.route("GET", "status/{publisherId}", ANONYMOUS)
async def show_status(request: Request) -> Response:
    """The status page. It answers also where storage does not, with what this instance has kept."""
    services = request.services
    public = services.get(PublicView)
    try:
        published, checks = await asyncio.gather(_read(public, request.publisher_id), services.get(Health).checks())
    except PublisherNotFound:
        title = "There is nothing here"
        return page("message.html", status=404, title=title, name="", support_email="", sentences=[_UNKNOWN])
    if published is not None:
        return _published(request, _status_page(published, checks, readable=True))
    kept = public.last_read(request.publisher_id)
    if kept is not None:
        return _status_page(kept, checks, readable=False)
    how = summary_of((), checks, services.clock(), readable=False)
    return page(
        "message.html",
        status=503,
        headers=_LATER,
        title=how.sentence,
        name="",
        support_email=services.settings.support_email,
        sentences=_UNREADABLE,
    )


async def _read(public: PublicView, publisher_id: str) -> Published | None:
    """What is true now; None where storage does not answer."""
    try:
        return await public.read(publisher_id)
    except StorageUnavailable:
        return None


def _status_page(published: Published, checks: Mapping[str, Status], *, readable: bool) -> Response:
    publisher, now = published.publisher, published.now
    products = [product for product in published.products.values() if product.active]
    return page(
        "status.html",
        status=200 if readable else 503,
        headers={} if readable else _LATER,
        title=f"{one_line(publisher.name)}: status",
        name=one_line(publisher.name),
        support_email=published.support_email,
        published=published,
        products=sorted(products, key=lambda product: product.name.casefold()),
        status_page=StatusPage.of(published),
        parts=parts(checks),
        summary=summary_of(published.notices, checks, now, readable=readable),
        readable=readable,
        zone=publisher.time_zone,
        time=partial(instant_text, time_zone=publisher.time_zone),
        html=html_of,
        line=one_line,
        title_of=title_of,
        severity=partial(severity_of, now=now),
        is_overdue=partial(is_overdue, now=now),
        status_word=status_word,
    )


def _published(request: Request, answer: Response) -> Response:
    """The answer, for caches; without its body where whoever asks has it already (RFC 9110, section 13)."""
    revision = request.services.get(PublicView).revision(request.path.lower(), answer.body)
    headers = {
        **answer.headers,
        "Cache-Control": "public, max-age=60",
        "ETag": f'"{revision.etag}"',
        "Last-Modified": format_datetime(revision.since, usegmt=True),
    }
    if _is_known(request, revision):
        return Response(b"", answer.content_type, HTTPStatus.NOT_MODIFIED, headers)
    return Response(answer.body, answer.content_type, answer.status, headers)


def _is_known(request: Request, revision: Revision) -> bool:
    if given := request.headers.get("if-none-match", "").strip():
        return given == "*" or revision.etag in _ETAGS.findall(given)
    try:
        known_at = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except (ValueError, OverflowError):
        return False
    return known_at.tzinfo is not None and revision.since <= known_at
