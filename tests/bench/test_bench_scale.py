"""The arithmetic of a day: against the wire, against chance, and against docs/scale.md."""

import json
import random
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.scale import (
    AROUND_THE_WORLD,
    LIMITS,
    MINUTES,
    NINE,
    RUN_REQUESTS,
    RUN_REQUESTS_A_PUBLISHER,
    VCPUS,
    Figures,
    Site,
    arrivals,
    kept_share,
    load,
    main,
    rate_at,
    simulate,
)
from bench.wire import counting_proxy
from devhost.azurite import Emulator, connection_string
from licensing.catalogue.records import Publisher
from licensing.signing.keys import KeySet
from tests.support.records import services_on

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/scale.md"
RATES = st.floats(min_value=1e-6, max_value=1e6)
SITES = st.builds(Site, publishers=st.integers(1, 1_000), memory_mb=st.sampled_from(sorted(VCPUS)))


def site_without_changes(publishers: int = 1, **figures: float) -> Site:
    """A site where nothing changes."""
    return Site(publishers=publishers, figures=Figures(**{"changes": 0, **figures}))


# The day.


@given(st.integers(1, 10_000_000), st.floats(min_value=1, max_value=240))
def test_arrivals_of_a_day_sum_to_the_number_of_environments(environments: int, peak_minutes: float) -> None:
    assert sum(arrivals(environments, AROUND_THE_WORLD, peak_minutes)) == pytest.approx(environments)


@given(st.floats(min_value=-12, max_value=14))
def test_arrivals_peak_at_nine_local_time(hours: float) -> None:
    day = arrivals(1, {hours: 1}, 20)
    away = (day.index(max(day)) - (NINE - hours * 60)) % MINUTES
    assert min(away, MINUTES - away) <= 2


# A second of it.


def test_load_needs_three_requests_for_uncached_validation_and_one_for_cached() -> None:
    assert load(site_without_changes(), 0.5).storage_requests == pytest.approx(3 * 0.5)
    assert load(site_without_changes(), 0.5, kept=1).storage_requests == pytest.approx(0.5)
    assert load(site_without_changes(publishers=7), 0.5).storage_requests == pytest.approx(3 * 0.5)
    assert load(site_without_changes(always_ready=4), 0.5).storage_requests == pytest.approx(3 * 0.5)


def test_load_partition_entities_come_from_the_largest_publisher_only() -> None:
    assert load(site_without_changes(publishers=7), 10).partition_entities == pytest.approx(3 * 10 * 0.3)


def test_load_limits_coalesced_version_reads_per_instance() -> None:
    crowded = load(site_without_changes(azure_speed=100, always_ready=2, version_read_interval_ms=10), 1_000, kept=1)
    assert crowded.instances == 2
    assert crowded.storage_requests == pytest.approx(2 * 100)
    twice_apart = load(
        site_without_changes(azure_speed=100, always_ready=2, version_read_interval_ms=20), 1_000, kept=1
    )
    assert twice_apart.storage_requests == pytest.approx(2 * 50)


def test_load_with_changes_adds_two_reads_per_change_and_instance() -> None:
    changing = Site(publishers=1, figures=Figures(changes=86_400))
    more = load(changing, 40).storage_requests - load(site_without_changes(), 40).storage_requests
    assert more == pytest.approx(2 * load(changing, 40).instances, rel=0.1)


def test_load_adds_instance_when_target_fill_is_exceeded() -> None:
    site = Site(publishers=1, memory_mb=2048, figures=Figures(azure_speed=1, fill=0.5, not_kept_a_second=400))
    assert load(site, 0.5 * 400 * 3).instances == 3
    assert load(site, 0.5 * 400 * 3 + 1).instances == 4
    assert load(Site(publishers=1, memory_mb=512, figures=site.figures), 0.5 * 400 * 3).instances == 12


def test_load_with_slow_storage_needs_more_instances() -> None:
    assert load(site_without_changes(read_ms=1_000, concurrency=16), 160).instances == pytest.approx(
        160 * 3 / 16, abs=1
    )


@given(SITES, RATES, st.floats(min_value=1, max_value=10))
def test_load_never_decreases_with_more_validations(site: Site, rate: float, times: float) -> None:
    less, more = load(site, rate), load(site, rate * times)
    assert less.instances <= more.instances
    for name in ("storage_requests", "partition_entities", "busy"):
        assert getattr(less, name) <= getattr(more, name) * (1 + 1e-9)
    assert less.busy <= less.instances


@pytest.mark.parametrize("rate", [0.1, 1, 3])
def test_load_busy_seconds_match_a_simulated_day(rate: float) -> None:
    """An instance is billed from a request's start, for a second or more, and once for what overlaps."""
    chance = random.Random(2026)
    at = billed = until = 0.0
    for _ in range(20_000):
        at += chance.expovariate(rate)
        billed += at + 1 - max(at, until)
        until = at + 1
    assert load(site_without_changes(), rate).busy == pytest.approx(billed / until, rel=0.03)


