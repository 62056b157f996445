"""The mail about what expires soon, as a mail program reads it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

import pytest

from licensing.catalogue.records import LicenseType, Publisher, Region
from licensing.reports.digest_email import digest_email
from licensing.reports.model import ExpiryItem, Reminder
from tests.support.records import NOW, a_publisher

PUBLISHER = a_publisher(licensing_email="licensing@contoso.example", name="Contoso <Apps> & Co")


def an_item(days_left: int, customer: str = "Fabrikam", product: str = "SmartSend", **fields: Any) -> ExpiryItem:
    end_date = NOW.date() + timedelta(days=days_left)
    given = {"license_type": LicenseType.ANNUAL, "expired": days_left < 0, **fields}
    return ExpiryItem(customer_name=customer, product_name=product, end_date=end_date, days_left=days_left, **given)


def a_reminder(threshold: int, days_left: int, *names: str, **fields: Any) -> Reminder:
    return Reminder(an_item(days_left, *names, **fields), threshold)


REMINDERS = [
    a_reminder(0, 0),
    a_reminder(1, 1, "Ærø Søfart"),
    a_reminder(30, 20, "<script>alert(1)</script>"),
    a_reminder(30, 25, 'A "quoted" & Co', "R&D <Tools>", customer_number="<b>7", region=Region.ANZ),
    a_reminder(60, 60, feature_disable_date=NOW.date() + timedelta(days=90)),
]
OVERDUE = [
    an_item(-300, customer_number="C-1", feature_disable_date=NOW.date()),
    an_item(
        -1, "Adatum", license_type=LicenseType.PERPETUAL, expired=False, maintenance_expired=True, region=Region.OTHER
    ),
]


def written(
    reminders: list[Reminder] = REMINDERS,
    publisher: Publisher = PUBLISHER,
    now: datetime = NOW,
    overdue: Sequence[ExpiryItem] = (),
    sender: str = "no-reply@licenses.example.com",
) -> EmailMessage:
    """The mail, once it has been bytes."""
    made = digest_email(publisher, reminders, overdue, sender=sender, now=now)
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


def test_digest_email_has_expected_headers() -> None:
    message = written()
    assert message["From"] == "no-reply@licenses.example.com"
    assert message["To"] == "licensing@contoso.example"
    assert message["Subject"] == "Licenses that expire soon: 5"
    assert message["Date"].datetime == NOW
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].startswith("<20261124.")
    assert message["Message-ID"].endswith("@licenses.example.com>")


INTRO = (
    "Licenses of Contoso <Apps> & Co that expire soon or are overdue. Today is 2026-11-24, in UTC. "
    "Licenses that are not enabled are left out."
)


def test_digest_email_plain_text_matches_expected_text() -> None:
    assert part(written(overdue=OVERDUE), "plain") == (
        f"{INTRO}\n"
        "\n"
        "Today\n"
        "  2026-11-24  Fabrikam: SmartSend (annual)\n"
        "\n"
        "Within 1 day\n"
        "  2026-11-25  Ærø Søfart: SmartSend (annual)\n"
        "\n"
        "Within 30 days\n"
        "  2026-12-14  <script>alert(1)</script>: SmartSend (annual)\n"
        '  2026-12-19  A "quoted" & Co (<b>7, anz): R&D <Tools> (annual)\n'
        "\n"
        "Within 60 days\n"
        "  2027-01-23  Fabrikam: SmartSend (annual), feature disable date 2027-02-22\n"
        "\n"
        "Overdue\n"
        "  2026-01-28  Fabrikam (C-1): SmartSend (annual), feature disable date 2026-11-24\n"
        "  2026-11-23  Adatum (other): SmartSend (perpetual, maintenance expired)\n"
        "\n"
        "Each license is listed 60, 30, 14, 7, 1 and 0 days before its end date, or in the first digest after that, "
        "once for each step.\n"
        "\n"
        "Overdue licenses are listed in every digest for 366 days, or until they are renewed or deleted.\n"
        "\n"
        "The expiry report in your licensing app shows all licenses that are due.\n"
    )


SUBJECTS: dict[str, tuple[list[Reminder], list[ExpiryItem], str]] = {
    "expiring only": (REMINDERS, [], "Licenses that expire soon: 5"),
    "both": (REMINDERS[:1], OVERDUE, "Licenses that expire soon: 1, overdue: 2"),
    "overdue only": ([], OVERDUE, "Licenses that are overdue: 2"),
}


@pytest.mark.parametrize(("reminders", "overdue", "subject"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_digest_email_subject_and_sections_match_content(
    reminders: list[Reminder], overdue: list[ExpiryItem], subject: str
) -> None:
    message = written(reminders, overdue=overdue)
    assert message["Subject"] == subject
    for each in (part(message, "plain"), part(message, "html")):
        assert each.count("Overdue\n") + each.count("<h3>Overdue</h3>") == bool(overdue)


REST = "and {} more; the expiry report in your licensing app shows all"


@pytest.mark.parametrize(("overdue", "rest"), [(200, ""), (201, REST.format(1)), (20_000, REST.format("19,800"))])
def test_digest_email_lists_only_the_200_overdue_licenses_that_ended_last(overdue: int, rest: str) -> None:
    items = [an_item(index - overdue, f"Customer {index}") for index in range(overdue)]
    message = written([], overdue=items)
    assert message["Subject"] == f"Licenses that are overdue: {overdue}"
    assert len(message.as_bytes()) < 100_000
    _, *lines = part(message, "plain").split("\n\n")[1].split("\n")
    assert lines[200:] == ([f"  {rest}"] if rest else [])
    assert f"Customer {overdue - 200}:" in lines[0]
    assert f"Customer {overdue - 1}:" in lines[199]
    assert part(message, "html").count("<td>Customer ") == 200
    assert [text for text in Reader(part(message, "html")).texts if " more; " in text] == ([rest] if rest else [])


@pytest.mark.parametrize(("due", "rest"), [(1000, []), (1001, [REST.format(1)]), (3000, [REST.format("2,000")])])
def test_digest_email_lists_only_the_1000_licenses_that_expire_first(due: int, rest: list[str]) -> None:
    reminders = [a_reminder(7 if index < 900 else 30, 5 if index < 900 else 20, f"C{index}") for index in range(due)]
    message = written(reminders, overdue=OVERDUE)
    assert message["Subject"] == f"Licenses that expire soon: {due}, overdue: 2"
    lines = part(message, "plain").split("Overdue\n")[0].split("\n")
    assert [line.split()[1] for line in lines if line.startswith("  20")] == [f"C{index}:" for index in range(1000)]
    assert [line.strip() for line in lines if " more; " in line] == rest
    assert [text for text in Reader(part(message, "html")).texts if " more; " in text] == rest


def test_digest_email_contains_no_link() -> None:
    message = written(overdue=OVERDUE)
    for each in (part(message, "plain"), part(message, "html")):
        assert "://" not in each
        assert "/api/" not in each
        assert "href" not in each


def test_digest_email_html_has_a_column_for_each_field() -> None:
    page = Reader(part(written(REMINDERS[3:4]), "html"))
    assert page.texts[2:9] == [
        *("Ends on", "Customer", "Number", "Region", "Product", "License type", "Feature disable date"),
    ]
    assert page.texts[9:15] == ["2026-12-19", 'A "quoted" & Co', "<b>7", "anz", "R&D <Tools>", "annual"]


def test_digest_email_html_escapes_names() -> None:
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
    assert page.texts[0] == INTRO


def test_digest_email_message_id_depends_on_day_content_and_publisher() -> None:
    def message_id(**parts: Any) -> str:
        return str(written(**parts)["Message-ID"])

    same = message_id(now=NOW + timedelta(hours=6))
    assert message_id() == same
    others = {
        message_id(now=NOW + timedelta(days=1)),
        message_id(reminders=REMINDERS[:-1]),
        message_id(overdue=OVERDUE),
        message_id(publisher=a_publisher(licensing_email=PUBLISHER.licensing_email, name=PUBLISHER.name)),
    }
    assert len(others | {same}) == 5


def test_digest_email_message_id_keeps_long_sender_domain() -> None:
    domain = f"{'x' * 60}.{'y' * 60}.example.com"
    assert written(sender=f"no-reply@{domain}")["Message-ID"].endswith(f"@{domain}>")


@pytest.mark.parametrize(
    "address", ["a,b@contoso.example", "a;b@contoso.example", "<a@contoso.example", "a@b@c.example"]
)
def test_digest_email_with_invalid_recipient_raises(address: str) -> None:
    """The rule of the records is generous; mail is not, since a comma would be another recipient."""
    with pytest.raises((ValueError, MessageError)):
        written(publisher=a_publisher(licensing_email=address))
