"""What licensing personnel do with the records: every change checked against every rule, then kept with its audit."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from licensing.catalogue.draft import Draft, IdempotencyKey
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Role,
    User,
)
from licensing.catalogue.rows import from_fields
from licensing.catalogue.rules import (
    SerialNumberTaken,
    check,
    check_admin_remains,
    check_deletable,
    check_product_name_free,
    check_serial_number,
    check_user,
    normalized,
)
from licensing.catalogue.store import CatalogueStore
from licensing.errors import (
    AlreadyExists,
    Conflict,
    FieldError,
    HasChildren,
    NotFound,
    PreconditionFailed,
    PublisherNotFound,
    RuleBroken,
)

_READS_AT_ONCE = 16
_IDEMPOTENCY_PERIOD = timedelta(days=1)


class IdempotencyKeyReused(RuleBroken):
    """An Idempotency-Key stands for one request."""

    code, title = "repeatedOtherwise", "The request is not the one that had this key before"


class Catalogue:
    """The use cases. `actor` is who asks, for the audit. All of them raise what the rules of the records raise."""

    def __init__(self, store: CatalogueStore) -> None:
        self._store = store

    async def publishers(self, directory_ids: Collection[str] | None = None) -> list[Publisher]:
        """All of them, or those that the register says are of these directories: one read each, a few at a time.

        Raises StorageUnavailable where one of them cannot be read: a list without it would say that it is gone.
        """
        registered = await self._store.register.directories()
        ids = [id_ for id_, named in registered.items() if directory_ids is None or {*named} & {*directory_ids}]
        found: list[Publisher | None] = []
        for some in itertools.batched(ids, _READS_AT_ONCE, strict=False):
            found += await asyncio.gather(*(self._store.find(each, Publisher, each) for each in some))
        return [publisher for publisher in found if publisher is not None]

    async def directories(self) -> frozenset[str]:
        """The directories that publishers have, or were about to have."""
        return frozenset(
            filter(None, itertools.chain.from_iterable((await self._store.register.directories()).values()))
        )

    async def create_publisher(
        self, publisher: Publisher, *, actor: str, request: IdempotencyKey | None = None
    ) -> Publisher:
        """Raises AlreadyExists where the id is taken."""
        check(publisher)  # before its id becomes the key of a partition
        if request is not None:
            # Where its id was made up, a repeat has made up another one.
            claim = await self._store.register.claim(request, publisher.id, self._store.clock() - _IDEMPOTENCY_PERIOD)
            if claim.body_digest != request.body_digest:
                raise _idempotency_key_reused()
            publisher = replace(publisher, id=claim.publisher_id)

        async def prepare(draft: Draft) -> Publisher:
            if done := await self._repeated(draft, publisher, request):
                return done
            if await draft.find(Publisher, publisher.id) is not None:
                raise AlreadyExists("There is a publisher of this id already.")
            return _with_idempotency_key(draft, await draft_record(draft, publisher), request)

        return await self._store.change(publisher.id, actor, prepare)

    async def create[R: Record](
        self, publisher_id: str, record: R, *, actor: str, request: IdempotencyKey | None = None
    ) -> R:
        """Keep a new record; the caller has given it its id. Raises AlreadyExists where that is taken.

        A `request` that has made a record within a day makes no other: that one comes back, as it was made. Raises
        IdempotencyKeyReused where the request was another one then.
        """

        async def prepare(draft: Draft) -> R:
            if done := await self._repeated(draft, record, request):
                return done
            await _require_publisher(draft)
            if await draft.find(type(record), record.id, record.parent) is not None:
                raise AlreadyExists("There is a record of this id already.")
            return _with_idempotency_key(draft, await draft_record(draft, record), request)

        return await self._store.change(publisher_id, actor, prepare)

    async def _repeated[R: Record](self, draft: Draft, record: R, request: IdempotencyKey | None) -> R | None:
        """The record that the request has made already."""
        done = request and await self._store.find_idempotency_result(draft.publisher_id, request.digest)
        if request is None or done is None or draft.now - done.at >= _IDEMPOTENCY_PERIOD:
            return None
        if done.body_digest != request.body_digest or done.entry.after is None:
            raise _idempotency_key_reused()
        return from_fields(type(record), {**done.entry.after, "version": done.entry.number})

    async def update[R: Record](  # noqa: PLR0913 - a record's address has three parts
        self,
        publisher_id: str,
        record_type: type[R],
        record_id: str,
        edit: Callable[[R], R],
        *,
        actor: str,
        parent: str = "",
        if_match: str | None = None,
    ) -> R:
        """The record as `edit` makes it. Raises NotFound, and PreconditionFailed where `if_match` is not its ETag."""

        async def prepare(draft: Draft) -> R:
            before = await _get(draft, record_type, record_id, parent, if_match)
            edited = replace(
                normalized(edit(before)), id=before.id, created_at=before.created_at, updated_at=before.updated_at
            )
            if edited == before:
                return before
            if edited.parent != before.parent:
                # To leave a customer takes what being deleted there takes.
                await _check_deletable(draft, before)
            return await draft_record(draft, replace(edited, updated_at=draft.now), before)

        return await self._store.change(publisher_id, actor, prepare)

    async def delete[R: Record](  # noqa: PLR0913 - a record's address has three parts
        self,
        publisher_id: str,
        record_type: type[R],
        record_id: str,
        *,
        actor: str,
        parent: str = "",
        if_match: str | None = None,
    ) -> None:
        """Raises NotFound, PreconditionFailed, and HasChildren naming what stands in the way."""

        async def prepare(draft: Draft) -> None:
            record = await _get(draft, record_type, record_id, parent, if_match)
            await draft_deletion(draft, record)

        await self._store.change(publisher_id, actor, prepare)

    async def grant_perpetual(
        self, publisher_id: str, customer_id: str, product_id: str, *, actor: str
    ) -> CustomerProduct:
        """The customer's license of a product whose license control is disabled: made, where there is none.

        Raises Conflict where the license control is enabled again.
        """

        async def prepare(draft: Draft) -> CustomerProduct:
            for held in await draft.list_records(CustomerProduct, customer_id):
                if held.product_id == product_id:
                    return held
            product = await draft.find(Product, product_id)
            if product is None or not product.license_control_disabled:
                raise Conflict("The license control of this product is no longer disabled.")
            granted = CustomerProduct(
                id=str(uuid4()),
                created_at=draft.now,
                updated_at=draft.now,
                customer_id=customer_id,
                product_id=product_id,
                license_type=LicenseType.PERPETUAL,
                site_license=True,
                start_date=draft.now.date(),
            )
            return await draft_record(draft, granted)

        return await self._store.change(publisher_id, actor, prepare)


type Rule[R: Record] = Callable[[Draft, R], Awaitable[R]]
_RULES: dict[type[Record], Rule[Any]] = {}


def register_rule[R: Record](kind: type[R], rule: Rule[R]) -> None:
    """From now on each record of another feature's kind is kept as its rule gives it.

    It raises what the rules here raise.
    """
    _RULES[kind] = rule


async def draft_record[R: Record](draft: Draft, record: R, before: R | None = None, *, is_restored: bool = False) -> R:
    """The record as it will be kept. Raises where it breaks a rule, alone or beside the publisher's other records.

    `is_restored`: the record was saved in this form before.
    """
    record = normalized(record)
    check(record, record if is_restored else before)
    match record:
        case Product():
            check_product_name_free(record, await draft.list_records(Product))
        case User():
            user_before = before if isinstance(before, User) else None
            await _check_user(draft, record, user_before)
            if user_before is not None and not record.is_named_as(user_before):
                # Another address or application is somebody else, who has not signed in yet.
                record = replace(record, identity="")
        case CustomerProduct():
            await _require_customer(draft, record.customer_id)
            if await draft.find(Product, record.product_id) is None:
                message = "Choose one of the publisher's products."
                raise RuleBroken(message, errors=[FieldError("productId", "unknown", message)])
        case Environment():
            await _require_customer(draft, record.customer_id)
            await _check_serial_number(draft, record)
        case _:
            if rule := _RULES.get(type(record)):
                record = await rule(draft, record)
    return draft.put(record, before)


async def draft_deletion(draft: Draft, record: Record) -> None:
    """Delete the record. Raises HasChildren where something stands in the way, and LastAdmin."""
    await _check_deletable(draft, record)
    draft.delete(record)


def _idempotency_key_reused() -> IdempotencyKeyReused:
    return IdempotencyKeyReused("This Idempotency-Key was used for another request within a day. Use a new one.")


def _with_idempotency_key[R: Record](draft: Draft, record: R, request: IdempotencyKey | None) -> R:
    if request is not None:
        draft.record_idempotency_key(request, record)
    return record


async def _check_user(draft: Draft, user: User, before: User | None) -> None:
    publisher, others = await _publisher_and_others(draft, user)
    role_ids = [role.id for role in await draft.list_records(Role)] if user.role_ids else []
    check_user(before, user, others, publisher, role_ids)
    check_admin_remains(before, user, others, publisher)


async def _publisher_and_others(draft: Draft, user: User) -> tuple[Publisher, list[User]]:
    """The publisher of the user, and its other users."""
    publisher = await draft.find(Publisher, draft.publisher_id)
    if publisher is None:
        raise PublisherNotFound("There is no publisher of this id.")
    return publisher, [each for each in await draft.list_records(User) if each.id != user.id]


async def _check_deletable(draft: Draft, record: Record) -> None:
    match record:
        case Publisher():
            raise HasChildren("A publisher cannot be deleted.")
        case Product():
            holders = await draft.count_holders(record.id)
            check_deletable(record, children=[(holders, "customer")])
        case Customer():
            products = await draft.list_records(CustomerProduct, record.id)
            environments = await draft.list_records(Environment, record.id)
            check_deletable(record, children=[(len(products), "product"), (len(environments), "environment")])
        case Role():
            users = [user for user in await draft.list_records(User) if record.id in user.role_ids]
            check_deletable(record, children=[(len(users), "user")])
        case User():
            publisher, others = await _publisher_and_others(draft, record)
            check_admin_remains(record, None, others, publisher)
        case CustomerProduct():
            environments = await draft.list_records(Environment, record.customer_id)
            if environments:
                raise HasChildren(
                    f"The customer still has {len(environments)} environment(s): "
                    "a customer product can be deleted once they are gone."
                )
        case _:
            pass


async def _get[R: Record](draft: Draft, record_type: type[R], record_id: str, parent: str, if_match: str | None) -> R:
    record = await draft.find(record_type, record_id, parent)
    if record is None:
        raise NotFound("There is no such record; it may have been deleted.")
    if if_match not in (None, "*", record.etag):
        raise PreconditionFailed("Somebody changed the record since you read it. Read it again, then change it.")
    return record


async def _check_serial_number(draft: Draft, environment: Environment) -> None:
    """Raise AlreadyExists where the serial number is another customer's, or this customer's for the same tenant."""
    holders = await draft.environments_with(environment.serial_number)
    for holder in holders:
        if holder.id != environment.id and holder.customer_id != environment.customer_id:
            customer = await draft.find(Customer, holder.customer_id)
            raise SerialNumberTaken(customer.name if customer else "")
    check_serial_number(environment, holders)


async def _require_publisher(draft: Draft) -> None:
    if await draft.find(Publisher, draft.publisher_id) is None:
        raise PublisherNotFound("There is no publisher of this id.")


async def _require_customer(draft: Draft, customer_id: str) -> None:
    if await draft.find(Customer, customer_id) is None:
        raise NotFound("There is no such customer; it may have been deleted.")