def test_cached_share_requires_environment_to_return_to_a_retained_instance() -> None:
    chance = random.Random(2026)
    instances, ready, draws = 5, 2, 100_000
    same = 0
    for _ in range(draws):
        yesterday, today = chance.randrange(instances), chance.randrange(instances)
        same += yesterday < ready and yesterday == today
    assert kept_share(site_without_changes(always_ready=ready), 100, instances) == pytest.approx(same / draws, rel=0.03)
    assert kept_share(site_without_changes(), 100, 1) == 1
    assert kept_share(site_without_changes(), 40_000, 1) == pytest.approx(0.25), "no more than an instance keeps"
    assert kept_share(site_without_changes(always_ready=0), 100, 1) == 0
    assert kept_share(site_without_changes(changes=5), 100, 1) < 0.01


# A month, and the limits.


def test_simulate_computes_monthly_costs_from_prices() -> None:
    day = simulate(site_without_changes(publishers=1), 1_000_000, {0: 1})
    assert day.dollars["log"] == pytest.approx(30 * 1_000_000 * 10 * 0.7e-6 * 2.30)
    assert day.dollars["bandwidth"] == pytest.approx(30 * 1_000_000 * 5.7e-6 * 0.087)
    assert day.dollars["storage"] == pytest.approx(30 * day.storage_requests / 1e4 * 0.00036 + 10 * 0.045)
    assert day.starts == day.instances - 1, "they come once, for the peak"


def test_simulate_without_load_costs_always_ready_instance_and_timer() -> None:
    day = simulate(site_without_changes(), 1, {0: 1})
    there, runs = 86_400 * 0.000004, 1_440 * 0.000026
    assert day.dollars["functions"] == pytest.approx(30 * (0.5 * (there + runs) + 1_440 * 0.4e-6), rel=0.01)


@pytest.mark.parametrize(("ready", "price"), [(1, 0.000016), (0, 0.000026)])
def test_simulate_bills_always_ready_instance_at_its_own_price(ready: int, price: float) -> None:
    site = site_without_changes(azure_speed=100, always_ready=ready)
    worked = 60 * sum(load(site, number / 60).busy for number in arrivals(20_000, {0: 1}, 20))
    idle = simulate(site, 1, {0: 1}).dollars["functions"]
    working = simulate(site, 20_000, {0: 1}).dollars["functions"] - 30 * 20_000 * 0.4e-6
    assert working - idle == pytest.approx(30 * 0.5 * price * worked, rel=0.01)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_rate_at_returns_highest_rate_within_the_limit(limit: Any) -> None:
    site = Site(publishers=50)
    rate = rate_at(site, limit)
    assert not limit.is_passed(site, rate)
    assert limit.is_passed(site, rate * 1.001)


async def test_notices_timer_sends_fixed_requests_per_run_and_publisher(tables: Emulator, key_set: KeySet) -> None:
    with counting_proxy(f"http://127.0.0.1:{tables.port}") as wire:
        account = connection_string(urlsplit(wire.url).port or 0)
        async with services_on(account, storage_table="scale", signing_keys=key_set.dump()) as services:
            await services.table("").create()
            for publishers in (1, 2, 3):
                now = services.clock()
                record = Publisher(id=str(uuid4()), created_at=now, updated_at=now, name="Test publisher")
                await services.catalogue.create_publisher(record, actor="test")
                await services.notices.run()  # the first reads more
                wire.take()
                await services.notices.run()
                assert wire.take()[0] == RUN_REQUESTS + RUN_REQUESTS_A_PUBLISHER * publishers


# The command, and what the document shows of it.


def run_scale_command(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, arguments)


DOCUMENTED_RUNS = re.findall(
    r"^`\.venv/bin/python -m bench\.scale([^`]*)`:\n\n((?:\|.*\n|\n(?=\|))+)", DOCUMENT.read_text("utf-8"), re.MULTILINE
)


def test_scale_doc_shows_at_least_four_command_outputs() -> None:
    assert len(DOCUMENTED_RUNS) >= 4
    assert "" in [arguments for arguments, _ in DOCUMENTED_RUNS]


@pytest.mark.parametrize(
    ("arguments", "shown"), DOCUMENTED_RUNS, ids=[arguments.strip() or "plain" for arguments, _ in DOCUMENTED_RUNS]
)
def test_scale_doc_shows_current_output_of_the_command(arguments: str, shown: str) -> None:
    result = run_scale_command(*shlex.split(arguments))
    assert result.exit_code == 0, result.output
    # The limits, which are printed last, may be left out.
    assert result.stdout.startswith(shown.strip()), "show it in docs/scale.md, and read what the text says of it"


def test_scale_command_with_json_prints_figures_days_and_limits() -> None:
    result = run_scale_command("--environments", "2000", "--publishers", "2", "--set", "largest=0.5", "--json")
    document = json.loads(result.stdout)
    assert document["figures"]["largest"] == 0.5
    assert [(day["environments"], day["publishers"], day["zones"]) for day in document["days"]] == [
        (2000, 2, "all"),
        (2000, 2, "one"),
    ]
    assert len(document["limits"]) == len(LIMITS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "larges=0.5"], "NAME is one of"),
        (["--set", "largest=much"], "is a number, 0 or more, and at most 1"),
        (["--set", "azure_speed=0"], "is a number, 0.01 or more"),
        (["--set", "changes=nan"], "is a number"),
        (["--memory", "1024"], "is one of 512, 2048, 4096"),
    ],
)
def test_scale_command_with_invalid_figure_exits_with_error(arguments: list[str], sentence: str) -> None:
    result = run_scale_command(*arguments)
    assert result.exit_code  # which one is the operator's commands' to say, where they are loaded
    assert sentence in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
