"""The mails about a subscription itself: one asks its owner to confirm, one says that there is one already."""

import html
from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid
from typing import NamedTuple

from licensing.catalogue.records import Publisher
from licensing.mail.message import addressed, set_unfolded


class _Link(NamedTuple):
    url: str


def confirmation_email(  # noqa: PLR0913 - all that a mail says
    publisher: Publisher, address: str, products: Sequence[str], *, confirm_url: str, sender: str, now: datetime
) -> EmailMessage:
    """Asks the owner of the address whether to be told of these products; of all, where it names none.

    Raises ValueError or MessageError where an address is none that mail knows.
    """
    lines = (
        f"Somebody asked that notices of {publisher.name} come to this address: of downtime, and of planned updates.",
        f"They would be about {_named(products)}.",
        "If that was you, open this link and press the button there, within 48 hours:",
        _Link(confirm_url),
        "If it was not, do nothing: you will get no notices, and the address is forgotten.",
    )
    return _email(address, f"Confirm your subscription to notices of {publisher.name}", lines, sender, now)


def reminder(  # noqa: PLR0913 - all that a mail says
    publisher: Publisher,
    address: str,
    products: Sequence[str],
    wanted: Sequence[str],
    *,
    confirm_url: str,
    unsubscribe_url: str,
    sender: str,
    now: datetime,
) -> EmailMessage:
    """Says that the address is subscribed to `products`; how to change that to `wanted`, and how to end it.

    Raises as `confirmation_email` does.
    """
    change: tuple[str | _Link, ...] = (
        f"To be told of {_named(wanted)} instead, open this link and press the button there, within 48 hours:",
        _Link(confirm_url),
    )
    lines = (
        f"Somebody asked that notices of {publisher.name} come to this address. They do already.",
        f"They are about {_named(products)}.",
        *(change if set(wanted) != set(products) else ()),
        "To get no more of them:",
        _Link(unsubscribe_url),
        "Else do nothing: all stays as it is.",
    )
    message = _email(address, f"Your subscription to notices of {publisher.name}", lines, sender, now)
    set_unfolded(message, "List-Unsubscribe", f"<{unsubscribe_url}>")
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return message


def _named(products: Sequence[str]) -> str:
    return ", ".join(products) or "all products"


def _email(address: str, subject: str, lines: Sequence[str | _Link], sender: str, now: datetime) -> EmailMessage:
    message_id = make_msgid(domain=sender.rpartition("@")[2])
    message = addressed(Address(addr_spec=sender), address, subject, message_id=message_id, now=now)
    message.set_content("\n\n".join(line.url if isinstance(line, _Link) else line for line in lines) + "\n")
    parts = "\n".join(f"<p>{_html(line)}</p>" for line in lines)
    message.add_alternative(f"<!DOCTYPE html>\n<html><body>\n{parts}\n</body></html>\n", subtype="html")
    return message


def _html(line: str | _Link) -> str:
    if isinstance(line, _Link):
        url = html.escape(line.url)
        return f'<a href="{url}">{url}</a>'
    return html.escape(line)
