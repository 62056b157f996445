"""`python -m licensing diagnose`: what works, what does not, and what to do about it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from licensing.access.discovery import DirectoryKeys, fetch
from licensing.catalogue.dates import Dates
from licensing.catalogue.environment_cache import Snapshot
from licensing.catalogue.records import Publisher
from licensing.catalogue.rows import OFFLINE, VERSION_ROW
from licensing.cli.running import with_services
from licensing.cli.seed import DEMO_PUBLISHER_ID
from licensing.cli.terminal import AsJson, table
from licensing.errors import ConfigurationError, LicensingError, PublisherNotFound, SignInUnavailable
from licensing.services import Services
from licensing.signing.store import read_keys
from licensing.telemetry.destinations import HOST_COLLECTS, parse_destination
from licensing.validation.model import Action, decide, sentence

_CLOCK_SECONDS = 60
_PRODUCT = "product "
_NOT_BOUGHT = "the customer has not bought it."


@dataclass(frozen=True, slots=True)
class Limits:
    """How long storage and the service may take to answer, and what is reported as slow."""

    timeout_seconds: float
    slow_ms: float


class State(StrEnum):
    OK = "ok"
    INFO = "info"
    """Neither well nor wrong: a fact that may explain what a user sees."""
    WARN = "warn"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it is, and what to do about it where it is not well."""

    subject: str
    state: State
    found: str
    fix: str = ""


def _check_settings(services: Services) -> Iterator[Finding]:
    settings = services.settings
    local = settings.public_url.startswith("http://")
    yield Finding("settings", State.OK, f"read; replies are issued by {settings.public_url}")
    if local:
        yield Finding(
            "public address",
            State.WARN,
            "it is this machine's",
            "On Azure set LICENSING_PUBLIC_URL to the address that environments use.",
        )
    if not settings.support_email:
        yield Finding("support email", State.WARN, "not set", "Set LICENSING_SUPPORT_EMAIL: customers are shown it.")


def _check_keys(services: Services) -> Finding:
    try:
        keys = read_keys(services.settings)
        published = len(keys.published(services.clock()))
    except ConfigurationError as error:
        return Finding("signing keys", State.BROKEN, error.detail, "`python -m licensing keys list` shows them.")
    if keys.next is None:
        fix = "`python -m licensing keys create` makes one, so that clients can pin it before it signs."
        return Finding("signing keys", State.WARN, "a current key, but no next one", fix)
    return Finding("signing keys", State.OK, f"{published} are published")


async def _check_sign_in(services: Services) -> Finding:
    settings = services.settings
    if not settings.directory_id or not settings.api_client_id:
        fix = "Set LICENSING_DIRECTORY_ID and LICENSING_API_CLIENT_ID: docs/administration.md, Sign-in."
        return Finding("sign-in", State.WARN, "not set up: licensing personnel cannot sign in", fix)
    keys = DirectoryKeys(authority=settings.sign_in_authority, fetch=fetch, clock=services.clock)
    try:
        await keys.find(settings.directory_id, kid="")
    except SignInUnavailable:
        fix = "Check LICENSING_DIRECTORY_ID, LICENSING_SIGN_IN_AUTHORITY, and what stands between."
        found = f"the directory's keys cannot be had from {settings.sign_in_authority}"
        return Finding("sign-in", State.BROKEN, found, fix)
    return Finding("sign-in", State.OK, f"the directory's keys are there, at {settings.sign_in_authority}")


def _check_telemetry(services: Services) -> Finding:
    if found := " and ".join(filter(os.environ.get, HOST_COLLECTS)):
        fix = f"Take {found} out of the app's settings: docs/telemetry.md says why."
        return Finding("telemetry", State.BROKEN, "the Functions host collects what nobody was told of", fix)
    if not services.settings.telemetry:
        fix = "Set LICENSING_TELEMETRY to see how the service is: docs/telemetry.md."
        return Finding("telemetry", State.WARN, "off: nothing is told", fix)
    fix = "Set LICENSING_TELEMETRY to a connection string, and restart the app: nothing is told until then."
    return _check_destination("telemetry", "LICENSING_TELEMETRY", fix, local=True)


def _check_own_settings(services: Services, publisher: Publisher) -> Iterator[Finding]:
    if name := publisher.telemetry_setting:
        fix = f"Set {name} to its connection string, or take it off the publisher's record."
        yield _check_destination("its telemetry", name, fix)
    if not publisher.support_email and not services.settings.support_email:
        fix = "Set the support email of the publisher, or LICENSING_SUPPORT_EMAIL."
        found = "neither the publisher nor the service has one: messages name a contact only where the product has one"
        yield Finding("its support email", State.WARN, found, fix)


def _check_destination(subject: str, name: str, fix: str, *, local: bool = False) -> Finding:
    try:
        found = parse_destination(os.environ.get(name, ""), local=local)
        return Finding(subject, State.OK, f"goes to {found.endpoint}")
    except ValueError as error:
        return Finding(subject, State.BROKEN, f"{name} cannot be used: {error}", fix)


