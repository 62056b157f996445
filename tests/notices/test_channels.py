"""How messages reach subscribers: a real HTTPS receiver on loopback, let through by the test alone."""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from licensing.mail.message import NotSent, RecipientRefused, ServerDown
from licensing.notices.delivery import webhook
from licensing.notices.delivery.channels import MailChannel, TeamsChannel, WebhookChannel, card
from licensing.notices.delivery.outbox import DeliveryFailed, Message
from licensing.notices.delivery.webhook import WebhookPost, is_global
from licensing.notices.message_text import message_text
from licensing.notices.model import ChannelKind, Impact, Moment, NoticeStatus
from licensing.services import Services
from tests.notices.messages import (
    HOSTILE,
    NOTICE_ID,
    NOW,
    PUBLIC_URL,
    PUBLISHER_ID,
    STATUS_URL,
    a_message,
    a_notice,
    a_publisher,
    announced,
    with_update,
)
from tests.support.certificates import create_tls_contexts
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

HOST = "hooks.example.com"
SECRET = "planted-secret"

# Addresses.

FORBIDDEN = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3"),  # this machine
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # private
    *("169.254.169.254", "169.254.0.1"),  # link-local: what clouds tell their machines
    "168.63.129.16",  # Azure's platform
    *("100.64.0.1", "100.127.255.255"),  # carrier-grade NAT
    *("224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1"),  # multicast, broadcast, reserved
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),  # special
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "ff0e::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254"),  # mapped
    *(
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
    ),  # translated, tunnelled
    *("2001:db8::1", "100::1", "3fff::1", "4000::1", "5f00::1"),  # documentation, discarded, not given out
]
ALLOWED = ["8.8.8.8", "1.1.1.1", "20.42.0.1", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "2a01:111::1"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_is_global_rejects_non_public_address(address: str) -> None:
    assert not is_global(ip_address(address))


@pytest.mark.parametrize("address", ALLOWED)
def test_is_global_accepts_public_address(address: str) -> None:
    assert is_global(ip_address(address))


@dataclass
class FakeResolver:
    """A resolver that answers as it is told, each time the next."""

    answers: list[list[str]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_webhook_post_rejects_name_that_resolves_to_non_public_address(address: str) -> None:
    await refused(WebhookPost(resolve=FakeResolver([[address]])), "addressNotAllowed")


@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["fd12::1", "2606:4700::1111"], []])
async def test_webhook_post_rejects_name_with_any_non_public_or_no_address(addresses: list[str]) -> None:
    await refused(WebhookPost(resolve=FakeResolver([addresses])), "addressNotAllowed")


LOOPBACK_HOSTS = [
    "localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0",
]


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_webhook_post_rejects_loopback_in_every_notation(host: str) -> None:
    """With the resolver and the check of production."""
    with pytest.raises(DeliveryFailed) as caught:
        await WebhookPost()(f"https://{host}/secret", b"", {})
    assert caught.value.code in ("addressNotAllowed", "notReached", "notAWebhook")
    if host in ("localhost", "127.0.0.1", "127.1", "[::1]"):
        assert caught.value.code == "addressNotAllowed"


INVALID_WEBHOOK_URLS = [
    "http://hooks.example.com/secret",
    "ftp://hooks.example.com/secret",
    "//hooks.example.com/secret",
    "https:///secret",
    "https://hooks.example.com:8443/secret",
    "https://hooks.example.com:80/secret",
    "https://hooks.example.com:99999/secret",
    "https://user@hooks.example.com/secret",
    "https://user:password@hooks.example.com/secret",
    "https://[hooks.example.com/secret",
    "",
]


@pytest.mark.parametrize("url", INVALID_WEBHOOK_URLS)
async def test_webhook_post_with_invalid_url_fails_permanently_without_dns_lookup(url: str) -> None:
    names = FakeResolver([["8.8.8.8"]])
    with pytest.raises(DeliveryFailed) as caught:
        await WebhookPost(resolve=names)(url, b"", {})
    assert (caught.value.code, caught.value.refused_for_good) == ("notAWebhook", True)
    assert names.asked == []


