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
from tests.support.token_factory import (
    AUTHORITY,
    DIRECTORY,
    DISCOVERY_URL,
    JWKS_URL,
    KEY,
    ONE_FETCH,
    OTHER_DIRECTORY,
    SHORT,
    STRANGER,
    TokenVerifierFixture,
    header,
    jwk,
    person,
    token,
)
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

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
BROKEN_KEY_SETS: dict[str, Any] = {
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
UNTRUSTED_DISCOVERY_DOCUMENTS: dict[str, Any] = {
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


async def assert_sign_in_unavailable(token_verifier: TokenVerifierFixture) -> None:
    with pytest.raises(SignInUnavailable) as caught:
        await token_verifier.verify_new_token()
    assert (caught.value.status, caught.value.code) == (503, "signInUnavailable")
    assert caught.value.retry_after_seconds == 5
    assert "planted" not in caught.value.detail


async def test_directory_keys_are_fetched_once_a_day(token_verifier: TokenVerifierFixture) -> None:
    await token_verifier.verify_new_token()
    token_verifier.clock.advance(hours=23, minutes=59)
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH
    token_verifier.clock.advance(minutes=1)
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH * 2


async def test_directory_keys_accept_withdrawn_key_until_refresh_completes(
    token_verifier: TokenVerifierFixture,
) -> None:
    await token_verifier.verify_new_token()
    token_verifier.net.pages[JWKS_URL] = {"keys": [jwk(STRANGER, kid="two")]}
    token_verifier.clock.advance(hours=24)
    await token_verifier.verify_new_token()  # nobody waits for the fetch that tells
    with pytest.raises(Unauthenticated, match="not known here"):
        await token_verifier.verify_new_token()


async def test_directory_keys_with_new_kid_fetch_again_only_after_cooldown(
    token_verifier: TokenVerifierFixture,
) -> None:
    await token_verifier.verify_new_token()
    token_verifier.net.pages[JWKS_URL] = {"keys": [jwk(), jwk(kid="two")]}
    token_verifier.clock.advance(minutes=4, seconds=59)
    with pytest.raises(Unauthenticated, match="not known here"):
        await token_verifier.verify_new_token(kid="two")
    assert token_verifier.net.asked == ONE_FETCH
    token_verifier.clock.advance(seconds=1)
    await token_verifier.verify_new_token(kid="two")
    assert token_verifier.net.asked == ONE_FETCH * 2
    await token_verifier.verify_new_token(kid="one")


async def test_directory_keys_with_many_unknown_kids_fetch_once_in_five_minutes(
    token_verifier: TokenVerifierFixture,
) -> None:
    for position in range(300):
        with pytest.raises(Unauthenticated, match="not known here"):
            await token_verifier.verify_new_token(kid=f"made up {position}")
        token_verifier.clock.advance(seconds=2)
    assert token_verifier.net.asked == ONE_FETCH * 2


@pytest.mark.parametrize("page", BROKEN_KEY_SETS.values(), ids=BROKEN_KEY_SETS.keys())
async def test_directory_keys_on_broken_response_keep_cached_keys(
    token_verifier: TokenVerifierFixture, page: Any
) -> None:
    await token_verifier.verify_new_token()
    good, token_verifier.net.pages[JWKS_URL] = token_verifier.net.pages[JWKS_URL], page
    token_verifier.clock.advance(hours=24)
    await token_verifier.verify_new_token()
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH * 2, "it is tried again after the cool-down only"
    token_verifier.net.pages[JWKS_URL] = good
    token_verifier.clock.advance(minutes=5)
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH * 3
    token_verifier.clock.advance(hours=23)
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH * 3


async def test_directory_keys_refresh_stale_cache_without_blocking_callers(
    token_verifier: TokenVerifierFixture,
) -> None:
    await token_verifier.verify_new_token()
    token_verifier.clock.advance(hours=24)
    token_verifier.net.answers.clear()
    now = int(token_verifier.clock.now.timestamp())
    good = f"Bearer {token(person(iat=now, nbf=now, exp=now + 3600))}"
    async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
        await asyncio.gather(*(token_verifier.verify(good) for _ in range(5)))
    token_verifier.net.answers.set()
    await token_verifier.verify_new_token()
    assert token_verifier.net.asked == ONE_FETCH * 2


@pytest.mark.parametrize("page", BROKEN_KEY_SETS.values(), ids=BROKEN_KEY_SETS.keys())
async def test_directory_keys_on_broken_response_without_cache_raise_sign_in_unavailable(
    token_verifier: TokenVerifierFixture, page: Any
) -> None:
    token_verifier.net.pages[JWKS_URL] = page
    await assert_sign_in_unavailable(token_verifier)


@pytest.mark.parametrize("key", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_directory_keys_ignore_unusable_key_next_to_a_good_one(
    token_verifier: TokenVerifierFixture, key: Any
) -> None:
    token_verifier.net.pages[JWKS_URL] = {"keys": [key, jwk(kid="two")]}
    await token_verifier.verify_new_token(kid="two")
    with pytest.raises(Unauthenticated, match="not known here"):
        await token_verifier.verify_new_token(kid="one")


@pytest.mark.parametrize("members", [{"use": None}, {"alg": "RS256"}, {"issuer": None}, {"x5c": ["planted"]}])
async def test_directory_keys_accept_key_with_or_without_optional_members(
    token_verifier: TokenVerifierFixture, members: dict[str, Any]
) -> None:
    token_verifier.net.pages[JWKS_URL] = {"keys": [jwk(**members)]}
    await token_verifier.verify_new_token()


@pytest.mark.parametrize("page", UNTRUSTED_DISCOVERY_DOCUMENTS.values(), ids=UNTRUSTED_DISCOVERY_DOCUMENTS.keys())
async def test_directory_keys_with_untrusted_discovery_document_raise_sign_in_unavailable(
    token_verifier: TokenVerifierFixture, page: Any
) -> None:
    token_verifier.net.pages[DISCOVERY_URL] = page
    await assert_sign_in_unavailable(token_verifier)
    assert token_verifier.net.asked == [DISCOVERY_URL]


async def test_directory_keys_after_failed_fetch_retry_only_after_five_seconds(
    token_verifier: TokenVerifierFixture, caplog: pytest.LogCaptureFixture
) -> None:
    good, token_verifier.net.pages[DISCOVERY_URL] = (
        token_verifier.net.pages[DISCOVERY_URL],
        TimeoutError("no answer within 5 s"),
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await assert_sign_in_unavailable(token_verifier)
    assert token_verifier.net.asked == [DISCOVERY_URL]
    assert caplog.messages == [f"The keys of directory {DIRECTORY} cannot be fetched: no answer within 5 s"]
    token_verifier.net.pages[DISCOVERY_URL] = good
    token_verifier.clock.advance(seconds=5)
    await token_verifier.verify_new_token()


async def test_directory_keys_share_one_fetch_among_concurrent_callers(token_verifier: TokenVerifierFixture) -> None:
    assert len(await asyncio.gather(*(token_verifier.verify_new_token() for _ in range(100)))) == 100
    assert token_verifier.net.asked == ONE_FETCH
    token_verifier.clock.advance(minutes=5)
    ended = await asyncio.gather(
        *(token_verifier.verify_new_token(kid=f"{n}") for n in range(100)), return_exceptions=True
    )
    assert {type(each) for each in ended} == {Unauthenticated}
    assert token_verifier.net.asked == ONE_FETCH * 2


async def test_directory_keys_share_one_failure_among_concurrent_callers(token_verifier: TokenVerifierFixture) -> None:
    token_verifier.net.pages[DISCOVERY_URL] = TimeoutError()
    ended = await asyncio.gather(*(token_verifier.verify_new_token() for _ in range(100)), return_exceptions=True)
    assert {type(each) for each in ended} == {SignInUnavailable}
    assert token_verifier.net.asked == [DISCOVERY_URL]


async def test_directory_keys_cancelled_caller_does_not_cancel_the_shared_fetch(
    token_verifier: TokenVerifierFixture,
) -> None:
    token_verifier.net.answers.clear()
    first = asyncio.create_task(token_verifier.verify_new_token())
    for _ in range(2):
        await asyncio.sleep(0)
    assert token_verifier.net.asked == [DISCOVERY_URL]
    second = asyncio.create_task(token_verifier.verify_new_token())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    token_verifier.net.answers.set()
    assert await second


async def test_directory_keys_serve_cached_keys_during_fetch_for_unknown_kid(
    token_verifier: TokenVerifierFixture,
) -> None:
    await token_verifier.verify_new_token()
    token_verifier.clock.advance(minutes=5)
    token_verifier.net.answers.clear()
    stranger = asyncio.create_task(token_verifier.verify(f"Bearer {token(head=header(kid='made up'))}"))
    for _ in range(2):
        await asyncio.sleep(0)
    assert token_verifier.net.asked[2:] == [DISCOVERY_URL]
    async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
        await token_verifier.verify_new_token()
    assert not stranger.done()
    token_verifier.net.answers.set()
    with pytest.raises(Unauthenticated):
        await stranger


def test_token_factory_keys_are_different() -> None:
    assert KEY.public_key() != STRANGER.public_key()


# --- over HTTP


type Serve = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A server whose every answer the test writes; gives its address."""
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", WAIT_TIMEOUT_SECONDS)
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


def responds_with(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


async def test_fetch_returns_complete_body_of_maximum_size(serve: Serve) -> None:
    body = bytes(range(256)) * 4096
    assert len(body) == discovery.MAX_BYTES
    assert await fetch(serve(responds_with(200, body))) == body


@pytest.mark.parametrize("status", [201, 204, 404, 500, 503])
async def test_fetch_with_status_other_than_200_raises_os_error(serve: Serve, status: int) -> None:
    with pytest.raises(OSError, match=f"answered {status}"):
        await fetch(serve(responds_with(status)))


async def test_fetch_does_not_follow_redirects(serve: Serve) -> None:
    good = serve(responds_with(200, b"planted"))
    with pytest.raises(OSError, match="answered 302"):
        await fetch(serve(responds_with(302, Location=good)))


async def test_fetch_with_body_over_one_mebibyte_raises_os_error(serve: Serve) -> None:
    with pytest.raises(OSError, match="more than 1,048,576 bytes"):
        await fetch(serve(responds_with(200, bytes(discovery.MAX_BYTES + 1))))


async def test_fetch_without_response_raises_timeout_error(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        over.wait(WAIT_TIMEOUT_SECONDS)

    url = serve(answer)
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.2 s"):
        await fetch(url)
    over.set()


async def test_fetch_with_closed_port_raises_os_error() -> None:
    with pytest.raises(OSError, match="cannot be reached: ClientConnectorError"):
        await fetch(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["https://", "ftp://127.0.0.1/", "planted", "http://127.0.0.1:port/"])
async def test_fetch_with_invalid_url_raises_error(url: str) -> None:
    with pytest.raises((OSError, ValueError)):
        await fetch(url)


async def test_fetch_with_truncated_body_raises_os_error(serve: Serve) -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        await fetch(serve(responds_with(200, b"{}", **{"Content-Length": "3"})))
