"""`python -m bench`: how fast it is, side by side in one run."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from bench.contestants import bare_worker, plain_fastapi
from bench.license_server import TELEMETRY_DEAD, TELEMETRY_TAKEN, LicenseServer
from bench.rounds import Standing, as_json, play, table, tell
from bench.sizes import Size, sizes, sizes_table
from devhost.azurite import azurite


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each contestant runs.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long a run lasts.")] = 4.0,
    as_json_text: Annotated[bool, typer.Option("--json", help="Print JSON, with every run.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round of a second: does it work at all?")] = False,
) -> None:
    """Measure every contestant in interleaved rounds, and print a table of medians."""
    if quick:
        rounds, seconds = 1, 1.0
    with azurite() as store, azurite() as plain_store:
        ours = LicenseServer(store.connection_string)
        plain = plain_fastapi(plain_store.connection_string, connections=(16, 64))
        contestants = [*ours.contestants(connections=(16, 64)), *plain, *bare_worker(connections=(16, 64))]
        standings = play(contestants, rounds, seconds)
    measured = [*targets(standings), *sizes(quick=quick, tell=tell)]
    if as_json_text:
        document = {"rounds": rounds, "seconds": seconds, "contestants": as_json(standings)}
        print(json.dumps(document | {"sizes": [asdict(size) for size in measured]}, indent=2))
    else:
        Console().print(table(standings), sizes_table(measured))
    if any(standing.failures for standing in standings):
        raise typer.Exit(1)


def targets(standings: Sequence[Standing]) -> Iterator[Size]:
    """The speeds that are wanted, beside those that were measured."""
    rates = {standing.contestant.name: standing.median(lambda run: run.load.rate) for standing in standings}
    ratios = {standing.contestant.name: standing.median(lambda run: run.ratio) for standing in standings}
    for connections, wanted in ((16, 0.50), (64, 0.55)):
        ours, plain, ceiling = (
            name.format(connections)
            for name in (
                "ours, kept, {} connections",
                "plain FastAPI, {} connections",
                "worker and signature only, {} connections",
            )
        )
        yield Size(
            name=f"{ours}, against sign1",
            value=f"{ratios[ours]:.2f}; worker and signature only {ratios[ceiling]:.2f}",
            target=f"{wanted:.2f} or more",
        )
        yield Size(name=f"{ours}, against {plain}", value=f"{rates[ours] / rates[plain]:.2f}", target="3 or more")
    off = standing_of(standings, "ours, kept, 64 connections")
    taken = standing_of(standings, f"{TELEMETRY_TAKEN}, 64 connections")
    dead = standing_of(standings, f"{TELEMETRY_DEAD}, 64 connections")
    value = f"{taken.median(lambda run: run.ratio) / off.median(lambda run: run.ratio):.2f}"
    yield Size(name=f"{taken.contestant.name}, against without", value=value, target="0.85 or more")
    p99s = [f"{each.median(lambda run: run.load.p99_ms):.0f} ms" for each in (dead, taken, off)]
    yield Size(
        name=f"p99 of {dead.contestant.name}",
        value=f"{p99s[0]}; answered {p99s[1]}, without telemetry {p99s[2]}",
        target="that of answered, but for noise",
    )
    cold, plain = "ours, nothing kept, 16 connections", "plain FastAPI, 16 connections"
    yield Size(name=f"{cold}, against {plain}", value=f"{rates[cold] / rates[plain]:.2f}", target="0.80 or more")


def standing_of(standings: Sequence[Standing], name: str) -> Standing:
    return next(standing for standing in standings if standing.contestant.name == name)


if __name__ == "__main__":
    typer.run(main)
