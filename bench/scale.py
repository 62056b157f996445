"""`python -m bench.scale`: what a day costs, in instances, storage requests and money, and what breaks first.

Arithmetic over measured figures, minute by minute; nothing is started. docs/scale.md shows what it prints, and says
what follows.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import NormalDist
from typing import Annotated, Any

import typer

MINUTES = 24 * 60
DAYS = 30  # of a month
NINE = 9 * 60

# Counted on the wire; a test of the environment cache holds these.
VERSION_REQUESTS = 1  # of every validation, shared by those that wait together
NOT_KEPT_REQUESTS = 2  # more, where the environment is not kept: its serial row and its customer's row
CHANGED_REQUESTS = (
    2  # more, for the first at an instance after a change: the audit, and as a rule one changed record at most
)
# Of a run of the notices' timer, counted likewise.
RUN_REQUESTS = 4
RUN_REQUESTS_A_PUBLISHER = 7

# Of Azure, by the memory of an instance in MB.
VCPUS = {512: 0.25, 2048: 1.0, 4096: 2.0}

ONE_ZONE: Mapping[float, float] = {0: 1}
# Hours from UTC: share of the environments. An assumption, not a measurement.
AROUND_THE_WORLD: Mapping[float, float] = dict(
    zip((-8, -6, -5, 0, 1, 2, 8, 10, 12), (0.08, 0.10, 0.12, 0.12, 0.28, 0.05, 0.05, 0.15, 0.05), strict=True)
)


def _figure(default: float, meaning: str, source: str, *, least: float = 0, most: float = math.inf) -> Any:
    return field(default=default, metadata={"meaning": meaning, "source": source, "range": (least, most)})


_BENCH = "`make bench`, one worker process on a quiet core"
_ASSUMED = "assumed"
_FLEX = "Azure Functions pricing, Flex Consumption, East US"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that the arithmetic starts from. `--set NAME=VALUE` puts another in its place."""

    kept_a_second: float = _figure(
        1_811, "validations a second of a core, where the environment is kept", _BENCH, least=1
    )
    not_kept_a_second: float = _figure(741, "the same, where it is not", _BENCH, least=1)
    reply_kb: float = _figure(5.7, "a reply for ten products, kB", _BENCH)
    azure_speed: float = _figure(
        0.5, "a vCPU of Azure, as a share of that core", f"{_ASSUMED}: measure sign1 there", least=0.01
    )
    fill: float = _figure(0.6, "how far an instance is filled, so that nobody waits", _ASSUMED, least=0.01, most=1)
    concurrency: float = _figure(16, "requests that an instance serves at once", "`perInstanceConcurrency`", least=1)
    always_ready: float = _figure(1, "instances that are always there", "docs/operations.md")
    version_read_interval_ms: float = _figure(
        7, "between two shared reads of a version", "`LICENSING_VERSION_READ_INTERVAL_MS`"
    )
    cached_environments: float = _figure(
        10_000, "environments that an instance keeps", "`LICENSING_CACHED_ENVIRONMENTS`"
    )
    read_ms: float = _figure(5, "a point read of Table Storage", _ASSUMED)
    peak_minutes: float = _figure(20, "standard deviation of the first dashboard, around nine", _ASSUMED, least=1)
    largest: float = _figure(0.3, "share of the largest publisher in all environments", _ASSUMED, most=1)
    changes: float = _figure(5, "changes of a publisher's records a day", _ASSUMED)
    products: float = _figure(10, "products of a publisher, all asked for", _ASSUMED)
    event_kb: float = _figure(0.7, "an event of one product in the log, kB", _ASSUMED)
    environment_kb: float = _figure(10, "an environment with its customer, licenses and audit, kB", _ASSUMED)
    price_gb_s: float = _figure(0.000026, "$ a GB-second on demand", _FLEX)
    price_ready_gb_s: float = _figure(0.000016, "$ a GB-second of an always-ready instance at work", _FLEX)
    price_baseline_gb_s: float = _figure(0.000004, "$ a GB-second of its being there", _FLEX)
    price_million_executions: float = _figure(0.40, "$ a million executions", _FLEX)
    price_10k_storage: float = _figure(0.00036, "$ 10,000 requests to Table Storage", "Table Storage pricing, LRS")
    price_stored_gb: float = _figure(0.045, "$ a GB kept there, a month", "Table Storage pricing, LRS")
    price_log_gb: float = _figure(2.30, "$ a GB into the log", "Azure Monitor pricing, analytics logs, pay as you go")
    price_out_gb: float = _figure(0.087, "$ a GB to the internet", "Azure bandwidth pricing, after 100 GB a month")
    price_10k_vault: float = _figure(0.03, "$ 10,000 requests to Key Vault", "Key Vault pricing, standard")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is served, and by which instances."""

    publishers: int
    memory_mb: int = 512
    figures: Figures = field(default_factory=Figures)

    def cpu_seconds(self, kept: float) -> float:
        """What a validation takes of an instance, where this share is kept.

        One worker process uses one core, and more processes are not configured.
        """
        figures = self.figures
        of_a_core = kept / figures.kept_a_second + (1 - kept) / figures.not_kept_a_second
        return of_a_core / (figures.azure_speed * min(VCPUS[self.memory_mb], 1))

    def wait_seconds(self, kept: float) -> float:
        """How long a validation is under way."""
        reads = VERSION_REQUESTS + (1 - kept) * NOT_KEPT_REQUESTS
        return self.cpu_seconds(kept) + (reads * self.figures.read_ms + self.figures.version_read_interval_ms) / 1e3

    @property
    def shares(self) -> tuple[tuple[float, int], ...]:
        """(share of the environments, how many publishers have it): the largest, and all others alike."""
        if self.publishers == 1:
            return ((1.0, 1),)
        others = self.publishers - 1
        return ((self.figures.largest, 1), ((1 - self.figures.largest) / others, others))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a rate of validations asks for. Rates are a second."""

    instances: int
    storage_requests: float
    partition_entities: float
    """Of the largest publisher."""
    busy: float
    """Instances that are at work at a moment, each at least a second at a time: what is billed."""


