"""What is said of a notice: the right words at each moment, and nothing that could do harm, whoever wrote it."""

import re
import sys
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.notices.message_text import (
    change_of_plan,
    headline,
    html_of,
    instant_text,
    message_text,
    one_line,
    plain,
    when,
)
from licensing.notices.model import Impact, Moment, Notice, NoticeKind, NoticeStatus, Plan
from tests.notices.messages import (
    HOSTILE,
    NOW,
    PRODUCTS,
    PUBLIC_URL,
    STATUS_URL,
    a_notice,
    a_product,
    a_publisher,
    announced,
    with_update,
)

MAINTENANCE, INCIDENT = a_notice(), a_notice(NoticeKind.INCIDENT)
UNDER_WAY = replace(MAINTENANCE, status=NoticeStatus.IN_PROGRESS)
ANNOUNCEMENT = a_notice(NoticeKind.ANNOUNCEMENT)

# Notice, the moment (None: its last update), what the headline begins with.
HEADLINES: list[tuple[Notice, Moment | None, str]] = [
    (MAINTENANCE, Moment.AT_ONCE, "Scheduled maintenance"),
    (
        replace(MAINTENANCE, created_at=NOW - timedelta(days=30)),
        Moment.WEEK_BEFORE,
        "Scheduled maintenance within 7 days",
    ),
    (
        replace(MAINTENANCE, created_at=NOW - timedelta(days=30)),
        Moment.DAY_BEFORE,
        "Scheduled maintenance within 24 hours",
    ),
    (MAINTENANCE, Moment.HOUR_BEFORE, "Scheduled maintenance within 1 hour"),
    (UNDER_WAY, Moment.AT_START, "Maintenance has begun"),
    (UNDER_WAY, Moment.AT_ONCE, "Maintenance has begun"),
    (UNDER_WAY, Moment.AT_END, "Maintenance takes longer than planned"),
    (with_update(MAINTENANCE, NoticeStatus.SCHEDULED), None, "Update"),
    (with_update(MAINTENANCE, NoticeStatus.SCHEDULED, previous_plan=Plan()), None, "Maintenance rescheduled"),
    (with_update(UNDER_WAY, NoticeStatus.IN_PROGRESS, previous_plan=Plan()), None, "New times"),
    (with_update(MAINTENANCE, NoticeStatus.CANCELLED), None, "Cancelled"),
    (with_update(UNDER_WAY, NoticeStatus.COMPLETED), None, "Completed"),
    (INCIDENT, Moment.AT_ONCE, "Incident"),
    (with_update(INCIDENT, NoticeStatus.IDENTIFIED), None, "Update"),
    (with_update(INCIDENT, NoticeStatus.RESOLVED), None, "Resolved"),
    (ANNOUNCEMENT, Moment.AT_ONCE, "Announcement"),
    (with_update(ANNOUNCEMENT, NoticeStatus.WITHDRAWN), None, "Withdrawn"),
]
CURRENT_STATUS_HEADLINES: list[tuple[Notice, str]] = [
    (MAINTENANCE, "Scheduled maintenance"),
    (UNDER_WAY, "Maintenance has begun"),
    (with_update(MAINTENANCE, NoticeStatus.CANCELLED), "Cancelled"),
    (INCIDENT, "Incident"),
    (with_update(INCIDENT, NoticeStatus.RESOLVED), "Resolved"),
    (ANNOUNCEMENT, "Announcement"),
]


@pytest.mark.parametrize(("notice", "moment", "begins"), HEADLINES, ids=[f"{case[2]}-{case[1]}" for case in HEADLINES])
def test_headline_of_announcement_starts_with_its_occasion(notice: Notice, moment: Moment | None, begins: str) -> None:
    assert headline(notice, announced(notice, moment)) == f"{begins}: New database"


@pytest.mark.parametrize(("notice", "begins"), CURRENT_STATUS_HEADLINES)
def test_headline_without_announcement_starts_with_current_status(notice: Notice, begins: str) -> None:
    assert headline(notice, None) == f"{begins}: New database"


def test_message_text_of_announcement_has_headline_text_html_facts_and_url() -> None:
    notice = a_notice(impact=Impact.MAJOR, product_ids=("p1", "p2", "gone"))
    said = message_text(a_publisher(), notice, announced(notice), PRODUCTS, public_url=PUBLIC_URL)
    assert said.headline == "Scheduled maintenance: New database"
    assert said.text == "We *move*.\n\nNothing is lost."
    assert str(said.html) == '<p dir="auto">We <em>move</em>.</p>\n<p dir="auto">Nothing is lost.</p>\n'
    assert said.facts == {
        "Status": "Scheduled",
        "When": "24 Nov 2026, 02:00 UTC (15:00 Pacific/Auckland) to 24 Nov 2026, 04:00 UTC (17:00 Pacific/Auckland)",
        "Products": "ForexRates, SmartSend",
        "Impact": "Major",
    }
    assert said.url == STATUS_URL


