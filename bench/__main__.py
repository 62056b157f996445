"""`python -m bench`: how fast it is, side by side in one run."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from bench.contestants import bare_worker, plain_fastapi
from bench.license_server import TELEMETRY_DEAD, TELEMETRY_TAKEN, LicenseServer
from bench.rounds import Contestant, Standing, as_json, play, report_progress, table
from bench.sizes import Sections, Size, measure, sections, sizes_table
from devhost.azurite import azurite
from devhost.server import stop_on_signals


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each contestant runs.")] = 5,
    duration: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds that each run lasts.")] = 4.0,
    as_json_text: Annotated[bool, typer.Option("--json", help="Print JSON, with every run.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round of a second: does it work at all?")] = False,
) -> None:
    """Measure every contestant in interleaved rounds, then every section, and print tables of what was measured.

    A contestant or section that fails is one line below the tables. Ctrl-C ends the measurements, not the report.
    Exit code 1: something failed, or a reply was not 200. Exit code 130: Ctrl-C.
    """
    if quick:
        rounds, duration = 1, 1.0
    stop_on_signals()
    with azurite() as store, azurite() as plain_store:
        ours = LicenseServer(store.connection_string)
        plain = plain_fastapi(plain_store.connection_string, connections=(16, 64))
        contestants = [*ours.contestants(connections=(16, 64)), *plain, *bare_worker(connections=(16, 64))]
        parts = sections(quick=quick)
        code = run(contestants, parts, rounds=rounds, duration=duration, as_json_text=as_json_text)
    raise typer.Exit(code)


def run(contestants: Sequence[Contestant], parts: Sections, *, rounds: int, duration: float, as_json_text: bool) -> int:
    """Measure all of them, print what was measured, and return the exit code."""
    standings = [Standing(contestant=contestant) for contestant in contestants]
    sizes: list[Size] = []
    errors: dict[str, str] = {}
    interrupted = False
    try:
        play(standings, errors, rounds, duration)
        measure(parts, sizes, errors)
    except KeyboardInterrupt:
        interrupted = True
        report_progress("interrupted\n")
    standings = [standing for standing in standings if standing.runs]
    sizes = [*targets(standings), *sizes]
    if as_json_text:
        document = {
            "rounds": rounds,
            "seconds": duration,
            "contestants": as_json(standings),
            "sizes": [asdict(size) for size in sizes],
            "errors": errors,
        }
        print(json.dumps(document, indent=2))
    else:
        Console().print(table(standings), sizes_table(sizes))
        for name, error in errors.items():
            print(f"{name} failed: {error}")
    if interrupted:
        return 130
    return 1 if errors or any(standing.failures for standing in standings) else 0


def targets(standings: Sequence[Standing]) -> Iterator[Size]:
    """The speeds that are wanted, next to those of contestants that were measured."""
    rates = {standing.contestant.name: standing.median(lambda run: run.load.rate) for standing in standings}
    ratios = {standing.contestant.name: standing.median(lambda run: run.ratio) for standing in standings}
    p99s = {standing.contestant.name: standing.median(lambda run: run.load.p99_ms) for standing in standings}
    for connections, wanted in ((16, 0.50), (64, 0.55)):
        ours, plain, ceiling = (
            name.format(connections)
            for name in (
                "ours, kept, {} connections",
                "plain FastAPI, {} connections",
                "worker and signature only, {} connections",
            )
        )
        with suppress(KeyError):
            value = f"{ratios[ours]:.2f}; worker and signature only {ratios[ceiling]:.2f}"
            yield Size(name=f"{ours}, against sign1", value=value, target=f"{wanted:.2f} or more")
        with suppress(KeyError):
            yield Size(name=f"{ours}, against {plain}", value=f"{rates[ours] / rates[plain]:.2f}", target="3 or more")
    off, taken, dead = (f"{name}, 64 connections" for name in ("ours, kept", TELEMETRY_TAKEN, TELEMETRY_DEAD))
    with suppress(KeyError):
        value = f"{ratios[taken] / ratios[off]:.2f}"
        yield Size(name=f"{taken}, against without", value=value, target="0.85 or more")
    with suppress(KeyError):
        value = f"{p99s[dead]:.0f} ms; answered {p99s[taken]:.0f} ms, without telemetry {p99s[off]:.0f} ms"
        yield Size(name=f"p99 of {dead}", value=value, target="that of answered, but for noise")
    cold, plain = "ours, nothing kept, 16 connections", "plain FastAPI, 16 connections"
    with suppress(KeyError):
        yield Size(name=f"{cold}, against {plain}", value=f"{rates[cold] / rates[plain]:.2f}", target="0.80 or more")


if __name__ == "__main__":
    typer.run(main)
