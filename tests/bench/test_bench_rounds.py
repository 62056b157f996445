"""Rounds are interleaved, failures are told, and a wrong reply is no result."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from bench.load import post
from bench.rounds import Contestant, Running, as_json, play

if TYPE_CHECKING:
    from tests.bench.conftest import Serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def accept(request: bytes, body: bytes) -> None:
    """Any reply will do."""


def contestant(name: str, url: str, check: Callable[[bytes, bytes], None] = accept) -> Contestant:
    running = Running(url=url, requests=[post(f"/{name}", {})], check=check)
    return Contestant(name=name, connections=1, start=lambda: nullcontext(running), warm_up=1, count=2)


async def test_each_contestant_runs_once_a_round_and_its_failures_are_told(
    serve: "Serve", capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(lambda request: BROKEN if request.startswith(b"POST /bad ") else OK) as server:
        contestants = [contestant("good", server.url), contestant("bad", server.url)]
        standings = await asyncio.to_thread(play, contestants, 2, 5.0, 0.01)
    paths = [request.split(b" ", 2)[1] for request in server.asked]
    assert [(path, len(list(them))) for path, them in itertools.groupby(paths)] == [(b"/good", 3), (b"/bad", 3)] * 2
    assert [(told["name"], told["failures"], len(told["runs"])) for told in as_json(standings)] == [
        ("good", 0, 2),
        ("bad", 4, 2),
    ]
    assert capsys.readouterr().err.count("2 REPLIES WERE NOT 200: {500: 2}") == 2


async def test_a_wrong_reply_ends_it_all(serve: "Serve") -> None:
    def refuse(request: bytes, body: bytes) -> None:
        raise ValueError(f"{body!r} is no answer to {request!r}")

    async with serve(lambda _: OK) as server:
        with pytest.raises(ValueError, match="b'ok' is no answer to b'POST /wrong "):
            await asyncio.to_thread(play, [contestant("wrong", server.url, refuse)], 1, 5.0, 0.01)
