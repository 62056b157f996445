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

from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus, Update
from licensing.notices.public.feeds import GONE, Published, atom_of, json_of, worth_showing
from licensing.notices.public.ical import calendar_of
from tests.notices.messages import HOSTILE
from tests.notices.samples import PUBLISHER_ID, NoticeSamples, a_publisher, hostile, ordinary, the_products

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


SAMPLES = pytest.mark.parametrize("samples", [ordinary, hostile, lambda _: []], ids=["ordinary", "hostile", "none"])
type MakeSamples = Callable[[datetime], list[Notice]]


@SAMPLES
@pytest.mark.parametrize("write", [json_of, atom_of, calendar_of])
def test_public_feeds_do_not_contain_the_author(samples: MakeSamples, write: Callable[[Published], bytes]) -> None:
    assert b"secret-author" not in write(publish(samples(NOW)))


# Which notices.


def test_worth_showing_includes_open_notices_and_those_closed_within_90_days() -> None:
    samples = NoticeSamples(NOW)
    samples.add(NoticeKind.INCIDENT, NoticeStatus.MONITORING, "old and open", 400 * DAY)
    samples.add(NoticeKind.INCIDENT, NoticeStatus.RESOLVED, "over for long", 91 * DAY)
    samples.add(NoticeKind.INCIDENT, NoticeStatus.RESOLVED, "over", 89 * DAY)
    assert [notice.title for notice in worth_showing(samples.made, NOW)] == ["over", "old and open"]


# JSON.


def test_json_feed_has_documented_fields_newest_first() -> None:
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
def test_json_feed_with_hostile_text_contains_no_control_or_bidi_characters(text: str) -> None:
    samples = NoticeSamples(NOW)
    said = Update(at=NOW, author="ada", status=NoticeStatus.IDENTIFIED, body=text)
    samples.add(NoticeKind.INCIDENT, NoticeStatus.IDENTIFIED, text, DAY, body=text, updates=(said,))
    (item,) = json.loads(json_of(publish(samples.made)))["value"]
    assert item["title"].startswith("legible")
    for shown in (item["title"], item["body"].replace("\n", " "), item["updates"][0]["body"].replace("\n", " ")):
        assert shown.isprintable() or "\u200d" in shown  # which joins emoji
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)


def test_product_names_of_deleted_products_returns_placeholder() -> None:
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


@SAMPLES
def test_atom_feed_conforms_to_rfc_4287(samples: MakeSamples) -> None:
    published = publish(samples(NOW))
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


@SAMPLES
def test_atom_entry_html_contains_only_allowed_tags_and_links(samples: MakeSamples) -> None:
    for entry in ET.fromstring(atom_of(publish(samples(NOW)))).findall(f"{ATOM}entry"):
        (content,) = entry.findall(f"{ATOM}content")
        assert content.get("type") == "html"
        found = Markup(content.text or "")
        assert found.tags <= {"p", "br", "strong", "em", "code", "ul", "ol", "li", "a", "h2", "pre"}
        assert {urlsplit(link).scheme for link in found.links} <= {"https", "mailto"}
        assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "style")}


def test_atom_entry_of_changed_notice_keeps_id_and_advances_updated() -> None:
    before = ordinary(NOW)[0]
    after = replace(before, title="Another title", updated_at=NOW)
    one, other = (ET.fromstring(atom_of(publish([each]))).find(f"{ATOM}entry") for each in (before, after))
    assert one is not None
    assert other is not None
    assert one.findtext(f"{ATOM}id") == other.findtext(f"{ATOM}id")
    assert one.findtext(f"{ATOM}updated", "") < other.findtext(f"{ATOM}updated", "")


def test_atom_feed_removes_characters_invalid_in_xml() -> None:
    broken = replace(ordinary(NOW)[0], title="a\x00b\x0bc\ufffed\ud800e\u202ef", body="\x01\uffff\ud800")
    feed = ET.fromstring(atom_of(publish([broken])))
    title = feed.findtext(f"{ATOM}entry/{ATOM}title", "")
    assert {"\x00", "\ufffe", "\u202e"}.isdisjoint(title)


# iCalendar.


def events_of(raw: bytes) -> list[Any]:
    return list(icalendar.Calendar.from_ical(raw).walk("VEVENT"))


@SAMPLES
def test_calendar_lines_conform_to_rfc_5545(samples: MakeSamples) -> None:
    raw = calendar_of(publish(samples(NOW)))
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


@SAMPLES
def test_calendar_has_one_event_per_maintenance_and_none_injected_by_text(samples: MakeSamples) -> None:
    published = publish(samples(NOW))
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


def test_calendar_without_notices_contains_a_component() -> None:
    """One without any component is none by RFC 5545, section 3.6, and Outlook refuses it."""
    assert icalendar.Calendar.from_ical(calendar_of(publish([]))).subcomponents


def test_calendar_event_of_cancelled_maintenance_keeps_uid_and_increases_sequence() -> None:
    scheduled = ordinary(NOW)[2]
    cancelled = replace(scheduled, status=NoticeStatus.CANCELLED, etag="9000", updated_at=NOW)
    ((before,), (after,)) = (events_of(calendar_of(publish([each]))) for each in (scheduled, cancelled))
    assert before["UID"] == after["UID"]
    assert before["SEQUENCE"] < after["SEQUENCE"]
    assert (before["STATUS"], after["STATUS"]) == ("CONFIRMED", "CANCELLED")
    assert before["DTSTAMP"].dt < after["DTSTAMP"].dt
    assert str(after["SUMMARY"]).startswith("Cancelled: ")


def test_calendar_event_description_contains_impact() -> None:
    (event,) = events_of(calendar_of(publish([replace(ordinary(NOW)[2], impact=Impact.MAJOR)])))
    assert "Impact: major" in str(event["DESCRIPTION"])
