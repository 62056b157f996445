"""The five endpoints of one kind of record: list, create, get, update, delete.

Other features register theirs here too. This module knows records, so it is not part of `licensing.http`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from licensing.catalogue.draft import IdempotencyKey
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import (
    CustomerProduct,
    Product,
    Record,
)
from licensing.catalogue.rules import SerialNumberTaken
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore
from licensing.errors import MalformedRequest, NotFound
from licensing.fields import merged, parse
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, SEARCH, Page
from licensing.http.permissions import Access, Privilege, View, requires
from licensing.http.request import Request
from licensing.http.response import Response, json_response
from licensing.identifiers import fold

PUBLISHERS = "api/v1/publishers"
PUBLISHER = f"{PUBLISHERS}/{{publisherId}}"
_MAX_KEY_CHARACTERS = 128


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
        """The records that match the search of the request."""
        return search(request, records, self.searched)


def search[R: Record](request: Request, records: Iterable[R], attributes: Iterable[str]) -> Iterator[R]:
    """The records with the request's search text in one of the attributes; all records without a search text."""
    text_ = fold(request.parameter(SEARCH) or "")
    for record in records:
        if any(text_ in fold(str(getattr(record, attribute))) for attribute in attributes):
            yield record


def register_crud[R: Record](endpoints: Endpoints, resource: Resource[R]) -> None:
    """Register the five endpoints of one kind of record."""
    kind, name, a_title = resource.kind, resource.name, resource.a_title

    def endpoint(
        verb: str, method: str, template: str, privilege: Privilege, operation: OperationSpec
    ) -> Callable[[Callable[..., Any]], Any]:
        named = f"{verb}_{name}{'s' if verb == 'list' else ''}"
        return endpoints.route(method, template, resource.access(privilege), operation, name=named)

    @endpoint(
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
        return page.paginate(resource.found(request, await _records(request, kind)), position)

    @endpoint(
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
                resource.initialize(new_record(kind, given | _parents(request), request.services.clock()), request),
                actor=request.caller.actor,
                request=idempotency_key(request),
            )
        return await created(request, made)

    @endpoint(
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

    @endpoint(
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

    @endpoint(
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


def position(record: Record) -> list[str]:
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
    return sorted(await _completed(request, document.part(kind).values()), key=position)


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


async def created(request: Request, made: Record) -> Response:
    (completed,) = await _completed(request, [made])
    location = f"{request.services.settings.public_url}{request.path.rstrip('/')}/{made.id}"
    return json_response(completed, 201, Location=location)


def new_record[R: Record](kind: type[R], given: Mapping[str, Any], now: datetime) -> R:
    """A record with a new id, with what was given, and without what was not."""
    return kind(id=str(uuid4()), created_at=now, updated_at=now, **given)


def _parents(request: Request) -> dict[str, str]:
    customer_id = request.route_params.get("customerId")
    return {} if customer_id is None else {"customer_id": customer_id}


def idempotency_key(request: Request) -> IdempotencyKey | None:
    """The request as one that may come again, where it says so."""
    key = request.headers.get("idempotency-key", "")
    if not key:
        return None
    if len(key) > _MAX_KEY_CHARACTERS:
        raise MalformedRequest(f"An Idempotency-Key has {_MAX_KEY_CHARACTERS} characters at most.")
    who_and_where = f"{request.caller.identity.key}\n{request.path.lower()}\n{key}"
    return IdempotencyKey(hashlib.sha256(who_and_where.encode()).hexdigest(), hashlib.sha256(request.body).hexdigest())
