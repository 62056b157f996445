"""The mail about what expires soon, as a mail program reads it."""

from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

import pytest

from licensing.catalogue.model import LicenseType, Publisher
from licensing.reports.letter import letter
from licensing.reports.model import ExpiryItem, Reminder
from tests.catalogue.records import NOW, a_publisher

PUBLISHER = a_publisher(licensing_email="licensing@contoso.example", name="Contoso <Apps> & Co")
URL = "https://licenses.example.com/report"


def a_reminder(threshold: int, days_left: int, customer: str = "Fabrikam", product: str = "SmartSend") -> Reminder:
    end_date = NOW.date() + timedelta(days=days_left)
    item = ExpiryItem(
        customer_name=customer,
        product_name=product,
        license_type=LicenseType.ANNUAL,
        end_date=end_date,
        days_left=days_left,
        expired=False,
    )
    return Reminder(item, threshold)


REMINDERS = [
    a_reminder(0, 0),
    a_reminder(1, 1, "Ærø Søfart"),
    a_reminder(30, 20, "<script>alert(1)</script>"),
    a_reminder(30, 25, 'A "quoted" & Co', "R&D <Tools>"),
    a_reminder(60, 60),
]


def written(
    reminders: list[Reminder] = REMINDERS, publisher: Publisher = PUBLISHER, now: datetime = NOW, **parts: Any
) -> EmailMessage:
    """The mail, once it has been bytes."""
    made = letter(publisher, reminders, **{"sender": "no-reply@licenses.example.com", **parts}, report_url=URL, now=now)
    read = message_from_bytes(made.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert not read.defects
    return read


def part(message: EmailMessage, subtype: str) -> str:
    found = message.get_body((subtype,))
    assert found is not None
    content = found.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


class Reader(HTMLParser):
    """What a page shows: its elements, and the texts of its cells and titles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts += [data] if data.strip() else []


def test_its_head() -> None:
    message = written()
    assert message["From"] == "no-reply@licenses.example.com"
    assert message["To"] == "licensing@contoso.example"
    assert message["Subject"] == "Licenses that expire soon: 5"
    assert message["Date"].datetime == NOW
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].startswith("<20261124.")
    assert message["Message-ID"].endswith("@licenses.example.com>")


def test_its_text() -> None:
    assert part(written(), "plain") == (
        "These licenses of Contoso <Apps> & Co expire soon. Today is 2026-11-24, in UTC.\n"
        "\n"
        "Today\n"
        "  2026-11-24  Fabrikam: SmartSend (annual)\n"
        "\n"
        "Within 1 day\n"
        "  2026-11-25  Ærø Søfart: SmartSend (annual)\n"
        "\n"
        "Within 30 days\n"
        "  2026-12-14  <script>alert(1)</script>: SmartSend (annual)\n"
        '  2026-12-19  A "quoted" & Co: R&D <Tools> (annual)\n'
        "\n"
        "Within 60 days\n"
        "  2027-01-23  Fabrikam: SmartSend (annual)\n"
        "\n"
        "Each license is named 60, 30, 14, 7, 1 and 0 days ahead, or at the first occasion after that, "
        "and once for each of these.\n"
        "\n"
        f"The expiry report shows all that is due, at any time: in your licensing app, or at {URL}\n"
    )


def test_its_page_holds_names_as_texts_only() -> None:
    page = Reader(part(written(), "html"))
    assert page.elements == {"html", "body", "p", "h3", "table", "tr", "th", "td"}
    shown = [text for text in page.texts if text in ("<script>alert(1)</script>", 'A "quoted" & Co', "R&D <Tools>")]
    assert len(shown) == 3
    assert [text for text in page.texts if text.startswith(("Today", "Within"))] == [
        "Today",
        "Within 1 day",
        "Within 30 days",
        "Within 60 days",
    ]
    assert page.texts[0] == "These licenses of Contoso <Apps> & Co expire soon. Today is 2026-11-24, in UTC."


def test_the_same_mail_has_the_same_id_and_another_has_another() -> None:
    def message_id(**parts: Any) -> str:
        return str(written(**parts)["Message-ID"])

    same = message_id(now=NOW + timedelta(hours=6))
    assert message_id() == same
    others = {
        message_id(now=NOW + timedelta(days=1)),
        message_id(reminders=REMINDERS[:-1]),
        message_id(publisher=a_publisher(licensing_email=PUBLISHER.licensing_email, name=PUBLISHER.name)),
    }
    assert len(others | {same}) == 4


def test_the_id_of_a_sender_with_a_long_name_stays_whole() -> None:
    domain = f"{'x' * 60}.{'y' * 60}.example.com"
    assert written(sender=f"no-reply@{domain}")["Message-ID"].endswith(f"@{domain}>")


@pytest.mark.parametrize(
    "address", ["a,b@contoso.example", "a;b@contoso.example", "<a@contoso.example", "a@b@c.example"]
)
def test_an_address_that_is_none_goes_nowhere(address: str) -> None:
    """The rule of the records is generous; mail is not, since a comma would be another recipient."""
    with pytest.raises((ValueError, MessageError)):
        written(publisher=a_publisher(licensing_email=address))
