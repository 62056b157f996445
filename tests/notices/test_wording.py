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

from licensing.notices.model import Impact, Moment, Notice, NoticeKind, NoticeStatus, Plan
from licensing.notices.wording import change_of_plan, headline, html_of, instant_text, one_line, plain, when, wording
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
    said_later,
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
    (said_later(MAINTENANCE, NoticeStatus.SCHEDULED), None, "Update"),
    (said_later(MAINTENANCE, NoticeStatus.SCHEDULED, instead_of=Plan()), None, "Maintenance rescheduled"),
    (said_later(UNDER_WAY, NoticeStatus.IN_PROGRESS, instead_of=Plan()), None, "New times"),
    (said_later(MAINTENANCE, NoticeStatus.CANCELLED), None, "Cancelled"),
    (said_later(UNDER_WAY, NoticeStatus.COMPLETED), None, "Completed"),
    (INCIDENT, Moment.AT_ONCE, "Incident"),
    (said_later(INCIDENT, NoticeStatus.IDENTIFIED), None, "Update"),
    (said_later(INCIDENT, NoticeStatus.RESOLVED), None, "Resolved"),
    (ANNOUNCEMENT, Moment.AT_ONCE, "Announcement"),
    (said_later(ANNOUNCEMENT, NoticeStatus.WITHDRAWN), None, "Withdrawn"),
]
NOW_AS_IT_IS: list[tuple[Notice, str]] = [
    (MAINTENANCE, "Scheduled maintenance"),
    (UNDER_WAY, "Maintenance has begun"),
    (said_later(MAINTENANCE, NoticeStatus.CANCELLED), "Cancelled"),
    (INCIDENT, "Incident"),
    (said_later(INCIDENT, NoticeStatus.RESOLVED), "Resolved"),
    (ANNOUNCEMENT, "Announcement"),
]


@pytest.mark.parametrize(("notice", "moment", "begins"), HEADLINES, ids=[f"{case[2]}-{case[1]}" for case in HEADLINES])
def test_the_headline_tells_the_occasion(notice: Notice, moment: Moment | None, begins: str) -> None:
    assert headline(notice, announced(notice, moment)) == f"{begins}: New database"


@pytest.mark.parametrize(("notice", "begins"), NOW_AS_IT_IS)
def test_without_an_announcement_it_tells_how_things_are(notice: Notice, begins: str) -> None:
    assert headline(notice, None) == f"{begins}: New database"


def test_all_that_an_announcement_says() -> None:
    notice = a_notice(impact=Impact.MAJOR, product_ids=("p1", "p2", "gone"))
    said = wording(a_publisher(), notice, announced(notice), PRODUCTS, public_url=PUBLIC_URL)
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


def test_an_update_says_its_own_words_and_what_does_not_apply_is_not_named() -> None:
    notice = said_later(INCIDENT, NoticeStatus.RESOLVED, "It is *over*.")
    said = wording(a_publisher(), notice, announced(notice, None), PRODUCTS, public_url=PUBLIC_URL)
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
def test_times_are_in_utc_and_in_the_publishers_time(at: datetime, zone: str, text: str) -> None:
    assert instant_text(at, zone) == text


def test_what_has_no_end_or_no_start_says_only_the_other() -> None:
    assert when(Plan(starts_at=AT), "") == "From 24 Nov 2026, 02:00 UTC"
    assert when(Plan(ends_at=AT), "") == "Until 24 Nov 2026, 02:00 UTC"
    assert when(Plan(), "UTC") == ""