async def test_webhook_post_defaults_are_strict() -> None:
    strict = WebhookPost()
    assert strict.is_allowed is is_global
    assert strict.resolve is webhook.resolve
    assert (strict.port, strict.trusted, strict.timeout_seconds) == (443, True, 5.0)


async def test_services_use_strict_webhook_post_for_teams_and_webhook_channels(services: Services) -> None:
    teams, plain = services.channels[ChannelKind.TEAMS], services.channels[ChannelKind.WEBHOOK]
    assert isinstance(teams, TeamsChannel)
    assert isinstance(plain, WebhookChannel)
    assert teams.post == plain.post == WebhookPost()
    assert services.outbox.channels is services.channels
    assert ChannelKind.EMAIL not in services.channels, "nothing is set to carry mail"


async def refused(post: WebhookPost, code: str, url: str = f"https://{HOST}/secret") -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await post(url, b"{}", {})
    assert caught.value.code == code
    assert "secret" not in repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# A real receiver.

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """An HTTPS server on loopback that goes by a public name, and whoever may post to it."""

    url: str
    post: WebhookPost
    answer: Handler
    requests: list[tuple[web.Request, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        return await self.answer(request)

    def answers(self, status: int, **how: Any) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, **how)

        self.answer = answer

    def through(self, **how: Any) -> WebhookPost:
        """The same way there, but for that."""
        known = {name: getattr(self.post, name) for name in self.post.__dataclass_fields__}
        return WebhookPost(**{**known, **how})


@asynccontextmanager
async def serving(shown: ssl.SSLContext, trusted: ssl.SSLContext) -> AsyncIterator[Receiver]:
    receiver = Receiver("", WebhookPost(), lambda _: asyncio.sleep(0, web.Response(status=202)))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=shown)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"https://{HOST}:{port}/secret"
    receiver.post = WebhookPost(
        resolve=FakeResolver([["127.0.0.1"]]),
        is_allowed=lambda _: True,
        port=port,
        trusted=trusted,
        timeout_seconds=WAIT_TIMEOUT_SECONDS,
    )
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with serving(*create_tls_contexts(tmp_path, HOST)) as made:
        yield made


def to_webhook(receiver: Receiver, **how: Any) -> Message:
    return a_message(channel=ChannelKind.WEBHOOK, address=receiver.url, secret=SECRET, **how)


async def test_webhook_channel_posts_documented_headers_and_json(receiver: Receiver) -> None:
    message = to_webhook(receiver, notice=a_notice(impact=Impact.MINOR, product_ids=("p1",)))
    await WebhookChannel(public_url=PUBLIC_URL, post=receiver.post).send(message)
    ((request, body),) = receiver.requests
    assert (request.method, request.path, request.host.partition(":")[0]) == ("POST", "/secret", HOST)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Delivery-Id"] == message.delivery.id
    assert not {"Cookie", "Authorization"} & {*request.headers}
    assert json.loads(body) == {
        "deliveryId": message.delivery.id,
        "publisherId": PUBLISHER_ID,
        "headline": "Scheduled maintenance: New database",
        "text": "We *move*.\n\nNothing is lost.",
        "announcement": "atOnce",
        "url": STATUS_URL,
        "notice": {
            "id": NOTICE_ID,
            "kind": "maintenance",
            "title": "New database",
            "status": "scheduled",
            "impact": "minor",
            "startsAt": "2026-11-24T02:00:00.000000Z",
            "endsAt": "2026-11-24T04:00:00.000000Z",
            "products": ["SmartSend"],
        },
    }


async def test_webhook_channel_signature_is_hmac_sha256_by_rfc_2104(receiver: Receiver) -> None:
    await WebhookChannel(public_url=PUBLIC_URL, post=receiver.post).send(to_webhook(receiver))
    ((request, body),) = receiver.requests
    timestamp = request.headers["X-License-Manager-Timestamp"]
    assert timestamp == str(int(NOW.timestamp()))
    block = hashlib.sha256().block_size  # HMAC by RFC 2104, by hand
    key = SECRET.encode().ljust(block, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + f"{timestamp}.".encode() + body).digest()
    expected = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert request.headers["X-License-Manager-Signature"] == f"v1={expected}"
    other = hmac.new(b"another", f"{timestamp}.".encode() + body, "sha256").hexdigest()
    assert other != expected


