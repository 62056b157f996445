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
from licensing.catalogue.model import Product, Publisher
from licensing.errors import AlreadyExists, PublisherNotFound, RuleBroken
from licensing.fields import is_email
from licensing.notices import ledger as ledger_module
from licensing.notices.invitation import invitation
from licensing.notices.model import Channel, Subscriber, SubscriberState, subscriber_id
from licensing.notices.subscriptions import DeadLink, Subscriptions
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

    def goes_on(self, **span: float) -> None:
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
class Desk:
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
        return await self.other.notice_store.find_subscriber(self.id, subscriber_id(Channel.EMAIL, email))

    async def is_told(self) -> bool:
        found = await self.found()
        assert found is not None
        return found.wants

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


async def open_desk(one: Services, other: Services, mailbox: Mailbox, clock: Clock) -> Desk:
    common = {"created_at": NOW, "updated_at": NOW}
    publisher = Publisher(id=str(uuid4()), name="Contoso Apps", **common)  # type: ignore[arg-type] # of two types
    await one.catalogue.create_publisher(publisher, actor="test")
    products = {}
    for name in ("SmartSend", "ForexRates"):
        made = Product(id=str(uuid4()), name=name, **common)  # type: ignore[arg-type] # of two types
        products[name] = await one.catalogue.create(publisher.id, made, actor="test")
    return Desk(publisher, products, one, other, mailbox, clock)


@pytest.fixture
async def desk(tables: Emulator, key_set: KeySet) -> AsyncIterator[Desk]:
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
    yield await open_desk(instances[0], instances[1], mailbox, clock)
    for each in instances:
        await each.close()


# Double opt-in.


async def test_who_asks_is_told_of_nothing_before_they_confirm_and_then_of_what_they_chose(desk: Desk) -> None:
    await desk.ask(" Ada@Contoso.example ", "smartsend ", desk.products["ForexRates"].id)
    asked = await desk.found()
    assert asked is not None
    assert (asked.address, asked.state, asked.wants) == ("Ada@Contoso.example", SubscriberState.UNCONFIRMED, False)
    (link,) = desk.links("Ada@Contoso.example")
    choice = await desk.other.subscriptions.choice(desk.id, link)
    assert choice.products == ("ForexRates", "SmartSend")
    assert await desk.found() == asked, "to look changes nothing"
    await desk.other.subscriptions.confirm(desk.id, link)
    confirmed = await desk.found()
    assert confirmed is not None
    assert (confirmed.state, set(confirmed.product_ids)) == (
        SubscriberState.CONFIRMED,
        {each.id for each in desk.products.values()},
    )
    again = await desk.subscriptions.confirm(desk.id, link)
    assert again.subscriber.state is SubscriberState.CONFIRMED


async def test_the_mail_says_what_it_is_and_holds_the_address_in_no_link(desk: Desk) -> None:
    await desk.ask(ADA, "SmartSend")
    (mail,) = desk.mailbox.mails
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


async def test_who_is_confirmed_keeps_what_they_have_until_they_confirm_another_choice(desk: Desk) -> None:
    before = await desk.subscribed(ADA, "SmartSend")
    await desk.ask(ADA, "ForexRates")
    assert replace(before, etag="") == replace(await desk.found() or before, etag="")
    mail = desk.mailbox.mails[-1]
    assert mail["Subject"] == "Your subscription to notices of Contoso Apps"
    confirm, unsubscribe = desk.links()
    assert mail["List-Unsubscribe"] == f"<{desk.subscriptions.unsubscribe_url(desk.id, before)}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert unsubscribe == f"{before.id}{before.unsubscribe_key}/unsubscribe"
    await desk.subscriptions.confirm(desk.id, confirm)
    after = await desk.found()
    assert after is not None
    assert after.product_ids == (desk.products["ForexRates"].id,)
    assert after.unsubscribe_key == before.unsubscribe_key


async def test_who_asks_for_what_they_have_is_offered_no_change(desk: Desk) -> None:
    await desk.subscribed(ADA, "SmartSend")
    await desk.ask(ADA, "SMARTSEND")
    (unsubscribe,) = desk.links()
    assert unsubscribe.endswith("/unsubscribe")


async def test_an_address_that_was_paused_counts_again_once_its_owner_confirms(desk: Desk) -> None:
    subscriber = await desk.subscribed()
    paused = replace(subscriber, state=SubscriberState.PAUSED, bounces=3)
    await desk.one.notice_store.put_subscriber(desk.id, paused)
    assert (await desk.subscribed()).bounces == 0


