"""The mail that reminds a publisher of what expires soon."""

import hashlib
import html
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage

from licensing.catalogue.model import Publisher
from licensing.mail import addressed
from licensing.reports.model import THRESHOLDS, Reminder, recipient

_STEPS = f"{', '.join(str(days) for days in sorted(THRESHOLDS[1:], reverse=True))} and {THRESHOLDS[0]}"
_ROW = "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>"
_HEAD = _ROW.replace("td>", "th>").format("Ends on", "Customer", "Product", "License type")


def letter(
    publisher: Publisher, reminders: Sequence[Reminder], *, sender: str, report_url: str, now: datetime
) -> EmailMessage:
    """The mail about these, which are in the order of their dates. One of the same day and content has the same ID.

    Raises ValueError or MessageError where an address is none that mail knows.
    """
    intro = f"These licenses of {publisher.name} expire soon. Today is {now:%Y-%m-%d}, in UTC."
    outro = (
        f"Each license is named {_STEPS} days ahead, or at the first occasion after that, and once for each of these.",
        f"The expiry report shows all that is due, at any time: in your licensing app, or at {report_url}",
    )
    groups = [(_title(key), [*members]) for key, members in itertools.groupby(reminders, lambda each: each.threshold)]
    text = "\n\n".join([intro, *_text_groups(groups), *outro]) + "\n"
    message = addressed(
        Address(addr_spec=sender),
        recipient(publisher),
        f"Licenses that expire soon: {len(reminders)}",
        message_id=_message_id(publisher.id, now, text, sender),
        now=now,
    )
    message.set_content(text)
    message.add_alternative(_html(intro, groups, outro), subtype="html")
    return message


def _title(threshold: int) -> str:
    if threshold == 0:
        return "Today"
    return f"Within {threshold} day{'s' if threshold > 1 else ''}"


def _cells(reminder: Reminder) -> tuple[str, str, str, str]:
    item = reminder.item
    return item.end_date.isoformat(), item.customer_name, item.product_name, str(item.license_type)


def _text_groups(groups: Sequence[tuple[str, Sequence[Reminder]]]) -> Iterator[str]:
    for title, members in groups:
        yield "\n".join([title, *("  {}  {}: {} ({})".format(*_cells(each)) for each in members)])


def _html(intro: str, groups: Sequence[tuple[str, Sequence[Reminder]]], outro: Sequence[str]) -> str:
    parts = [f"<p>{html.escape(intro)}</p>"]
    for title, members in groups:
        rows = (_ROW.format(*map(html.escape, _cells(each))) for each in members)
        parts += [f"<h3>{title}</h3>", "<table>", _HEAD, *rows, "</table>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in outro]
    return "\n".join(["<!DOCTYPE html>", "<html><body>", *parts, "</body></html>", ""])


def _message_id(publisher_id: str, now: datetime, text: str, sender: str) -> str:
    """The same for the same content on the same day: whoever gets the mail twice can tell."""
    digest = hashlib.sha256(f"{publisher_id}\n{now:%Y-%m-%d}\n{text}".encode()).hexdigest()
    # Short enough to stand on one line: a folded one confuses some programs.
    return f"<{now:%Y%m%d}.{digest[:24]}@{sender.rpartition('@')[2]}>"
