"""The mail of a notice, read back as a mail program reads it."""

import re
from datetime import timedelta
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from typing import Any

import pytest

from licensing.notices.delivery.notice_email import notice_email
from licensing.notices.delivery.outbox import Message
from licensing.notices.message_text import message_text
from licensing.notices.model import Impact, Moment, NoticeStatus
from tests.notices.messages import HOSTILE, NOW, PUBLIC_URL, STATUS_URL, a_message, a_notice, a_publisher, with_update

SENDER = "notices@licenses.example.com"
UNSUBSCRIBE = f"{PUBLIC_URL}/api/v1/publishers/{'p' * 36}/subscriptions/{'s' * 32}{'k' * 32}/unsubscribe"


def written(message: Message) -> EmailMessage:
    said = message_text(
        message.publisher, message.notice, message.announcement, message.products, public_url=PUBLIC_URL
    )
    return notice_email(
        said, message.delivery, message.subscriber, sender=SENDER, unsubscribe_url=UNSUBSCRIBE, now=message.now
    )


def raw(message: Message) -> bytes:
    return written(message).as_bytes(policy=policy.SMTP.clone(cte_type="7bit"))


def read(message: Message) -> EmailMessage:
    return message_from_bytes(raw(message), policy=policy.default)


def part(mail: EmailMessage, subtype: str) -> str:
    body = mail.get_body((subtype,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def test_notice_email_has_expected_headers() -> None:
    message = a_message()
    mail = read(message)
    assert mail["From"].addresses[0].display_name == "Contoso"
    assert mail["From"].addresses[0].addr_spec == SENDER
    assert mail["To"] == "ops@example.org"
    assert mail["Subject"] == "Scheduled maintenance: New database"
    assert mail["Date"].datetime == NOW
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Delivery-Id"] == message.delivery.id
    assert mail["List-Unsubscribe"] == f"<{UNSUBSCRIBE}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.get_content_type() == "multipart/alternative"
    assert not mail.defects


def test_notice_email_writes_machine_readable_headers_unfolded_and_unencoded() -> None:
    """Not folded, and not encoded: many look no further than the bytes."""
    message = a_message()
    lines = raw(message).split(b"\r\n\r\n")[0].split(b"\r\n")
    assert f"List-Unsubscribe: <{UNSUBSCRIBE}>".encode() in lines
    assert f"X-Delivery-Id: {message.delivery.id}".encode() in lines
    (message_id,) = (line for line in lines if line.startswith(b"Message-ID"))
    assert re.fullmatch(rb"Message-ID: <[0-9a-f]{32}@licenses\.example\.com>", message_id)


def test_notice_email_plain_text_matches_expected_text() -> None:
    assert part(read(a_message()), "plain") == (
        "Scheduled maintenance: New database\n\n"
        "Status: Scheduled\n"
        "When: 24 Nov 2026, 02:00 UTC (15:00 Pacific/Auckland) to 24 Nov 2026, 04:00 UTC (17:00 Pacific/Auckland)\n"
        "Products: All products\n"
        "Impact: Minor\n\n"
        "We *move*.\n\nNothing is lost.\n\n"
        f"All that was said of it: {STATUS_URL}\n\n"
        "-- \nYou get this since this address is subscribed to notices of Contoso.\n"
        f"Unsubscribe: {UNSUBSCRIBE}\n"
    )


def test_notice_email_html_has_same_content_and_loads_no_resources() -> None:
    html = part(read(a_message()), "html")
    for said in (
        "Scheduled maintenance: <bdi>New database</bdi>",
        "<em>move</em>",
        "Nothing is lost.",
        "(15:00",
        "Minor",
    ):
        assert said in html
    assert re.findall('href="([^"]+)"', html) == [STATUS_URL, UNSUBSCRIBE]
    assert not re.search(
        r"<(img|link|script|style|iframe|object|video|audio)|src=|url\(|@import|https?://(?!licenses)", html
    )
    assert '<meta name="color-scheme" content="light dark">' in html
    assert not re.search(r"[^-]color:\s*#|background", html.replace("border-left:4px solid #1f8f6a", "")), (
        "dark stays dark"
    )


def ids(message: Message) -> tuple[str, str, str]:
    mail = read(message)
    return mail["Message-ID"], mail["In-Reply-To"], mail["References"]


def test_notice_email_resent_keeps_message_id_and_other_moments_share_its_thread() -> None:
    notice = a_notice()
    first = ids(a_message(notice))
    later = a_message(notice)
    assert ids(Message(**{**fields(later), "now": NOW + timedelta(hours=3)})) == first
    second = ids(a_message(notice, Moment.HOUR_BEFORE))
    assert second[0] != first[0]
    assert second[1:] == first[1:] == (first[1], first[1])
    assert first[0] != first[1]
    another = ids(a_message(notice, address="dev@example.org"))
    assert another[0] != first[0]
    assert another[1] != first[1]


def fields(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in Message.__slots__}


def test_notice_email_of_update_contains_update_body_instead_of_notice_body() -> None:
    notice = with_update(a_notice(), NoticeStatus.CANCELLED, "It does not take place.")
    mail = read(a_message(notice, None))
    assert mail["Subject"] == "Cancelled: New database"
    assert "It does not take place." in part(mail, "plain")
    assert "We *move*" not in part(mail, "plain")


KNOWN_HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted"),
    *("List-Unsubscribe", "List-Unsubscribe-Post", "X-Delivery-Id", "Content-Type", "MIME-Version"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_notice_email_with_hostile_text_stays_valid_and_legible(text: str) -> None:
    notice = a_notice(title=text, body=text, impact=Impact.MINOR)
    message = a_message(notice, publisher=a_publisher(name=text))
    mail = read(message)
    assert {*mail.keys()} == KNOWN_HEADERS
    assert len(mail.keys()) == len(KNOWN_HEADERS)
    assert [each.addr_spec for each in (*mail["From"].addresses, *mail["To"].addresses)] == [SENDER, "ops@example.org"]
    assert not mail.defects
    assert mail["From"].addresses[0].display_name.startswith("legible")
    assert mail["Subject"].startswith("Scheduled maintenance: legible")
    assert "legible" in part(mail, "plain")
    html = part(mail, "html")
    assert "legible" in html
    assert not re.search('<(script|img)|javascript:[^"]*">', html)
    for said in (mail["Subject"], mail["From"], part(mail, "plain"), html):
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", said)
    assert all(len(line) <= 998 for line in raw(message).split(b"\r\n")), "RFC 5322, section 2.1.1"
    assert raw(message).isascii()


def test_notice_email_subject_keeps_long_title_complete() -> None:
    title = "\u05e9" * 150 + "\U0001f6a7" * 150
    assert read(a_message(a_notice(title=title)))["Subject"] == f"Scheduled maintenance: {title}"


@pytest.mark.parametrize(
    "address", ["", "nobody", "a@b\r\nBcc: victim@example.com", "a b@example.com", "<a@example.com"]
)
def test_notice_email_with_invalid_recipient_raises(address: str) -> None:
    with pytest.raises((ValueError, IndexError, MessageError)):
        raw(a_message(address=address))