def load(site: Site, rate: float, kept: float = 0.0) -> Load:
    """What so many validations a second ask for, of which this share is kept."""
    figures = site.figures
    by_cpu = rate * site.cpu_seconds(kept) / figures.fill
    by_concurrency = rate * site.wait_seconds(kept) / figures.concurrency
    instances = max(1, int(figures.always_ready), math.ceil(by_cpu), math.ceil(by_concurrency))
    requests = entities = 0.0
    for number, (share, publishers) in enumerate(site.shares):
        its_rate = rate * share / instances  # at one instance
        versions = (
            min(its_rate, 1e3 / figures.version_read_interval_ms) if figures.version_read_interval_ms else its_rate
        )
        rows = its_rate * (1 - kept) * NOT_KEPT_REQUESTS
        changes = figures.changes / 86_400
        # A change costs an instance something only where somebody asks it before the next one.
        noticed = changes * its_rate / (changes + its_rate) if its_rate else 0.0
        requests += instances * publishers * (versions + rows + noticed * CHANGED_REQUESTS)
        if number == 0:
            entities = instances * (versions + rows + noticed * CHANGED_REQUESTS)
    busy = instances * -math.expm1(-rate / instances * max(1.0, site.wait_seconds(kept)))
    return Load(instances=instances, storage_requests=requests, partition_entities=entities, busy=busy)