# Links that count no more, or never did.


async def test_a_link_counts_for_48_hours(desk: Desk) -> None:
    await desk.ask()
    (link,) = desk.links()
    desk.clock.goes_on(hours=48)
    await desk.subscriptions.choice(desk.id, link)
    desk.clock.goes_on(seconds=1)
    for use in (desk.subscriptions.choice, desk.subscriptions.confirm):
        with pytest.raises(DeadLink):
            await use(desk.id, link)
    assert not await desk.is_told()


async def test_a_link_counts_at_its_publisher_for_its_purpose_and_unchanged(desk: Desk) -> None:
    elsewhere = await open_desk(desk.one, desk.other, desk.mailbox, desk.clock)
    await elsewhere.ask()
    (foreign,) = elsewhere.links()
    await desk.ask()
    (link,) = desk.links()
    other_purpose = desk.subscriptions._serializer(desk.id)
    other_purpose.salt = b"cursor"
    payload, _, signature = link.rpartition(".")
    forged = [
        foreign,
        other_purpose.dumps({"id": subscriber_id(Channel.EMAIL, ADA), "products": [], "until": 2**40}),
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
        with pytest.raises(DeadLink):
            await desk.subscriptions.confirm(desk.id, token)
    assert not await desk.is_told()


async def test_a_link_counts_no_more_once_the_address_is_forgotten(desk: Desk) -> None:
    subscriber = await desk.subscribed()
    (link,) = desk.links()
    await desk.subscriptions.unsubscribe(desk.id, subscriber.id + subscriber.unsubscribe_key)
    with pytest.raises(DeadLink):
        await desk.subscriptions.confirm(desk.id, link)
    assert await desk.found() is None


async def test_links_outlast_the_rotation_of_the_signing_keys(desk: Desk, key_set: KeySet) -> None:
    subscriber = await desk.subscribed()
    unsubscribe = subscriber.id + subscriber.unsubscribe_key
    await desk.ask("bob@contoso.example")
    (link,) = desk.links("bob@contoso.example")
    rotated = key_set.rotated(NOW)
    once = Services(replace(desk.one.settings, signing_keys=rotated.dump()), desk.clock)
    twice = Services(replace(desk.one.settings, signing_keys=rotated.rotated(NOW).dump()), desk.clock)
    await once.subscriptions.confirm(desk.id, link)
    await twice.subscriptions.unsubscribe(desk.id, unsubscribe)
    assert await desk.found() is None
    for each in (once, twice):
        await each.close()


# Unsubscribing.


async def test_to_unsubscribe_takes_the_key_and_a_second_time_is_the_same(desk: Desk) -> None:
    subscriber = await desk.subscribed()
    other = await desk.subscribed("bob@contoso.example")
    for token in (
        "",
        subscriber.id,
        subscriber.id + other.unsubscribe_key,
        subscriber.id + subscriber.unsubscribe_key[:-1],
        subscriber.id + subscriber.unsubscribe_key + "x",
        subscriber.id + "\ud800",
        subscriber.id.upper() + subscriber.unsubscribe_key,
    ):
        await desk.subscriptions.unsubscribe(desk.id, token)
        assert await desk.found() is not None, token
    for _ in range(2):
        await desk.other.subscriptions.unsubscribe(desk.id, subscriber.id + subscriber.unsubscribe_key)
        assert await desk.found() is None
    assert await desk.found("bob@contoso.example") is not None


async def test_a_row_without_a_key_has_no_link(desk: Desk) -> None:
    keyless = Subscriber(id=subscriber_id(Channel.EMAIL, ADA), created_at=NOW, updated_at=NOW, address=ADA)
    await desk.one.notice_store.put_subscriber(desk.id, keyless)
    await desk.subscriptions.unsubscribe(desk.id, keyless.id)
    assert await desk.found() is not None


# What strangers learn, and what they can do.


async def test_only_the_mailbox_tells_whether_an_address_is_known(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.subscribed()
    for address in (ADA, "bob@contoso.example"):
        await desk.ask(address)
    assert desk.mailbox.to(ADA)[-1]["Subject"] != desk.mailbox.to("bob@contoso.example")[-1]["Subject"]
    assert "contoso.example" not in caplog.text


async def test_both_take_the_same_steps(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.subscribed()
    steps: list[str] = []
    table = desk.one.table(desk.id)
    for name in ("find", "commit"):
        real = getattr(table, name)

        async def counted(*given: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            steps.append(_name)
            return await _real(*given, **options)

        monkeypatch.setattr(table, name, counted)
    await desk.ask("carl@contoso.example")
    unknown, steps[:] = [*steps], []
    await desk.ask(ADA)
    assert steps == unknown


async def test_an_address_gets_three_mails_an_hour_whatever_asks_for_them(desk: Desk) -> None:
    elsewhere = await open_desk(desk.one, desk.other, desk.mailbox, desk.clock)
    for each in (desk, elsewhere, desk, elsewhere, desk):
        for at in (desk.one, desk.other):
            await each.ask("Ada@contoso.example", at=at)
            desk.clock.goes_on(minutes=1)
    assert len(desk.mailbox.mails) == 3
    desk.clock.goes_on(minutes=48)  # an hour less two minutes after the first
    await desk.ask()
    assert len(desk.mailbox.mails) == 3
    desk.clock.goes_on(minutes=3)
    for _ in range(3):
        await desk.ask(at=desk.other)
    assert len(desk.mailbox.mails) == 5, "two of the first three lie more than an hour back"


async def test_many_addresses_share_the_budget_of_a_publisher(desk: Desk) -> None:
    for number in range(12):
        await desk.ask(f"user{number}@contoso.example", at=(desk.one, desk.other)[number % 2])
    assert len(desk.mailbox.mails) == 10
    assert await desk.found("user11@contoso.example") is None, "what gets no mail is not kept either"
    elsewhere = await open_desk(desk.one, desk.other, desk.mailbox, desk.clock)
    await elsewhere.ask("user11@contoso.example")
    assert len(desk.mailbox.mails) == 11
    desk.clock.goes_on(hours=1, seconds=1)
    await desk.ask("user11@contoso.example")
    assert len(desk.mailbox.mails) == 12


async def test_two_instances_at_once_do_not_exceed_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_ATTEMPTS", 100)
    await asyncio.gather(*(desk.ask(at=at) for at in (desk.one, desk.other) * 5))
    assert len(desk.mailbox.mails) == 3


@pytest.mark.parametrize("broken", [OSError("to ada@contoso.example"), TimeoutError(), ValueError("ada")])
async def test_whoever_asks_does_not_learn_that_mail_fails(
    desk: Desk, caplog: pytest.LogCaptureFixture, broken: Exception
) -> None:
    desk.mailbox.broken = broken
    await desk.ask()
    assert type(broken).__name__ in caplog.text
    assert "ada" not in caplog.text


async def test_without_anybody_to_carry_mail_the_answer_is_the_same(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.subscriptions.mailer = None
    with caplog.at_level(logging.WARNING):
        await desk.ask()
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
async def test_what_is_no_address_is_refused(desk: Desk, email: str) -> None:
    if email.strip() != ADA:
        with pytest.raises(RuleBroken) as refused:
            await desk.ask(email)
        assert refused.value.errors[0].field == "email"
    assert not desk.mailbox.mails


ATOM = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=20)
LABEL = st.text("abcXYZ019-", min_size=1, max_size=63)
ADDRESSES = st.builds(
    lambda local, labels: f"{'.'.join(local)}@{'.'.join(labels)}.example",
    st.lists(ATOM, min_size=1, max_size=3),
    st.lists(LABEL, min_size=1, max_size=3),
).filter(is_email)


@given(ADDRESSES)
def test_mail_takes_every_address_that_is_taken_here(address: str) -> None:
    publisher = Publisher(id=str(uuid4()), created_at=NOW, updated_at=NOW, name="Contoso Apps")
    mail = invitation(publisher, address, [], confirm_url="https://a/b", sender="no-reply@example.com", now=NOW)
    read = message_from_bytes(mail.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert [each.addr_spec for each in read["To"].addresses] == [address]
    assert set(read.keys()) >= {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"}


async def test_products_are_the_publisher_s(desk: Desk) -> None:
    elsewhere = await open_desk(desk.one, desk.other, desk.mailbox, desk.clock)
    for unknown in ("Nothing", elsewhere.products["SmartSend"].id, "\ud800"):
        with pytest.raises(RuleBroken) as refused:
            await desk.ask(ADA, "SmartSend", unknown)
        assert [(each.field, each.code) for each in refused.value.errors] == [("products", "unknown")]
    with pytest.raises(PublisherNotFound):
        await desk.subscriptions.request(str(uuid4()), ADA, [])


async def test_names_from_outside_are_harmless_in_the_mail(desk: Desk) -> None:
    publisher = replace(desk.publisher, name='<img src="x"> & "Söhne" \U0001f600 ' + "W" * 90)
    mail = invitation(publisher, ADA, ["<b>"], confirm_url="https://a/b", sender="no-reply@example.com", now=NOW)
    read = message_from_bytes(mail.as_bytes(policy=policy.SMTP), policy=policy.default)
    html = read.get_body(("html",))
    assert html is not None
    assert "<img" not in html.get_content()
    assert "<b>" not in html.get_content()
    assert read["Subject"].endswith("W" * 90)


# What is forgotten.


async def test_who_never_confirmed_is_forgotten(desk: Desk) -> None:
    await desk.subscribed("bob@contoso.example")
    await desk.ask()
    desk.clock.goes_on(hours=40)
    await desk.ask("carl@contoso.example")
    desk.clock.goes_on(hours=10)
    await desk.subscriptions.tidy(desk.id)
    assert await desk.found() is None
    assert await desk.found("carl@contoso.example") is not None
    assert await desk.found("bob@contoso.example") is not None
    table = desk.one.table("")
    kept = [row["RowKey"] async for row in table.rows("mails", "address|")]
    assert kept == [f"address||{subscriber_id(Channel.EMAIL, 'carl@contoso.example')}"]
    desk.clock.goes_on(minutes=59)
    await desk.subscriptions.tidy(desk.id)  # not again within the hour
    desk.clock.goes_on(hours=40)
    await desk.subscriptions.tidy(desk.id)
    assert await desk.found("carl@contoso.example") is None


# Whom support adds.


def asked(channel: Channel, address: str, *product_ids: str) -> Subscriber:
    return Subscriber(id="", created_at=NOW, updated_at=NOW, channel=channel, address=address, product_ids=product_ids)


async def test_whom_support_adds_counts_at_once(desk: Desk) -> None:
    await desk.ask()
    added = await desk.subscriptions.add(desk.id, asked(Channel.EMAIL, "ADA@contoso.example"))
    assert (added.wants, added.address, added.secret) == (True, ADA, "")
    with pytest.raises(AlreadyExists):
        await desk.subscriptions.add(desk.id, asked(Channel.EMAIL, ADA))
    await desk.one.notice_store.put_subscriber(desk.id, replace(added, state=SubscriberState.PAUSED, bounces=3))
    again = await desk.subscriptions.add(desk.id, asked(Channel.EMAIL, ADA, desk.products["SmartSend"].id))
    assert (again.wants, again.bounces, again.product_ids) == (True, 0, (desk.products["SmartSend"].id,))


async def test_each_webhook_has_a_secret_of_its_own(desk: Desk) -> None:
    secrets = set()
    for path in ("one", "two"):
        hook = asked(Channel.WEBHOOK, f"https://hooks.contoso.example/{path}")
        secrets.add((await desk.subscriptions.add(desk.id, hook)).secret)
    assert all(len(secret) >= 43 for secret in secrets)
    assert len(secrets) == 2
    teams = await desk.subscriptions.add(desk.id, asked(Channel.TEAMS, "https://teams.contoso.example/a?sig=b"))
    assert teams.secret == ""


@pytest.mark.parametrize(
    ("channel", "address", "code"),
    [
        (Channel.EMAIL, "", "mandatory"),
        (Channel.EMAIL, "https://hooks.contoso.example", "notAnEmail"),
        (Channel.WEBHOOK, ADA, "notAUrl"),
        (Channel.WEBHOOK, "http://hooks.contoso.example", "notAUrl"),
        (Channel.WEBHOOK, "https://user:password@hooks.contoso.example", "notAUrl"),
        (Channel.WEBHOOK, "https://[", "notAUrl"),
        (Channel.WEBHOOK, "https://hooks.contoso.example:99999", "notAUrl"),
        (Channel.TEAMS, "https:///path", "notAUrl"),
        (Channel.TEAMS, "file:///etc/passwd", "notAUrl"),
        (Channel.TEAMS, "https://a.example/" + "x" * 2000, "tooLong"),
    ],
)
async def test_what_cannot_be_told_is_not_added(desk: Desk, channel: Channel, address: str, code: str) -> None:
    with pytest.raises(RuleBroken) as refused:
        await desk.subscriptions.add(desk.id, asked(channel, address))
    assert [(each.field, each.code) for each in refused.value.errors] == [("address", code)]


async def test_support_chooses_products_of_the_publisher(desk: Desk) -> None:
    with pytest.raises(RuleBroken) as refused:
        await desk.subscriptions.add(desk.id, asked(Channel.EMAIL, ADA, "SmartSend"))
    assert [(each.field, each.code) for each in refused.value.errors] == [("productIds", "unknown")]
