"""Endpoints of licensing personnel: the records of a publisher, publishers, and the audit."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from licensing.catalogue.crud import (
    PUBLISHER,
    PUBLISHERS,
    Resource,
    created,
    idempotency_key,
    new_record,
    position,
    register_crud,
)
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Publisher, Role, User
from licensing.catalogue.rows import AuditEntry
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Forbidden, NotFound
from licensing.fields import merged, parse, text
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, SEARCH, Page
from licensing.http.permissions import GLOBAL_ADMIN, ORGANIZATION_ADMIN, SIGNED_IN, Privilege, View, requires
from licensing.http.request import Parameter, Request
from licensing.http.response import Response, json_response
from licensing.identifiers import fold

endpoints = Endpoints()
_CUSTOMER = f"{PUBLISHER}/customers/{{customerId}}"


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
    return page.paginate(_CUSTOMERS.found(request, holders), position)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPublisher(Publisher):
    """A publisher as whoever makes it describes it: with its id, where that is known already."""

    id: str = text("ID", like="guid", hint="As compiled into its X++ classes; a new one is made where it is empty.")


@endpoints.route(
    "POST",
    PUBLISHERS,
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
        replace(new_record(Publisher, given, request.services.clock()), id=publisher_id),
        actor=request.caller.actor,
        request=idempotency_key(request),
    )
    return await created(request, made)


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