def test_message_text_of_update_uses_update_body_and_omits_inapplicable_facts() -> None:
    notice = with_update(INCIDENT, NoticeStatus.RESOLVED, "It is *over*.")
    said = message_text(a_publisher(), notice, announced(notice, None), PRODUCTS, public_url=PUBLIC_URL)
    assert (said.text, str(said.html)) == ("It is *over*.", '<p dir="auto">It is <em>over</em>.</p>\n')
    assert said.facts == {"Status": "Resolved", "Products": "All products"}
    assert plain(notice, None) == "We *move*.\n\nNothing is lost."


AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
INSTANTS = [
    (AT, "Pacific/Auckland", "24 Nov 2026, 02:00 UTC (15:00 Pacific/Auckland)"),
    (AT.replace(hour=12), "Pacific/Auckland", "24 Nov 2026, 12:00 UTC (25 Nov 2026, 01:00 Pacific/Auckland)"),
    (AT, "America/New_York", "24 Nov 2026, 02:00 UTC (23 Nov 2026, 21:00 America/New_York)"),
    (AT, "Asia/Kathmandu", "24 Nov 2026, 02:00 UTC (07:45 Asia/Kathmandu)"),
    (AT.replace(month=6), "Pacific/Auckland", "24 Jun 2026, 02:00 UTC (14:00 Pacific/Auckland)"),
    (AT.astimezone(tz=None), "", "24 Nov 2026, 02:00 UTC"),
    (AT, "Nowhere/AtAll", "24 Nov 2026, 02:00 UTC"),
    (AT, "../../../etc/passwd", "24 Nov 2026, 02:00 UTC"),
    (AT, "/etc/passwd", "24 Nov 2026, 02:00 UTC"),
    (AT, "x\x00y", "24 Nov 2026, 02:00 UTC"),
    (datetime.max.replace(tzinfo=UTC), "Pacific/Auckland", "31 Dec 9999, 23:59 UTC"),
    (datetime.min.replace(tzinfo=UTC), "America/New_York", "1 Jan 1, 00:00 UTC"),
]


@pytest.mark.parametrize(("at", "zone", "text"), INSTANTS)
def test_instant_text_shows_utc_and_publisher_time_zone(at: datetime, zone: str, text: str) -> None:
    assert instant_text(at, zone) == text


def test_when_without_start_or_end_shows_only_the_other() -> None:
    assert when(Plan(starts_at=AT), "") == "From 24 Nov 2026, 02:00 UTC"
    assert when(Plan(ends_at=AT), "") == "Until 24 Nov 2026, 02:00 UTC"
    assert when(Plan(), "UTC") == ""


def test_change_of_plan_lists_new_times_and_at_most_ten_previous_plans() -> None:
    def plan(hour: int) -> Plan:
        return Plan(starts_at=AT.replace(hour=hour))

    notice = replace(MAINTENANCE, starts_at=AT.replace(hour=9), ends_at=None)
    for hour in (*range(10, 22), 9):
        notice = with_update(notice, NoticeStatus.SCHEDULED, previous_plan=plan(hour))
    first, *plans = change_of_plan(notice, plan(8), "Asia/Kathmandu").split("\n\n")
    assert first == "The times have changed."
    assert plans[:2] == [
        "Now: From 24 Nov 2026, 09:00 UTC (14:45 Asia/Kathmandu)",
        "Before: From 24 Nov 2026, 08:00 UTC (13:45 Asia/Kathmandu)",
    ]
    assert [each.partition(" UTC")[0][-5:-3] for each in plans[1:]] == ["08", *map(str, range(21, 12, -1))]
    assert change_of_plan(INCIDENT, plan(8), "").endswith("Now: no times\n\nBefore: From 24 Nov 2026, 08:00 UTC")


# Hostile texts.


def is_visible(character: str) -> bool:
    """Whether the character neither controls nor overrides: by Unicode's own classes."""
    bidi = unicodedata.bidirectional(character)
    overrides = bidi in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and not overrides


@given(st.text())
def test_one_line_returns_single_line_of_visible_characters(text: str) -> None:
    line = one_line(text)
    assert all(map(is_visible, line))
    assert line == line.strip()
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Zs"])))
def test_one_line_and_plain_keep_harmless_text_unchanged(text: str) -> None:
    assert one_line(text) == text
    assert plain(replace(MAINTENANCE, body=text), None) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_headline_with_hostile_title_is_one_legible_line(text: str) -> None:
    notice = replace(MAINTENANCE, title=text)
    line = headline(notice, announced(notice))
    assert line.startswith("Scheduled maintenance: legible")
    assert all(map(is_visible, line))


def test_one_line_keeps_joined_emoji_and_flags() -> None:
    assert one_line(HOSTILE["emoji"]) == HOSTILE["emoji"]


def test_headline_with_invisible_title_uses_placeholder() -> None:
    assert headline(replace(MAINTENANCE, title="\u202e\u2066"), None) == "Scheduled maintenance: without a title"


