"""Interleaved rounds: each contestant once, then each once again, so that a slow minute hits all alike.

The machine's speed is taken just before and after each run; a run's rate is also told as a multiple of it.
"""

import statistics
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from bench.load import LoadResult, run_load
from bench.yardstick import sign1

_OVERHEAD_SECONDS = 4.0  # start, warm-up and stop of a server: only for the first estimate
_ERROR_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers, and what to ask it."""

    url: str
    requests: Sequence[bytes]
    check: Callable[[bytes, bytes], None]  # of a request and the body of its reply: raises where the reply is wrong


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One line of the table. It is started for each run and ended after it, so only one runs at a time."""

    name: str
    connections: int
    start: Callable[[], AbstractContextManager[Running]]
    warm_up: int = 1_000  # requests before the clock runs
    count: int | None = None  # ends a run after so many requests, where the seconds do not end it sooner


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one contestant did in one round."""

    load: LoadResult
    sign1: float

    @property
    def ratio(self) -> float:
        return self.load.rate / self.sign1


@dataclass(kw_only=True)
class Standing:
    """A contestant and its runs, one a round, until one fails."""

    contestant: Contestant
    runs: list[Run] = field(default_factory=list)
    failure: str | None = None

    def median(self, value: Callable[[Run], float]) -> float | None:
        """The median over the runs, None where there is no run."""
        return statistics.median(map(value, self.runs)) if self.runs else None

    @property
    def failures(self) -> int:
        """The number of replies that were not 200."""
        return sum(run.load.failures for run in self.runs)

    @property
    def error(self) -> str | None:
        """What went wrong in any of the rounds."""
        if self.failure or not self.failures:
            return self.failure
        statuses = sum((Counter(run.load.statuses) for run in self.runs), Counter[int]())
        return f"{self.failures} of {statuses.total()} replies were not 200: {dict(statuses)}"


def play(standings: Sequence[Standing], rounds: int, seconds: float, sign1_seconds: float = 0.5) -> None:
    """Run each contestant once a round and add its run to its standing.

    A contestant that fails takes no part in later rounds. A wrong reply is a failure, however fast it is. What was
    measured before an exception such as KeyboardInterrupt stays in the standings.
    """
    started, done = time.monotonic(), 0
    for round_number in range(1, rounds + 1):
        for position, standing in enumerate(standings):
            if standing.failure:
                continue
            left = (rounds - round_number + 1) * len(standings) - position
            each = (time.monotonic() - started) / done if done else seconds + 2 * sign1_seconds + _OVERHEAD_SECONDS
            report_progress(
                f"round {round_number} of {rounds}, about {left * each / 60:.1f} min to go: "
                f"{standing.contestant.name} ... "
            )
            try:
                run = _run(standing.contestant, seconds, sign1_seconds)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others can be measured
                standing.failure = error_line(error)
                report_progress(f"failed: {standing.failure}\n")
            else:
                standing.runs.append(run)
                failed = f", {run.load.failures} REPLIES WERE NOT 200: {run.load.statuses}" if run.load.failures else ""
                report_progress(f"{run.load.rate:.0f} a second, {run.ratio:.3f} sign1{failed}\n")
            done += 1


def error_line(error: Exception) -> str:
    """The type and the message of an error in one line."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", _ERROR_CHARACTERS, placeholder=" ...")


def report_progress(text: str) -> None:
    """Write to standard error."""
    print(text, end="", file=sys.stderr, flush=True)


def _run(contestant: Contestant, seconds: float, sign1_seconds: float) -> Run:
    with contestant.start() as running:
        if contestant.warm_up:
            run_load(running.url, running.requests, contestant.connections, None, contestant.warm_up)
        before = sign1(sign1_seconds)
        load = run_load(running.url, running.requests, contestant.connections, seconds, contestant.count)
        after = sign1(sign1_seconds)
    for sample in load.samples:
        if sample.status == 200:  # noqa: PLR2004 - the others are counted as failures
            running.check(running.requests[sample.request], sample.body)
    return Run(load=load, sign1=(before + after) / 2)


def table(standings: Sequence[Standing]) -> Table:
    """Medians over the rounds, for people."""
    caption = "Medians. sign1: RSA-2048 signatures a second of one thread, measured beside each run."
    shown = Table(box=SIMPLE, pad_edge=False, caption=caption)
    shown.add_column("")
    for heading in ("replies/s", "sign1", "from - to", "p50 ms", "p99 ms", "not 200"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for standing in standings:
        name = Text(standing.contestant.name)
        if standing.failure:
            name.append(f" (failed in round {len(standing.runs) + 1})", style="bold red")
        shown.add_row(name, *(_cells(standing) if standing.runs else ()))
    return shown


def _cells(standing: Standing) -> list[str | Text]:
    ratios = [run.ratio for run in standing.runs]
    loads = [run.load for run in standing.runs]
    return [
        f"{statistics.median(load.rate for load in loads):.0f}",
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.3f} - {max(ratios):.3f}",
        f"{statistics.median(load.p50_ms for load in loads):.1f}",
        f"{statistics.median(load.p99_ms for load in loads):.1f}",
        Text(str(standing.failures), style="bold red" if standing.failures else ""),
    ]


def as_json(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """The same for programs, with every run."""
    return [
        {
            "name": standing.contestant.name,
            "connections": standing.contestant.connections,
            "rate": standing.median(lambda run: run.load.rate),
            "ratio": standing.median(lambda run: run.ratio),
            "p50Ms": standing.median(lambda run: run.load.p50_ms),
            "p95Ms": standing.median(lambda run: run.load.p95_ms),
            "p99Ms": standing.median(lambda run: run.load.p99_ms),
            "failures": standing.failures,
            "error": standing.error,
            "runs": [
                {
                    "rate": run.load.rate,
                    "sign1": run.sign1,
                    "ratio": run.ratio,
                    "statuses": run.load.statuses,
                    "generatorCpuUs": run.load.generator_cpu_us,
                }
                for run in standing.runs
            ],
        }
        for standing in standings
    ]
