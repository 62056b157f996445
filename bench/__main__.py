"""`python -m bench`: how fast it is, side by side in one run."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from bench.contestants import Store, bare_worker, plain_fastapi
from bench.license_server import TELEMETRY_DEAD, TELEMETRY_TAKEN, LicenseServer
from bench.rounds import Run, Standing, as_json, play, report_progress, table
from bench.sizes import Section, Size, measure, sections, sizes_table
from devhost.azurite import azurite

_FAILED, _INTERRUPTED = 1, 130


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each contestant runs.")] = 5,
    duration: Annotated[float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Length of a run.")] = 4.0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Only contestants and sections with this text in their names. Repeatable."),
    ] = None,
    as_json_text: Annotated[bool, typer.Option("--json", help="Print JSON, with every run.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round of a second: does it work at all?")] = False,
) -> None:
    """Measure every contestant in interleaved rounds, then every section, and print tables.

    A contestant or section that fails does not stop the others. Ctrl-C prints what was measured so far.

    Exit codes: 0, 1 where a contestant or section failed or a reply was not 200, 130 after Ctrl-C.
    """
    if quick:
        rounds, duration = 1, 1.0

    def is_chosen(name: str) -> bool:
        return not only or any(text.casefold() in name.casefold() for text in only)

    with ExitStack() as running:

        def store() -> Store:
            return functools.cache(lambda: running.enter_context(azurite()))

        ours, growing = LicenseServer(store()), LicenseServer(store())
        contestants = [
            *ours.contestants(connections=(16, 64)),
            *plain_fastapi(store(), connections=(16, 64)),
            *bare_worker(connections=(16, 64)),
        ]
        parts = sections(ours, growing, quick=quick)
        standings = [Standing(contestant=each) for each in contestants if is_chosen(each.name)]
        chosen = [section for section in parts if is_chosen(section.name)]
        if not standings and not chosen:
            names = [*(each.name for each in contestants), *(section.name for section in parts)]
            raise typer.BadParameter(f"--only matches none of these names: {'; '.join(names)}.")
        raise typer.Exit(run(standings, chosen, rounds=rounds, seconds=duration, as_json_text=as_json_text))


def run(
    standings: Sequence[Standing], chosen: Sequence[Section], *, rounds: int, seconds: float, as_json_text: bool
) -> int:
    """Measure all of them and print what could be measured. Returns the exit code."""
    measured: list[Size] = []
    errors: dict[str, str] = {}
    interrupted = False
    try:
        play(standings, rounds, seconds)
        measure(chosen, measured, errors)
    except KeyboardInterrupt:
        interrupted = True
        report_progress("interrupted\n")
    if standings:
        measured = [*targets(standings), *measured]
    errors = {each.contestant.name: each.error for each in standings if each.error} | errors
    if as_json_text:
        document = {
            "rounds": rounds,
            "seconds": seconds,
            "contestants": as_json(standings),
            "sizes": [asdict(size) for size in measured],
            "errors": [{"name": name, "error": error} for name, error in errors.items()],
        }
        print(json.dumps(document, indent=2))
    else:
        tables = [*([table(standings)] if standings else []), sizes_table(measured)]
        Console().print(*tables)
        for name, error in errors.items():
            print(f"{name}: {error} To repeat only this: make bench ONLY='{name}'")
    if interrupted:
        return _INTERRUPTED
    return _FAILED if errors else 0


def targets(standings: Sequence[Standing]) -> Iterator[Size]:
    """The speeds that are wanted, next to those that were measured."""
    rates = _medians(standings, lambda run: run.load.rate)
    ratios = _medians(standings, lambda run: run.ratio)
    p99s = _medians(standings, lambda run: run.load.p99_ms)
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
            value=f"{_shown(ratios.get(ours))}; worker and signature only {_shown(ratios.get(ceiling))}",
            target=f"{wanted:.2f} or more",
        )
        yield Size(name=f"{ours}, against {plain}", value=_quotient(rates, ours, plain), target="3 or more")
    off, taken, dead = (f"{name}, 64 connections" for name in ("ours, kept", TELEMETRY_TAKEN, TELEMETRY_DEAD))
    yield Size(name=f"{taken}, against without", value=_quotient(ratios, taken, off), target="0.85 or more")
    shown = [_shown(p99s.get(name), "{:.0f} ms") for name in (dead, taken, off)]
    yield Size(
        name=f"p99 of {dead}",
        value=f"{shown[0]}; answered {shown[1]}, without telemetry {shown[2]}",
        target="that of answered, but for noise",
    )
    cold, plain = "ours, nothing kept, 16 connections", "plain FastAPI, 16 connections"
    yield Size(name=f"{cold}, against {plain}", value=_quotient(rates, cold, plain), target="0.80 or more")


def _medians(standings: Sequence[Standing], value: Callable[[Run], float]) -> dict[str, float | None]:
    return {standing.contestant.name: standing.median(value) for standing in standings}


def _quotient(medians: Mapping[str, float | None], name: str, base: str) -> str:
    one, other = medians.get(name), medians.get(base)
    return _shown(None if one is None or other is None else one / other)


def _shown(value: float | None, template: str = "{:.2f}") -> str:
    return "not measured" if value is None else template.format(value)


if __name__ == "__main__":
    typer.run(main)