async def _check_storage(services: Services, publisher_id: str, limits: Limits) -> Finding:
    try:
        services.table(publisher_id).connect()  # which loads the client library: that is not storage's time
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(limits.timeout_seconds):
            await services.store.version(publisher_id)
    except ConfigurationError as error:
        return Finding("storage", State.BROKEN, error.detail, "Set it, see docs/configuration.md.")
    except (LicensingError, TimeoutError) as error:
        cause = error.__cause__
        return Finding(
            "storage",
            State.BROKEN,
            f"no answer: {type(cause or error).__name__}",
            "Check the account's name, its firewall, and the app's role Storage Table Data Contributor; a new table is "
            "made by `python -m licensing seed`.",
        )
    took_ms = (asyncio.get_running_loop().time() - started) * 1e3
    if took_ms > limits.slow_ms:
        return Finding("storage", State.WARN, f"one read took {took_ms:.0f} ms", "Is it in the app's own region?")
    return Finding("storage", State.OK, f"one read took {took_ms:.0f} ms")


async def _check_service(url: str, limits: Limits) -> AsyncIterator[Finding]:
    try:
        async with httpx.AsyncClient(base_url=url, timeout=limits.timeout_seconds, trust_env=False) as http:
            answer = await http.get("/.well-known/jwks.json")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding(
            "service",
            State.BROKEN,
            f"{url} cannot be reached ({type(error).__name__})",
            "The service or the network is down: see its health, its log, and what stands between.",
        )
        return
    if not answer.is_success:
        yield Finding("service", State.BROKEN, f"{url} answers {answer.status_code}", "Its log says why.")
        return
    if not answer.headers.get("content-type", "").startswith("application/jwk-set+json"):
        fix = "A firewall or a proxy answers in its place: let it through."
        yield Finding("service", State.BROKEN, f"{url} answers with something other than its keys", fix)
        return
    took_ms = answer.elapsed.total_seconds() * 1e3
    if took_ms > limits.slow_ms:
        yield Finding(
            "service",
            State.WARN,
            f"{url} answers in {took_ms:.0f} ms",
            "Look at the latency of the network.",
        )
    else:
        yield Finding("service", State.OK, f"{url} answers in {took_ms:.0f} ms")
    if "date" in answer.headers:
        apart = abs((parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds())
        if apart > _CLOCK_SECONDS:
            yield Finding("clock", State.BROKEN, f"{apart:.0f} s from the service's", "Set this machine's clock.")
        else:
            yield Finding("clock", State.OK, "within a minute of the service's")


async def _check_environment(services: Services, publisher_id: str, serial: str | None) -> AsyncIterator[Finding]:
    try:
        snapshot = await services.environment_cache.get(publisher_id, serial or "")
        registered = await services.store.register.publisher_ids()
        customer_id = snapshot.environment.customer_id if snapshot.environment else ""
        document = await services.store.find_document(publisher_id, customer_id) if customer_id else None
    except PublisherNotFound:
        yield await _find_rows(services, publisher_id)
        return
    except LicensingError as error:
        yield Finding("publisher", State.BROKEN, error.title, "See storage, above.")
        return
    state = snapshot.state
    yield Finding(
        "publisher", State.OK, f"{state.publisher.name}, {len(state.products)} products, change {state.version.number}"
    )
    if publisher_id not in registered:
        found = "not registered: no list names it, and nobody gets its notices and reminders"
        fix = "Take a `backup` of it, and `restore` that with --apply: nothing else of it changes."
        yield Finding("register", State.BROKEN, found, fix)
    for finding in _check_own_settings(services, state.publisher):
        yield finding
    version = await services.store.version(publisher_id)
    if version is not None and version.frozen:
        fix = "If nobody moves it any more: `python -m licensing thaw`."
        yield Finding("changes", State.WARN, "frozen: nobody can change its records", fix)
    if serial is None:
        return
    if snapshot.environment is None or document is None or document.customer is None:
        yield Finding(
            "environment",
            State.BROKEN,
            f"{serial} is not registered",
            "Register the serial number of its About page with its customer.",
        )
        return
    tenants = ", ".join(
        each.tenant if each.active else f"{each.tenant} (switched off)" for each in document.environments_with(serial)
    )
    found = f"{serial} of the customer {document.customer.name}, tenant {tenants}"
    if snapshot.environment.active:
        yield Finding("environment", State.OK, found)
    else:
        yield Finding("environment", State.BROKEN, found, "Set it to active.")
    for finding in _check_licenses(snapshot, services.clock()):
        yield finding


async def _find_rows(services: Services, publisher_id: str) -> Finding:
    """Why the publisher is not known."""
    version = await services.table(publisher_id).find(publisher_id, VERSION_ROW)
    if version is None:
        fix = "Check the GUID against the X++ class; demo data: `python -m licensing seed`."
        return Finding("publisher", State.BROKEN, f"{publisher_id} is not known", fix)
    what, fix = version[OFFLINE].partition(" ")[0], "Run that command again: it goes on."
    return Finding("publisher", State.BROKEN, f"{publisher_id} is not whole: {what} it has not come to its end", fix)


def _check_licenses(snapshot: Snapshot, now: datetime) -> Iterator[Finding]:
    dates = Dates.at(now)
    for _, product in sorted(snapshot.state.products.items()):
        licenses = snapshot.licenses.get(product.id, ())
        decision = decide(product, snapshot.environment, licenses, dates=dates, enabled_users_count=None)
        subject = f"{_PRODUCT}{product.name}"
        if decision.action is not Action.ALLOW and not licenses:
            yield Finding(subject, State.INFO, f"{decision.status}, {decision.action}: {_NOT_BOUGHT}")
        elif decision.action is Action.ALLOW:
            found = ", ".join([decision.status, *decision.warnings])
            yield Finding(subject, State.WARN if decision.warnings else State.OK, found)
        else:
            # The sentence for the user names the product first: the line does so already.
            reason = (sentence(decision, product.name) or "").partition(": ")[2]
            yield Finding(subject, State.BROKEN, f"{decision.status}, {decision.action}: {reason}")


def _walk_faq(findings: list[Finding]) -> Iterator[Finding]:
    """The FAQ's four cases of prompted users, each answered by what was found."""
    by_subject = {finding.subject: finding for finding in findings}
    service = by_subject["service"]
    slow = service.state is State.WARN
    yield Finding("FAQ: only a few users", State.WARN if slow else State.OK, service.found, service.fix if slow else "")
    yield Finding(
        "FAQ: many or all users",
        State.OK,
        "a check is stale where the records have changed since: the line of the publisher counts its changes",
        "Validate license, in System parameters > Product licenses, sees the newest records.",
    )
    products = [finding for finding in findings if finding.subject.startswith(_PRODUCT)]
    lapsed, not_bought = (
        [finding.subject.removeprefix(_PRODUCT) for finding in products if finding.state is state]
        for state in (State.BROKEN, State.INFO)
    )
    case = "FAQ: some of the products"
    if not products:
        yield Finding(case, State.WARN, "their licenses could not be looked up", "Fix what is broken above first.")
    elif lapsed:
        fix = "Fix their licenses: the lines above say what is wrong with each."
        yield Finding(case, State.BROKEN, ", ".join(lapsed), fix)
    elif not_bought:
        fix = "If the customer has bought one of them, add its license."
        yield Finding(case, State.INFO, f"not bought: {', '.join(not_bought)}; the others are licensed", fix)
    else:
        yield Finding(case, State.OK, "all of them are licensed")
    whole = [by_subject[name] for name in ("service", "storage", "publisher", "environment") if name in by_subject]
    cause = next((finding for finding in whole if finding.state is State.BROKEN), None)
    yield Finding(
        "FAQ: all products",
        State.BROKEN if cause else State.OK,
        cause.found if cause else "the service is there, and the environment is registered",
        cause.fix if cause else "",
    )


async def diagnose(
    services: Services, publisher_id: str, serial: str | None, url: str, limits: Limits
) -> list[Finding]:
    """Everything that was looked at, in the order in which trouble is best looked for."""
    findings = [
        *_check_settings(services),
        _check_keys(services),
        await _check_sign_in(services),
        _check_telemetry(services),
    ]
    storage = await _check_storage(services, publisher_id, limits)
    findings += [storage, *[finding async for finding in _check_service(url, limits)]]
    if storage.state is not State.BROKEN:
        findings += [finding async for finding in _check_environment(services, publisher_id, serial)]
    if serial is not None:
        findings += _walk_faq(findings)
    return findings


def command(  # noqa: PLR0913, PLR0917 - each an option
    publisher: Annotated[str, typer.Option(help="The publisher's id, a GUID.")] = DEMO_PUBLISHER_ID,
    serial: Annotated[str | None, typer.Option(help="An environment whose users are prompted.")] = None,
    url: Annotated[str | None, typer.Option(help="The service's address. [default: LICENSING_PUBLIC_URL]")] = None,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait for storage and the service.", min=0.1)] = 5,
    slow: Annotated[float, typer.Option(help="An answer that takes more milliseconds is reported as slow.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Look at settings, keys, sign-in, storage, the service, the clock, a publisher and an environment.

    With --serial it walks the cases of the FAQ: who is prompted, why, and what fixes it. Ends with 1 where something
    is broken.
    """

    async def run(services: Services) -> list[Finding]:
        limits = Limits(timeout_seconds=timeout, slow_ms=slow)
        return await diagnose(services, publisher.lower(), serial, url or services.settings.public_url, limits)

    findings = with_services(os.environ, run)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        Console().print(_table(findings))
    if any(finding.state is State.BROKEN for finding in findings):
        raise typer.Exit(1)


def _table(findings: list[Finding]) -> Table:
    styles = {State.OK: "green", State.INFO: "blue", State.WARN: "yellow", State.BROKEN: "red"}
    lines = (
        (Text(finding.state, styles[finding.state]), finding.subject, finding.found, finding.fix)
        for finding in findings
    )
    return table(("", "What", "Found", "What to do"), lines)
