"""The doors of licensing personnel: five for each kind of record, and a few of their own."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from licensing.access.service import Authenticator
from licensing.catalogue.model import (
    Customer,
    CustomerProduct,
    Environment,
    Product,
    Publisher,
    Record,
    Role,
    SerialNumberTaken,
    User,
)
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.rows import AuditEntry
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore, IdempotencyKey
from licensing.errors import Forbidden, MalformedRequest, NotFound
from licensing.fields import merged, parse, text
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, SEARCH, Page
from licensing.http.permissions import GLOBAL_ADMIN, ORGANIZATION_ADMIN, SIGNED_IN, Access, Privilege, View, requires
from licensing.http.request import Parameter, Request
from licensing.http.response import Response, json_response
from licensing.identifiers import fold

endpoints = Endpoints()

_PUBLISHERS = "api/v1/publishers"
PUBLISHER = f"{_PUBLISHERS}/{{publisherId}}"
_CUSTOMER = f"{PUBLISHER}/customers/{{customerId}}"
_MOST_OF_A_KEY = 128


@dataclass(frozen=True)
class Resource[R: Record]:
    """One kind of record, and how it is offered. Other features offer theirs by it too."""

    kind: type[R]
    name: str
    """Of its functions and operations: `product`, in the plural `products`."""
    template: str
    view: View
    searched: tuple[str, ...]
    """The attributes that a search looks into."""
    write: Access | None = None
    """Who may change it, where that is not who has the privilege in the view."""
    initialize: Callable[[R, Request], R] = lambda record, _: record
    """What a new one is, beyond what was given."""

    def access(self, privilege: Privilege) -> Access:
        if self.write is not None and privilege is not Privilege.READ:
            return self.write
        return requires(self.view, privilege)

    @property
    def title(self) -> str:
        """What a person calls one: "customer product"."""
        return self.name.replace("_", " ")

    @property
    def a_title(self) -> str:
        """What a person calls any one of them: "an environment"."""
        return f"{'an' if self.title.startswith('e') else 'a'} {self.title}"

    @property
    def one(self) -> str:
        """The template of the address of one record."""
        words = self.name.split("_")
        return f"{self.template}/{{{words[0]}{''.join(word.capitalize() for word in words[1:])}Id}}"

    def id_of(self, request: Request) -> str:
        return request.route_params[self.one.rpartition("{")[2].removesuffix("}")]

    def found(self, request: Request, records: Iterable[R]) -> Iterator[R]:
        """Those of the records that the request searches for: all, where it does not say."""
        search = fold(request.parameter(SEARCH) or "")
        for record in records:
            if any(search in fold(str(getattr(record, attribute))) for attribute in self.searched):
                yield record


_CUSTOMERS = Resource(Customer, "customer", f"{PUBLISHER}/customers", View.CUSTOMERS, ("name", "description", "number"))
_RESOURCES: tuple[Resource[Any], ...] = (
    Resource(Product, "product", f"{PUBLISHER}/products", View.PRODUCTS, ("name", "description")),
    _CUSTOMERS,
    Resource(
        CustomerProduct,
        "customer_product",
        f"{_CUSTOMER}/products",
        View.CUSTOMER_PRODUCTS,
        ("product_name", "wbs", "invoiced_as", "notes"),
    ),
    Resource(Environment, "environment", f"{_CUSTOMER}/environments", View.ENVIRONMENTS, ("tenant", "serial_number")),
    Resource(Role, "role", f"{PUBLISHER}/roles", View.USERS, ("name",), ORGANIZATION_ADMIN),
    Resource(User, "user", f"{PUBLISHER}/users", View.USERS, ("email", "name", "application_id"), ORGANIZATION_ADMIN),
)


def register_crud[R: Record](endpoints: Endpoints, resource: Resource[R]) -> None:
    """Make the five doors of one kind of record."""
    kind, name, a_title = resource.kind, resource.name, resource.a_title

    def door(
        verb: str, method: str, template: str, privilege: Privilege, operation: OperationSpec
    ) -> Callable[[Callable[..., Any]], Any]:
        named = f"{verb}_{name}{'s' if verb == 'list' else ''}"
        return endpoints.route(method, template, resource.access(privilege), operation, name=named)

    @door(
        "list",
        "GET",
        resource.template,
        Privilege.READ,
        OperationSpec(
            summary=f"List {resource.title}s", response_model=kind, is_list=True, query=(SEARCH, LIMIT, CURSOR)
        ),
    )
    async def list_records(request: Request) -> Response:
        page = Page.from_request(request, SEARCH)
        return page.paginate(resource.found(request, await _records(request, kind)), _position)

    @door(
        "create",
        "POST",
        resource.template,
        Privilege.CREATE,
        OperationSpec(
            summary=f"Create {a_title}", response_model=kind, request_model=kind, status=201, error_statuses=(409, 422)
        ),
    )
    async def create_record(request: Request) -> Response:
        given = parse(kind, request.json())
        with _customers_named_for(request):
            made = await request.services.get(Catalogue).create(
                request.publisher_id,
                resource.initialize(_new(kind, given | _parents(request), request.services.clock()), request),
                actor=request.caller.actor,
                request=_idempotency_key(request),
            )
        return await _created(request, made)

    @door(
        "get",
        "GET",
        resource.one,
        Privilege.READ,
        OperationSpec(summary=f"Get {a_title}", response_model=kind, error_statuses=(404,)),
    )
    async def get_record(request: Request) -> Response:
        parent = request.route_params.get("customerId", "")
        found = await request.services.get(CatalogueStore).find(
            request.publisher_id, kind, resource.id_of(request), parent
        )
        if found is None:
            raise NotFound("There is no such record; it may have been deleted.")
        (completed,) = await _completed(request, [found])
        return json_response(completed)

    @door(
        "update",
        "PATCH",
        resource.one,
        Privilege.UPDATE,
        OperationSpec(
            summary=f"Update {a_title}",
            response_model=kind,
            request_model=kind,
            partial=True,
            error_statuses=(404, 409, 412, 422),
        ),
    )
    async def update_record(request: Request) -> Response:
        patch = request.json()
        with _customers_named_for(request):
            edited = await request.services.get(Catalogue).update(
                request.publisher_id,
                kind,
                resource.id_of(request),
                lambda before: replace(before, **merged(before, patch)),
                actor=request.caller.actor,
                parent=request.route_params.get("customerId", ""),
                if_match=request.if_match,
            )
        (completed,) = await _completed(request, [edited])
        return json_response(completed)

    @door(
        "delete",
        "DELETE",
        resource.one,
        Privilege.DELETE,
        OperationSpec(summary=f"Delete {a_title}", status=204, error_statuses=(404, 409, 412)),
    )
    async def delete_record(request: Request) -> Response:
        await request.services.get(Catalogue).delete(
            request.publisher_id,
            kind,
            resource.id_of(request),
            actor=request.caller.actor,
            parent=request.route_params.get("customerId", ""),
            if_match=request.if_match,
        )
        return Response(b"", "application/json", 204)


for _resource in _RESOURCES:
    register_crud(endpoints, _resource)


@endpoints.route(
    "GET",
    f"{PUBLISHER}/products/{{productId}}/customers",
    requires(View.CUSTOMERS, Privilege.READ),
    OperationSpec(
        summary="List who holds a product",
        response_model=Customer,
        is_list=True,
        query=(SEARCH, LIMIT, CURSOR),
        error_statuses=(404,),
    ),
)
async def list_product_customers(request: Request) -> Response:
    """The customers that have a customer product of the product."""
    page = Page.from_request(request, SEARCH)
    products, customers = await request.services.get(PublisherCache).several(request.publisher_id, Product, Customer)
    product_id = request.route_params["productId"]
    if product_id not in products:
        raise NotFound("There is no such product; it may have been deleted.")
    holders = (each for each in customers.values() if product_id in each.product_ids)
    return page.paginate(_CUSTOMERS.found(request, holders), _position)


# Publishers: who may see them depends on who asks, not on a role.

_PUBLISHER_OFFER = Resource(Publisher, "publisher", _PUBLISHERS, View.USERS, ("name",))


@endpoints.route(
    "GET",
    _PUBLISHERS,
    SIGNED_IN,
    OperationSpec(summary="List publishers", response_model=Publisher, is_list=True, query=(SEARCH, LIMIT, CURSOR)),
)
async def list_publishers(request: Request) -> Response:
    """The publishers that the caller has to do with."""
    page = Page.from_request(request, SEARCH)
    memberships = await request.services.get(Authenticator).memberships(request.caller)
    return page.paginate(_PUBLISHER_OFFER.found(request, (each.publisher for each in memberships)), _position)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPublisher(Publisher):
    """A publisher as whoever makes it describes it: with its id, where that is known already."""

    id: str = text("ID", like="guid", hint="As compiled into its X++ classes; a new one is made where it is empty.")


@endpoints.route(
    "POST",
    _PUBLISHERS,
    GLOBAL_ADMIN,
    OperationSpec(
        summary="Create a publisher",
        response_model=Publisher,
        request_model=NewPublisher,
        status=201,
        error_statuses=(409, 422),
    ),
)
async def create_publisher(request: Request) -> Response:
    """A publisher, with the id that is compiled into its X++ classes, or with a new one."""
    given = parse(NewPublisher, request.json())
    publisher_id = given.pop("id", "").strip().lower() or str(uuid4())
    made = await request.services.get(Catalogue).create_publisher(
        replace(_new(Publisher, given, request.services.clock()), id=publisher_id),
        actor=request.caller.actor,
        request=_idempotency_key(request),
    )
    return await _created(request, made)


@endpoints.route(
    "GET",
    PUBLISHER,
    SIGNED_IN,
    OperationSpec(summary="Get a publisher", response_model=Publisher, error_statuses=(404,)),
)
async def get_publisher(request: Request) -> Response:
    """The publisher, for anybody who has to do with it."""
    found = await request.services.get(PublisherCache).get(request.publisher_id, Publisher)
    return json_response(found[request.publisher_id])


@endpoints.route(
    "PATCH",
    PUBLISHER,
    ORGANIZATION_ADMIN,
    OperationSpec(
        summary="Update a publisher",
        response_model=Publisher,
        request_model=Publisher,
        partial=True,
        error_statuses=(404, 409, 412, 422),
    ),
)
async def update_publisher(request: Request) -> Response:
    """The publisher as the patch makes it. Who may sign in, and a setting's name, are a global admin's to change."""
    patch = request.json()

    def edit(before: Publisher) -> Publisher:
        after = replace(before, **merged(before, patch))
        if _for_global_admins(after) != _for_global_admins(before) and not request.caller.is_global_admin:
            raise Forbidden("Only a global admin changes the allowed domains, the directory and the telemetry setting.")
        return after

    edited = await request.services.get(Catalogue).update(
        request.publisher_id,
        Publisher,
        request.publisher_id,
        edit,
        actor=request.caller.actor,
        if_match=request.if_match,
    )
    return json_response(edited)


def _for_global_admins(publisher: Publisher) -> tuple[Any, ...]:
    return publisher.allowed_domains, publisher.directory_id, publisher.telemetry_setting


# The audit.

_RECORD = Parameter("recordId", "Record", "Only what happened to the record of this id.")
_ACTOR = Parameter("actor", "Actor", "Only what this email address or application did.")
_SINCE = Parameter("since", "Since", "Only from this instant on, as 2026-11-24T00:00:00Z.", datetime)
_UNTIL = Parameter("until", "Until", "Only before this instant, as 2026-11-25T00:00:00Z.", datetime)


@endpoints.route(
    "GET",
    f"{PUBLISHER}/audit",
    ORGANIZATION_ADMIN,
    OperationSpec(
        summary="List changes",
        response_model=AuditEntry,
        is_list=True,
        query=(_RECORD, _ACTOR, _SINCE, _UNTIL, LIMIT, CURSOR),
    ),
)
async def list_changes(request: Request) -> Response:
    """Who changed what, when, from what to what: newest first."""
    page = Page.from_request(request, _RECORD, _ACTOR, _SINCE, _UNTIL)
    actor = request.parameter(_ACTOR)
    entries = request.services.get(CatalogueStore).audit(
        request.publisher_id,
        record_id=request.parameter(_RECORD),
        actor=actor and fold(actor),
        since=request.parameter(_SINCE),
        until=request.parameter(_UNTIL),
        after=page.after[0] if page.after else "",
        limit=page.limit + 1,
    )
    return await page.paginate_stream(entries, lambda entry: [entry.key])


# What the doors share.


def _position(record: Record) -> list[str]:
    return record.position


async def _records(request: Request, kind: type[Any]) -> Iterable[Any]:
    """All records of the kind that the address speaks of, in their order."""
    customer_id = request.route_params.get("customerId")
    if customer_id is None:
        now = request.services.clock()
        return (
            each.as_of(now)
            for each in (await request.services.get(PublisherCache).get(request.publisher_id, kind)).values()
        )
    document = await request.services.get(CatalogueStore).find_document(request.publisher_id, customer_id)
    if document is None:
        raise NotFound("There is no such customer; it may have been deleted.")
    return sorted(await _completed(request, document.part(kind).values()), key=_position)


async def _completed[R: Record](request: Request, records: Iterable[R]) -> list[R]:
    """The records with what follows from others, and from the day it is."""
    now = request.services.clock()
    found: list[Any] = [each.as_of(now) for each in records]
    if not found or not isinstance(found[0], CustomerProduct):
        return found
    products = await request.services.get(PublisherCache).get(request.publisher_id, Product)
    return [
        replace(each, product_name=products[each.product_id].name if each.product_id in products else "")
        for each in found
    ]


@contextmanager
def _customers_named_for(request: Request) -> Iterator[None]:
    """Name the customer that has a serial number already, for a caller who may read customers."""
    try:
        yield
    except SerialNumberTaken as error:
        # Every privilege includes read.
        raise (error.naming_customer() if View.CUSTOMERS in request.caller.privileges else error) from None


async def _created(request: Request, made: Record) -> Response:
    (completed,) = await _completed(request, [made])
    location = f"{request.services.settings.public_url}{request.path.rstrip('/')}/{made.id}"
    return json_response(completed, 201, Location=location)


def _new[R: Record](kind: type[R], given: Mapping[str, Any], now: datetime) -> R:
    """A record with a new id, with what was given, and without what was not."""
    return kind(id=str(uuid4()), created_at=now, updated_at=now, **given)


def _parents(request: Request) -> dict[str, str]:
    customer_id = request.route_params.get("customerId")
    return {} if customer_id is None else {"customer_id": customer_id}


def _idempotency_key(request: Request) -> IdempotencyKey | None:
    """The request as one that may come again, where it says so."""
    key = request.headers.get("idempotency-key", "")
    if not key:
        return None
    if len(key) > _MOST_OF_A_KEY:
        raise MalformedRequest(f"An Idempotency-Key has {_MOST_OF_A_KEY} characters at most.")
    who_and_where = f"{request.caller.identity.key}\n{request.path.lower()}\n{key}"
    return IdempotencyKey(hashlib.sha256(who_and_where.encode()).hexdigest(), hashlib.sha256(request.body).hexdigest())
