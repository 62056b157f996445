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
from licensing.catalogue.model import Customer, Record, User
from licensing.catalogue.rows import AuditEntry, to_fields
from licensing.catalogue.service import draft_record
from licensing.cli import undo
from licensing.cli.running import with_services
from licensing.cli.undo import TYPES, carry_out, steps_back
from licensing.errors import RuleBroken
from licensing.services import Services
from tests.catalogue.disturbed import Pass, disturbed
from tests.catalogue.ledger import check_everything
from tests.catalogue.records import a_customer, a_license, a_product, a_publisher, an_environment, services_on
from tests.catalogue.test_catalogue_properties import VERBS, Step, Writer, begin, steps
from tests.cli.conftest import Command, Ended
from tests.cli.test_backup import start
from tests.end_to_end.hosting import Served

SOON = datetime(2027, 3, 1, tzinfo=UTC)


class Shop:
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

    def run(self, *arguments: object) -> Ended:
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
        self.do(lambda services: check_everything(services, self.publisher_id))


@pytest.fixture
def shop(command: Command, service: Served) -> Shop:
    return Shop(command, service)


def does(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["kind"], change["does"]) for change in report["changes"]]


# What was deleted.


def test_what_was_deleted_comes_back_with_its_id_and_validates_again(shop: Shop) -> None:
    shop.delete(shop.environment, shop.license, shop.customer, shop.product)
    at = shop.first_deletion()
    shown = shop.restore("--at", at, "--deleted")
    made = [(kind, "made again") for kind in ("product", "customer", "customerProduct", "environment")]
    assert (shown["applied"], does(shown)) == (False, made)
    assert shop.find(shop.customer) is None, "without --apply nothing is changed"
    assert does(shop.restore("--at", at, "--deleted", "--apply")) == made
    for record in (shop.product, shop.customer, shop.license, shop.environment):
        found = shop.find(record)
        assert found is not None
        assert (found.id, found.created_at) == (record.id, record.created_at)
    snapshot = shop.do(
        lambda services: services.snapshots.get(shop.publisher_id, shop.environment.serial_number.lower())
    )
    assert list(snapshot.licenses) == [shop.product.id]
    assert does(shop.restore("--at", at, "--deleted", "--apply")) == [], "once more does nothing"
    assert {entry["actor"].partition(" ")[0] for entry in shop.history("--limit", 4)} == {"restore"}
    shop.check()


def test_only_what_was_deleted_comes_back_where_that_is_said(shop: Shop) -> None:
    other = a_product("Other")
    shop.make(other)
    shop.delete(other)
    at = shop.first_deletion()
    shop.change(shop.customer, name="A new name")
    shop.make(late := a_customer("Late"))
    shop.restore("--at", at, "--deleted", "--apply")
    assert shop.find(other)
    assert shop.find(late)
    found = shop.find(shop.customer)
    assert found
    assert found.name == "A new name"


def test_one_record_and_what_belongs_to_it_can_be_named(shop: Shop) -> None:
    other = a_customer("Other")
    shop.make(other)
    shop.delete(other, shop.environment, shop.license, shop.customer)
    report = shop.restore("--at", shop.first_deletion(), "--record", shop.customer.id, "--apply")
    assert does(report) == [(kind, "made again") for kind in ("customer", "customerProduct", "environment")]
    assert shop.find(other) is None


def test_environments_that_share_a_serial_number_come_back_and_the_active_one_decides(shop: Shop) -> None:
    serial_number = shop.environment.serial_number
    second = an_environment(shop.customer.id, serial_number, tenant="fabrikam.onmicrosoft.com")
    shop.make(second)
    shop.change(shop.environment, active=False)
    shop.delete(second, shop.environment)
    at = shop.first_deletion()

    def decisive() -> str | None:
        seen = shop.do(lambda services: services.snapshots.get(shop.publisher_id, serial_number))
        return seen.environment.id if seen.environment else None

    assert decisive() is None
    assert does(shop.restore("--at", at, "--record", shop.environment.id, "--apply")) == [("environment", "made again")]
    assert decisive() == shop.environment.id
    assert does(shop.restore("--at", at, "--deleted", "--apply")) == [("environment", "made again")]
    assert decisive() == second.id
    shop.check()


def test_a_serial_number_that_another_customer_has_now_is_refused_with_its_name(shop: Shop) -> None:
    shop.delete(shop.environment)
    at = shop.first_deletion()
    other = a_customer("Northwind")
    shop.make(other, an_environment(other.id, shop.environment.serial_number))
    (change,) = shop.restore("--at", at, "--deleted", "--apply")["changes"]
    assert change["refused"].startswith('The customer "Northwind" has this serial number already.')
    assert shop.find(shop.environment) is None
    shop.check()


