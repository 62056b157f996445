"""What programs read of notices, by the rules of the formats, with ordinary and with hostile texts."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import icalendar
import pytest

from licensing.notices.feeds import GONE, Published, atom_of, json_of, worth_showing
from licensing.notices.ical import calendar_of
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus, Update
from tests.notices.gallery import PUBLISHER_ID, Gallery, a_publisher, hostile, ordinary, the_products
from tests.notices.messages import HOSTILE

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ATOM = "{http://www.w3.org/2005/Atom}"
DAY = timedelta(days=1)
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def publish(notices: list[Notice]) -> Published:
    return Published(
        publisher=a_publisher(NOW),
        products={product.id: product for product in the_products(NOW)},
        notices=worth_showing(notices, NOW),
        now=NOW,
        read_at=NOW,
        public_url="https://licenses.example.com",
        support_email="support@example.com",
    )


GALLERIES = pytest.mark.parametrize("gallery", [ordinary, hostile, lambda _: []], ids=["ordinary", "hostile", "none"])
type MakeGallery = Callable[[datetime], list[Notice]]


@GALLERIES
@pytest.mark.parametrize("write", [json_of, atom_of, calendar_of])
def test_nobody_learns_who_wrote_a_notice(gallery: MakeGallery, write: Callable[[Published], bytes]) -> None:
    assert b"secret-author" not in write(publish(gallery(NOW)))


# Which notices.


def test_open_ones_are_shown_however_old_and_others_for_90_days_after_their_end() -> None:
    gallery = Gallery(NOW)
    gallery.add(NoticeKind.INCIDENT, NoticeStatus.MONITORING, "old and open", 400 * DAY)
    gallery.add(NoticeKind.INCIDENT, NoticeStatus.RESOLVED, "over for long", 91 * DAY)
    gallery.add(NoticeKind.INCIDENT, NoticeStatus.RESOLVED, "over", 89 * DAY)
    assert [notice.title for notice in worth_showing(gallery.made, NOW)] == ["over", "old and open"]


# JSON.


def test_json_tells_what_is_documented_newest_first() -> None:
    value = json.loads(json_of(publish(ordinary(NOW))))["value"]
    assert [item["createdAt"] for item in value] == sorted((item["createdAt"] for item in value), reverse=True)
    (slow,) = (item for item in value if item["title"] == "Validations are slow in Europe")
    assert list(slow) == [
        *("id", "title", "kind", "status", "impact", "startsAt", "endsAt", "overdue", "products", "body", "updates"),
        *("url", "createdAt", "updatedAt"),
    ]
    assert slow["products"] == ["ForexRates", "SmartSend"]
    assert [set(update) for update in slow["updates"]] == [{"at", "status", "body"}] * 2
    assert slow["url"] == f"https://licenses.example.com/status/{PUBLISHER_ID}#{slow['id']}"
    assert {item["title"]: item["overdue"] for item in value}["Signing keys are renewed"] is True


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_json_holds_can_be_seen_and_turns_nothing_round(text: str) -> None:
    gallery = Gallery(NOW)
    said = Update(at=NOW, author="ada", status=NoticeStatus.IDENTIFIED, body=text)
    gallery.add(NoticeKind.INCIDENT, NoticeStatus.IDENTIFIED, text, DAY, body=text, updates=(said,))
    (item,) = json.loads(json_of(publish(gallery.made)))["value"]
    assert item["title"].startswith("legible")
    for shown in (item["title"], item["body"].replace("\n", " "), item["updates"][0]["body"].replace("\n", " ")):
        assert shown.isprintable() or "\u200d" in shown  # which joins emoji
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)


def test_a_notice_of_products_that_are_gone_is_not_one_of_all_products() -> None:
    (notice,) = publish([replace(ordinary(NOW)[0], product_ids=("gone", "gone too"))]).notices
    assert publish([]).product_names(notice) == [GONE]


# Atom.


class Markup(HTMLParser):
    """What there is in a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name == "href"}


@GALLERIES
def test_atom_keeps_to_its_rules(gallery: MakeGallery) -> None:
    published = publish(gallery(NOW))
    feed = ET.fromstring(atom_of(published))
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == len(published.notices)
    for each in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert len(each.findall(f"{ATOM}{name}")) == 1
        assert INSTANT.fullmatch(each.findtext(f"{ATOM}updated", ""))
    # RFC 4287, sections 4.1.1 and 4.1.2: an author, and a link each to itself and to what it is about.
    assert feed.findtext(f"{ATOM}author/{ATOM}name") == "Contoso Apps"
    assert {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")} == {
        "self": f"https://licenses.example.com/api/v1/publishers/{PUBLISHER_ID}/notices.atom",
        "alternate": f"https://licenses.example.com/status/{PUBLISHER_ID}",
    }
    ids = [each.findtext(f"{ATOM}id", "") for each in (feed, *entries)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"urn:[a-z0-9-]+:[A-Za-z0-9:-]+", id_) for id_ in ids)


