"""How a message reaches a subscriber: by mail, into a channel of Teams, or to a webhook."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.errors import MessageError
from typing import Any

from licensing.fields import instant
from licensing.mail.message import Mailer, NotSent, RecipientRefused, ServerDown
from licensing.notices.delivery.notice_email import notice_email
from licensing.notices.delivery.outbox import DeliveryFailed, Message
from licensing.notices.delivery.webhook import WebhookPost
from licensing.notices.message_text import MessageText, message_text, one_line
from licensing.notices.model import Subscriber


def _message_text(message: Message, public_url: str) -> MessageText:
    return message_text(
        message.publisher, message.notice, message.announcement, message.products, public_url=public_url
    )


@dataclass(frozen=True, kw_only=True)
class MailChannel:
    """Tells by mail."""

    mailer: Mailer
    sender: str
    public_url: str
    unsubscribe_url: Callable[[str, Subscriber], str]
    """Where a subscriber of that publisher unsubscribes by one POST."""

    async def send(self, message: Message) -> None:
        """Hand the mail to a server. Raises DeliveryFailed."""
        try:
            mail = notice_email(
                _message_text(message, self.public_url),
                message.delivery,
                message.subscriber,
                sender=self.sender,
                unsubscribe_url=self.unsubscribe_url(message.publisher.id, message.subscriber),
                now=message.now,
            )
        except (ValueError, IndexError, MessageError):
            raise DeliveryFailed("notAnAddress", refused_for_good=True) from None
        try:
            await self.mailer.send(mail)
        except RecipientRefused:
            raise DeliveryFailed("recipientRefused", refused_for_good=True) from None
        except ServerDown:
            raise DeliveryFailed("mailServerDown", channel_is_down=True) from None
        except (NotSent, OSError):
            raise DeliveryFailed("mailNotTaken") from None


@dataclass(frozen=True, kw_only=True)
class WebhookChannel:
    """Tells by a signed POST, as docs/protocol.md describes it under Webhooks."""

    public_url: str
    post: WebhookPost

    async def send(self, message: Message) -> None:
        """POST to the subscriber. Raises DeliveryFailed."""
        body = _json(self._event(message))
        timestamp = str(int(message.now.timestamp()))
        signed = timestamp.encode() + b"." + body
        signature = hmac.new(message.subscriber.secret.encode(), signed, hashlib.sha256).hexdigest()
        headers = {
            "X-License-Manager-Timestamp": timestamp,
            "X-License-Manager-Signature": f"v1={signature}",
            "X-Delivery-Id": message.delivery.id,
        }
        await self.post(message.subscriber.address, body, headers)

    def _event(self, message: Message) -> dict[str, Any]:
        message_text, notice = _message_text(message, self.public_url), message.notice
        products = [message.products[each].name for each in notice.product_ids if each in message.products]
        return {
            "deliveryId": message.delivery.id,
            "publisherId": message.publisher.id,
            "headline": message_text.headline,
            "text": message_text.text,
            "announcement": message.announcement.moment or "update",
            "url": message_text.url,
            "notice": {
                "id": notice.id,
                "kind": notice.notice_kind,
                "title": message_text.title,
                "status": notice.status,
                "impact": notice.impact,
                "startsAt": notice.starts_at and instant(notice.starts_at),
                "endsAt": notice.ends_at and instant(notice.ends_at),
                "products": sorted(map(one_line, products)),
            },
        }


@dataclass(frozen=True, kw_only=True)
class TeamsChannel:
    """Tells a channel of Teams, by a webhook of Workflows."""

    public_url: str
    post: WebhookPost

    async def send(self, message: Message) -> None:
        """POST a card. Raises DeliveryFailed."""
        message_text = _message_text(message, self.public_url)
        attachment = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card(message_text),
        }
        body = _json({"type": "message", "attachments": [attachment]})
        await self.post(message.subscriber.address, body, {"X-Delivery-Id": message.delivery.id})


def _json(document: Any) -> bytes:
    # Teams takes 28 KB: as escapes, text in other scripts than ours would take more.
    return json.dumps(document, ensure_ascii=False).encode()


_NO_LINK = re.compile(r"\]\((?!https://|mailto:)", re.IGNORECASE)


def _with_plain_links(markdown_text: str) -> str:
    """The text, whose links lead to https and mailto alone, and which shows no images: whatever renders it."""
    return _NO_LINK.sub("] (", markdown_text.replace("![", "! ["))


def card(message_text: MessageText) -> dict[str, Any]:
    """What was said as an Adaptive Card. Only a TextBlock reads Markdown, so what is in one line stands in none."""
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": message_text.headline,
        "msteams": {"width": "Full"},
        "body": [
            _line(_run(message_text.publisher_name, isSubtle=True)),
            _line(_run(message_text.headline, size="Large", weight="Bolder")),
            *(_line(_run(f"{name}: ", weight="Bolder"), _run(fact)) for name, fact in message_text.facts.items()),
            {"type": "TextBlock", "text": _with_plain_links(message_text.text), "wrap": True, "separator": True},
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "See the status page", "url": message_text.url}],
    }


def _line(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": runs}


def _run(text: str, **how: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **how}