async def test_webhook_channel_signature_passes_the_check_in_protocol_docs(receiver: Receiver) -> None:
    await WebhookChannel(public_url=PUBLIC_URL, post=receiver.post).send(to_webhook(receiver))
    ((request, body),) = receiver.requests
    document = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
    check = document.partition("## Webhooks")[2].partition("```python\n")[2].partition("```")[0]
    for secret, is_ours in ((SECRET, True), ("another", False)):
        known: dict[str, Any] = {"hmac": hmac, "headers": request.headers, "body": body, "secret": secret}
        exec(check, known)
        assert known["is_ours"] is is_ours


async def test_webhook_channel_posts_update_with_its_headline_text_and_status(receiver: Receiver) -> None:
    notice = with_update(a_notice(), NoticeStatus.CANCELLED, "Not now.")
    await WebhookChannel(public_url=PUBLIC_URL, post=receiver.post).send(
        to_webhook(receiver, notice=notice, moment=None)
    )
    event = json.loads(receiver.requests[0][1])
    assert (event["announcement"], event["headline"], event["text"]) == (
        "update",
        "Cancelled: New database",
        "Not now.",
    )
    assert event["notice"]["status"] == "cancelled"


STATUS_OUTCOMES: list[tuple[int, bool | None]] = [(200, None), (201, None), (202, None), (204, None)]
STATUS_OUTCOMES += [(status, True) for status in (404, 410)]
STATUS_OUTCOMES += [
    (status, False) for status in (301, 302, 303, 307, 308, 304, 400, 401, 403, 408, 413, 429, 500, 502, 503)
]


@pytest.mark.parametrize(("status", "is_for_good"), STATUS_OUTCOMES)
async def test_webhook_post_maps_http_status_to_success_retryable_or_permanent_failure(
    receiver: Receiver, status: int, *, is_for_good: bool | None
) -> None:
    receiver.answers(status, headers={"Location": f"https://{HOST}/elsewhere", "Set-Cookie": "a=b"})
    if is_for_good is None:
        await receiver.post(receiver.url, b"{}", {})
    else:
        error = await refused(receiver.post, f"answered{status}", receiver.url)
        assert (error.refused_for_good, error.channel_is_down) == (is_for_good, False)
    assert [request.path for request, _ in receiver.requests] == ["/secret"], "no redirect is followed"


async def test_webhook_post_connects_to_checked_address_despite_dns_rebinding(receiver: Receiver) -> None:
    """DNS rebinding: public when it is checked, private when it would be connected to."""
    names = FakeResolver([["127.0.0.1"], ["127.0.0.2"]])
    checked: list[str] = []

    def is_allowed(address: Any) -> bool:
        checked.append(str(address))
        return str(address) == "127.0.0.1"  # stands for a public one

    post = receiver.through(resolve=names, is_allowed=is_allowed)
    await post(receiver.url, b"{}", {})
    assert (names.asked, checked) == ([HOST], ["127.0.0.1"])
    ((request, _),) = receiver.requests
    assert request.transport is None or request.transport.get_extra_info("sockname")[0] == "127.0.0.1"
    await refused(post, "addressNotAllowed", receiver.url)
    assert len(receiver.requests) == 1


async def test_webhook_post_when_first_address_is_unreachable_tries_next(receiver: Receiver) -> None:
    await receiver.through(resolve=FakeResolver([["127.0.0.9", "127.0.0.1"]]))(receiver.url, b"{}", {})
    assert len(receiver.requests) == 1


async def test_webhook_post_rejects_untrusted_or_mismatched_certificate(tmp_path: Path, receiver: Receiver) -> None:
    await refused(receiver.through(trusted=True), "certificateNotTrusted", receiver.url)
    async with serving(*create_tls_contexts(tmp_path, "other.example.com")) as other:
        await refused(other.post, "certificateNotTrusted", other.url)
        assert other.requests == []
    assert receiver.requests == []


