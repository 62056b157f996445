"""The maintenances of a publisher as a calendar (RFC 5545, RFC 5546). Pure."""

from datetime import timedelta

from icalendar import Calendar, Component, Event, Timezone, vCalAddress

from licensing.notices.message_text import headline, one_line, plain, status_word
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus
from licensing.notices.public.feeds import Published


def calendar_of(published: Published) -> bytes:
    """The maintenances as a calendar to subscribe to, an event each."""
    calendar = Calendar()
    calendar.add("prodid", "-//License Manager//Notices//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    name = one_line(f"{published.publisher.name}: maintenance")
    for property_ in ("name", "x-wr-calname"):  # RFC 7986, and what was there before it
        calendar.add(property_, name)
    calendar.add("refresh-interval", timedelta(hours=1), parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT1H")
    maintenances = [each for each in published.notices if each.notice_kind is NoticeKind.MAINTENANCE]
    for notice in maintenances:
        calendar.add_component(_event(published, notice))
    if not maintenances:
        calendar.add_component(Timezone.from_tzid("UTC"))  # a calendar of nothing is none, and Outlook refuses it
    document: bytes = calendar.to_ical()
    return document


def _event(published: Published, notice: Notice) -> Component:
    event = Event()
    event.add("uid", f"{notice.id}@{published.publisher.id}")
    # The number of the version that wrote the notice: every change of it has a greater one.
    event.add("sequence", int(notice.etag or 0))
    event.add("status", "CANCELLED" if notice.status is NoticeStatus.CANCELLED else "CONFIRMED")
    event.add("dtstamp", notice.updated_at)
    event.add("created", notice.created_at)
    event.add("last-modified", notice.updated_at)
    event.add("dtstart", notice.starts_at)
    event.add("dtend", notice.ends_at)
    event.add("summary", headline(notice, None))
    event.add("description", _description(published, notice))
    event.add("url", published.url_of(notice))
    event.add("transp", "TRANSPARENT")  # nobody is busy
    if published.support_email:
        organizer = vCalAddress(f"mailto:{published.support_email}")
        organizer.params["CN"] = one_line(published.publisher.name)
        event.add("organizer", organizer)
    return event


def _description(published: Published, notice: Notice) -> str:
    about = ", ".join(published.product_names(notice)) or "all products"
    impact = "" if notice.impact is Impact.NONE else f"\nImpact: {notice.impact}"
    said = [f"{status_word(each.status)}: {plain(notice, each)}" for each in reversed(notice.updates)]
    return "\n\n".join([f"About: {about}{impact}", *said, plain(notice, None)])
