"""Interleaved rounds: each contestant once, then each once again, so that a slow minute hits all alike.

The machine's speed is taken just before and after each run; a run's rate is also told as a multiple of it.
"""

import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from bench.load import LoadResult, run_load
from bench.yardstick import sign1

START_SECONDS = 4.0  # about what a start, its warm-up and the end of a server take: only for the estimate
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


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A contestant and its runs, one a round."""

    contestant: Contestant
    runs: list[Run] = field(default_factory=list)

    def median(self, value: Callable[[Run], float]) -> float:
        return statistics.median(map(value, self.runs))

    @property
    def failures(self) -> int:
        return sum(run.load.failures for run in self.runs)


def play(
    standings: Sequence[Standing],
    errors: MutableMapping[str, str],
    rounds: int,
    seconds: float,
    sign1_seconds: float = 0.5,
) -> None:
    """Run each contestant once a round and add its run to its standing.

    A contestant that fails gets an entry in `errors` and takes no part in later rounds. It also fails when its check
    raises: a fast wrong reply is no result.
    """
    a_run_seconds = seconds + 2 * sign1_seconds + START_SECONDS
    to_do = rounds * len(standings)
    for round_number in range(1, rounds + 1):
        for standing in standings:
            minutes = to_do * a_run_seconds / 60
            to_do -= 1
            name = standing.contestant.name
            if name in errors:
                continue
            report_progress(f"round {round_number} of {rounds}, about {minutes:.1f} min to go: {name} ... ")
            with failing_alone(name, errors):
                run = _run(standing.contestant, seconds, sign1_seconds)
                standing.runs.append(run)
                failed = f", {run.load.failures} REPLIES WERE NOT 200: {run.load.statuses}" if run.load.failures else ""
                report_progress(f"{run.load.rate:.0f} a second, {run.ratio:.3f} sign1{failed}\n")


@contextmanager
def failing_alone(name: str, errors: MutableMapping[str, str]) -> Iterator[None]:
    """Turn an exception into one line in `errors`, so that the rest of the benchmark goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any failure leaves the others measurable
        errors[name] = textwrap.shorten(f"{type(error).__name__}: {error}", _ERROR_CHARACTERS, placeholder=" ...")
        report_progress(f"failed: {errors[name]}\n")


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
        ratios = [run.ratio for run in standing.runs]
        shown.add_row(
            standing.contestant.name,
            f"{standing.median(lambda run: run.load.rate):.0f}",
            f"{statistics.median(ratios):.3f}",
            f"{min(ratios):.3f} - {max(ratios):.3f}",
            f"{standing.median(lambda run: run.load.p50_ms):.1f}",
            f"{standing.median(lambda run: run.load.p99_ms):.1f}",
            Text(str(standing.failures), style="bold red" if standing.failures else ""),
        )
    return shown


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
