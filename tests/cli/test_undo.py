"""Records made what they were: `python -m licensing history` and `restore --at`, on a real store."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from devhost.azurite import Emulator
from licensing.bulk import undo
from licensing.bulk.undo import TYPES, apply_steps, plan_undo
from licensing.catalogue.records import Customer, Record, User
from licensing.catalogue.rows import AuditEntry, to_fields
from licensing.catalogue.service import draft_record
from licensing.cli.running import with_services
from licensing.errors import RuleBroken
from licensing.services import Services
from tests.catalogue.test_catalogue_properties import VERBS, Step, Writer, begin, steps
from tests.cli.conftest import Command, CommandResult
from tests.cli.test_backup import start
from tests.support.fault_proxy import Forward, fault_proxy
from tests.support.hosting import Served
from tests.support.invariants import check_invariants
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment, services_on

SOON = datetime(2027, 3, 1, tzinfo=UTC)


class RestoreFixture:
    """A publisher with a product, and a customer who holds it and has an environment; and the commands for it."""

    def __init__(self, command: Command, service: Served) -> None:
        self._command, self._service = command, service
        self.publisher_id = str(uuid4())
        self.product, self.customer = a_product(), a_customer()
        self.license = a_license(self.customer.id, self.product.id)
        self.environment = an_environment(self.customer.id, f"S-{self.publisher_id}")
        publisher = a_publisher(id=self.publisher_id, allowed_domains=("example.com",))
        self.do(lambda services: services.catalogue.create_publisher(publisher, actor="test"))
        self.make(self.product, self.customer, self.license, self.environment)

    def do[T](self, use: Callable[[Services], Awaitable[T]]) -> T:
        return with_services(self._service.settings, use)

    def make(self, *records: Record) -> None:
        async def run(services: Services) -> None:
            for record in records:
                await services.catalogue.create(self.publisher_id, record, actor="test")

        self.do(run)

    def change(self, record: Record, **fields: Any) -> None:
        self.do(
            lambda services: services.catalogue.update(
                self.publisher_id,
                type(record),
                record.id,
                lambda before: replace(before, **fields),
                actor="test",
                parent=record.parent,
            )
        )

    def delete(self, *records: Record) -> None:
        async def run(services: Services) -> None:
            for each in records:
                await services.catalogue.delete(
                    self.publisher_id, type(each), each.id, actor="somebody", parent=each.parent
                )

        self.do(run)

    def find[R: Record](self, record: R) -> R | None:
        return self.do(lambda services: services.store.find(self.publisher_id, type(record), record.id, record.parent))

    def run(self, *arguments: object) -> CommandResult:
        return self._command(*arguments, "--publisher", self.publisher_id)

    def history(self, *options: object) -> list[dict[str, Any]]:
        ended = self.run("history", "--json", *options)
        assert (ended.code, ended.err) == (0, "")
        return [json.loads(line) for line in ended.out.splitlines()]

    def first_deletion(self) -> str:
        """When the first of what was deleted was."""
        return min(str(entry["at"]) for entry in self.history("--limit", 1000) if entry["after"] is None)

    def restore(self, *options: object) -> dict[str, Any]:
        ended = self.run("restore", "--json", *options)
        assert ended.err == ""
        report: dict[str, Any] = json.loads(ended.out)
        refused = any(change["refused"] for change in report["changes"])
        assert ended.code == (3 if refused else 0)
        return report

    def check(self) -> None:
        self.do(lambda services: check_invariants(services, self.publisher_id))


@pytest.fixture
def sample(command: Command, service: Served) -> RestoreFixture:
    return RestoreFixture(command, service)


def does(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["kind"], change["does"]) for change in report["changes"]]


# What was deleted.


def test_restore_at_recreates_deleted_records_with_their_ids(sample: RestoreFixture) -> None:
    sample.delete(sample.environment, sample.license, sample.customer, sample.product)
    at = sample.first_deletion()
    shown = sample.restore("--at", at, "--deleted")
    made = [(kind, "made again") for kind in ("product", "customer", "customerProduct", "environment")]
    assert (shown["applied"], does(shown)) == (False, made)
    assert sample.find(sample.customer) is None, "without --apply nothing is changed"
    assert does(sample.restore("--at", at, "--deleted", "--apply")) == made
    for record in (sample.product, sample.customer, sample.license, sample.environment):
        found = sample.find(record)
        assert found is not None
        assert (found.id, found.created_at) == (record.id, record.created_at)
    snapshot = sample.do(
        lambda services: services.environment_cache.get(sample.publisher_id, sample.environment.serial_number.lower())
    )
    assert list(snapshot.licenses) == [sample.product.id]
    assert does(sample.restore("--at", at, "--deleted", "--apply")) == [], "once more does nothing"
    assert {entry["actor"].partition(" ")[0] for entry in sample.history("--limit", 4)} == {"restore"}
    sample.check()


def test_restore_with_deleted_option_keeps_other_changes(sample: RestoreFixture) -> None:
    other = a_product("Other")
    sample.make(other)
    sample.delete(other)
    at = sample.first_deletion()
    sample.change(sample.customer, name="A new name")
    sample.make(late := a_customer("Late"))
    sample.restore("--at", at, "--deleted", "--apply")
    assert sample.find(other)
    assert sample.find(late)
    found = sample.find(sample.customer)
    assert found
    assert found.name == "A new name"


def test_restore_with_record_option_includes_its_children(sample: RestoreFixture) -> None:
    other = a_customer("Other")
    sample.make(other)
    sample.delete(other, sample.environment, sample.license, sample.customer)
    report = sample.restore("--at", sample.first_deletion(), "--record", sample.customer.id, "--apply")
    assert does(report) == [(kind, "made again") for kind in ("customer", "customerProduct", "environment")]
    assert sample.find(other) is None


def test_restore_environments_with_shared_serial_number_selects_active_one(sample: RestoreFixture) -> None:
    serial_number = sample.environment.serial_number
    second = an_environment(sample.customer.id, serial_number, tenant="fabrikam.onmicrosoft.com")
    sample.make(second)
    sample.change(sample.environment, active=False)
    sample.delete(second, sample.environment)
    at = sample.first_deletion()

    def decisive() -> str | None:
        seen = sample.do(lambda services: services.environment_cache.get(sample.publisher_id, serial_number))
        return seen.environment.id if seen.environment else None

    assert decisive() is None
    assert does(sample.restore("--at", at, "--record", sample.environment.id, "--apply")) == [
        ("environment", "made again")
    ]
    assert decisive() == sample.environment.id
    assert does(sample.restore("--at", at, "--deleted", "--apply")) == [("environment", "made again")]
    assert decisive() == second.id
    sample.check()


def test_restore_environment_with_taken_serial_number_reports_customer(sample: RestoreFixture) -> None:
    sample.delete(sample.environment)
    at = sample.first_deletion()
    other = a_customer("Northwind")
    sample.make(other, an_environment(other.id, sample.environment.serial_number))
    (change,) = sample.restore("--at", at, "--deleted", "--apply")["changes"]
    assert change["refused"].startswith('The customer "Northwind" has this serial number already.')
    assert sample.find(sample.environment) is None
    sample.check()


def test_restore_environment_with_adfs_serial_number_succeeds(sample: RestoreFixture) -> None:
    old = an_environment(sample.customer.id, "adfs")
    sample.do(
        lambda services: services.store.change(
            sample.publisher_id, "test", lambda draft: draft_record(draft, old, is_restored=True)
        )
    )
    sample.delete(old)
    assert does(sample.restore("--at", sample.first_deletion(), "--deleted", "--apply")) == [
        ("environment", "made again")
    ]
    sample.change(old, serial_number="S-9")
    at = sample.history("--record", old.id)[0]["at"]
    assert [change["refused"] for change in sample.restore("--at", at, "--apply")["changes"]] == [None]
    found = sample.find(old)
    assert found
    assert found.serial_number == "adfs"
    sample.check()


def test_restore_at_reverts_all_later_changes(sample: RestoreFixture) -> None:
    late, other = a_customer("Late"), an_environment(sample.customer.id, str(uuid4()))
    sample.make(other, late)
    (made,) = sample.history("--record", late.id)
    sample.make(license_ := a_license(sample.customer.id, sample.product.id), an_environment(late.id, str(uuid4())))
    sample.change(sample.license, number_of_users=99)
    sample.change(other, customer_id=late.id)
    sample.restore("--at", made["at"], "--apply")
    assert sample.find(late) is None
    assert sample.find(license_) is None, "though its customer has an environment"
    found, moved_back = sample.find(sample.license), sample.find(other)
    assert found
    assert (found.number_of_users, moved_back is not None) == (10, True)
    sample.check()


def test_restore_at_reverts_swapped_product_names(sample: RestoreFixture) -> None:
    other = a_product("Other")
    sample.make(other)
    sample.change(other, name="In between")
    at = sample.history("--record", other.id)[0]["at"]
    sample.change(sample.product, name="Other")
    sample.change(other, name="SmartSend")
    sample.restore("--at", at, "--apply")
    found = [sample.find(sample.product), sample.find(other)]
    assert [product.name for product in found if product] == ["SmartSend", "Other"]
    sample.check()


def test_restore_at_orders_dependent_changes(sample: RestoreFixture) -> None:
    late = a_product("Late")
    sample.make(late)
    (made,) = sample.history("--record", late.id)
    sample.change(sample.license, product_id=late.id)
    report = sample.restore("--at", made["at"], "--apply")
    assert does(report) == [("product", "deleted"), ("customerProduct", "changed back")], (
        "held until the license is not"
    )
    assert sample.find(late) is None
    sample.check()


@pytest.mark.slow
async def test_restore_at_killed_repeatedly_completes_on_rerun(
    sample: RestoreFixture, service: Served, tables: Emulator
) -> None:
    gone = [a_customer(f"Customer {number}") for number in range(100)]
    await asyncio.to_thread(sample.make, *gone)
    await asyncio.to_thread(sample.delete, *gone)
    at = await asyncio.to_thread(sample.first_deletion)
    process: Any = None
    left = kills = 0

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        nonlocal left
        left -= request.method == "POST"
        if kills < 3 and left <= 0:
            process.send_signal(signal.SIGKILL)
            return await pass_on() if kills % 2 else web.Response(status=503)
        return await pass_on()

    arguments = ("restore", "--publisher", sample.publisher_id, "--at", at, "--apply")
    async with fault_proxy(tables, answer) as server:
        for kills in range(4):
            left = 2
            process = start(*arguments, settings={**service.settings, "LICENSING_STORAGE": server.account})
            assert await asyncio.to_thread(process.wait) == (-signal.SIGKILL if kills < 3 else 0)
    found = await asyncio.to_thread(
        sample.do, lambda services: services.store.list_records(sample.publisher_id, Customer)
    )
    assert {each.id for each in found} == {sample.customer.id, *(each.id for each in gone)}
    await asyncio.to_thread(sample.check)


# What a rule refuses, and what others do.


def test_restore_reports_refused_change_and_applies_the_rest(sample: RestoreFixture) -> None:
    gone = [a_product(f"Product {number}") for number in range(30)]
    sample.make(*gone)
    sample.delete(*gone)
    at = sample.first_deletion()
    sample.make(a_product("product 7"))
    report = sample.restore("--at", at, "--deleted", "--apply")
    refused = [change for change in report["changes"] if change["refused"]]
    assert [change["record"] for change in refused] == ["product Product 7"]
    assert "There is a product" in refused[0]["refused"]
    assert sum(sample.find(product) is not None for product in gone[:9]) == 8
    ended = sample.run("restore", "--at", at, "--deleted", "--apply")
    assert ended.code == 3
    assert "There is a product" in ended.out
    assert ended.out.endswith("0 made again, 0 changed back, 0 deleted, 1 refused.\n")


def test_restore_keeps_and_reports_concurrently_changed_record(
    sample: RestoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample.change(sample.customer, name="Wrong")
    sample.change(sample.product, name="Wrong too")
    at = sample.history("--record", sample.customer.id)[0]["at"]
    as_it_is = undo.apply_steps

    async def meanwhile(store: Any, publisher_id: str, *more: Any) -> Any:
        async def edit(draft: Any) -> None:
            before = await draft.find(Customer, sample.customer.id)
            draft.put(replace(before, name="Theirs"), before)

        await store.change(publisher_id, "somebody", edit)
        return await as_it_is(store, publisher_id, *more)

    with monkeypatch.context() as patch:
        patch.setattr("licensing.cli.recovery.restore.apply_steps", meanwhile)
        report = sample.restore("--at", at, "--apply")
    assert [change["refused"] is None for change in report["changes"]] == [True, False]
    found = sample.find(sample.customer)
    assert found
    assert found.name == "Theirs"
    sample.restore("--at", at, "--apply")
    found = sample.find(sample.customer)
    assert found
    assert found.name == "Fabrikam", "told once more, it is undone too"


def test_restore_omits_deleted_user_unless_kind_is_given(sample: RestoreFixture) -> None:
    now = datetime.now(UTC)
    admin, user = (
        User(id=str(uuid4()), created_at=now, updated_at=now, email=f"{name}@example.com", organization_admin=True)
        for name in ("ada", "eve")
    )
    sample.make(admin, user)
    sample.change(user, identity="directory|object")
    sample.delete(user)
    at = sample.first_deletion()
    assert does(sample.restore("--at", at, "--apply")) == []
    assert does(sample.restore("--at", at, "--kind", "user", "--apply")) == [("user", "made again")]
    found = sample.find(user)
    assert found
    assert found.identity == "", "nobody is signed in by it"
    assert does(sample.restore("--at", at, "--record", user.id, "--apply")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "Say where from"),
        (("--at", "2026-11-24T10:00:00"), "with its time zone"),
        (("--at", "yesterday"), "with its time zone"),
        (("--at", "2001-01-01T00:00:00Z"), "was not there yet"),
        (("--at", "2026-11-24T10:00:00Z", "--kind", "notice"), "There is no kind notice"),
        (("--at", "2026-11-24T10:00:00Z", "--replace"), "--replace goes with a FILE"),
        (("a.backup", "--deleted"), "go with --at"),
    ],
)
def test_restore_with_invalid_options_exits_with_code_3(
    sample: RestoreFixture, options: tuple[str, ...], told: str
) -> None:
    ended = sample.run("restore", *options)
    assert ended.code == 3
    assert told in ended.err


def test_history_and_restore_of_unknown_publisher_exit_with_code_3(command: Command) -> None:
    for arguments in (("history",), ("restore", "--at", "2026-11-24T10:00:00Z")):
        ended = command(*arguments, "--publisher", uuid4())
        assert (ended.code, ended.out) == (3, "")
        assert "No publisher of this id is known here" in ended.err


# History.


def test_history_lists_changes_newest_first_and_filters(sample: RestoreFixture) -> None:
    sample.change(sample.license, number_of_users=20)
    sample.change(sample.customer, name="[red]Fabrikam\x1b[0m"[:13])
    sample.delete(sample.environment)
    everything = sample.history()
    assert [entry["number"] for entry in everything] == list(range(everything[0]["number"], 0, -1))
    own = sample.history("--record", sample.license.id)
    assert [(entry["before"] or {}).get("numberOfUsers") for entry in own] == [10, None]
    assert sample.history("--since", everything[1]["at"]) == everything[:2]
    assert sample.history("--limit", 1) == everything[:1]
    told = sample.run("history", "--limit", 3)
    assert "environment S-" in told.out
    assert "customerProduct SmartSend of [red]Fabrikam" in told.out, "nothing is taken for markup"
    assert "numberOfUsers: 10 -> 20" in told.out
    assert "There may be more: --limit 30" in told.out


# Any past.


@pytest.mark.slow
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plan=st.lists(steps, min_size=12, max_size=20), back=st.integers(1, 20))
async def test_plan_undo_and_apply_return_random_changes_to_earlier_state(
    storage: Emulator, plan: list[Step], back: int
) -> None:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(services_on(storage.connection_string))
        publisher_id = await begin(services)
        writer = Writer("w", services, publisher_id)
        past: list[tuple[datetime, Any]] = []
        for step in plan:
            found, _ = await check_invariants(services, publisher_id)
            past.append((services.clock(), without_version_fields(found.records)))
            await VERBS[step.verb](writer, step)
        at, then = past[-min(back, len(past))]
        for _ in range(2):
            todo = await plan_undo(services.store.audit(publisher_id), at, kinds=TYPES, warn=print)
            refused = await apply_steps(services.store, publisher_id, "restore", todo, lambda _: None)
            assert not refused
        found, _ = await check_invariants(services, publisher_id)
        assert without_version_fields(found.records) == then
        assert not todo, "what was undone is undone once"


def without_version_fields(records: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """What the records say, but for when and by which change that was written."""
    unlike = ("version", "updatedAt")
    return {key: {name: held for name, held in each.items() if name not in unlike} for key, each in records.items()}


@pytest.fixture(scope="module")
async def storage(tables: Emulator) -> Emulator:
    async with services_on(tables.connection_string) as services:
        await services.table("").create()
    return tables


def entry(number: int, at: datetime, name: str) -> AuditEntry:
    fields = to_fields(a_product(id=name, name=name))
    before, after = (fields, None) if name == "deleted" else (None, fields)
    return AuditEntry(number=number, at=at, actor="test", kind="product", record_id=name, before=before, after=after)


async def newest_first(*entries: AuditEntry) -> AsyncIterator[AuditEntry]:
    for each in entries:
        yield each


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_plan_undo_orders_by_change_number_despite_clock_skew() -> None:
    """Changes are in the order of their numbers; their times are those of several machines."""
    lagging, deletion = entry(4, NOON, "made later"), entry(3, NOON + timedelta(seconds=2), "deleted")
    earlier = entry(2, NOON + timedelta(seconds=1), "made before")
    found = await plan_undo(newest_first(lagging, deletion, earlier), deletion.at, kinds=TYPES, warn=print)
    assert {step.record.id for step in found} == {"made later", "deleted"}
    with pytest.raises(RuleBroken):
        await plan_undo(newest_first(lagging, deletion), deletion.at, kinds=TYPES, warn=print)


async def test_plan_undo_with_slow_clock_includes_later_changes_and_warns() -> None:
    deletion, earlier = entry(300, NOON, "deleted"), entry(299, NOON - timedelta(minutes=1), "made before")
    slow = [entry(number, NOON - timedelta(hours=2), "made later") for number in range(310, 300, -1)]
    warnings: list[str] = []
    found = await plan_undo(newest_first(*slow, deletion, earlier), NOON, kinds=TYPES, warn=warnings.append)
    assert {step.record.id for step in found} == {"made later", "deleted"}
    (warning,) = warnings
    assert "Clocks were more than an hour apart after change 300" in warning


async def test_plan_undo_stops_reading_200_changes_before_instant() -> None:
    read = []

    async def all_changes() -> AsyncIterator[AuditEntry]:
        for number in range(1000, 0, -1):
            read.append(number)
            yield entry(number, NOON - timedelta(hours=1001 - number), "made before")

    assert await plan_undo(all_changes(), NOON, kinds=TYPES, warn=print) == []
    assert len(read) == 201