@GALLERIES
def test_the_html_in_an_atom_entry_is_harmless(gallery: MakeGallery) -> None:
    for entry in ET.fromstring(atom_of(publish(gallery(NOW)))).findall(f"{ATOM}entry"):
        (content,) = entry.findall(f"{ATOM}content")
        assert content.get("type") == "html"
        found = Markup(content.text or "")
        assert found.tags <= {"p", "br", "strong", "em", "code", "ul", "ol", "li", "a", "h2", "pre"}
        assert {urlsplit(link).scheme for link in found.links} <= {"https", "mailto"}
        assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "style")}


def test_a_change_moves_an_entry_and_keeps_its_id() -> None:
    before = ordinary(NOW)[0]
    after = replace(before, title="Another title", updated_at=NOW)
    one, other = (ET.fromstring(atom_of(publish([each]))).find(f"{ATOM}entry") for each in (before, after))
    assert one is not None
    assert other is not None
    assert one.findtext(f"{ATOM}id") == other.findtext(f"{ATOM}id")
    assert one.findtext(f"{ATOM}updated", "") < other.findtext(f"{ATOM}updated", "")


def test_what_xml_cannot_hold_does_not_break_the_feed() -> None:
    broken = replace(ordinary(NOW)[0], title="a\x00b\x0bc\ufffed\ud800e\u202ef", body="\x01\uffff\ud800")
    feed = ET.fromstring(atom_of(publish([broken])))
    title = feed.findtext(f"{ATOM}entry/{ATOM}title", "")
    assert {"\x00", "\ufffe", "\u202e"}.isdisjoint(title)


# iCalendar.


def events_of(raw: bytes) -> list[Any]:
    return list(icalendar.Calendar.from_ical(raw).walk("VEVENT"))


@GALLERIES
def test_a_calendar_keeps_to_the_rules_of_its_lines(gallery: MakeGallery) -> None:
    raw = calendar_of(publish(gallery(NOW)))
    assert raw.endswith(b"END:VCALENDAR\r\n")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    for line in raw.split(b"\r\n"):
        assert len(line) <= 75
        line.decode()  # no character is cut in two
    unfolded = raw.replace(b"\r\n ", b"").decode().split("\r\n")[:-1]
    assert all(re.match(r"[A-Z-]+(;[A-Z-]+=[^:;]+)*:", line) for line in unfolded)
    assert unfolded[0] == "BEGIN:VCALENDAR"
    for once in ("VERSION:2.0", "METHOD:PUBLISH", "PRODID:-//License Manager//Notices//EN"):
        assert unfolded.count(once) == 1


@GALLERIES
def test_a_calendar_has_an_event_a_maintenance_and_none_that_a_text_made(gallery: MakeGallery) -> None:
    published = publish(gallery(NOW))
    maintenances = [each for each in published.notices if each.notice_kind is NoticeKind.MAINTENANCE]
    raw = calendar_of(published)
    unfolded = raw.replace(b"\r\n ", b"").split(b"\r\n")
    assert unfolded.count(b"BEGIN:VEVENT") == unfolded.count(b"END:VEVENT") == len(maintenances)
    for event, notice in zip(events_of(raw), maintenances, strict=True):
        # RFC 5545, section 3.6.1, and RFC 5546, section 3.2.1: what an event that is published has.
        for name in ("UID", "DTSTAMP", "DTSTART", "DTEND", "SUMMARY", "SEQUENCE", "ORGANIZER", "URL", "STATUS"):
            assert not isinstance(event[name], list), name
        assert (event["DTSTART"].dt, event["DTEND"].dt) == (notice.starts_at, notice.ends_at)
        assert event["DTSTART"].to_ical().endswith(b"Z")
        assert str(event["URL"]) == published.url_of(notice)
        assert str(event["DESCRIPTION"]).endswith(notice.body.splitlines()[-1])


def test_a_calendar_of_nothing_is_a_calendar_still() -> None:
    """One without any component is none by RFC 5545, section 3.6, and Outlook refuses it."""
    assert icalendar.Calendar.from_ical(calendar_of(publish([]))).subcomponents


def test_a_maintenance_that_changes_keeps_its_uid_and_a_cancelled_one_says_so() -> None:
    scheduled = ordinary(NOW)[2]
    cancelled = replace(scheduled, status=NoticeStatus.CANCELLED, etag="9000", updated_at=NOW)
    ((before,), (after,)) = (events_of(calendar_of(publish([each]))) for each in (scheduled, cancelled))
    assert before["UID"] == after["UID"]
    assert before["SEQUENCE"] < after["SEQUENCE"]
    assert (before["STATUS"], after["STATUS"]) == ("CONFIRMED", "CANCELLED")
    assert before["DTSTAMP"].dt < after["DTSTAMP"].dt
    assert str(after["SUMMARY"]).startswith("Cancelled: ")


def test_the_impact_stands_in_the_calendar() -> None:
    (event,) = events_of(calendar_of(publish([replace(ordinary(NOW)[2], impact=Impact.MAJOR)])))
    assert "Impact: major" in str(event["DESCRIPTION"])