def arrivals(environments: float, zones: Mapping[float, float], peak_minutes: float) -> list[float]:
    """How many environments validate in each minute of a day, in UTC: each once, when its first user comes."""
    nine = NormalDist(NINE, peak_minutes)
    day = [0.0] * MINUTES
    for minute in range(-MINUTES, 2 * MINUTES):
        share = nine.cdf(minute + 1) - nine.cdf(minute)
        if share:
            for hours, part in zones.items():
                day[round(minute - hours * 60) % MINUTES] += environments * part * share
    return day


def kept_share(site: Site, environments: float, instances: int) -> float:
    """The share of a day's validations whose environment the instance that answers has kept since the day before.

    It was answered by one that is always ready, since the others are gone; it comes to the same one again; nothing of
    its publisher has changed since; and not too many others came after it.
    """
    figures = site.figures
    if not figures.always_ready:
        return 0.0
    same_again = figures.always_ready / instances / instances
    unchanged = math.exp(-figures.changes)
    room = min(1.0, figures.cached_environments * instances / environments)
    return same_again * unchanged * room


@dataclass(frozen=True, kw_only=True)
class Day:
    """What a day asks for, and a month of such days costs."""

    environments: int
    publishers: int
    memory_mb: int
    zones: str
    peak_a_second: float
    instances: int
    starts_a_minute: int
    """The most in one minute."""
    starts: int
    kept: float
    partition_entities_a_second: float
    storage_requests_a_second: float
    storage_requests: float
    run_seconds: float
    log_gb: float
    dollars: Mapping[str, float]
    """A month, by what for."""


def simulate(site: Site, environments: int, zones: Mapping[float, float]) -> Day:
    """A day, minute by minute. Raises ValueError where there is nobody to serve."""
    if environments < 1 or site.publishers < 1:
        raise ValueError("at least one environment and one publisher are needed")
    figures = site.figures
    rates = [number / 60 for number in arrivals(environments, zones, figures.peak_minutes)]
    # What is kept depends on how many instances there are, and that on what is kept, though little.
    kept = [kept_share(site, environments, load(site, rate).instances) for rate in rates]
    loads = [load(site, rate, share) for rate, share in zip(rates, kept, strict=True)]
    sizes = [each.instances for each in loads]
    starts = [max(0, size - before) for before, size in zip([sizes[-1], *sizes], sizes, strict=False)]
    run_requests = RUN_REQUESTS + RUN_REQUESTS_A_PUBLISHER * site.publishers
    requests = 60 * sum(each.storage_requests for each in loads) + MINUTES * run_requests
    log_gb = environments * figures.products * figures.event_kb / 1e6
    return Day(
        environments=environments,
        publishers=site.publishers,
        memory_mb=site.memory_mb,
        zones="one" if len(zones) == 1 else "all",
        peak_a_second=max(rates),
        instances=max(sizes),
        starts_a_minute=max(starts),
        starts=sum(starts),
        kept=sum(rate * share for rate, share in zip(rates, kept, strict=True)) / sum(rates),
        partition_entities_a_second=max(each.partition_entities for each in loads),
        storage_requests_a_second=max(each.storage_requests for each in loads),
        storage_requests=requests,
        run_seconds=run_seconds_of(site),
        log_gb=log_gb,
        dollars=_dollars(site, environments, loads, requests, log_gb, sum(starts)),
    )


def _dollars(  # noqa: PLR0913, PLR0917 - each a quantity that has a price
    site: Site, environments: int, loads: Sequence[Load], requests: float, log_gb: float, starts: int
) -> dict[str, float]:
    """What a month costs, by what for. Free grants are left out."""
    figures = site.figures
    gigabytes = site.memory_mb / 1024
    # The first instances to be busy are those that are always ready.
    ready = 60 * sum(min(each.busy, figures.always_ready) for each in loads)
    on_demand = 60 * sum(each.busy for each in loads) - ready
    run_seconds = max(1.0, run_seconds_of(site))
    there = 86_400 * figures.always_ready
    functions = gigabytes * (
        figures.price_baseline_gb_s * there
        + figures.price_ready_gb_s * ready
        + figures.price_gb_s * (on_demand + MINUTES * run_seconds)
    )
    functions += figures.price_million_executions * (environments + MINUTES) / 1e6
    stored = environments * figures.environment_kb / 1e6
    return {
        "functions": DAYS * functions,
        "storage": DAYS * requests / 1e4 * figures.price_10k_storage + stored * figures.price_stored_gb,
        "log": DAYS * log_gb * figures.price_log_gb,
        "bandwidth": DAYS * environments * figures.reply_kb / 1e6 * figures.price_out_gb,
        "vault": DAYS * (starts + figures.always_ready) / 1e4 * figures.price_10k_vault,
    }


