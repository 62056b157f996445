"""Who subscribes, and who cannot be made to: double opt-in, what strangers learn, and how many mails go out."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.azurite import Emulator
from licensing.catalogue.records import Product, Publisher
from licensing.errors import AlreadyExists, PublisherNotFound, RuleBroken
from licensing.identifiers import is_email
from licensing.notices.model import ChannelKind, Subscriber, SubscriberState, subscriber_id
from licensing.notices.subscriptions import quota as quota_module
from licensing.notices.subscriptions.confirmation_email import confirmation_email
from licensing.notices.subscriptions.service import ExpiredLink, Subscriptions
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.signing.service import Signer

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ADA = "ada@contoso.example"
URL = re.compile(r"https://licenses\.example\.com/\S+")


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Mailbox:
    """Keeps every mail; or takes none, where it is broken."""

    mails: list[EmailMessage] = field(default_factory=list)
    broken: Exception | None = None

    async def send(self, message: EmailMessage) -> None:
        if self.broken:
            raise self.broken
        # As it comes out at the other end.
        self.mails.append(message_from_bytes(message.as_bytes(policy=policy.SMTP), policy=policy.default))

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


@dataclass
class SubscriptionFixture:
    """A publisher with two products, on two instances that share nothing but storage."""

    publisher: Publisher
    products: dict[str, Product]
    one: Services
    other: Services
    mailbox: Mailbox
    clock: Clock

    @property
    def id(self) -> str:
        return self.publisher.id

    @property
    def subscriptions(self) -> Subscriptions:
        return self.one.subscriptions

    async def ask(self, email: str = ADA, *products: str, at: Services | None = None) -> None:
        await (at or self.one).subscriptions.request(self.id, email, products)

    def links(self, address: str = ADA) -> list[str]:
        """What stands at the end of each link of the last mail."""
        return [
            url.removeprefix(f"https://licenses.example.com/api/v1/publishers/{self.id}/subscriptions/")
            for url in URL.findall(text_of(self.mailbox.to(address)[-1]))
        ]

    async def found(self, email: str = ADA) -> Subscriber | None:
        return await self.other.subscriber_store.find_subscriber(self.id, subscriber_id(ChannelKind.EMAIL, email))

    async def is_active(self) -> bool:
        found = await self.found()
        assert found is not None
        return found.is_active

    async def subscribed(self, email: str = ADA, *products: str) -> Subscriber:
        await self.ask(email, *products)
        await self.subscriptions.confirm(self.id, self.links(email)[0])
        found = await self.found(email)
        assert found is not None
        return found


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def create_subscription_fixture(
    one: Services, other: Services, mailbox: Mailbox, clock: Clock
) -> SubscriptionFixture:
    common = {"created_at": NOW, "updated_at": NOW}
    publisher = Publisher(id=str(uuid4()), name="Contoso Apps", **common)  # type: ignore[arg-type] # of two types
    await one.catalogue.create_publisher(publisher, actor="test")
    products = {}
    for name in ("SmartSend", "ForexRates"):
        made = Product(id=str(uuid4()), name=name, **common)  # type: ignore[arg-type] # of two types
        products[name] = await one.catalogue.create(publisher.id, made, actor="test")
    return SubscriptionFixture(publisher, products, one, other, mailbox, clock)


@pytest.fixture
async def subscribing(tables: Emulator, key_set: KeySet) -> AsyncIterator[SubscriptionFixture]:
    clock, mailbox = Clock(), Mailbox()
    settings = Settings(
        storage=tables.connection_string,
        signing_keys=key_set.dump(),
        public_url="https://licenses.example.com",
        mail_from="no-reply@example.com",
        subscription_mails_per_hour=10,
        # Addresses are counted over all publishers: not over those of other tests.
        storage_table=f"s{uuid4().hex}",
    )
    instances = [Services(settings, clock), Services(settings, clock)]
    for each in instances:
        each.signer = Signer(key_set)  # to parse the keys takes longer than most of these tests
        each.subscriptions.mailer = mailbox
    await instances[0].table("").create()
    yield await create_subscription_fixture(instances[0], instances[1], mailbox, clock)
    for each in instances:
        await each.close()


# Double opt-in.


async def test_subscriber_is_inactive_until_confirmed_then_has_requested_products(
    subscribing: SubscriptionFixture,
) -> None:
    await subscribing.ask(" Ada@Contoso.example ", "smartsend ", subscribing.products["ForexRates"].id)
    asked = await subscribing.found()
    assert asked is not None
    assert (asked.address, asked.state, asked.is_active) == ("Ada@Contoso.example", SubscriberState.UNCONFIRMED, False)
    (link,) = subscribing.links("Ada@Contoso.example")
    choice = await subscribing.other.subscriptions.pending(subscribing.id, link)
    assert choice.products == ("ForexRates", "SmartSend")
    assert await subscribing.found() == asked, "to look changes nothing"
    await subscribing.other.subscriptions.confirm(subscribing.id, link)
    confirmed = await subscribing.found()
    assert confirmed is not None
    assert (confirmed.state, set(confirmed.product_ids)) == (
        SubscriberState.CONFIRMED,
        {each.id for each in subscribing.products.values()},
    )
    again = await subscribing.subscriptions.confirm(subscribing.id, link)
    assert again.subscriber.state is SubscriberState.CONFIRMED


async def test_confirmation_email_has_expected_headers_and_no_address_in_link(subscribing: SubscriptionFixture) -> None:
    await subscribing.ask(ADA, "SmartSend")
    (mail,) = subscribing.mailbox.mails
    assert (mail["From"], mail["To"]) == ("no-reply@example.com", ADA)
    assert mail["Subject"] == "Confirm your subscription to notices of Contoso Apps"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.com>")
    html = mail.get_body(("html",))
    assert html is not None
    (link,) = URL.findall(text_of(mail))
    assert f'<a href="{link}">{link}</a>' in html.get_content()
    assert "SmartSend" in text_of(mail)
    assert "contoso" not in link.lower()


async def test_request_by_confirmed_subscriber_changes_products_only_after_confirmation(
    subscribing: SubscriptionFixture,
) -> None:
    before = await subscribing.subscribed(ADA, "SmartSend")
    await subscribing.ask(ADA, "ForexRates")
    assert replace(before, etag="") == replace(await subscribing.found() or before, etag="")
    mail = subscribing.mailbox.mails[-1]
    assert mail["Subject"] == "Your subscription to notices of Contoso Apps"
    confirm, unsubscribe = subscribing.links()
    assert mail["List-Unsubscribe"] == f"<{subscribing.subscriptions.unsubscribe_url(subscribing.id, before)}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert unsubscribe == f"{before.id}{before.unsubscribe_key}/unsubscribe"
    await subscribing.subscriptions.confirm(subscribing.id, confirm)
    after = await subscribing.found()
    assert after is not None
    assert after.product_ids == (subscribing.products["ForexRates"].id,)
    assert after.unsubscribe_key == before.unsubscribe_key


async def test_request_with_unchanged_products_sends_only_unsubscribe_link(subscribing: SubscriptionFixture) -> None:
    await subscribing.subscribed(ADA, "SmartSend")
    await subscribing.ask(ADA, "SMARTSEND")
    (unsubscribe,) = subscribing.links()
    assert unsubscribe.endswith("/unsubscribe")


async def test_confirm_by_paused_subscriber_resets_bounces(subscribing: SubscriptionFixture) -> None:
    subscriber = await subscribing.subscribed()
    paused = replace(subscriber, state=SubscriberState.PAUSED, bounces=3)
    await subscribing.one.subscriber_store.put_subscriber(subscribing.id, paused)
    assert (await subscribing.subscribed()).bounces == 0


# Links that count no more, or never did.


async def test_confirmation_link_expires_after_48_hours(subscribing: SubscriptionFixture) -> None:
    await subscribing.ask()
    (link,) = subscribing.links()
    subscribing.clock.advance(hours=48)
    await subscribing.subscriptions.pending(subscribing.id, link)
    subscribing.clock.advance(seconds=1)
    for use in (subscribing.subscriptions.pending, subscribing.subscriptions.confirm):
        with pytest.raises(ExpiredLink):
            await use(subscribing.id, link)
    assert not await subscribing.is_active()


async def test_confirm_with_foreign_or_tampered_link_raises_expired_link(subscribing: SubscriptionFixture) -> None:
    elsewhere = await create_subscription_fixture(
        subscribing.one, subscribing.other, subscribing.mailbox, subscribing.clock
    )
    await elsewhere.ask()
    (foreign,) = elsewhere.links()
    await subscribing.ask()
    (link,) = subscribing.links()
    other_purpose = subscribing.subscriptions._serializer(subscribing.id)
    other_purpose.salt = b"cursor"
    payload, _, signature = link.rpartition(".")
    forged = [
        foreign,
        other_purpose.dumps({"id": subscriber_id(ChannelKind.EMAIL, ADA), "products": [], "until": 2**40}),
        f"{payload}.{signature[::-1]}",
        f"{payload[1:]}.{signature}",
        payload,
        link + "x",
        "",
        ".",
        "\ud800",
        "é",
    ]
    for token in forged:
        with pytest.raises(ExpiredLink):
            await subscribing.subscriptions.confirm(subscribing.id, token)
    assert not await subscribing.is_active()


async def test_confirm_after_unsubscribe_raises_expired_link(subscribing: SubscriptionFixture) -> None:
    subscriber = await subscribing.subscribed()
    (link,) = subscribing.links()
    await subscribing.subscriptions.unsubscribe(subscribing.id, subscriber.id + subscriber.unsubscribe_key)
    with pytest.raises(ExpiredLink):
        await subscribing.subscriptions.confirm(subscribing.id, link)
    assert await subscribing.found() is None


async def test_subscription_links_stay_valid_after_signing_key_rotation(
    subscribing: SubscriptionFixture, key_set: KeySet
) -> None:
    subscriber = await subscribing.subscribed()
    unsubscribe = subscriber.id + subscriber.unsubscribe_key
    await subscribing.ask("bob@contoso.example")
    (link,) = subscribing.links("bob@contoso.example")
    rotated = key_set.rotated(NOW)
    once = Services(replace(subscribing.one.settings, signing_keys=rotated.dump()), subscribing.clock)
    twice = Services(replace(subscribing.one.settings, signing_keys=rotated.rotated(NOW).dump()), subscribing.clock)
    await once.subscriptions.confirm(subscribing.id, link)
    await twice.subscriptions.unsubscribe(subscribing.id, unsubscribe)
    assert await subscribing.found() is None
    for each in (once, twice):
        await each.close()


# Unsubscribing.


async def test_unsubscribe_requires_exact_key_and_is_idempotent(subscribing: SubscriptionFixture) -> None:
    subscriber = await subscribing.subscribed()
    other = await subscribing.subscribed("bob@contoso.example")
    for token in (
        "",
        subscriber.id,
        subscriber.id + other.unsubscribe_key,
        subscriber.id + subscriber.unsubscribe_key[:-1],
        subscriber.id + subscriber.unsubscribe_key + "x",
        subscriber.id + "\ud800",
        subscriber.id.upper() + subscriber.unsubscribe_key,
    ):
        await subscribing.subscriptions.unsubscribe(subscribing.id, token)
        assert await subscribing.found() is not None, token
    for _ in range(2):
        await subscribing.other.subscriptions.unsubscribe(subscribing.id, subscriber.id + subscriber.unsubscribe_key)
        assert await subscribing.found() is None
    assert await subscribing.found("bob@contoso.example") is not None


async def test_unsubscribe_of_subscriber_without_key_has_no_effect(subscribing: SubscriptionFixture) -> None:
    keyless = Subscriber(id=subscriber_id(ChannelKind.EMAIL, ADA), created_at=NOW, updated_at=NOW, address=ADA)
    await subscribing.one.subscriber_store.put_subscriber(subscribing.id, keyless)
    await subscribing.subscriptions.unsubscribe(subscribing.id, keyless.id)
    assert await subscribing.found() is not None


# What strangers learn, and what they can do.


async def test_request_reveals_known_address_only_by_email_and_logs_no_address(
    subscribing: SubscriptionFixture, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribing.subscribed()
    for address in (ADA, "bob@contoso.example"):
        await subscribing.ask(address)
    assert subscribing.mailbox.to(ADA)[-1]["Subject"] != subscribing.mailbox.to("bob@contoso.example")[-1]["Subject"]
    assert "contoso.example" not in caplog.text


async def test_request_for_known_and_unknown_address_makes_same_storage_calls(
    subscribing: SubscriptionFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribing.subscribed()
    steps: list[str] = []
    table = subscribing.one.table(subscribing.id)
    for name in ("find", "commit"):
        real = getattr(table, name)

        async def counted(*given: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            steps.append(_name)
            return await _real(*given, **options)

        monkeypatch.setattr(table, name, counted)
    await subscribing.ask("carl@contoso.example")
    unknown, steps[:] = [*steps], []
    await subscribing.ask(ADA)
    assert steps == unknown


async def test_mail_quota_allows_three_emails_per_address_per_hour_across_publishers(
    subscribing: SubscriptionFixture,
) -> None:
    elsewhere = await create_subscription_fixture(
        subscribing.one, subscribing.other, subscribing.mailbox, subscribing.clock
    )
    for each in (subscribing, elsewhere, subscribing, elsewhere, subscribing):
        for at in (subscribing.one, subscribing.other):
            await each.ask("Ada@contoso.example", at=at)
            subscribing.clock.advance(minutes=1)
    assert len(subscribing.mailbox.mails) == 3
    subscribing.clock.advance(minutes=48)  # an hour less two minutes after the first
    await subscribing.ask()
    assert len(subscribing.mailbox.mails) == 3
    subscribing.clock.advance(minutes=3)
    for _ in range(3):
        await subscribing.ask(at=subscribing.other)
    assert len(subscribing.mailbox.mails) == 5, "two of the first three lie more than an hour back"


async def test_mail_quota_of_publisher_is_shared_by_all_addresses(subscribing: SubscriptionFixture) -> None:
    for number in range(12):
        await subscribing.ask(f"user{number}@contoso.example", at=(subscribing.one, subscribing.other)[number % 2])
    assert len(subscribing.mailbox.mails) == 10
    assert await subscribing.found("user11@contoso.example") is None, "what gets no mail is not kept either"
    elsewhere = await create_subscription_fixture(
        subscribing.one, subscribing.other, subscribing.mailbox, subscribing.clock
    )
    await elsewhere.ask("user11@contoso.example")
    assert len(subscribing.mailbox.mails) == 11
    subscribing.clock.advance(hours=1, seconds=1)
    await subscribing.ask("user11@contoso.example")
    assert len(subscribing.mailbox.mails) == 12


async def test_mail_quota_holds_under_concurrent_requests_on_two_instances(
    subscribing: SubscriptionFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_module, "_ATTEMPTS", 100)
    await asyncio.gather(*(subscribing.ask(at=at) for at in (subscribing.one, subscribing.other) * 5))
    assert len(subscribing.mailbox.mails) == 3


@pytest.mark.parametrize("broken", [OSError("to ada@contoso.example"), TimeoutError(), ValueError("ada")])
async def test_request_when_mailer_fails_succeeds_and_logs_error_type_only(
    subscribing: SubscriptionFixture, caplog: pytest.LogCaptureFixture, broken: Exception
) -> None:
    subscribing.mailbox.broken = broken
    await subscribing.ask()
    assert type(broken).__name__ in caplog.text
    assert "ada" not in caplog.text


async def test_request_without_mailer_succeeds_and_logs_warning(
    subscribing: SubscriptionFixture, caplog: pytest.LogCaptureFixture
) -> None:
    subscribing.subscriptions.mailer = None
    with caplog.at_level(logging.WARNING):
        await subscribing.ask()
    assert "nothing is set to carry mail" in caplog.text


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@contoso",
        "ada@@contoso.example",
        "@contoso.example",
        "ada@contoso.example, bob@contoso.example",
        "Ada <ada@contoso.example>",
        "ada@contoso.example\nBcc: bob@contoso.example",
        "ada@contoso.example\r",
        '"ada"@contoso.example',
        "ada.@contoso.example",
        "äda@contoso.example",
        "ada@\u212aontoso.example",
        "ada@-contoso.example",
        f"{'a' * 65}@contoso.example",
        f"ada@{'a.' * 130}example",
        "ada@contoso.example\ud800",
    ],
)
async def test_request_with_invalid_email_raises_rule_broken(subscribing: SubscriptionFixture, email: str) -> None:
    if email.strip() != ADA:
        with pytest.raises(RuleBroken) as refused:
            await subscribing.ask(email)
        assert refused.value.errors[0].field == "email"
    assert not subscribing.mailbox.mails


ATOM = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=20)
LABEL = st.text("abcXYZ019-", min_size=1, max_size=63)
ADDRESSES = st.builds(
    lambda local, labels: f"{'.'.join(local)}@{'.'.join(labels)}.example",
    st.lists(ATOM, min_size=1, max_size=3),
    st.lists(LABEL, min_size=1, max_size=3),
).filter(is_email)


@given(ADDRESSES)
def test_confirmation_email_supports_every_valid_address(address: str) -> None:
    publisher = Publisher(id=str(uuid4()), created_at=NOW, updated_at=NOW, name="Contoso Apps")
    mail = confirmation_email(publisher, address, [], confirm_url="https://a/b", sender="no-reply@example.com", now=NOW)
    read = message_from_bytes(mail.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert [each.addr_spec for each in read["To"].addresses] == [address]
    assert set(read.keys()) >= {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"}


async def test_request_with_unknown_product_or_publisher_raises(subscribing: SubscriptionFixture) -> None:
    elsewhere = await create_subscription_fixture(
        subscribing.one, subscribing.other, subscribing.mailbox, subscribing.clock
    )
    for unknown in ("Nothing", elsewhere.products["SmartSend"].id, "\ud800"):
        with pytest.raises(RuleBroken) as refused:
            await subscribing.ask(ADA, "SmartSend", unknown)
        assert [(each.field, each.code) for each in refused.value.errors] == [("products", "unknown")]
    with pytest.raises(PublisherNotFound):
        await subscribing.subscriptions.request(str(uuid4()), ADA, [])


async def test_confirmation_email_escapes_html_in_publisher_and_product_names(subscribing: SubscriptionFixture) -> None:
    publisher = replace(subscribing.publisher, name='<img src="x"> & "Söhne" \U0001f600 ' + "W" * 90)
    mail = confirmation_email(
        publisher, ADA, ["<b>"], confirm_url="https://a/b", sender="no-reply@example.com", now=NOW
    )
    read = message_from_bytes(mail.as_bytes(policy=policy.SMTP), policy=policy.default)
    html = read.get_body(("html",))
    assert html is not None
    assert "<img" not in html.get_content()
    assert "<b>" not in html.get_content()
    assert read["Subject"].endswith("W" * 90)


# What is forgotten.


async def test_purge_expired_deletes_unconfirmed_subscribers_and_old_mail_quota_rows(
    subscribing: SubscriptionFixture,
) -> None:
    await subscribing.subscribed("bob@contoso.example")
    await subscribing.ask()
    subscribing.clock.advance(hours=40)
    await subscribing.ask("carl@contoso.example")
    subscribing.clock.advance(hours=10)
    await subscribing.subscriptions.purge_expired(subscribing.id)
    assert await subscribing.found() is None
    assert await subscribing.found("carl@contoso.example") is not None
    assert await subscribing.found("bob@contoso.example") is not None
    table = subscribing.one.table("")
    kept = [row["RowKey"] async for row in table.rows("mails", "address|")]
    assert kept == [f"address||{subscriber_id(ChannelKind.EMAIL, 'carl@contoso.example')}"]
    subscribing.clock.advance(minutes=59)
    await subscribing.subscriptions.purge_expired(subscribing.id)  # not again within the hour
    subscribing.clock.advance(hours=40)
    await subscribing.subscriptions.purge_expired(subscribing.id)
    assert await subscribing.found("carl@contoso.example") is None


# Whom support adds.


def asked(channel: ChannelKind, address: str, *product_ids: str) -> Subscriber:
    return Subscriber(id="", created_at=NOW, updated_at=NOW, channel=channel, address=address, product_ids=product_ids)


async def test_add_activates_subscriber_immediately_and_rejects_duplicate(subscribing: SubscriptionFixture) -> None:
    await subscribing.ask()
    added = await subscribing.subscriptions.add(subscribing.id, asked(ChannelKind.EMAIL, "ADA@contoso.example"))
    assert (added.is_active, added.address, added.secret) == (True, ADA, "")
    with pytest.raises(AlreadyExists):
        await subscribing.subscriptions.add(subscribing.id, asked(ChannelKind.EMAIL, ADA))
    await subscribing.one.subscriber_store.put_subscriber(
        subscribing.id, replace(added, state=SubscriberState.PAUSED, bounces=3)
    )
    again = await subscribing.subscriptions.add(
        subscribing.id, asked(ChannelKind.EMAIL, ADA, subscribing.products["SmartSend"].id)
    )
    assert (again.is_active, again.bounces, again.product_ids) == (True, 0, (subscribing.products["SmartSend"].id,))


async def test_add_webhook_subscriber_generates_unique_secret(subscribing: SubscriptionFixture) -> None:
    secrets = set()
    for path in ("one", "two"):
        hook = asked(ChannelKind.WEBHOOK, f"https://hooks.contoso.example/{path}")
        secrets.add((await subscribing.subscriptions.add(subscribing.id, hook)).secret)
    assert all(len(secret) >= 43 for secret in secrets)
    assert len(secrets) == 2
    teams = await subscribing.subscriptions.add(
        subscribing.id, asked(ChannelKind.TEAMS, "https://teams.contoso.example/a?sig=b")
    )
    assert teams.secret == ""


@pytest.mark.parametrize(
    ("channel", "address", "code"),
    [
        (ChannelKind.EMAIL, "", "mandatory"),
        (ChannelKind.EMAIL, "https://hooks.contoso.example", "notAnEmail"),
        (ChannelKind.WEBHOOK, ADA, "notAUrl"),
        (ChannelKind.WEBHOOK, "http://hooks.contoso.example", "notAUrl"),
        (ChannelKind.WEBHOOK, "https://user:password@hooks.contoso.example", "notAUrl"),
        (ChannelKind.WEBHOOK, "https://[", "notAUrl"),
        (ChannelKind.WEBHOOK, "https://hooks.contoso.example:99999", "notAUrl"),
        (ChannelKind.TEAMS, "https:///path", "notAUrl"),
        (ChannelKind.TEAMS, "file:///etc/passwd", "notAUrl"),
        (ChannelKind.TEAMS, "https://a.example/" + "x" * 2000, "tooLong"),
    ],
)
async def test_add_with_invalid_address_raises_rule_broken(
    subscribing: SubscriptionFixture, channel: ChannelKind, address: str, code: str
) -> None:
    with pytest.raises(RuleBroken) as refused:
        await subscribing.subscriptions.add(subscribing.id, asked(channel, address))
    assert [(each.field, each.code) for each in refused.value.errors] == [("address", code)]


async def test_add_with_unknown_product_raises_rule_broken(subscribing: SubscriptionFixture) -> None:
    with pytest.raises(RuleBroken) as refused:
        await subscribing.subscriptions.add(subscribing.id, asked(ChannelKind.EMAIL, ADA, "SmartSend"))
    assert [(each.field, each.code) for each in refused.value.errors] == [("productIds", "unknown")]