def test_an_environment_saved_with_the_serial_number_adfs_comes_back(shop: Shop) -> None:
    old = an_environment(shop.customer.id, "adfs")
    shop.do(
        lambda services: services.store.change(
            shop.publisher_id, "test", lambda draft: draft_record(draft, old, is_restored=True)
        )
    )
    shop.delete(old)
    assert does(shop.restore("--at", shop.first_deletion(), "--deleted", "--apply")) == [("environment", "made again")]
    shop.change(old, serial_number="S-9")
    at = shop.history("--record", old.id)[0]["at"]
    assert [change["refused"] for change in shop.restore("--at", at, "--apply")["changes"]] == [None]
    found = shop.find(old)
    assert found
    assert found.serial_number == "adfs"
    shop.check()


def test_all_changes_since_an_instant_are_undone_in_one_go(shop: Shop) -> None:
    late, other = a_customer("Late"), an_environment(shop.customer.id, str(uuid4()))
    shop.make(other, late)
    (made,) = shop.history("--record", late.id)
    shop.make(license_ := a_license(shop.customer.id, shop.product.id), an_environment(late.id, str(uuid4())))
    shop.change(shop.license, number_of_users=99)
    shop.change(other, customer_id=late.id)
    shop.restore("--at", made["at"], "--apply")
    assert shop.find(late) is None
    assert shop.find(license_) is None, "though its customer has an environment"
    found, moved_back = shop.find(shop.license), shop.find(other)
    assert found
    assert (found.number_of_users, moved_back is not None) == (10, True)
    shop.check()


def test_two_that_have_changed_places_change_back(shop: Shop) -> None:
    other = a_product("Other")
    shop.make(other)
    shop.change(other, name="In between")
    at = shop.history("--record", other.id)[0]["at"]
    shop.change(shop.product, name="Other")
    shop.change(other, name="SmartSend")
    shop.restore("--at", at, "--apply")
    found = [shop.find(shop.product), shop.find(other)]
    assert [product.name for product in found if product] == ["SmartSend", "Other"]
    shop.check()


def test_what_has_to_wait_for_something_else_is_done_after_it(shop: Shop) -> None:
    late = a_product("Late")
    shop.make(late)
    (made,) = shop.history("--record", late.id)
    shop.change(shop.license, product_id=late.id)
    report = shop.restore("--at", made["at"], "--apply")
    assert does(report) == [("product", "deleted"), ("customerProduct", "changed back")], (
        "held until the license is not"
    )
    assert shop.find(late) is None
    shop.check()


@pytest.mark.slow
async def test_killed_again_and_again_it_ends_in_the_same_records(
    shop: Shop, service: Served, tables: Emulator
) -> None:
    gone = [a_customer(f"Customer {number}") for number in range(100)]
    await asyncio.to_thread(shop.make, *gone)
    await asyncio.to_thread(shop.delete, *gone)
    at = await asyncio.to_thread(shop.first_deletion)
    process: Any = None
    left = kills = 0

    async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        nonlocal left
        left -= request.method == "POST"
        if kills < 3 and left <= 0:
            process.send_signal(signal.SIGKILL)
            return await pass_on() if kills % 2 else web.Response(status=503)
        return await pass_on()

    arguments = ("restore", "--publisher", shop.publisher_id, "--at", at, "--apply")
    async with disturbed(tables, answer) as server:
        for kills in range(4):
            left = 2
            process = start(*arguments, settings={**service.settings, "LICENSING_STORAGE": server.account})
            assert await asyncio.to_thread(process.wait) == (-signal.SIGKILL if kills < 3 else 0)
    found = await asyncio.to_thread(shop.do, lambda services: services.store.under(shop.publisher_id, Customer))
    assert {each.id for each in found} == {shop.customer.id, *(each.id for each in gone)}
    await asyncio.to_thread(shop.check)


# What a rule refuses, and what others do.


def test_what_a_rule_refuses_is_named_and_the_rest_is_done(shop: Shop) -> None:
    gone = [a_product(f"Product {number}") for number in range(30)]
    shop.make(*gone)
    shop.delete(*gone)
    at = shop.first_deletion()
    shop.make(a_product("product 7"))
    report = shop.restore("--at", at, "--deleted", "--apply")
    refused = [change for change in report["changes"] if change["refused"]]
    assert [change["record"] for change in refused] == ["product Product 7"]
    assert "There is a product" in refused[0]["refused"]
    assert sum(shop.find(product) is not None for product in gone[:9]) == 8
    ended = shop.run("restore", "--at", at, "--deleted", "--apply")
    assert ended.code == 3
    assert "There is a product" in ended.out
    assert ended.out.endswith("0 made again, 0 changed back, 0 deleted, 1 refused.\n")


def test_what_somebody_else_changes_meanwhile_is_left_and_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.change(shop.customer, name="Wrong")
    shop.change(shop.product, name="Wrong too")
    at = shop.history("--record", shop.customer.id)[0]["at"]
    as_it_is = undo.carry_out

    async def meanwhile(store: Any, publisher_id: str, *more: Any) -> Any:
        async def edit(draft: Any) -> None:
            before = await draft.find(Customer, shop.customer.id)
            draft.put(replace(before, name="Theirs"), before)

        await store.change(publisher_id, "somebody", edit)
        return await as_it_is(store, publisher_id, *more)

    with monkeypatch.context() as patch:
        patch.setattr("licensing.cli.restore.carry_out", meanwhile)
        report = shop.restore("--at", at, "--apply")
    assert [change["refused"] is None for change in report["changes"]] == [True, False]
    found = shop.find(shop.customer)
    assert found
    assert found.name == "Theirs"
    shop.restore("--at", at, "--apply")
    found = shop.find(shop.customer)
    assert found
    assert found.name == "Fabrikam", "told once more, it is undone too"


