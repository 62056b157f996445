"""What is said of a notice, once for all channels: as plain text, and as HTML that is safe. Pure.

Whatever a publisher writes is taken for hostile here: it goes to strangers, beside texts of the service itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from markupsafe import Markup

from licensing.catalogue.records import Product, Publisher
from licensing.notices.model import (
    Announcement,
    Impact,
    Moment,
    Notice,
    NoticeKind,
    NoticeStatus,
    Plan,
    Update,
    earlier_plans,
)

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore

# What gives text another direction than its letters have, up to the end of the paragraph: it could make a text read as
# something else. Beside it what is deprecated, and what annotates. Joiners stay: scripts and emoji need them.
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb"
_UNSEEN = re.compile(rf"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff{_DIRECTIONS}]")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_WITHIN = {Moment.WEEK_BEFORE: "7 days", Moment.DAY_BEFORE: "24 hours", Moment.HOUR_BEFORE: "1 hour"}
_EARLIER_PLANS_TOLD = 10
_LAST_WORDS = (NoticeStatus.COMPLETED, NoticeStatus.CANCELLED, NoticeStatus.RESOLVED, NoticeStatus.WITHDRAWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageText:
    """All that an announcement says."""

    occasion: str
    """In a few words of the service's own."""
    title: str
    """What its author calls it, in one line."""
    text: str
    """As it was written: it reads well as it is."""
    html: Markup
    facts: Mapping[str, str]
    url: str
    """Of the notice on the status page."""
    publisher_name: str

    @property
    def headline(self) -> str:
        return f"{self.occasion}: {self.title}"


def message_text(
    publisher: Publisher,
    notice: Notice,
    announcement: Announcement,
    products: Mapping[str, Product],
    *,
    public_url: str,
) -> MessageText:
    """What this announcement says."""
    update = None if announcement.update is None else notice.updates[announcement.update]
    text = plain(notice, update)
    facts = {
        "Status": status_word(update.status if update else notice.status),
        "When": when(notice.plan, publisher.time_zone),
        "Products": product_names(notice, products),
        "Impact": "" if notice.impact is Impact.NONE else notice.impact.capitalize(),
    }
    return MessageText(
        occasion=_occasion(notice, announcement),
        title=title_of(notice),
        text=text,
        html=html_of(text),
        facts={name: fact for name, fact in facts.items() if fact},
        url=f"{public_url}/status/{publisher.id}#{notice.id}",
        publisher_name=one_line(publisher.name),
    )


# In one line.


def one_line(text: str) -> str:
    """The text in one line, without what cannot be seen and could change how its neighbours read."""
    return " ".join(_visible(text).split())


def headline(notice: Notice, announcement: Announcement | None) -> str:
    """What it is about, in one line; without an announcement: as the notice is now."""
    return f"{_occasion(notice, announcement)}: {title_of(notice)}"


def title_of(notice: Notice) -> str:
    """What its author calls it, in one line."""
    return one_line(notice.title) or "without a title"


def _occasion(notice: Notice, announcement: Announcement | None) -> str:
    if announcement is not None and announcement.update is not None:
        return _occasion_of(notice.updates[announcement.update])
    moment = announcement.moment if announcement else None
    if moment in _WITHIN:
        return f"Scheduled maintenance within {_WITHIN[moment]}"  # such a message may be late
    if moment is Moment.AT_END:
        return "Maintenance takes longer than planned"  # had it ended, this would not be announced
    if not notice.is_open:
        return status_word(notice.status)
    if notice.notice_kind is not NoticeKind.MAINTENANCE:
        return notice.notice_kind.capitalize()
    begun = moment is Moment.AT_START or notice.status is NoticeStatus.IN_PROGRESS
    return "Maintenance has begun" if begun else "Scheduled maintenance"


def _occasion_of(update: Update) -> str:
    if update.previous_plan:
        return "Maintenance rescheduled" if update.status is NoticeStatus.SCHEDULED else "New times"
    return status_word(update.status) if update.status in _LAST_WORDS else "Update"