def test_message_text_with_hostile_product_name_shows_one_line() -> None:
    products = {"p1": a_product("p1", "Smart\r\nSend\u202e")}
    notice = replace(MAINTENANCE, product_ids=("p1",))
    said = message_text(a_publisher(), notice, announced(notice), products, public_url=PUBLIC_URL)
    assert said.facts["Products"] == "Smart Send"


TAGS = {"p": {"dir"}, "ul": {"dir"}, "ol": {"dir", "start"}, "li": {"dir"}, "a": {"href"}, "code": {"class"}}
TAGS |= {tag: set() for tag in ("em", "strong", "br", "pre")}


class AllowlistHTMLParser(HTMLParser):
    """Knows what may stand in the HTML, and nothing else."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.links = "", list[str]()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in TAGS[tag], (tag, name)
            if name == "href":
                assert re.match("(https://[^/]|mailto:)", value or "", re.IGNORECASE), value
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


MARKUP = [
    ("a *b* **c** `d*e*`", '<p dir="auto">a <em>b</em> <strong>c</strong> <code>d*e*</code></p>\n'),
    ("one\ntwo", '<p dir="auto">one<br>\ntwo</p>\n'),
    ("- a\n- b", '<ul dir="auto">\n<li dir="auto">a</li>\n<li dir="auto">b</li>\n</ul>\n'),
    ("3. a", '<ol start="3" dir="auto">\n<li dir="auto">a</li>\n</ol>\n'),
    ("```\na < b\n```", "<pre><code>a &lt; b\n</code></pre>\n"),
    ("[t](https://example.com)", '<p dir="auto"><a href="https://example.com">t</a></p>\n'),
    ("<https://example.com>", '<p dir="auto"><a href="https://example.com">https://example.com</a></p>\n'),
    ("[m](mailto:help@example.com)", '<p dir="auto"><a href="mailto:help@example.com">m</a></p>\n'),
    ("# a", '<p dir="auto"># a</p>\n'),
    ("> a", '<p dir="auto">&gt; a</p>\n'),
    ("a | b", '<p dir="auto">a | b</p>\n'),
    ("<b>a</b> &lt;", '<p dir="auto">&lt;b&gt;a&lt;/b&gt; &amp;lt;</p>\n'),
    (r"\*a\*", '<p dir="auto">*a*</p>\n'),
    ("[a]() *b* [c](https://example.com)", '<p dir="auto">a <em>b</em> <a href="https://example.com">c</a></p>\n'),
    ("", ""),
]


@pytest.mark.parametrize(("text", "html"), MARKUP)
def test_html_of_renders_only_supported_markdown(text: str, html: str) -> None:
    assert str(html_of(text)) == html


REJECTED_LINKS = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x](file:///etc/passwd)",
    "[x](http://example.com)",
    "[x](//example.com)",
    "[x](/admin)",
    "[x](https:)",
    "[x](https:///path)",
    "<javascript:alert(1)>",
    "<http://example.com>",
    "[x]: https://example.com\n\n[x]",
]


@pytest.mark.parametrize("text", REJECTED_LINKS)
def test_html_of_creates_no_link_for_unsupported_url(text: str) -> None:
    assert AllowlistHTMLParser(html_of(text)).links == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_html_of_hostile_body_is_harmless_and_legible(text: str) -> None:
    read = AllowlistHTMLParser(html_of(text))
    assert read.text.startswith("legible")
    assert all(is_visible(character) or character in "\n\t" for character in read.text)


MARKDOWN_FRAGMENTS = [
    "[",
    "](",
    ")",
    "!",
    "<",
    ">",
    "*",
    "_",
    "`",
    "```\n",
    "\n",
    "- ",
    "1. ",
    "javascript:",
    "https://a.b",
    "&#58;",
]
MARKDOWN_FRAGMENTS += [
    "<script>",
    "\\",
    "\t",
    "    ",
    '"',
    "'",
    "<!--",
    "<a href=https://x>",
    "onclick=",
    "\u202e",
    "x",
]


@given(st.lists(st.sampled_from(MARKDOWN_FRAGMENTS), max_size=60).map("".join) | st.text())
def test_html_of_any_text_emits_only_allowed_tags_and_attributes(text: str) -> None:
    AllowlistHTMLParser(html_of(text))


PATHOLOGICAL_MARKDOWN = [
    "[" * 5000,
    "*a **b " * 700,
    "`" * 5000,
    "![[]()" * 800,
    "- " * 2500,
    "> " * 2500,
    "<" * 5000,
    "[a](<b" * 800,
]
PATHOLOGICAL_MARKDOWN += ["**x* " * 1000, "[" * 2500 + "]" * 2500, "_" * 2500 + "a" + "_" * 2499, "`a``b```c" * 555]


@pytest.mark.parametrize("text", PATHOLOGICAL_MARKDOWN)
def test_html_of_pathological_markdown_avoids_quadratic_work(text: str) -> None:
    """Counts lines of Python, since seconds depend on the machine. Quadratic work is 2,500 per character or more."""
    html_of("")  # loads the library
    lines = 0

    def count(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        html_of(text)
    finally:
        sys.settrace(before)
    assert lines < 1500 * len(text)
