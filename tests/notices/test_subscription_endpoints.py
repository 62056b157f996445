"""Subscribing at a real host, as a browser, a mail program and a mail scanner do; and what support sees of it."""

import csv
import io
import math
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from devhost.azurite import Emulator
from devhost.issuer import Issuer, issuing
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.notices.delivery.outbox import DeliveryFailed, Message
from licensing.notices.model import ChannelKind, subscriber_id
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.support.administration import People, PublisherApi, faults, refusal, unique
from tests.support.hosting import PUBLIC_URL, Served, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@dataclass(frozen=True)
class SubscriptionHostFixture:
    """A host with a mail folder, those who sign in at it, and another instance beside it."""

    host: Served
    mail_folder: Path
    people: People

    @property
    def client(self) -> httpx.AsyncClient:
        return self.people.client

    def mails(self, address: str) -> list[EmailMessage]:
        """Oldest first."""
        files = sorted(self.mail_folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
        mails = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
        return [mail for mail in mails if mail["To"] == address]

    def links(self, address: str) -> list[str]:
        """The paths of the links in the last mail."""
        part = self.mails(address)[-1].get_body(("plain",))
        assert part is not None
        return re.findall(rf"{re.escape(PUBLIC_URL)}(/\S+)", part.get_content())


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuing(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
async def subscription_host(
    tables: Emulator, key_set: KeySet, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SubscriptionHostFixture]:
    mail_folder = tmp_path_factory.mktemp("mail")
    settings = settings_for(
        tables.connection_string,
        key_set,
        LICENSING_STORAGE_TABLE="subscribing",
        LICENSING_DIRECTORY_ID=DEMO_DIRECTORY_ID,
        LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        LICENSING_SIGN_IN_AUTHORITY=issuer.url,
        LICENSING_MAIL_FOLDER=str(mail_folder),
        LICENSING_MAIL_FROM="no-reply@example.com",
    )
    beside = Services(Settings.read(settings))
    await beside.table("").create()
    await beside.close()
    with served(settings, tmp_path_factory.mktemp("host")) as host:
        async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
            yield SubscriptionHostFixture(host, mail_folder, People(client, issuer))


@pytest.fixture
async def api(subscription_host: SubscriptionHostFixture) -> PublisherApi:
    return await subscription_host.people.create_publisher_api(supportEmail="help@contoso.example")


@pytest.fixture
async def instance(subscription_host: SubscriptionHostFixture) -> AsyncIterator[Services]:
    made = Services(Settings.read(subscription_host.host.settings))
    yield made
    await made.close()


def an_address() -> str:
    return f"ada-{uuid4().hex}@contoso.example"


def assert_page(answer: httpx.Response, status: int = 200) -> str:
    """The page's HTML: nothing in it runs, nobody keeps it, and no other site learns its address."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    return answer.text


async def subscriber(api: PublisherApi, address: str) -> dict[str, Any] | None:
    found = await api.admin.all(f"{api.path}/subscribers?search={address}")
    return found[0] if found else None


# Whoever subscribes.


async def test_subscription_is_confirmed_by_link_and_removed_by_one_click_unsubscribe(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    product, address = await api.product(), an_address()
    path = f"/api/v1{api.path}/subscriptions"
    answer = await subscription_host.client.post(path, json={"email": address, "products": [product["name"]]})
    assert answer.status_code == 202
    assert set(answer.json()) == {"message"}
    (confirm,) = subscription_host.links(address)
    for method in ("GET", "HEAD", "GET"):  # a scanner, and a browser
        page = assert_page(await subscription_host.client.request(method, confirm))
    assert "<button>Confirm</button>" in page
    assert 'method="post"' in page
    assert product["name"] in page
    assert address not in page
    asked = await subscriber(api, address)
    assert asked is not None
    assert asked["state"] == "unconfirmed"

    assert "You are subscribed" in assert_page(await subscription_host.client.post(confirm))
    confirmed = await subscriber(api, address)
    assert confirmed is not None
    assert (confirmed["state"], confirmed["productIds"]) == ("confirmed", [product["id"]])

    again = await subscription_host.client.post(path, json={"email": address})
    assert (again.status_code, again.content) == (202, answer.content)
    mail = subscription_host.mails(address)[-1]
    url = mail["List-Unsubscribe"].strip("<>").removeprefix(PUBLIC_URL)
    assert subscription_host.links(address)[-1] == url
    assert "<button>Unsubscribe</button>" in assert_page(await subscription_host.client.get(url))
    assert await subscriber(api, address) == confirmed, "to look changes nothing"
    pages = [assert_page(await subscription_host.client.post(url, data=ONE_CLICK)) for _ in range(2)]
    assert pages[0] == pages[1]
    assert await subscriber(api, address) is None
    assert "This link counts no more" in assert_page(await subscription_host.client.post(confirm), 410)


@pytest.mark.parametrize("body", [b"", b"List-Unsubscribe=One-Click", b"\xff", b"{}"])
async def test_unsubscribe_endpoint_accepts_post_with_any_body(
    subscription_host: SubscriptionHostFixture, api: PublisherApi, body: bytes
) -> None:
    address = an_address()
    await api.admin.make(f"{api.path}/subscribers", address=address)
    await subscription_host.client.post(f"/api/v1{api.path}/subscriptions", json={"email": address})
    assert_page(await subscription_host.client.post(subscription_host.links(address)[-1], content=body))
    assert await subscriber(api, address) is None


async def test_subscription_form_returns_html_page_and_stores_selected_products(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    products, address = [await api.product(), await api.product()], an_address()
    path = f"/status/{api.publisher_id.upper()}/subscriptions"
    form = {"email": address, "product": [each["id"] for each in products]}
    page = assert_page(await subscription_host.client.post(path, data=form), 202)
    assert "Look into your mail" in page
    assert "help@contoso.example" in page
    assert address not in page
    await subscription_host.client.post(subscription_host.links(address)[0])
    found = await subscriber(api, address)
    assert found is not None
    assert set(found["productIds"]) == {each["id"] for each in products}


@pytest.mark.parametrize(
    ("email", "product"), [("", []), ("<script>", []), ("ada@contoso.example", ["<script>"]), ("a@b.example\n", ["x"])]
)
async def test_subscription_form_with_invalid_fields_returns_escaped_422_page(
    subscription_host: SubscriptionHostFixture, api: PublisherApi, email: str, product: list[str]
) -> None:
    page = assert_page(
        await subscription_host.client.post(
            f"/status/{api.publisher_id}/subscriptions", data={"email": email, "product": product}
        ),
        422,
    )
    assert "<script>" not in page


async def test_subscription_form_rejects_wrong_media_type_malformed_body_and_unknown_publisher(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    path, form = f"/status/{api.publisher_id}/subscriptions", {"content-type": "application/x-www-form-urlencoded"}
    cases: list[tuple[str, bytes, dict[str, str], tuple[int, str]]] = [
        (path, b"email=ada%40contoso.example", {}, (415, "unsupportedMediaType")),
        (path, b"email=%ff", form, (400, "malformedRequest")),
        (path, b"a=1&" * 1001, form, (400, "malformedRequest")),
        (f"/status/{uuid4()}/subscriptions", b"email=a%40b.example", form, (404, "publisherNotFound")),
    ]
    for url, body, headers, refused in cases:
        assert refusal(await subscription_host.client.post(url, content=body, headers=headers)) == refused


async def test_subscriptions_endpoint_with_invalid_body_returns_field_errors(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    path = f"/api/v1{api.path}/subscriptions"
    cases: list[tuple[Any, dict[str, str]]] = [
        ({}, {"email": "mandatory"}),
        ({"email": "ada"}, {"email": "notAnEmail"}),
        ({"email": 1}, {"email": "wrongType"}),
        ({"email": an_address(), "products": "SmartSend"}, {"products": "wrongType"}),
        ({"email": an_address(), "products": ["nothing"]}, {"products": "unknown"}),
        ({"email": an_address(), "products": ["nothing"] * 101}, {"products": "tooMany"}),
        ({"email": an_address(), "planted": 1}, {"planted": "unknownField"}),
    ]
    for body, expected in cases:
        answer = await subscription_host.client.post(path, json=body)
        assert refusal(answer) == (422, "ruleBroken")
        assert expected.items() <= faults(answer).items()
    unknown = await subscription_host.client.post(
        f"/api/v1/publishers/{uuid4()}/subscriptions", json={"email": an_address()}
    )
    assert refusal(unknown) == (404, "publisherNotFound")


async def test_subscriptions_endpoint_returns_same_response_for_known_and_unknown_address(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    known, unknown = an_address(), an_address()
    await api.admin.make(f"{api.path}/subscribers", address=known)
    answers = [
        await subscription_host.client.post(f"/api/v1{api.path}/subscriptions", json={"email": address})
        for address in (known, unknown)
        for _ in range(4)  # one more than there are mails for
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert [len(subscription_host.mails(address)) for address in (known, unknown)] == [3, 3]
    log = subscription_host.host.log.read_text()
    assert known not in log
    assert unknown not in log


async def test_subscription_links_with_tampered_token_return_html_page(
    subscription_host: SubscriptionHostFixture, api: PublisherApi
) -> None:
    path = f"/api/v1{api.path}/subscriptions"
    for token in ("x", ".", "%ff", "%ed%a0%80", "%00", "a" * 1500, "%3Cscript%3E"):
        for method in ("GET", "POST"):
            assert "<script>" not in assert_page(
                await subscription_host.client.request(method, f"{path}/x{token}"), 410
            )
            assert_page(await subscription_host.client.request(method, f"{path}/x{token}/unsubscribe"))


# Support.


async def test_subscribers_endpoints_create_list_search_and_delete(api: PublisherApi) -> None:
    product = await api.product()
    path = f"{api.path}/subscribers"
    added = {}
    for name in ("ada", "bob", "carl"):
        added[name] = await api.admin.make(path, address=f"{name}@{uuid4().hex}.example", productIds=[product["id"]])
    assert added["ada"]["state"] == "confirmed"
    assert added["ada"]["secret"] == ""
    listed = await api.admin.all(f"{path}?limit=1")
    assert {each["address"] for each in listed} == {each["address"] for each in added.values()}
    assert [each["id"] for each in listed] == sorted(each["id"] for each in listed)
    assert "secret" not in listed[0]
    (found,) = await api.admin.all(f"{path}?search=BOB@")
    assert found["address"] == added["bob"]["address"]
    one = await api.admin("GET", f"{path}/{found['id']}")
    assert one.json() == found
    assert one.headers["etag"] == f'"{found["etag"]}"'
    assert refusal(await api.admin("DELETE", f"{path}/{found['id']}", if_match='"0"')) == (412, "preconditionFailed")
    answer = await api.admin("DELETE", f"{path}/{found['id']}", if_match=one.headers["etag"])
    assert answer.status_code == 204
    for method in ("GET", "DELETE"):
        assert refusal(await api.admin(method, f"{path}/{found['id']}")) == (404, "notFound")
    again = await api.admin("POST", path, {"address": added["ada"]["address"].upper()})
    assert (refusal(again), faults(again)) == ((409, "alreadyExists"), {"address": "taken"})


async def test_subscribers_endpoints_return_webhook_secret_once_and_never_its_url(api: PublisherApi) -> None:
    path, url = f"{api.path}/subscribers", "https://prod-12.example:8443/workflows/4b1d?sig=planted"
    created = await api.admin("POST", path, {"channel": "webhook", "address": url})
    made = created.json()
    assert created.headers["location"] == f"{PUBLIC_URL}/api/v1{path}/{made['id']}"
    assert made["address"] == "prod-12.example/\u2026"
    assert len(made["secret"]) >= 43
    teams = await api.admin.make(path, channel="teams", address=url.replace("4b1d", "5c2e"))
    assert teams["secret"] == ""
    everything = created.text
    for asked in (path, f"{path}/{made['id']}", f"{path}?search=prod-12"):
        answer = await api.admin("GET", asked)
        everything += answer.text
        assert made["secret"] not in answer.text
    everything += (await api.admin("GET", path, accept="text/csv")).text
    assert "planted" not in everything
    assert "workflows" not in everything
    assert await api.admin.all(f"{path}?search=planted") == [], "nobody guesses it letter by letter"


async def test_audit_contains_no_subscriber_address(api: PublisherApi) -> None:
    address = an_address()
    await api.admin.make(f"{api.path}/subscribers", address=address)
    assert address not in str(await api.audit())


async def test_subscribers_endpoint_as_csv_returns_all_rows_and_escapes_formulas(api: PublisherApi) -> None:
    for address in ("=1+1@contoso.example", "+1@contoso.example", "plain@contoso.example"):
        await api.admin.make(f"{api.path}/subscribers", address=address)
    answer = await api.admin("GET", f"{api.path}/subscribers?limit=1", accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert re.fullmatch(
        r'attachment; filename="subscribers-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
    )
    rows = [*csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))]
    assert {row["Address"] for row in rows} == {
        "'=1+1@contoso.example",
        "'+1@contoso.example",
        "plain@contoso.example",
    }
    assert {row["State"] for row in rows} == {"confirmed"}


# What could not be delivered.


class RefusingChannel:
    """A channel that refuses for good, or takes what it gets."""

    def __init__(self) -> None:
        self.refuses = True
        self.arrived: list[str] = []

    async def send(self, message: Message) -> None:
        if self.refuses:
            raise DeliveryFailed("addressRefused", refused_for_good=True)
        self.arrived.append(message.delivery.id)


async def post(api: PublisherApi) -> dict[str, Any]:
    fields = {"kind": "announcement", "title": unique("News"), "body": "None."}
    return await api.admin.make(f"{api.path}/notices", **fields)


async def test_subscriber_with_three_bounces_is_paused_and_undelivered_message_is_replayable(
    api: PublisherApi, instance: Services
) -> None:
    address, channel = an_address(), RefusingChannel()
    added_before = await api.admin.make(f"{api.path}/subscribers", address=address)
    assert UUID(added_before["id"]).hex == subscriber_id(ChannelKind.EMAIL, address)
    outbox = replace(instance.outbox, channels={ChannelKind.EMAIL: channel})
    for bounces in (1, 2, 3):
        await post(api)
        await outbox.run(api.publisher_id, math.inf)
        listed = await subscriber(api, address)
        assert listed is not None
        assert (listed["bounces"], listed["state"]) == (bounces, "paused" if bounces == 3 else "confirmed")
    undelivered = await api.admin.all(f"{api.path}/undelivered?limit=2")
    assert len(undelivered) == 3
    assert {(each["announcement"], each["reason"], each["attempts"]) for each in undelivered} == {
        ("posted", "addressRefused", 1)
    }
    assert {each["subscriberId"] for each in undelivered} == {added_before["id"]}
    assert datetime.now(UTC) - datetime.fromisoformat(undelivered[0]["at"]) < timedelta(minutes=5)

    first = f"{api.path}/undelivered/{undelivered[0]['deliveryId']}/replay"
    assert refusal(await api.admin("POST", first)) == (409, "conflict")
    added = await api.admin.make(f"{api.path}/subscribers", address=address)
    assert (added["state"], added["bounces"]) == ("confirmed", 0)
    answer = await api.admin("POST", first)
    assert (answer.status_code, answer.content) == (204, b"")
    assert refusal(await api.admin("POST", first)) == (404, "notFound")
    channel.refuses = False
    assert await outbox.run(api.publisher_id, math.inf) == 1
    assert channel.arrived == [undelivered[0]["deliveryId"]]
    assert len(await api.admin.all(f"{api.path}/undelivered")) == 2


async def test_replay_of_withdrawn_notice_returns_409(api: PublisherApi, instance: Services) -> None:
    await api.admin.make(f"{api.path}/subscribers", address=an_address())
    notice = await post(api)
    outbox = replace(instance.outbox, channels={ChannelKind.EMAIL: RefusingChannel()})
    await outbox.run(api.publisher_id, math.inf)
    (undelivered,) = await api.admin.all(f"{api.path}/undelivered")
    update = {"status": "withdrawn", "body": "A mistake."}
    assert (await api.admin("POST", f"{api.path}/notices/{notice['id']}/updates", update)).status_code == 201
    answer = await api.admin("POST", f"{api.path}/undelivered/{undelivered['deliveryId']}/replay")
    assert refusal(answer) == (409, "conflict")