def test_a_change_of_plan_says_what_was_planned_before_ten_times_back_at_most_in_both_times() -> None:
    def plan(hour: int) -> Plan:
        return Plan(starts_at=AT.replace(hour=hour))

    notice = replace(MAINTENANCE, starts_at=AT.replace(hour=9), ends_at=None)
    for hour in (*range(10, 22), 9):
        notice = said_later(notice, NoticeStatus.SCHEDULED, instead_of=plan(hour))
    first, *plans = change_of_plan(notice, plan(8), "Asia/Kathmandu").split("\n\n")
    assert first == "The times have changed."
    assert plans[:2] == [
        "Now: From 24 Nov 2026, 09:00 UTC (14:45 Asia/Kathmandu)",
        "Before: From 24 Nov 2026, 08:00 UTC (13:45 Asia/Kathmandu)",
    ]
    assert [each.partition(" UTC")[0][-5:-3] for each in plans[1:]] == ["08", *map(str, range(21, 12, -1))]
    assert change_of_plan(INCIDENT, plan(8), "").endswith("Now: no times\n\nBefore: From 24 Nov 2026, 08:00 UTC")


# Hostile texts.


def is_seen(character: str) -> bool:
    """Whether the character neither controls nor overrides: by Unicode's own classes."""
    bidi = unicodedata.bidirectional(character)
    overrides = bidi in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and not overrides


@given(st.text())
def test_one_line_is_one_line_of_what_is_seen(text: str) -> None:
    line = one_line(text)
    assert all(map(is_seen, line))
    assert line == line.strip()
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Zs"])))
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
    assert plain(replace(MAINTENANCE, body=text), None) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_title_is_one_legible_line(text: str) -> None:
    notice = replace(MAINTENANCE, title=text)
    line = headline(notice, announced(notice))
    assert line.startswith("Scheduled maintenance: legible")
    assert all(map(is_seen, line))


def test_joined_emoji_and_flags_stay_joined() -> None:
    assert one_line(HOSTILE["emoji"]) == HOSTILE["emoji"]


def test_a_title_of_nothing_that_is_seen_has_a_name() -> None:
    assert headline(replace(MAINTENANCE, title="\u202e\u2066"), None) == "Scheduled maintenance: without a title"


def test_a_hostile_product_name_is_one_line() -> None:
    products = {"p1": a_product("p1", "Smart\r\nSend\u202e")}
    notice = replace(MAINTENANCE, product_ids=("p1",))
    said = wording(a_publisher(), notice, announced(notice), products, public_url=PUBLIC_URL)
    assert said.facts["Products"] == "Smart Send"


TAGS = {"p": {"dir"}, "ul": {"dir"}, "ol": {"dir", "start"}, "li": {"dir"}, "a": {"href"}, "code": {"class"}}
TAGS |= {tag: set() for tag in ("em", "strong", "br", "pre")}


class Strict(HTMLParser):
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
    ("", ""),
]


@pytest.mark.parametrize(("text", "html"), MARKUP)
def test_a_little_markdown_is_known_and_no_more(text: str, html: str) -> None:
    assert str(html_of(text)) == html


NO_LINKS = [
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


@pytest.mark.parametrize("text", NO_LINKS)
def test_only_https_and_mailto_are_links(text: str) -> None:
    assert Strict(html_of(text)).links == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_harmless_and_legible(text: str) -> None:
    read = Strict(html_of(text))
    assert read.text.startswith("legible")
    assert all(is_seen(character) or character in "\n\t" for character in read.text)


PIECES = [
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
PIECES += ["<script>", "\\", "\t", "    ", '"', "'", "<!--", "<a href=https://x>", "onclick=", "\u202e", "x"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text())
def test_whatever_is_written_only_what_is_known_comes_out(text: str) -> None:
    Strict(html_of(text))


SLOW = ["[" * 5000, "*a **b " * 700, "`" * 5000, "![[]()" * 800, "- " * 2500, "> " * 2500, "<" * 5000, "[a](<b" * 800]
SLOW += ["**x* " * 1000, "[" * 2500 + "]" * 2500, "_" * 2500 + "a" + "_" * 2499, "`a``b```c" * 555]


@pytest.mark.parametrize("text", SLOW)
def test_nothing_takes_long(text: str) -> None:
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
