"""The keys of a directory: fetched once, kept, fetched anew, and never worsened."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from devhost.azurite import free_port
from licensing.access import discovery
from licensing.access.discovery import fetch
from licensing.errors import SignInUnavailable, Unauthenticated
from tests.access.forging import (
    AUTHORITY,
    DIRECTORY,
    DISCOVERY_URL,
    JWKS_URL,
    KEY,
    ONE_FETCH,
    OTHER_DIRECTORY,
    SHORT,
    STRANGER,
    Door,
    header,
    jwk,
    person,
    token,
)
from tests.waiting import PATIENCE_SECONDS

PERSONAL_ACCOUNTS = "9188040d-6c67-4c5b-b112-36a304b66dad"
EC_KEY = {"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": "A" * 43, "y": "A" * 43}
# Keys that nobody may sign with, for us.
UNUSABLE: dict[str, Any] = {
    "for encryption": jwk(use="enc"),
    "for another algorithm": jwk(alg="PS256"),
    "of 1024 bits": jwk(SHORT),
    "on an elliptic curve": EC_KEY,
    "a secret": {"kty": "oct", "kid": "one", "k": "AAAA"},
    "without a name": jwk(kid=None),
    "without a modulus": jwk(n=None),
    "with a modulus that is a number": jwk(n=1),
    "with a modulus that is none": jwk(n="!"),
    "with an even exponent": jwk(e="Ag"),
    "of another directory": jwk(issuer=f"{AUTHORITY}/{OTHER_DIRECTORY}/v2.0"),
    "of personal accounts": jwk(issuer=f"{AUTHORITY}/{PERSONAL_ACCOUNTS}/v2.0"),
    "of nobody": jwk(issuer=[]),
    "a text": "planted",
    "nothing": None,
}
BROKEN: dict[str, Any] = {
    "an empty set": {"keys": []},
    "no set": {"value": []},
    "a list": [jwk()],
    "keys that are an object": {"keys": {"one": jwk()}},
    "keys that are a number": {"keys": 1},
    "HTML": b"<!DOCTYPE html><html></html>",
    "bytes": b"\xff\xfe\x00",
    "nothing": b"",
    "a set twice": b'{"keys": [], "keys": []}',
    "no answer": TimeoutError(),
    "no connection": ConnectionRefusedError(),
    **{f"a key {name}": {"keys": [key]} for name, key in UNUSABLE.items()},
}
ELSEWHERE: dict[str, Any] = {
    "another issuer": {"issuer": f"{AUTHORITY}/{OTHER_DIRECTORY}/v2.0", "jwks_uri": JWKS_URL},
    "any directory's issuer": {"issuer": f"{AUTHORITY}/{{tenantid}}/v2.0", "jwks_uri": JWKS_URL},
    "an issuer with a slash": {"issuer": f"{AUTHORITY}/{DIRECTORY}/v2.0/", "jwks_uri": JWKS_URL},
    "no issuer": {"jwks_uri": JWKS_URL},
    **{
        name: {"issuer": f"{AUTHORITY}/{DIRECTORY}/v2.0", "jwks_uri": jwks_uri}
        for name, jwks_uri in {
            "keys of another host": "https://planted.example/keys",
            "keys of a host that begins like ours": f"{AUTHORITY}.planted.example/keys",
            "keys of a host behind ours": f"{AUTHORITY}@planted.example/keys",
            "keys of another port": f"{AUTHORITY}:444/keys",
            "keys without encryption": JWKS_URL.replace("https", "http"),
            "keys in a file": "file:///keys",
            "keys nowhere": None,
            "keys in a list": [JWKS_URL],
        }.items()
    },
}


async def unavailable(door: Door) -> None:
    with pytest.raises(SignInUnavailable) as caught:
        await door.enter()
    assert (caught.value.status, caught.value.code) == (503, "signInUnavailable")
    assert caught.value.retry_after_seconds == 5
    assert "planted" not in caught.value.detail


async def test_the_keys_are_fetched_once_a_day(door: Door) -> None:
    await door.enter()
    door.clock.advance(hours=23, minutes=59)
    await door.enter()
    assert door.net.asked == ONE_FETCH
    door.clock.advance(minutes=1)
    await door.enter()
    assert door.net.asked == ONE_FETCH * 2


async def test_a_key_that_is_published_no_more_counts_for_a_day_and_once_more(door: Door) -> None:
    await door.enter()
    door.net.pages[JWKS_URL] = {"keys": [jwk(STRANGER, kid="two")]}
    door.clock.advance(hours=24)
    await door.enter()  # nobody waits for the fetch that tells
    with pytest.raises(Unauthenticated, match="not known here"):
        await door.enter()


async def test_a_new_key_is_fetched_once_the_cool_down_is_over_and_not_before(door: Door) -> None:
    await door.enter()
    door.net.pages[JWKS_URL] = {"keys": [jwk(), jwk(kid="two")]}
    door.clock.advance(minutes=4, seconds=59)
    with pytest.raises(Unauthenticated, match="not known here"):
        await door.enter(kid="two")
    assert door.net.asked == ONE_FETCH
    door.clock.advance(seconds=1)
    await door.enter(kid="two")
    assert door.net.asked == ONE_FETCH * 2
    await door.enter(kid="one")


async def test_made_up_kids_bring_one_fetch_in_five_minutes(door: Door) -> None:
    for position in range(300):
        with pytest.raises(Unauthenticated, match="not known here"):
            await door.enter(kid=f"made up {position}")
        door.clock.advance(seconds=2)
    assert door.net.asked == ONE_FETCH * 2


@pytest.mark.parametrize("page", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_empty_or_broken_never_replaces_good_keys(door: Door, page: Any) -> None:
    await door.enter()
    good, door.net.pages[JWKS_URL] = door.net.pages[JWKS_URL], page
    door.clock.advance(hours=24)
    await door.enter()
    await door.enter()
    assert door.net.asked == ONE_FETCH * 2, "it is tried again after the cool-down only"
    door.net.pages[JWKS_URL] = good
    door.clock.advance(minutes=5)
    await door.enter()
    assert door.net.asked == ONE_FETCH * 3
    door.clock.advance(hours=23)
    await door.enter()
    assert door.net.asked == ONE_FETCH * 3


async def test_nobody_waits_for_keys_that_are_known_to_be_fetched_anew(door: Door) -> None:
    await door.enter()
    door.clock.advance(hours=24)
    door.net.answers.clear()
    now = int(door.clock.now.timestamp())
    good = f"Bearer {token(person(iat=now, nbf=now, exp=now + 3600))}"
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(door.verify(good) for _ in range(5)))
    door.net.answers.set()
    await door.enter()
    assert door.net.asked == ONE_FETCH * 2


@pytest.mark.parametrize("page", BROKEN.values(), ids=BROKEN.keys())
async def test_where_nothing_is_known_nobody_is_told_that_their_token_is_wrong(door: Door, page: Any) -> None:
    door.net.pages[JWKS_URL] = page
    await unavailable(door)


@pytest.mark.parametrize("key", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_unusable_key_beside_a_good_one_is_passed_over(door: Door, key: Any) -> None:
    door.net.pages[JWKS_URL] = {"keys": [key, jwk(kid="two")]}
    await door.enter(kid="two")
    with pytest.raises(Unauthenticated, match="not known here"):
        await door.enter(kid="one")


@pytest.mark.parametrize("members", [{"use": None}, {"alg": "RS256"}, {"issuer": None}, {"x5c": ["planted"]}])
async def test_a_key_need_not_say_all_of_what_it_is_for(door: Door, members: dict[str, Any]) -> None:
    door.net.pages[JWKS_URL] = {"keys": [jwk(**members)]}
    await door.enter()


@pytest.mark.parametrize("page", ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_keys_are_taken_from_the_authority_only(door: Door, page: Any) -> None:
    door.net.pages[DISCOVERY_URL] = page
    await unavailable(door)
    assert door.net.asked == [DISCOVERY_URL]


async def test_while_nothing_is_known_it_is_tried_again_every_few_seconds(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    good, door.net.pages[DISCOVERY_URL] = door.net.pages[DISCOVERY_URL], TimeoutError("no answer within 5 s")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await unavailable(door)
    assert door.net.asked == [DISCOVERY_URL]
    assert caplog.messages == [f"The keys of directory {DIRECTORY} cannot be fetched: no answer within 5 s"]
    door.net.pages[DISCOVERY_URL] = good
    door.clock.advance(seconds=5)
    await door.enter()


async def test_those_who_come_at_once_share_one_fetch(door: Door) -> None:
    assert len(await asyncio.gather(*(door.enter() for _ in range(100)))) == 100
    assert door.net.asked == ONE_FETCH
    door.clock.advance(minutes=5)
    ended = await asyncio.gather(*(door.enter(kid=f"{n}") for n in range(100)), return_exceptions=True)
    assert {type(each) for each in ended} == {Unauthenticated}
    assert door.net.asked == ONE_FETCH * 2


async def test_those_who_come_at_once_share_a_failure(door: Door) -> None:
    door.net.pages[DISCOVERY_URL] = TimeoutError()
    ended = await asyncio.gather(*(door.enter() for _ in range(100)), return_exceptions=True)
    assert {type(each) for each in ended} == {SignInUnavailable}
    assert door.net.asked == [DISCOVERY_URL]


async def test_whoever_goes_away_while_keys_are_fetched_spoils_nothing_for_others(door: Door) -> None:
    door.net.answers.clear()
    first = asyncio.create_task(door.enter())
    for _ in range(2):
        await asyncio.sleep(0)
    assert door.net.asked == [DISCOVERY_URL]
    second = asyncio.create_task(door.enter())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    door.net.answers.set()
    assert await second


async def test_known_keys_serve_while_others_wait_for_a_fetch(door: Door) -> None:
    await door.enter()
    door.clock.advance(minutes=5)
    door.net.answers.clear()
    stranger = asyncio.create_task(door.verify(f"Bearer {token(head=header(kid='made up'))}"))
    for _ in range(2):
        await asyncio.sleep(0)
    assert door.net.asked[2:] == [DISCOVERY_URL]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await door.enter()
    assert not stranger.done()
    door.net.answers.set()
    with pytest.raises(Unauthenticated):
        await stranger


def test_the_keys_here_differ() -> None:
    assert KEY.public_key() != STRANGER.public_key()


# --- over HTTP


type Serve = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A server whose every answer the test writes; gives its address."""
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", PATIENCE_SECONDS)
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def says(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


async def test_what_is_fetched_comes_whole(serve: Serve) -> None:
    body = bytes(range(256)) * 4096
    assert len(body) == discovery.MOST_BYTES
    assert await fetch(serve(says(200, body))) == body


@pytest.mark.parametrize("status", [201, 204, 404, 500, 503])
async def test_only_200_is_an_answer(serve: Serve, status: int) -> None:
    with pytest.raises(OSError, match=f"answered {status}"):
        await fetch(serve(says(status)))


async def test_no_redirect_is_followed(serve: Serve) -> None:
    good = serve(says(200, b"planted"))
    with pytest.raises(OSError, match="answered 302"):
        await fetch(serve(says(302, Location=good)))


async def test_nothing_is_read_beyond_a_mebibyte(serve: Serve) -> None:
    with pytest.raises(OSError, match="more than 1,048,576 bytes"):
        await fetch(serve(says(200, bytes(discovery.MOST_BYTES + 1))))


async def test_whoever_does_not_answer_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        over.wait(PATIENCE_SECONDS)

    url = serve(answer)
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.2 s"):
        await fetch(url)
    over.set()


async def test_where_nobody_listens_that_is_said() -> None:
    with pytest.raises(OSError, match="cannot be reached: ClientConnectorError"):
        await fetch(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["https://", "ftp://127.0.0.1/", "planted", "http://127.0.0.1:port/"])
async def test_what_is_no_address_cannot_be_reached(url: str) -> None:
    with pytest.raises((OSError, ValueError)):
        await fetch(url)


async def test_an_answer_that_breaks_off_is_none(serve: Serve) -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        await fetch(serve(says(200, b"{}", **{"Content-Length": "3"})))
