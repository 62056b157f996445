"""Endpoints about the caller: its identity, and its publishers."""

from collections.abc import Mapping
from dataclasses import dataclass

from licensing.access.service import Authenticator
from licensing.catalogue.crud import PUBLISHERS, position, search
from licensing.catalogue.records import Publisher
from licensing.fields import text, value
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, SEARCH, Page
from licensing.http.permissions import SIGNED_IN, Privilege, View
from licensing.http.request import Request
from licensing.http.response import Response, json_response

endpoints = Endpoints()


@dataclass(frozen=True, slots=True, kw_only=True)
class MyPublisher:
    """A publisher that the caller has to do with, and what they may do there."""

    id: str = text("Publisher", settable=False)
    name: str = text("Name", settable=False)
    organization_admin: bool = value("Organization admin", default=False, settable=False)
    privileges: Mapping[View, Privilege] = value(
        "Privileges", default=dict, settable=False, hint="For each view in which something may be done, the highest."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who the caller is."""

    name: str = text("Name", settable=False)
    email: str = text("Email", settable=False)
    application_id: str = text("Application", settable=False, hint="The client id, where an application calls.")
    global_admin: bool = value("Global admin", default=False, settable=False)
    publishers: tuple[MyPublisher, ...] = value("Publishers", default=(), settable=False)


@endpoints.route("GET", "api/v1/me", SIGNED_IN, OperationSpec(summary="Get who I am", response_model=Me))
async def get_me(request: Request) -> Response:
    """Who I am, my publishers, and my privileges in each view of them."""
    caller = request.caller
    identity = caller.identity
    memberships = await request.services.get(Authenticator).memberships(caller)
    return json_response(
        Me(
            name=identity.name,
            email=identity.email,
            application_id=identity.application_id if identity.is_application else "",
            global_admin=caller.is_global_admin,
            publishers=tuple(
                MyPublisher(
                    id=each.publisher.id,
                    name=each.publisher.name,
                    organization_admin=each.caller.is_organization_admin,
                    privileges=each.caller.privileges,
                )
                for each in memberships
            ),
        )
    )


@endpoints.route(
    "GET",
    PUBLISHERS,
    SIGNED_IN,
    OperationSpec(summary="List publishers", response_model=Publisher, is_list=True, query=(SEARCH, LIMIT, CURSOR)),
)
async def list_publishers(request: Request) -> Response:
    """The publishers that the caller has to do with."""
    page = Page.from_request(request, SEARCH)
    memberships = await request.services.get(Authenticator).memberships(request.caller)
    return page.paginate(search(request, (each.publisher for each in memberships), ("name",)), position)