def test_access_that_was_taken_away_stays_so_unless_it_is_named(shop: Shop) -> None:
    now = datetime.now(UTC)
    admin, user = (
        User(id=str(uuid4()), created_at=now, updated_at=now, email=f"{name}@example.com", organization_admin=True)
        for name in ("ada", "eve")
    )
    shop.make(admin, user)
    shop.change(user, identity="directory|object")
    shop.delete(user)
    at = shop.first_deletion()
    assert does(shop.restore("--at", at, "--apply")) == []
    assert does(shop.restore("--at", at, "--kind", "user", "--apply")) == [("user", "made again")]
    found = shop.find(user)
    assert found
    assert found.identity == "", "nobody is signed in by it"
    assert does(shop.restore("--at", at, "--record", user.id, "--apply")) == []


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
def test_what_cannot_be_meant_is_refused(shop: Shop, options: tuple[str, ...], told: str) -> None:
    ended = shop.run("restore", *options)
    assert ended.code == 3
    assert told in ended.err


def test_an_unknown_publisher_has_neither_a_history_nor_a_past(command: Command) -> None:
    for arguments in (("history",), ("restore", "--at", "2026-11-24T10:00:00Z")):
        ended = command(*arguments, "--publisher", uuid4())
        assert (ended.code, ended.out) == (3, "")
        assert "No publisher of this id is known here" in ended.err


# History.


def test_the_history_tells_who_changed_what_newest_first(shop: Shop) -> None:
    shop.change(shop.license, number_of_users=20)
    shop.change(shop.customer, name="[red]Fabrikam\x1b[0m"[:13])
    shop.delete(shop.environment)
    everything = shop.history()
    assert [entry["number"] for entry in everything] == list(range(everything[0]["number"], 0, -1))
    own = shop.history("--record", shop.license.id)
    assert [(entry["before"] or {}).get("numberOfUsers") for entry in own] == [10, None]
    assert shop.history("--since", everything[1]["at"]) == everything[:2]
    assert shop.history("--limit", 1) == everything[:1]
    told = shop.run("history", "--limit", 3)
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
async def test_records_are_what_they_were_however_they_came_to_be_what_they_are(
    storage: Emulator, plan: list[Step], back: int
) -> None:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(services_on(storage.connection_string))
        publisher_id = await begin(services)
        writer = Writer("w", services, publisher_id)
        past: list[tuple[datetime, Any]] = []
        for step in plan:
            found, _ = await check_everything(services, publisher_id)
            past.append((services.clock(), said(found.records)))
            await VERBS[step.verb](writer, step)
        at, then = past[-min(back, len(past))]
        for _ in range(2):
            todo = await steps_back(services.store.audit(publisher_id), at, kinds=TYPES)
            refused = await carry_out(services.store, publisher_id, "restore", todo, lambda _: None)
            assert not refused
        found, _ = await check_everything(services, publisher_id)
        assert said(found.records) == then
        assert not todo, "what was undone is undone once"


def said(records: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
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


async def test_what_followed_a_change_is_undone_with_it_whatever_the_clock_of_whoever_made_it_says() -> None:
    """Changes are in the order of their numbers; their times are those of several machines."""
    lagging, deletion = entry(4, NOON, "made later"), entry(3, NOON + timedelta(seconds=2), "deleted")
    earlier = entry(2, NOON + timedelta(seconds=1), "made before")
    found = await steps_back(newest_first(lagging, deletion, earlier), deletion.at, kinds=TYPES)
    assert {step.record.id for step in found} == {"made later", "deleted"}
    with pytest.raises(RuleBroken):
        await steps_back(newest_first(lagging, deletion), deletion.at, kinds=TYPES)


async def test_a_clock_that_is_hours_slow_hides_nothing_and_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    deletion, earlier = entry(300, NOON, "deleted"), entry(299, NOON - timedelta(minutes=1), "made before")
    slow = [entry(number, NOON - timedelta(hours=2), "made later") for number in range(310, 300, -1)]
    found = await steps_back(newest_first(*slow, deletion, earlier), NOON, kinds=TYPES)
    assert {step.record.id for step in found} == {"made later", "deleted"}
    assert "Clocks were more than an hour apart after change 300" in capsys.readouterr().err


async def test_the_audit_is_read_no_further_than_two_hundred_changes_before_the_instant() -> None:
    read = []

    async def all_changes() -> AsyncIterator[AuditEntry]:
        for number in range(1000, 0, -1):
            read.append(number)
            yield entry(number, NOON - timedelta(hours=1001 - number), "made before")

    assert await steps_back(all_changes(), NOON, kinds=TYPES) == []
    assert len(read) == 201
