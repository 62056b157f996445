"""The mail that tells a subscriber of a notice."""

import hashlib
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage

from licensing.mail.message import addressed, set_unfolded
from licensing.notices.delivery.store import Delivery
from licensing.notices.message_text import MessageText
from licensing.notices.model import Subscriber
from licensing.notices.rendering import html


def notice_email(  # noqa: PLR0913 - all that a mail says
    said: MessageText,
    delivery: Delivery,
    subscriber: Subscriber,
    *,
    sender: str,
    unsubscribe_url: str,
    now: datetime,
) -> EmailMessage:
    """The mail of this delivery. A repeat has the same Message-ID; all about one notice are one thread.

    Raises ValueError, IndexError or MessageError where an address is none that mail knows.
    """
    domain = sender.rpartition("@")[2]
    thread = _id(f"{delivery.notice_id}.{delivery.subscriber_id}", domain)
    message = addressed(
        Address(display_name=said.publisher_name, addr_spec=sender),
        subscriber.address,
        said.headline,
        message_id=_id(delivery.id, domain),
        now=now,
    )
    # What they answer to was never sent: whichever of them comes first, the others find the same thread.
    set_unfolded(message, "In-Reply-To", thread)
    set_unfolded(message, "References", thread)
    set_unfolded(message, "List-Unsubscribe", f"<{unsubscribe_url}>")
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058
    set_unfolded(message, "X-Delivery-Id", delivery.id)
    message.set_content(_text(said, unsubscribe_url))
    message.add_alternative(html("letter.html", said=said, unsubscribe_url=unsubscribe_url), subtype="html")
    return message


def _id(of: str, domain: str) -> str:
    return f"<{hashlib.sha256(of.encode()).hexdigest()[:32]}@{domain}>"


def _text(said: MessageText, unsubscribe_url: str) -> str:
    why = f"You get this since this address is subscribed to notices of {said.publisher_name}."
    parts = (
        said.headline,
        "\n".join(f"{name}: {fact}" for name, fact in said.facts.items()),
        said.text,
        f"All that was said of it: {said.url}",
        f"-- \n{why}\nUnsubscribe: {unsubscribe_url}",
    )
    return "\n\n".join(parts) + "\n"
