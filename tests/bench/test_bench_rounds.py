"""Rounds are interleaved, and a contestant that fails does not stop the others."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from bench.load import post
from bench.rounds import Contestant, Running, Standing, as_json, play

if TYPE_CHECKING:
    from tests.bench.conftest import Serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def accept(request: bytes, body: bytes) -> None:
    """Accept any reply."""


def standing(name: str, url: str, check: Callable[[bytes, bytes], None] = accept) -> Standing:
    running = Running(url=url, requests=[post(f"/{name}", {})], check=check)
    contestant = Contestant(name=name, connections=1, start=lambda: nullcontext(running), warm_up=1, count=2)
    return Standing(contestant=contestant)


async def test_play_runs_each_contestant_once_a_round_and_reports_failures(
    serve: "Serve", capsys: pytest.CaptureFixture[str]
) -> None:
    errors: dict[str, str] = {}
    async with serve(lambda request: BROKEN if request.startswith(b"POST /bad ") else OK) as server:
        standings = [standing("good", server.url), standing("bad", server.url)]
        await asyncio.to_thread(play, standings, errors, 2, 5.0, 0.01)
    paths = [request.split(b" ", 2)[1] for request in server.received_requests]
    assert [(path, len(list(them))) for path, them in itertools.groupby(paths)] == [(b"/good", 3), (b"/bad", 3)] * 2
    assert [(told["name"], told["failures"], len(told["runs"])) for told in as_json(standings)] == [
        ("good", 0, 2),
        ("bad", 4, 2),
    ]
    assert capsys.readouterr().err.count("2 REPLIES WERE NOT 200: {500: 2}") == 2
    assert errors == {}


async def test_play_when_a_reply_is_wrong_ends_only_that_contestant(serve: "Serve") -> None:
    def refuse(request: bytes, body: bytes) -> None:
        raise ValueError(f"{body!r} does not answer\n{request[:12]!r}")

    errors: dict[str, str] = {}
    async with serve(lambda _: OK) as server:
        wrong, good = standing("wrong", server.url, refuse), standing("good", server.url)
        await asyncio.to_thread(play, [wrong, good], errors, 2, 5.0, 0.01)
    assert errors == {"wrong": "ValueError: b'ok' does not answer b'POST /wrong '"}
    assert (len(wrong.runs), len(good.runs)) == (0, 2)
    assert [request.split(b" ", 2)[1] for request in server.received_requests] == [b"/wrong"] * 3 + [b"/good"] * 6


async def test_play_when_a_contestant_fails_in_a_later_round_keeps_its_earlier_runs(serve: "Serve") -> None:
    async with serve(lambda _: OK if len(server.received_requests) <= 3 else b"") as server:
        once, errors = standing("once", server.url), dict[str, str]()
        await asyncio.to_thread(play, [once], errors, 3, 5.0, 0.01)
    assert len(once.runs) == 1
    assert errors == {"once": "LoadError: the server hung up instead of answering request 0"}
