"""Random changes by several writers at once: no rule is ever broken, and the audit tells the whole story.

The writers share nothing but the store: each is an instance of the service with a memory of its own. Names, serial
numbers and dates come from so small a pool that they clash all the time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from devhost.azurite import Emulator
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Publisher, Record
from licensing.errors import AlreadyExists, Conflict, HasChildren, NotFound, PreconditionFailed, RuleBroken
from licensing.services import Services
from tests.support.invariants import check_invariants
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment, services_on

EXPECTED_ERRORS = (AlreadyExists, Conflict, HasChildren, NotFound, PreconditionFailed, RuleBroken)

NAMES = ["SmartSend", "SMARTSEND ", "Straße", "STRASSE", "Caf\xe9", "Cafe\u0301", " "]
SERIALS = ["S-1", "s-1", " S-1", "S/2", "ß", "SS", "", "adfs"]
TENANTS = ["contoso.com", "CONTOSO.com ", "contoso.onmicrosoft.com"]
DAYS = [None, *(date(2026, 2, number) for number in (1, 2, 3))]


@dataclass(frozen=True)
class Step:
    """What a writer is to do, with which of the records that there are when its turn comes."""

    verb: str
    one: int
    other: int
    name: str
    serial_number: str
    tenant: str
    active: bool
    terms: dict[str, Any]


@dataclass
class Writer:
    """An instance of the service. Which of its changes came through is known to it, to be held against the audit."""

    name: str
    services: Services
    publisher_id: str
    turn: int = 0
    made: set[str] = field(default_factory=set)  # changes that surely were made, by their actor
    tried: set[str] = field(default_factory=set)  # edits that may have changed nothing

    async def pick[R: Record](self, record_type: type[R], index: int, parent: str = "") -> R | None:
        """One of those that there are now; others may change it at once."""
        found = await self.services.store.list_records(self.publisher_id, record_type, parent)
        return sorted(found, key=lambda record: record.id)[index % len(found)] if found else None

    async def pick_of_customer[R: Record](self, record_type: type[R], index: int) -> R | None:
        customer = await self.pick(Customer, index)
        return await self.pick(record_type, index, customer.id) if customer else None

    async def create(self, record: Record) -> None:
        await self._do(self.made, self.services.catalogue.create, record)

    async def update[R: Record](self, record: R | None, *, guarded: bool = False, **fields: Any) -> None:
        if record is not None:
            await self._do(
                self.tried,
                self.services.catalogue.update,
                type(record),
                record.id,
                lambda before: replace(before, **fields),
                parent=record.parent,
                if_match=record.etag if guarded else None,
            )

    async def delete(self, record: Record | None) -> None:
        if record is not None:
            await self._do(self.made, self.services.catalogue.delete, type(record), record.id, parent=record.parent)

    async def grant(self, customer: Customer | None, product: Product | None) -> None:
        if customer and product:
            await self._do(self.tried, self.services.catalogue.grant_perpetual, customer.id, product.id)

    async def _do(self, done: set[str], change: Callable[..., Awaitable[object]], *args: Any, **more: Any) -> None:
        self.turn += 1
        actor = f"{self.name}-{self.turn}"
        try:
            await change(self.publisher_id, *args, actor=actor, **more)
        except EXPECTED_ERRORS:
            return
        done.add(actor)


async def create_product(writer: Writer, step: Step) -> None:
    free = step.terms["site_license"]  # as good a coin as any
    await writer.create(a_product(step.name, license_control_disabled=free))


async def rename_product(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick(Product, step.one), name=step.name)


async def delete_product(writer: Writer, step: Step) -> None:
    await writer.delete(await writer.pick(Product, step.one))


async def create_customer(writer: Writer, step: Step) -> None:
    await writer.create(a_customer(step.name))


async def rename_customer_unless_changed(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick(Customer, step.one), guarded=True, name=step.name)


async def delete_customer(writer: Writer, step: Step) -> None:
    await writer.delete(await writer.pick(Customer, step.one))


async def create_license(writer: Writer, step: Step) -> None:
    customer, product = await writer.pick(Customer, step.one), await writer.pick(Product, step.other)
    if customer and product:
        await writer.create(a_license(customer.id, product.id, **step.terms))


async def edit_license(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick_of_customer(CustomerProduct, step.one), **step.terms)


async def sell_another_product(writer: Writer, step: Step) -> None:
    if product := await writer.pick(Product, step.other):
        await writer.update(await writer.pick_of_customer(CustomerProduct, step.one), product_id=product.id)


async def delete_license(writer: Writer, step: Step) -> None:
    await writer.delete(await writer.pick_of_customer(CustomerProduct, step.one))


async def grant_perpetual(writer: Writer, step: Step) -> None:
    await writer.grant(await writer.pick(Customer, step.one), await writer.pick(Product, step.other))


async def create_environment(writer: Writer, step: Step) -> None:
    if customer := await writer.pick(Customer, step.one):
        await writer.create(an_environment(customer.id, step.serial_number, tenant=step.tenant, active=step.active))


async def change_serial_number(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick_of_customer(Environment, step.one), serial_number=step.serial_number)


async def change_tenant(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick_of_customer(Environment, step.one), tenant=step.tenant)


async def switch_environment(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick_of_customer(Environment, step.one), active=step.active)


async def move_environment(writer: Writer, step: Step) -> None:
    if customer := await writer.pick(Customer, step.other):
        await writer.update(await writer.pick_of_customer(Environment, step.one), customer_id=customer.id)


async def move_license(writer: Writer, step: Step) -> None:
    if customer := await writer.pick(Customer, step.other):
        await writer.update(await writer.pick_of_customer(CustomerProduct, step.one), customer_id=customer.id)


async def delete_environment(writer: Writer, step: Step) -> None:
    await writer.delete(await writer.pick_of_customer(Environment, step.one))


async def edit_publisher(writer: Writer, step: Step) -> None:
    await writer.update(await writer.pick(Publisher, 0), name=step.name)


VERBS: dict[str, Callable[[Writer, Step], Awaitable[None]]] = {
    verb.__name__: verb
    for verb in (
        create_product,
        rename_product,
        delete_product,
        create_customer,
        rename_customer_unless_changed,
        delete_customer,
        create_license,
        edit_license,
        sell_another_product,
        delete_license,
        grant_perpetual,
        create_environment,
        change_serial_number,
        change_tenant,
        switch_environment,
        move_environment,
        move_license,
        delete_environment,
        edit_publisher,
    )
}

steps = st.builds(
    Step,
    verb=st.sampled_from([*VERBS]),
    one=st.integers(0, 3),
    other=st.integers(0, 3),
    name=st.sampled_from(NAMES),
    serial_number=st.sampled_from(SERIALS),
    tenant=st.sampled_from(TENANTS),
    active=st.booleans(),
    terms=st.fixed_dictionaries(
        {
            "number_of_users": st.sampled_from([None, 0, 5, 5, 5]),
            "site_license": st.booleans(),
            "start_date": st.sampled_from(DAYS),
            "end_date": st.sampled_from(DAYS),
            "feature_disable_date": st.sampled_from(DAYS),
        }
    ),
)
plans = st.lists(st.lists(steps, min_size=12, max_size=16), min_size=3, max_size=4)


async def begin(services: Services) -> str:
    """A publisher with a few records to begin with."""
    publisher = a_publisher()
    await services.catalogue.create_publisher(publisher, actor="begin-0")
    product, customers = a_product("First"), [a_customer("One"), a_customer("Two")]
    records: list[Record] = [
        product,
        *customers,
        a_license(customers[0].id, product.id),
        an_environment(customers[0].id, "S-0"),
        an_environment(customers[1].id, "S-1"),
    ]
    for number, record in enumerate(records, 1):
        await services.catalogue.create(publisher.id, record, actor=f"begin-{number}")
    return publisher.id


# No shrinking: what writers at once do is another thing each time. The plan that broke a rule is printed whole.
@settings(
    max_examples=10,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plan=plans)
async def test_concurrent_random_changes_break_no_rule_and_are_all_audited(
    storage: Emulator, plan: list[list[Step]]
) -> None:
    async with AsyncExitStack() as stack:
        several = [
            await stack.enter_async_context(services_on(storage.connection_string)) for _ in range(len(plan) + 1)
        ]
        publisher_id = await begin(several[-1])
        writers = [Writer(f"w{number}", services, publisher_id) for number, services in enumerate(several[:-1])]

        async def follow(writer: Writer, own: list[Step]) -> None:
            for step in own:
                await VERBS[step.verb](writer, step)

        await asyncio.gather(*map(follow, writers, plan))
        _, entries = await check_invariants(several[-1], publisher_id)
    actors = {entry.number: entry.actor for entry in entries}
    assert {entry.actor for entry in entries} == set(actors.values()), "a change is one person's"
    assert len(set(actors.values())) == len(actors), "no change is made twice"
    told = {actor for actor in actors.values() if not actor.startswith("begin-")}
    made = set[str]().union(*(writer.made for writer in writers))
    tried = set[str]().union(*(writer.tried for writer in writers))
    assert made <= told <= made | tried, "what came through is told, and what was refused is not"


@pytest.fixture(scope="module")
async def storage(tables: Emulator) -> Emulator:
    async with services_on(tables.connection_string) as services:
        await services.table("").create()
    return tables