async def test_webhook_post_ignores_proxy_environment_variables(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await receiver.post(receiver.url, b"{}", {})
    assert len(receiver.requests) == 1


async def test_webhook_post_when_receiver_hangs_times_out(receiver: Receiver) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    receiver.answer = answer
    seconds = 0.3
    while not receiver.requests:  # a slow machine needs longer to deliver a request
        await refused(receiver.through(timeout_seconds=seconds), "timedOut", receiver.url)
        seconds *= 2


async def test_webhook_post_when_dns_hangs_times_out(receiver: Receiver) -> None:
    async def resolve(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    await refused(receiver.through(resolve=resolve, timeout_seconds=0.3), "timedOut", receiver.url)


async def test_webhook_post_closes_connection_on_endless_response_body(receiver: Receiver) -> None:
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 1024)
        finally:
            ended.set()  # the client has closed the connection

    receiver.answer = answer
    await receiver.post(receiver.url, b"{}", {})
    await asyncio.wait_for(ended.wait(), WAIT_TIMEOUT_SECONDS)


async def test_webhook_post_rejects_oversized_response_headers(receiver: Receiver) -> None:
    receiver.answers(200, headers={f"X-{number}": "x" * 8000 for number in range(100)})
    with pytest.raises(DeliveryFailed):
        await receiver.post(receiver.url, b"{}", {})


async def test_webhook_post_to_non_http_or_closed_port_fails_as_not_reached(tmp_path: Path) -> None:
    shown, trusted = create_tls_contexts(tmp_path, HOST)

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ready\r\n" * 100)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0, ssl=shown)
    async with server:
        port = server.sockets[0].getsockname()[1]
        post = WebhookPost(
            resolve=FakeResolver([["127.0.0.1"]]),
            is_allowed=lambda _: True,
            port=port,
            trusted=trusted,
            timeout_seconds=WAIT_TIMEOUT_SECONDS,
        )
        await refused(post, "notReached", f"https://{HOST}:{port}/secret")
    await refused(post, "notReached", f"https://{HOST}:{port}/secret")  # and once nobody is there any more


async def test_webhook_post_when_rejected_logs_neither_host_nor_url(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answers(500)
    await refused(receiver.post, "answered500", receiver.url)
    await refused(WebhookPost(resolve=FakeResolver([["10.0.0.1"]])), "addressNotAllowed")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp.access")]
    assert not any("secret" in line or HOST in line for line in ours)


# Teams.


async def test_teams_channel_posts_adaptive_card(receiver: Receiver) -> None:
    message = a_message(channel=ChannelKind.TEAMS, address=receiver.url)
    await TeamsChannel(public_url=PUBLIC_URL, post=receiver.post).send(message)
    ((request, body),) = receiver.requests
    assert request.headers["X-Delivery-Id"] == message.delivery.id
    posted = json.loads(body)
    assert posted["type"] == "message"
    (attachment,) = posted["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "See the status page", "url": STATUS_URL}]
    lines = ["".join(run["text"] for run in each["inlines"]) for each in card["body"][:-1]]
    assert lines == [
        "Contoso",
        "Scheduled maintenance: New database",
        "Status: Scheduled",
        "When: 24 Nov 2026, 02:00 UTC (15:00 Pacific/Auckland) to 24 Nov 2026, 04:00 UTC (17:00 Pacific/Auckland)",
        "Products: All products",
        "Impact: Minor",
    ]
    last = card["body"][-1]
    assert (last["type"], last["wrap"], last["text"]) == ("TextBlock", True, "We *move*.\n\nNothing is lost.")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_webhook_and_teams_channels_with_hostile_text_send_harmless_payload(
    receiver: Receiver, text: str
) -> None:
    notice = a_notice(title=text, body=text)
    how: dict[str, Any] = {"notice": notice, "publisher": a_publisher(name=text)}
    await WebhookChannel(public_url=PUBLIC_URL, post=receiver.post).send(to_webhook(receiver, **how))
    message = a_message(channel=ChannelKind.TEAMS, address=receiver.url, **how)
    await TeamsChannel(public_url=PUBLIC_URL, post=receiver.post).send(message)
    event, posted = (json.loads(body) for _, body in receiver.requests)
    assert event["headline"].startswith("Scheduled maintenance: legible")
    assert event["notice"]["title"].startswith("legible")
    body = posted["attachments"][0]["content"]["body"]
    # Only a TextBlock reads Markdown: what is said in one line must not be one.
    assert [each["type"] for each in body] == ["RichTextBlock"] * (len(body) - 1) + ["TextBlock"]
    assert body[-1]["text"].startswith("legible")
    assert not re.search(r"!\[|\]\((?!https:)", body[-1]["text"]), "neither images nor links that run something"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](https://example.com) [b](mailto:c@example.com)", "[a](https://example.com) [b](mailto:c@example.com)"),
        ("[a](javascript:alert(1))", "[a] (javascript:alert(1))"),
        (
            "[a]( JaVaScRiPt:x) [a](<data:x>) [a](//example.com)",
            "[a] ( JaVaScRiPt:x) [a] (<data:x>) [a] (//example.com)",
        ),
        ("\\[a](http://x) \\![a](https://x)", "\\[a] (http://x) \\! [a](https://x)"),
    ],
)
def test_teams_card_keeps_only_https_and_mailto_links_and_no_images(text: str, shown: str) -> None:
    notice = a_notice(body=text)
    said = message_text(a_publisher(), notice, announced(notice), {}, public_url=PUBLIC_URL)
    assert card(said)["body"][-1]["text"] == shown


async def test_teams_channel_payload_of_longest_notice_stays_below_28_kib(receiver: Receiver) -> None:
    notice = a_notice(title="\U0001f6a7" * 300, body="\U0001f6a7" * 5000)
    message = a_message(notice, channel=ChannelKind.TEAMS, address=receiver.url)
    await TeamsChannel(public_url=PUBLIC_URL, post=receiver.post).send(message)
    assert len(receiver.requests[0][1]) < 28 * 1024


# Mail.


@dataclass
class FakeMailer:
    """Stands in for a mailer."""

    fails: Exception | None = None
    mails: list[EmailMessage] = field(default_factory=list)

    async def send(self, message: EmailMessage) -> None:
        if self.fails:
            raise self.fails
        self.mails.append(message)

    @property
    def channel(self) -> MailChannel:
        return MailChannel(
            mailer=self,
            sender="no-reply@example.com",
            public_url=PUBLIC_URL,
            unsubscribe_url=lambda publisher_id, subscriber: f"https://u.example/{publisher_id}/{subscriber.id}",
        )


async def test_mail_channel_sets_unsubscribe_link_of_subscriber() -> None:
    mailbox, message = FakeMailer(), a_message(moment=Moment.HOUR_BEFORE)
    await mailbox.channel.send(message)
    (mail,) = mailbox.mails
    assert mail["List-Unsubscribe"] == f"<https://u.example/{PUBLISHER_ID}/{message.subscriber.id}>"
    assert mail["Subject"] == "Scheduled maintenance within 1 hour: New database"


FAILURES = [
    (RecipientRefused("planted"), "recipientRefused", True, False),
    (ServerDown("planted"), "mailServerDown", False, True),
    (NotSent("planted"), "mailNotTaken", False, False),
    (OSError("planted"), "mailNotTaken", False, False),
]


@pytest.mark.parametrize(("error", "code", "is_for_good", "is_down"), FAILURES)
async def test_mail_channel_maps_mailer_errors_to_delivery_failed(
    error: Exception, code: str, *, is_for_good: bool, is_down: bool
) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        await FakeMailer(fails=error).channel.send(a_message())
    found = caught.value
    assert (found.code, found.refused_for_good, found.channel_is_down) == (code, is_for_good, is_down)
    assert found.__suppress_context__


@pytest.mark.parametrize("address", ["", "nobody", "planted@example.com\r\nBcc: b@example.com"])
async def test_mail_channel_with_invalid_address_fails_permanently(address: str) -> None:
    mailbox = FakeMailer()
    with pytest.raises(DeliveryFailed) as caught:
        await mailbox.channel.send(a_message(address=address))
    assert (caught.value.code, caught.value.refused_for_good, mailbox.mails) == ("notAnAddress", True, [])
