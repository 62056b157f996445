"""The mail that reminds a publisher of what expires soon, and of what is overdue."""

import hashlib
import html
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import NamedTuple

from licensing.catalogue.records import Publisher, Region
from licensing.mail.message import addressed
from licensing.reports.model import OVERDUE_DAYS, THRESHOLDS, ExpiryItem, Reminder, recipient

_STEPS = f"{', '.join(str(days) for days in sorted(THRESHOLDS[1:], reverse=True))} and {THRESHOLDS[0]}"
_OUTRO = (
    f"Each license is listed {_STEPS} days before its end date, or in the first digest after that, once for each step.",
    f"Overdue licenses are listed in every digest for {OVERDUE_DAYS} days, or until they are renewed or deleted.",
    "The expiry report in your licensing app shows all licenses that are due.",
)
_MAX_DUE, _MAX_OVERDUE = 1000, 200
"""The most licenses that are listed: a mail of some megabytes may be refused."""


class _Cells(NamedTuple):
    """A license as texts. The order is that of the columns."""

    end_date: str
    customer: str
    number: str
    region: str
    product: str
    license_type: str
    feature_disable_date: str


_HEAD = _Cells("Ends on", "Customer", "Number", "Region", "Product", "License type", "Feature disable date")


class _Group(NamedTuple):
    title: str
    items: Sequence[ExpiryItem]
    more: int = 0
    """Number of licenses that are not listed."""

    @property
    def rest(self) -> str:
        """The line about the licenses that are not listed; "" where there are none."""
        return f"and {self.more:,} more; the expiry report in your licensing app shows all" if self.more else ""


def digest_email(
    publisher: Publisher, due: Sequence[Reminder], overdue: Sequence[ExpiryItem], *, sender: str, now: datetime
) -> EmailMessage:
    """The mail about these, which are in the order of their dates. One of the same day and content has the same ID.

    Lists the due licenses that end first and the overdue ones that ended last, and counts the others.

    Raises ValueError or MessageError where an address is none that mail knows.
    """
    intro = (
        f"Licenses of {publisher.name} that expire soon or are overdue. Today is {now:%Y-%m-%d}, in UTC. "
        "Licenses that are not enabled are left out."
    )
    groups = [*_groups(due[:_MAX_DUE])]
    if len(due) > _MAX_DUE:
        groups[-1] = groups[-1]._replace(more=len(due) - _MAX_DUE)
    if overdue:
        groups.append(_Group("Overdue", overdue[-_MAX_OVERDUE:], max(0, len(overdue) - _MAX_OVERDUE)))
    text = "\n\n".join([intro, *map(_text, groups), *_OUTRO]) + "\n"
    message = addressed(
        Address(addr_spec=sender),
        recipient(publisher),
        _subject(len(due), len(overdue)),
        message_id=_message_id(publisher.id, now, text, sender),
        now=now,
    )
    message.set_content(text)
    message.add_alternative(_html(intro, groups), subtype="html")
    return message


def _subject(due: int, overdue: int) -> str:
    if due == 0:
        return f"Licenses that are overdue: {overdue}"
    return f"Licenses that expire soon: {due}" + (f", overdue: {overdue}" if overdue else "")


def _groups(due: Sequence[Reminder]) -> Iterator[_Group]:
    for threshold, members in itertools.groupby(due, lambda each: each.threshold):
        title = f"Within {threshold} day{'s' if threshold > 1 else ''}" if threshold else "Today"
        yield _Group(title, [each.item for each in members])


def _cells(item: ExpiryItem) -> _Cells:
    return _Cells(
        end_date=item.end_date.isoformat(),
        customer=item.customer_name,
        number=item.customer_number,
        region="" if item.region is Region.NONE else str(item.region),
        product=item.product_name,
        # The end date of a perpetual license is that of its maintenance.
        license_type=f"{item.license_type}{', maintenance expired' if item.maintenance_expired else ''}",
        feature_disable_date=item.feature_disable_date.isoformat() if item.feature_disable_date else "",
    )


def _text(group: _Group) -> str:
    lines = [group.title, *(_line(_cells(item)) for item in group.items)]
    return "\n".join([*lines, f"  {group.rest}"] if group.rest else lines)


def _line(cells: _Cells) -> str:
    details = ", ".join(filter(None, (cells.number, cells.region)))
    customer = f"{cells.customer} ({details})" if details else cells.customer
    disables = f", feature disable date {cells.feature_disable_date}" if cells.feature_disable_date else ""
    return f"  {cells.end_date}  {customer}: {cells.product} ({cells.license_type}){disables}"


def _html(intro: str, groups: Sequence[_Group]) -> str:
    parts = [f"<p>{html.escape(intro)}</p>"]
    for group in groups:
        rows = (_row("td", _cells(item)) for item in group.items)
        parts += [f"<h3>{group.title}</h3>", "<table>", _row("th", _HEAD), *rows, "</table>"]
        parts += [f"<p>{group.rest}</p>"] if group.rest else []
    parts += [f"<p>{html.escape(line)}</p>" for line in _OUTRO]
    return "\n".join(["<!DOCTYPE html>", "<html><body>", *parts, "</body></html>", ""])


def _row(element: str, cells: _Cells) -> str:
    return f"<tr>{''.join(f'<{element}>{html.escape(cell)}</{element}>' for cell in cells)}</tr>"


def _message_id(publisher_id: str, now: datetime, text: str, sender: str) -> str:
    """The same for the same content on the same day: whoever gets the mail twice can tell."""
    digest = hashlib.sha256(f"{publisher_id}\n{now:%Y-%m-%d}\n{text}".encode()).hexdigest()
    # Short enough to stand on one line: a folded one confuses some programs.
    return f"<{now:%Y%m%d}.{digest[:24]}@{sender.rpartition('@')[2]}>"