def status_word(status: NoticeStatus) -> str:
    """`inProgress` -> `In progress`."""
    return re.sub("([A-Z])", r" \1", status).capitalize()


def product_names(notice: Notice, products: Mapping[str, Product]) -> str:
    """Those that the notice is about; a product that is gone is passed over."""
    if not notice.product_ids:
        return "All products"
    return ", ".join(sorted(one_line(products[each].name) for each in notice.product_ids if each in products))


# Time.


def when(plan: Plan, time_zone: str) -> str:
    """From when to when; "" where the plan says neither."""
    starts = instant_text(plan.starts_at, time_zone) if plan.starts_at else ""
    ends = instant_text(plan.ends_at, time_zone) if plan.ends_at else ""
    if starts and ends:
        return f"{starts} to {ends}"
    return (starts and f"From {starts}") or (ends and f"Until {ends}")


def change_of_plan(notice: Notice, replaced: Plan, time_zone: str) -> str:
    """What an update says of a notice whose plan has just been changed, in the same Markdown as any other.

    Who was not told of each change in between finds here the plan that they know.
    """
    earlier = earlier_plans(notice, replaced)[:_EARLIER_PLANS_TOLD]
    plans = [("Now", notice.plan), *(("Before", plan) for plan in earlier)]
    told = "\n\n".join(f"{name}: {when(plan, time_zone) or 'no times'}" for name, plan in plans)
    return f"The times have changed.\n\n{told}"


def instant_text(at: datetime, time_zone: str) -> str:
    """In UTC, and in the time zone where there is one: `24 Nov 2026, 02:00 UTC (15:00 Pacific/Auckland)`."""
    utc = at.astimezone(ZoneInfo("UTC"))
    text = f"{_day(utc)}, {utc:%H:%M} UTC"
    try:
        local = utc.astimezone(ZoneInfo(time_zone))
    except (ValueError, KeyError, OverflowError):  # none, unknown here, or at the end of time
        return text
    other_day = "" if local.date() == utc.date() else f"{_day(local)}, "
    return f"{text} ({other_day}{local:%H:%M} {time_zone})"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b} {at.year}"


# In full.


def plain(notice: Notice, update: Update | None) -> str:
    """What was said: by the update, or by the notice itself. A little Markdown, which reads well as it is."""
    return _visible((update or notice).body).strip()


def _visible(text: str) -> str:
    """The text without control characters, its line ends all alike."""
    return _UNSEEN.sub("", _LINE_ENDS.sub("\n", text))


def html_of(markdown_text: str) -> Markup:
    """The text as HTML: paragraphs, lines, emphasis, lists, code, and links to https and mailto. All else is text."""
    return Markup(_markdown().render(_visible(markdown_text)))  # noqa: S704 - it knows no HTML but its own


@cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # noqa: PLC0415 - takes a while, and a validation does without it

    made = MarkdownIt("zero", {"breaks": True})
    made.enable(["newline", "escape", "backticks", "emphasis", "link", "autolink", "list", "fence"])
    made.validateLink = _is_harmless  # type: ignore[method-assign]  # as the library says
    made.core.ruler.push("empty links", _remove_empty_links)
    made.core.ruler.push("directions", _isolate)
    return made


def _is_harmless(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "mailto" or (parts.scheme == "https" and bool(parts.hostname))


def _remove_empty_links(state: "StateCore") -> None:
    """Render `[text]()` as its text: the library does not ask `validateLink`, and the link would lead to the page."""
    for token in state.tokens:
        children, in_empty_link = [], False
        for child in token.children or []:
            if child.type == "link_open":
                in_empty_link = not child.attrGet("href")
            if not (in_empty_link and child.type in ("link_open", "link_close")):
                children.append(child)
        if token.children:
            token.children = children


def _isolate(state: "StateCore") -> None:
    """Each paragraph and each item has the direction of its own first letter, whatever stands round it."""
    for token in state.tokens:
        if token.nesting == 1:
            token.attrSet("dir", "auto")