def run_seconds_of(site: Site) -> float:
    """How long a run of the notices' timer takes where there is nothing to tell: its requests, one after the other."""
    return (RUN_REQUESTS + RUN_REQUESTS_A_PUBLISHER * site.publishers) * site.figures.read_ms / 1e3


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit of Azure, and how much of it is used."""

    name: str
    limit: float
    used: Callable[[Site, Load], float]

    def is_passed(self, site: Site, rate: float) -> bool:
        return self.used(site, load(site, rate)) > self.limit


LIMITS = (
    Limit(name="entities a second of a partition", limit=2_000, used=lambda _, each: each.partition_entities),
    Limit(name="requests a second of an account", limit=20_000, used=lambda _, each: each.storage_requests),
    Limit(name="instances of an app, unless set", limit=100, used=lambda _, each: each.instances),
    Limit(name="instances of an app, at most", limit=1_000, used=lambda _, each: each.instances),
    Limit(
        name="MB of a subscription in a region, unless raised",
        limit=512_000,
        used=lambda site, each: each.instances * site.memory_mb,
    ),
)


def rate_at(site: Site, limit: Limit) -> float:
    """How many validations a second there can be before the limit is passed."""
    low, high = 0.0, 1.0
    while not limit.is_passed(site, high):
        low, high = high, high * 2
    while high - low > high * 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if limit.is_passed(site, middle) else (middle, high)
    return low


# What is printed.

_CENT, _WHOLE = 0.01, 100


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, which a terminal shows well enough."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _amount(value: float) -> str:
    """With as many digits as mean something."""
    if 0 < value < _CENT:
        return f"< {_CENT}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= _WHOLE else f"{rounded:g}"


def days_table(days: Sequence[Day]) -> str:
    """The days, each a column."""

    def row(name: str, of: Callable[[Day], str]) -> list[str]:
        return [name, *map(of, days)]

    return table(
        ["environments", *(f"{day.environments:,}" for day in days)],
        [
            row("publishers", lambda day: f"{day.publishers:,}"),
            row("time zones", lambda day: day.zones),
            row("memory of an instance, MB", lambda day: f"{day.memory_mb:,}"),
            row("validations a second, at the peak", lambda day: _amount(day.peak_a_second)),
            row("instances at the peak", lambda day: f"{day.instances:,}"),
            row("starts of instances, most a minute", lambda day: f"{day.starts_a_minute:,}"),
            row("validations of a kept environment", lambda day: f"{day.kept:.1%}"),
            row("entities a second, largest publisher", lambda day: _amount(day.partition_entities_a_second)),
            row("storage requests a second, at the peak", lambda day: _amount(day.storage_requests_a_second)),
            row("storage requests a day", lambda day: _amount(day.storage_requests)),
            row("seconds of a run of the notices' timer", lambda day: _amount(day.run_seconds)),
            row("log a day, GB", lambda day: _amount(day.log_gb)),
            *(
                row(f"$ a month: {name}", lambda day, name=name: _amount(day.dollars[name]))  # type: ignore[misc]
                for name in days[0].dollars
            ),
            row("**$ a month**", lambda day: f"**{_amount(sum(day.dollars.values()))}**"),
        ],
    )


def limits_table(site: Site) -> str:
    """Where each limit lies, for instances of this size."""
    a_day = {name: 60 / max(arrivals(1, zones, site.figures.peak_minutes)) for name, zones in ZONES.items()}
    reached = sorted(((rate_at(site, limit), limit) for limit in LIMITS), key=lambda pair: pair[0])
    return table(
        ["limit", "value", "validations a second", "environments, one zone", "environments, all zones"],
        [
            [
                limit.name,
                f"{limit.limit:,.0f}",
                _amount(rate),
                _amount(rate * a_day["one"]),
                _amount(rate * a_day["all"]),
            ]
            for rate, limit in reached
        ],
    )


def figures_table(figures: Figures) -> str:
    """All that the arithmetic starts from."""
    return table(
        ["`--set`", "value", "what", "from"],
        [
            [
                f"`{each.name}`",
                f"{getattr(figures, each.name):,f}".rstrip("0").rstrip("."),
                each.metadata["meaning"],
                each.metadata["source"],
            ]
            for each in fields(Figures)
        ],
    ).replace("| --- | ---: | ---: | ---: |", "| --- | ---: | --- | --- |")


ZONES = {"all": AROUND_THE_WORLD, "one": ONE_ZONE}
SCENARIOS = ((1_000, 5), (100_000, 50), (10_000_000, 500))


def days(scenarios: Iterable[tuple[int, int]], memory_mb: int, figures: Figures) -> Iterator[Day]:
    """Each scenario (environments, publishers), over all time zones and in one."""
    for environments, publishers in scenarios:
        site = Site(publishers=publishers, memory_mb=memory_mb, figures=figures)
        yield from (simulate(site, environments, zones) for zones in ZONES.values())


def read_figures(given: Iterable[str]) -> Figures:
    """The figures, with NAME=VALUE put in place of some. Raises BadParameter for what is no figure."""
    figures = Figures()
    ranges = {each.name: each.metadata["range"] for each in fields(Figures)}
    for text in given:
        name, _, value = text.partition("=")
        if name not in ranges:
            raise typer.BadParameter(f"{text}: NAME=VALUE, where NAME is one of {', '.join(ranges)}.")
        least, most = ranges[name]
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (least <= number <= most and math.isfinite(number)):
            raise typer.BadParameter(f"{text}: the value is a number, {least:g} or more, and at most {most:g}.")
        figures = replace(figures, **{name: number})
    return figures


def main(  # noqa: PLR0913 - each an option of the command
    *,
    environments: Annotated[
        int | None, typer.Option(min=1, help="How many validate a day. Left out: 1,000, 100,000 and 10 million.")
    ] = None,
    publishers: Annotated[int, typer.Option(min=1, help="Whose they are; only with --environments.")] = 50,
    memory: Annotated[int, typer.Option(help=f"MB of an instance: {', '.join(map(str, VCPUS))}.")] = 512,
    figure: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another figure. --figures shows them.")
    ] = None,
    show_figures: Annotated[bool, typer.Option("--figures", help="Show the figures, and nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn what was measured into instances, storage requests and money, for a day with its peak at nine."""
    if memory not in VCPUS:
        raise typer.BadParameter(f"--memory is one of {', '.join(map(str, VCPUS))}.")
    figures = read_figures(figure or ())
    if show_figures:
        print(figures_table(figures))
        return
    scenarios = SCENARIOS if environments is None else ((environments, publishers),)
    made = list(days(scenarios, memory, figures))
    site = Site(publishers=scenarios[-1][1], memory_mb=memory, figures=figures)
    if as_json:
        limits = {limit.name: rate_at(site, limit) for limit in LIMITS}
        document = {"figures": asdict(figures), "days": [asdict(day) for day in made], "limits": limits}
        print(json.dumps(document, indent=2))
    else:
        print(days_table(made), limits_table(site), sep="\n\n")


if __name__ == "__main__":
    typer.run(main)
