"""`python -m bench` reports everything that was measured, also after a failure and after Ctrl-C."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import run, targets
from bench.contestants import bare_worker, plain_fastapi
from bench.license_server import LicenseServer
from bench.load import LoadResult, post
from bench.rounds import Contestant, Run, Running, Standing
from bench.sizes import Size

if TYPE_CHECKING:
    from tests.bench.conftest import Serve

REPOSITORY = Path(__file__).resolve().parents[2]
REPLIES = {
    b"/good": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"/busy": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    b"/fails": b"",
}


def answer(request: bytes) -> bytes:
    return REPLIES[request.split(b" ", 2)[1]]


def contestant(name: str, url: str) -> Contestant:
    running = Running(url=url, requests=[post(f"/{name}", {})], check=lambda _request, _body: None)
    return Contestant(name=name, connections=1, start=lambda: nullcontext(running), warm_up=0, count=1)


def good_section() -> Iterator[Size]:
    yield Size(name="size of good", value="1 MB", target="1 MB")


def failing_section() -> Iterator[Size]:
    yield Size(name="size before failure", value="2 MB", target="2 MB")
    raise ValueError("out of\nmemory")


SECTIONS = {"good section": good_section, "failing section": failing_section}
HUNG_UP = "LoadError: the server hung up instead of answering request 0"


@pytest.mark.parametrize(
    ("contestants", "sections", "code", "errors"),
    [
        pytest.param(["good"], ["good section"], 0, {}, id="all measured"),
        pytest.param(["busy", "good"], [], 1, {}, id="replies not 200"),
        pytest.param(
            ["fails", "good"],
            ["failing section", "good section"],
            1,
            {"fails": HUNG_UP, "failing section": "ValueError: out of memory"},
            id="contestant and section fail",
        ),
    ],
)
@pytest.mark.parametrize("as_json_text", [False, True], ids=["table", "json"])
async def test_run_prints_measurements_and_a_line_for_each_failure(  # noqa: PLR0913 - a case and its fixtures
    contestants: list[str],
    sections: list[str],
    code: int,
    errors: dict[str, str],
    *,
    as_json_text: bool,
    serve: "Serve",
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    async with serve(answer) as server:
        playing = [contestant(name, server.url) for name in contestants]
        parts = {name: SECTIONS[name] for name in sections}
        assert code == await asyncio.to_thread(run, playing, parts, rounds=1, duration=5.0, as_json_text=as_json_text)
    printed = capsys.readouterr().out
    measured = [name for name in contestants if name not in errors]
    sizes = ["size before failure"] * ("failing section" in sections) + ["size of good"] * ("good section" in sections)
    if as_json_text:
        document = json.loads(printed)
        assert [each["name"] for each in document["contestants"]] == measured
        assert [each["name"] for each in document["sizes"]] == sizes
        assert document["errors"] == errors
    else:
        lines = [line.strip() for line in printed.splitlines()]
        assert [name for line in lines for name in measured + sizes if line.startswith(f"{name}  ")] == measured + sizes
        assert [line for line in lines if " failed: " in line] == [f"{name} failed: {errors[name]}" for name in errors]


def test_targets_compare_only_measured_contestants() -> None:
    load = LoadResult(
        replies=10,
        elapsed_seconds=1,
        statuses={200: 10},
        p50_ms=1,
        p95_ms=2,
        p99_ms=3,
        generator_cpu_us=1,
        samples=[],
    )

    def names(contestants: list[Contestant]) -> list[str]:
        runs = [Run(load=load, sign1=20)]
        return [size.name for size in targets([Standing(contestant=each, runs=runs) for each in contestants])]

    ours, plain = LicenseServer("").contestants([16, 64]), plain_fastapi("", [16, 64])
    assert names([*ours, *plain, *bare_worker([16, 64])]) == [
        "ours, kept, 16 connections, against sign1",
        "ours, kept, 16 connections, against plain FastAPI, 16 connections",
        "ours, kept, 64 connections, against sign1",
        "ours, kept, 64 connections, against plain FastAPI, 64 connections",
        "ours, kept, telemetry on, 64 connections, against without",
        "p99 of ours, kept, telemetry unanswered, 64 connections",
        "ours, nothing kept, 16 connections, against plain FastAPI, 16 connections",
    ]
    assert names([*ours[:2], *plain[1:]]) == ["ours, kept, 64 connections, against plain FastAPI, 64 connections"]
    assert names([]) == []


def test_run_after_ctrl_c_prints_the_sizes_so_far() -> None:
    program = """
import signal
from bench.__main__ import run
from bench.sizes import Size

def section(name):
    yield Size(name=name, value="1 MB", target="1 MB")
    if name == "second":
        signal.raise_signal(signal.SIGINT)

# A shell makes its background programs ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
parts = {name: lambda name=name: section(name) for name in ("first", "second", "third")}
raise SystemExit(run([], parts, rounds=1, duration=1, as_json_text=True))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert [size["name"] for size in json.loads(done.stdout)["sizes"]] == ["first", "second"]
    assert done.stderr.endswith("second ... interrupted\n")
    assert done.returncode == 130


def test_bench_after_ctrl_c_stops_its_emulators() -> None:
    # A shell makes its background programs ignore Ctrl-C, unless they ask for it.
    command = ["sh", "-c", f"trap '' INT; exec '{sys.executable}' -m bench --quick"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True) as bench:
        try:
            assert bench.stderr is not None
            progress = ""
            while not progress.endswith("ours, kept, 16 connections ... "):
                read = bench.stderr.read(1)
                assert read, progress
                progress += read
            found = subprocess.run(["pgrep", "-f", "-P", str(bench.pid), "azurite"], stdout=pipe, text=True, check=True)
            bench.send_signal(signal.SIGINT)
            printed, progress = bench.communicate()
        finally:
            bench.terminate()
    assert progress.startswith("interrupted\n")
    assert "replies/s" in printed
    assert bench.returncode == 130
    emulators = found.stdout.split()
    assert len(emulators) == 2
    for emulator in emulators:
        with pytest.raises(ProcessLookupError):
            os.kill(int(emulator), 0)
