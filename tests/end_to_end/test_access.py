"""Access control over real HTTP: every endpoint as every kind of caller, and who a caller is.

The tables repeat what docs/administration.md promises, on purpose: the access that the code declares is compared with
them.
"""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from licensing.access import service as access_service
from licensing.catalogue.records import Publisher
from licensing.errors import (
    LicensingError,
    PreconditionFailed,
    PublisherNotFound,
    StorageUnavailable,
    Unauthenticated,
)
from licensing.http.endpoints import ROUTES, Route
from licensing.http.permissions import SIGNED_IN, Privilege, View, requires
from licensing.services import Services
from licensing.settings import Settings
from tests.support.administration import (
    DOMAIN,
    FOREIGN_DIRECTORY,
    OWN_DIRECTORY,
    Caller,
    People,
    PublisherApi,
    refusal,
    unique,
)
from tests.support.fault_proxy import hanging
from tests.support.hosting import REPOSITORY, Served

# --- every endpoint as every kind of caller

VIEWS = ["products", "customers", "customerProducts", "environments", "reports", "notices", "users"]
PRIVILEGES = ["read", "update", "create", "delete"]  # each includes those before it

# The access that each endpoint requires, by the name of its function.
ENDPOINT_ACCESS: dict[str, str] = {
    "get_health": "anonymous",
    "list_keys": "anonymous",
    "well_known_keys": "anonymous",
    "get_key_file": "anonymous",
    "validate": "anonymous",
    "get_me": "signed in",
    "list_publishers": "signed in",
    "create_publisher": "global admin",
    "get_publisher": "member",
    "update_publisher": "organization admin",
    "list_changes": "organization admin",
    "list_products": "products: read",
    "get_product": "products: read",
    "update_product": "products: update",
    "create_product": "products: create",
    "delete_product": "products: delete",
    "list_product_customers": "customers: read",
    "list_customers": "customers: read",
    "get_customer": "customers: read",
    "update_customer": "customers: update",
    "create_customer": "customers: create",
    "delete_customer": "customers: delete",
    "list_customer_products": "customerProducts: read",
    "get_customer_product": "customerProducts: read",
    "update_customer_product": "customerProducts: update",
    "create_customer_product": "customerProducts: create",
    "delete_customer_product": "customerProducts: delete",
    "list_environments": "environments: read",
    "get_environment": "environments: read",
    "update_environment": "environments: update",
    "create_environment": "environments: create",
    "delete_environment": "environments: delete",
    "create_license_file": "environments: update, customerProducts: read",
    "get_expiry_report": "reports: read",
    "list_notices": "notices: read",
    "get_notice": "notices: read",
    "update_notice": "notices: update",
    "create_notice": "notices: create",
    "delete_notice": "notices: delete",
    "list_notice_updates": "notices: read",
    "create_notice_update": "notices: update",
    "browse_notices": "anonymous",
    "browse_notices_as_atom": "anonymous",
    "browse_notices_as_calendar": "anonymous",
    "show_status": "anonymous",
    "request_subscription": "anonymous",
    "request_subscription_by_form": "anonymous",
    "get_confirmation": "anonymous",
    "confirm_subscription": "anonymous",
    "get_unsubscription": "anonymous",
    "unsubscribe": "anonymous",
    "list_subscribers": "notices: read",
    "create_subscriber": "notices: create",
    "get_subscriber": "notices: read",
    "delete_subscriber": "notices: delete",
    "list_undelivered": "notices: read",
    "replay_undelivered": "notices: update",
    # Only organization admins and global admins manage users and roles.
    "list_roles": "users: read",
    "get_role": "users: read",
    "update_role": "organization admin",
    "create_role": "organization admin",
    "delete_role": "organization admin",
    "list_users": "users: read",
    "get_user": "users: read",
    "update_user": "organization admin",
    "create_user": "organization admin",
    "delete_user": "organization admin",
}
# How whoever may come in is answered, where nothing is to change: an empty patch, a record without its mandatory
# fields, a deletion of what has changed meanwhile.
ALLOWED_STATUSES = {"GET": 200, "HEAD": 200, "PATCH": 200, "POST": 422, "DELETE": 412}
ALLOWED_STATUS_OVERRIDES = {
    "validate": 400,
    "create_license_file": 422,
    "request_subscription_by_form": 415,
    "get_confirmation": 410,
    "confirm_subscription": 410,
    "unsubscribe": 200,
    "replay_undelivered": 404,
}


@dataclass(frozen=True)
class Persona:
    """Somebody who calls, and what they are to the publisher."""

    caller: Caller
    standing: str
    """nobody, outside, barred, inside, organization admin, or global admin."""
    requires: Mapping[str, str] = field(default_factory=dict)

    def expected_status(self, required: str, allowed: int) -> int:
        """The status of the response of an endpoint with that access."""
        if self.is_allowed(required):
            return allowed
        if self.standing == "nobody":
            return 401
        return 404 if self.standing == "outside" and required != "global admin" else 403

    def holds(self, view: str, privilege: str) -> bool:
        return view in self.requires and PRIVILEGES.index(self.requires[view]) >= PRIVILEGES.index(privilege)

    def is_allowed(self, required: str) -> bool:
        is_admin = self.standing in ("organization admin", "global admin")
        if ": " in required:
            asked = dict(each.split(": ") for each in required.split(", "))
            is_enough = all(self.holds(view, privilege) for view, privilege in asked.items())
            return is_admin or (self.standing == "inside" and is_enough)
        return {
            "anonymous": True,
            "signed in": self.standing != "nobody",
            "member": is_admin or self.standing == "inside",
            "organization admin": is_admin,
            "global admin": self.standing == "global admin",
        }[required]


@dataclass(frozen=True)
class AccessFixture:
    """A publisher with one of each record, and everybody who may call."""

    api: PublisherApi
    ids: Mapping[str, str]
    personas: Mapping[str, Persona]

    def path(self, template: str) -> str:
        return template.format_map(self.ids)


@pytest.fixture(scope="module")
async def access(people: People) -> AccessFixture:
    api = await people.create_publisher_api(allowedDomains=[DOMAIN, "gone.example"])
    other = await people.create_publisher_api()
    foreign = await people.create_publisher_api(directoryId=FOREIGN_DIRECTORY)
    product, customer = await api.product(), await api.customer()
    license_ = await api.license(customer["id"], product["id"])
    environment = await api.environment(customer["id"])
    notice = await api.admin.make(f"{api.path}/notices", kind="announcement", title="A test", body="Nothing else.")
    subscriber = await api.admin.make(f"{api.path}/subscribers", address=f"ops-{uuid4()}@contoso.example")
    role_id = await api.role()
    plain, plain_caller = await api.user()
    ids = {
        "publisherId": api.publisher_id,
        "productId": product["id"],
        "customerId": customer["id"],
        "customerProductId": license_["id"],
        "environmentId": environment["id"],
        "roleId": role_id,
        "userId": plain["id"],
        "noticeId": notice["id"],
        "subscriberId": subscriber["id"],
        "deliveryId": "none",
        "token": "none",
        "file": "signed",
    }

    async def user(privileges: Mapping[str, str], **fields: Any) -> Caller:
        _, caller = await api.user(await api.role(**privileges), **fields)
        return caller

    async def application(application_id: str, **privileges: str) -> Caller:
        fields: dict[str, Any] = {"applicationId": application_id, "roleIds": [await api.role(**privileges)]}
        await api.admin.make(f"{api.path}/users", **fields)
        return people.application(application_id)

    everything = dict.fromkeys(VIEWS, "delete")
    bound, first = await api.user(await api.role(**everything))
    await first.get("/me")
    program, privileged_program = str(uuid4()), str(uuid4())
    gone = await user(everything, email=f"ada-{uuid4()}@gone.example")
    await people.host().edit(api.path, allowedDomains=[DOMAIN])
    personas = {
        "nobody": Persona(people.nobody(), "nobody"),
        "someone with a token that is none": Persona(Caller(people.client, "planted"), "nobody"),
        "an organization admin whose token has expired": Persona(
            people.person(api.admin_email, lifetime_seconds=-61), "nobody"
        ),
        "an organization admin whose token is for another service": Persona(
            people.person(api.admin_email, aud=str(uuid4())), "nobody"
        ),
        "a stranger of an unknown directory": Persona(people.person(f"eve@{DOMAIN}", str(uuid4())), "nobody"),
        "a global admin of an unknown directory": Persona(
            people.person("boss@host.example", str(uuid4()), roles=["GlobalAdmin"]), "nobody"
        ),
        "a stranger of the own directory": Persona(people.person(f"eve@{DOMAIN}"), "outside"),
        "a stranger without an address": Persona(people.person(""), "outside"),
        "an application that is no user": Persona(people.application(str(uuid4())), "outside"),
        "the admin of another publisher": Persona(other.admin, "outside"),
        "the admin of another publisher of another directory": Persona(foreign.admin, "outside"),
        "the same address in another directory": Persona(
            people.person(api.admin_email, foreign.directory_id), "outside"
        ),
        "a global admin of another publisher's directory": Persona(
            people.person("boss@host.example", foreign.directory_id, roles=["GlobalAdmin"]), "outside"
        ),
        "a user who is switched off": Persona(await user(everything, active=False), "barred"),
        "an organization admin who is switched off": Persona(
            await user({}, active=False, organizationAdmin=True), "barred"
        ),
        "a user whose domain is allowed no more": Persona(gone, "barred"),
        "another account with the address of a user": Persona(
            people.person(bound["email"], oid=str(uuid4())), "barred"
        ),
        "a user without roles": Persona(plain_caller, "inside"),
        "a reader": Persona(await user(dict.fromkeys(VIEWS, "read")), "inside", dict.fromkeys(VIEWS, "read")),
        "a user with every privilege": Persona(first, "inside", everything),
        "an application with a role": Persona(
            await application(program, products="create", users="read"),
            "inside",
            {"products": "create", "users": "read"},
        ),
        "a person through the program of an application": Persona(
            people.person(f"eve@{DOMAIN}", azp=program), "outside"
        ),
        "an organization admin": Persona(api.admin, "organization admin"),
        "a global admin": Persona(people.host(), "global admin"),
        "an application that is a global admin": Persona(
            people.application(privileged_program, roles=["GlobalAdmin"]), "global admin"
        ),
    }
    for view in VIEWS:
        given = {f"{view}: {privilege}": {view: privilege} for privilege in PRIVILEGES}
        given[f"{view}: nothing"] = {name: held for name, held in everything.items() if name != view}
        for what, own in given.items():
            personas[f"a user with {what}"] = Persona(await user(own), "inside", own)
    # Whoever signs in for the first time is bound to their user: from now on nothing is changed.
    for persona in personas.values():
        await persona.caller("GET", api.path)
    return AccessFixture(api, ids, personas)


# Who is enough where the method, or the rule, is not what matters.
REPRESENTATIVE_PERSONAS = [
    "nobody",
    "a stranger of the own directory",
    "a user without roles",
    "an organization admin",
    "a global admin",
]


def route_of(name: str) -> Route:
    for path in REPOSITORY.glob("licensing/**/*functions.py"):  # a module registers its routes when it is imported
        importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    (found,) = (route for route in ROUTES if route.name == name)
    return found


def test_access_table_covers_every_route(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("licensing.services._services", services)
    importlib.import_module("function_app")
    assert {route.name for route in ROUTES} == ENDPOINT_ACCESS.keys()


@pytest.mark.parametrize("name", ENDPOINT_ACCESS)
async def test_endpoint_allows_only_authorized_callers(access: AccessFixture, instance: Services, name: str) -> None:
    route = route_of(name)
    path = f"/{access.path(route.template)}"
    before = await instance.store.version(access.api.publisher_id)

    # Of the users with privileges in one view, those of the endpoint's own, and one who has all others.
    others = tuple(f"a user with {view}: " for view in VIEWS if f"{view}: " not in ENDPOINT_ACCESS[name])
    everybody = {who: persona for who, persona in access.personas.items() if not who.startswith(others)}
    some = {who: everybody[who] for who in REPRESENTATIVE_PERSONAS}

    async def knock(method: str, persona: Persona) -> httpx.Response:
        if_match = {"if_match": '"0"'} if method == "DELETE" else {}
        return await persona.caller(method, path, {} if method in ("PATCH", "POST") else None, **if_match)

    for method in route.methods:
        personas = some if method == "HEAD" or ENDPOINT_ACCESS[name] == "anonymous" else everybody
        answers = await asyncio.gather(*(knock(method, persona) for persona in personas.values()))
        allowed = ALLOWED_STATUS_OVERRIDES.get(name, ALLOWED_STATUSES[method])
        expected = {who: persona.expected_status(ENDPOINT_ACCESS[name], allowed) for who, persona in personas.items()}
        assert {who: answer.status_code for who, answer in zip(personas, answers, strict=True)} == expected
        for persona, answer in zip(personas.values(), answers, strict=True):
            if answer.status_code != allowed or not persona.is_allowed(ENDPOINT_ACCESS[name]):
                assert_rejection_is_complete(answer, method)
    assert await instance.store.version(access.api.publisher_id) == before, "nobody changed anything"


@pytest.mark.parametrize("name", ENDPOINT_ACCESS)
async def test_endpoint_rejects_unknown_query_parameter_unless_public(
    access: AccessFixture, instance: Services, name: str
) -> None:
    """Mail scanners and calendars add parameters of their own to public addresses."""
    route = route_of(name)
    path = f"/{access.path(route.template)}"
    admin = access.personas["a global admin"].caller
    before = await instance.store.version(access.api.publisher_id)
    for method in route.methods:
        body: dict[str, Any] | None = {} if method in ("PATCH", "POST") else None
        if_match = {"if_match": '"0"'} if method == "DELETE" else {}
        plain, odd = [
            await admin(method, f"{path}{query}", body, **if_match) for query in ("", "?utm_source=x&limti=1")
        ]
        if ENDPOINT_ACCESS[name] == "anonymous":
            assert odd.status_code == plain.status_code
            continue
        assert odd.status_code == 400, f"{method} {path}"
        if method == "HEAD":
            continue
        problem = odd.json()
        assert (problem["code"], [each["field"] for each in problem["errors"]]) == (
            "malformedRequest",
            ["utm_source", "limti"],
        )
        known = [each.name for each in route.operation.query] if route.operation else []
        assert problem["detail"].endswith(
            f" The parameters are: {', '.join(known)}." if known else " This address has no parameters."
        )
    assert await instance.store.version(access.api.publisher_id) == before, "nothing was changed"


async def test_authorization_is_checked_before_query_parameters(access: AccessFixture) -> None:
    path = f"{access.api.path}/products?serach=x"
    statuses = {
        who: (await access.personas[who].caller("GET", path)).status_code
        for who in ("nobody", "a stranger of the own directory", "a user without roles")
    }
    assert [*statuses.values()] == [401, 404, 403]


def assert_rejection_is_complete(answer: httpx.Response, method: str) -> None:
    """What the answer says beside its status, where it is one of those that refuse somebody."""
    codes = {401: "unauthenticated", 403: "forbidden", 404: "publisherNotFound"}
    if answer.status_code not in codes:
        assert "www-authenticate" not in answer.headers
        return
    challenge = answer.headers.get("www-authenticate", "")
    assert (answer.status_code == 401) == bool(re.fullmatch(r'Bearer error="invalid_token", .*"', challenge))
    assert "planted" not in challenge
    if method != "HEAD":
        assert refusal(answer) == (answer.status_code, codes[answer.status_code])


async def test_publisher_existence_is_hidden_from_unrelated_callers(access: AccessFixture) -> None:
    unknown = str(uuid4())
    for who in ("a stranger of the own directory", "the admin of another publisher"):
        caller = access.personas[who].caller
        for below in ("", "/products", f"/products/{access.ids['productId']}", "/audit", "/nothing"):
            real, made_up = [
                await caller("GET", f"/publishers/{publisher_id}{below}")
                for publisher_id in (access.api.publisher_id, unknown)
            ]
            assert real.status_code == 404
            assert [without_id(real)] == [without_id(made_up)]


def without_id(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "requestId"}


ADMIN_FLAGS: dict[str, tuple[bool, bool | None]] = {
    # Whether they are a global admin, and whether an organization admin of the publisher, if they see it.
    "a stranger of the own directory": (False, None),
    "the admin of another publisher": (False, None),
    "a global admin of another publisher's directory": (False, None),
    "a user who is switched off": (False, None),
    "a user whose domain is allowed no more": (False, None),
    "another account with the address of a user": (False, None),
    "a user without roles": (False, False),
    "a reader": (False, False),
    "a user with products: update": (False, False),
    "an application with a role": (False, False),
    "an organization admin": (False, True),
    "a global admin": (True, True),
    "an application that is a global admin": (True, True),
}


@pytest.mark.parametrize("who", ADMIN_FLAGS)
async def test_get_me_returns_identity_and_privileges(access: AccessFixture, who: str) -> None:
    persona, (global_admin, organization_admin) = access.personas[who], ADMIN_FLAGS[who]
    told = await persona.caller.get("/me")
    assert set(told) == {"name", "email", "applicationId", "globalAdmin", "publishers"}
    assert told["globalAdmin"] == global_admin
    assert bool(told["email"]) != bool(told["applicationId"])
    mine = [publisher for publisher in told["publishers"] if publisher["id"] == access.api.publisher_id]
    everything = dict.fromkeys(VIEWS, "delete")
    expected = {
        "id": access.api.publisher_id,
        "name": (await access.api.admin.get(access.api.path))["name"],
        "organizationAdmin": organization_admin,
        "privileges": everything if organization_admin else dict(persona.requires),
    }
    assert mine == ([] if organization_admin is None else [expected])
    listed = await persona.caller.all("/publishers?limit=200")
    assert [publisher["id"] for publisher in listed] == [publisher["id"] for publisher in told["publishers"]]


async def test_memberships_reads_only_publishers_of_caller_directory(
    access: AccessFixture, instance: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stranger can have us do stays small, however many publishers there are."""
    read, find = set[str](), instance.store.find

    async def find_and_tell(publisher_id: str, *args: Any) -> Any:
        read.add(publisher_id)
        return await find(publisher_id, *args)

    monkeypatch.setattr(instance.store, "find", find_and_tell)
    foreign = access.personas["the admin of another publisher of another directory"].caller
    caller = await instance.authenticator.authenticate(SIGNED_IN, f"Bearer {foreign.token}", None)
    assert caller is not None
    memberships = await instance.authenticator.memberships(caller)
    assert {each.publisher.id for each in memberships} <= read
    found = [await find(each, Publisher, each) for each in read]
    assert {publisher.directory_id for publisher in found if publisher} == {FOREIGN_DIRECTORY}


async def test_host_log_contains_no_caller_data(access: AccessFixture, admin_host: Served) -> None:
    client = access.api.people.client
    await client.get("/api/v1/me", headers={"authorization": "Bearer planted-4b1d.planted-4b1d.planted-4b1d"})
    answer = await access.api.admin("GET", f"{access.api.path}/products/planted-4b1d?search=planted-4b1d")
    log = admin_host.log.read_text()
    assert answer.headers["x-request-id"] in log
    assert "planted-4b1d" not in log
    assert DOMAIN not in log
    assert "Traceback" not in log
    for persona in access.personas.values():
        assert persona.caller.token is None or persona.caller.token not in log


# --- what a privilege is


async def can(caller: Caller, api: PublisherApi) -> dict[str, list[int]]:
    """What reading, editing, making and deleting a product is answered with."""
    product = await api.product()
    path = f"{api.path}/products"
    answers = [
        await caller("GET", path),
        await caller("PATCH", f"{path}/{product['id']}", {"description": "edited"}),
        await caller("POST", path, {"name": unique("Product")}),
        await caller("DELETE", f"{path}/{product['id']}"),
    ]
    return {"products": [answer.status_code for answer in answers]}


@pytest.mark.parametrize(
    ("privilege", "statuses"),
    [
        ("read", [200, 403, 403, 403]),
        ("update", [200, 200, 403, 403]),
        ("create", [200, 200, 201, 403]),
        ("delete", [200, 200, 201, 204]),
    ],
)
async def test_privilege_includes_lower_privileges(api: PublisherApi, privilege: str, statuses: list[int]) -> None:
    _, caller = await api.user(await api.role(products=privilege))
    assert await can(caller, api) == {"products": statuses}


async def test_user_with_several_roles_gets_highest_privilege_per_view(api: PublisherApi) -> None:
    roles = [
        await api.role(products="update", customers="delete"),
        await api.role(products="read", customers="read", reports="read"),
        await api.role(products="create", users="update"),
        await api.role(),
    ]
    together = {"products": "create", "customers": "delete", "reports": "read", "users": "update"}
    for order in (roles, roles[::-1]):
        _, caller = await api.user(*order)
        (publisher,) = (await caller.get("/me"))["publishers"]
        assert publisher["privileges"] == together
        assert await can(caller, api) == {"products": [200, 200, 201, 403]}


async def test_user_privileges_apply_per_publisher(people: People) -> None:
    one, other = await people.create_publisher_api(), await people.create_publisher_api()
    user, caller = await one.user(await one.role(products="delete"))
    await other.user(await other.role(products="read"), email=user["email"].upper())
    assert await can(caller, one) == {"products": [200, 200, 201, 204]}
    assert await can(caller, other) == {"products": [200, 403, 403, 403]}
    refused = await other.admin("POST", f"{other.path}/users", {"email": f"x@{DOMAIN}", "roleIds": user["roleIds"]})
    assert refusal(refused) == (422, "ruleBroken"), "a role of another publisher gives nothing here"


async def test_role_and_user_changes_apply_from_next_request(api: PublisherApi) -> None:
    role_id = await api.role(products="create")
    user, caller = await api.user(role_id)
    at_role, at_user = f"{api.path}/roles/{role_id}", f"{api.path}/users/{user['id']}"
    changes: list[tuple[str, dict[str, Any], list[int]]] = [
        (at_user, {}, [200, 200, 201, 403]),
        (at_role, {"privileges": {"products": "read"}}, [200, 403, 403, 403]),
        (at_role, {"privileges": {"products": None}}, [403, 403, 403, 403]),
        (at_role, {"privileges": {"products": "delete"}}, [200, 200, 201, 204]),
        (at_user, {"active": False}, [403, 403, 403, 403]),
        (at_user, {"active": True}, [200, 200, 201, 204]),
        (at_user, {"roleIds": []}, [403, 403, 403, 403]),
        (at_user, {"organizationAdmin": True}, [200, 200, 201, 204]),
    ]
    for path, patch, statuses in changes:
        await api.admin.edit(path, **patch)
        assert await can(caller, api) == {"products": statuses}, patch
    await api.admin.delete(at_user)
    assert await can(caller, api) == {"products": [404, 404, 404, 404]}


async def test_access_changes_apply_immediately_on_other_instance(api: PublisherApi, instance: Services) -> None:
    role_id = await api.role(products="create")
    user, caller = await api.user(role_id)
    create = requires(View.PRODUCTS, Privilege.CREATE)

    async def admitted() -> str:
        try:
            await instance.authenticator.authenticate(create, f"Bearer {caller.token}", api.publisher_id)
        except LicensingError as error:
            return error.code
        return "admitted"

    assert await admitted() == "admitted"
    await api.admin.edit(f"{api.path}/roles/{role_id}", privileges={"products": "update"})
    assert await admitted() == "forbidden"
    await api.admin.edit(f"{api.path}/roles/{role_id}", privileges={"products": "create"})
    assert await admitted() == "admitted"
    await api.people.host().edit(api.path, allowedDomains=["other.example"])
    assert await admitted() == "forbidden"
    await api.people.host().edit(api.path, allowedDomains=[DOMAIN])
    assert await admitted() == "admitted"
    await api.admin.delete(f"{api.path}/users/{user['id']}")
    assert await admitted() == "publisherNotFound"


async def test_delete_role_in_use_returns_409(api: PublisherApi) -> None:
    role_id = await api.role(products="read")
    users = [(await api.user(role_id))[0] for _ in range(2)]
    path = f"{api.path}/roles/{role_id}"
    for count in ("2 users", "1 user"):
        refused = await api.admin("DELETE", path)
        assert refusal(refused) == (409, "hasChildren")
        assert refused.json()["detail"].endswith(f"it still has {count}.")
        await api.admin.edit(f"{api.path}/users/{users.pop()['id']}", roleIds=[])
    await api.admin.delete(path)
    assert refusal(await api.admin("GET", path)) == (404, "notFound")


# --- global admins, and other directories


async def test_global_admin_role_is_valid_only_in_own_directory(people: People) -> None:
    api = await people.create_publisher_api(directoryId=FOREIGN_DIRECTORY)
    user, _ = await api.user(await api.role(products="read"))
    caller = people.person(user["email"], api.directory_id, roles=["GlobalAdmin"])
    told = await caller.get("/me")
    assert told["globalAdmin"] is False
    assert [publisher["id"] for publisher in told["publishers"]] == [api.publisher_id], "and no other of the directory"
    assert await can(caller, api) == {"products": [200, 403, 403, 403]}
    assert refusal(await caller("POST", "/publishers", {"name": "Planted"})) == (403, "forbidden")
    program = people.application(str(uuid4()), api.directory_id, roles=["GlobalAdmin"])
    assert (await program.get("/me"))["globalAdmin"] is False
    assert refusal(await program("GET", api.path)) == (404, "publisherNotFound")


async def test_same_email_in_other_directory_has_no_access(people: People) -> None:
    """Also where that directory is another publisher's, so that its tokens are looked at."""
    foreign, home = (
        await people.create_publisher_api(directoryId=FOREIGN_DIRECTORY),
        await people.create_publisher_api(),
    )
    assert await can(foreign.admin, foreign) == {"products": [200, 200, 201, 204]}
    impostors = {
        "of the own directory, at a publisher of another": (people.person(foreign.admin_email), foreign),
        "of another's directory, at a publisher of the own": (
            people.person(home.admin_email, foreign.directory_id),
            home,
        ),
    }
    for who, (caller, api) in impostors.items():
        assert await can(caller, api) == {"products": [404] * 4}, who
        assert (await caller.get("/me"))["publishers"] == [], who
    unknown = people.person(home.admin_email, str(uuid4()))
    assert await can(unknown, home) == {"products": [401] * 4}


async def test_application_user_is_identified_by_client_id_and_directory(people: People) -> None:
    api = await people.create_publisher_api()
    client_id = str(uuid4())
    fields = {"applicationId": client_id, "name": "Nightly import", "roleIds": [await api.role(products="create")]}
    made = await api.admin.make(f"{api.path}/users", **fields)
    caller = people.application(client_id)
    assert await can(caller, api) == {"products": [200, 200, 201, 403]}
    assert (await caller.get("/me"))["applicationId"] == client_id
    assert (await api.audit(actor=f"application {client_id}"))[0]["actor"] == f"application {client_id}"
    nobodies = {
        "without an app role of the service": (people.application(client_id, roles=[]), 401),
        "with an app role of something else": (people.application(client_id, roles=["Reader"]), 401),
        "of another directory": (people.application(client_id, FOREIGN_DIRECTORY), 404),
        "a person who uses it": (people.person(f"eve@{DOMAIN}", azp=client_id), 404),
        "another application": (people.application(str(uuid4())), 404),
    }
    for who, (nobody, status) in nobodies.items():
        assert await can(nobody, api) == {"products": [status] * 4}, who
    taken = await api.admin("POST", f"{api.path}/users", fields)
    assert refusal(taken) == (409, "alreadyExists")
    await api.admin.edit(f"{api.path}/users/{made['id']}", active=False)
    assert await can(caller, api) == {"products": [403] * 4}


async def test_organization_admin_cannot_change_domains_directory_or_telemetry(api: PublisherApi) -> None:
    record = await api.admin.get(api.path)
    patches: list[dict[str, Any]] = [
        {"allowedDomains": [DOMAIN, "planted.example"]},
        {"allowedDomains": []},
        {"allowedDomains": None},
        {"directoryId": str(uuid4())},
        {"directoryId": OWN_DIRECTORY},
        {"name": "New name", "allowedDomains": ["planted.example"]},
        {"telemetrySetting": "LICENSING_TELEMETRY_OF_OTHERS"},
    ]
    for patch in patches:
        assert refusal(await api.admin("PATCH", api.path, patch)) == (403, "forbidden")
    assert await api.admin.get(api.path) == record
    assert await api.admin.edit(api.path, **record) == record, "the whole record, sent back"
    edited = await api.admin.edit(api.path, **{**record, "name": "New name", "supportEmail": "help@x.example"})
    assert (edited["name"], edited["supportEmail"]) == ("New name", "help@x.example")
    for patch in patches:
        assert (await api.people.host()("PATCH", api.path, patch)).status_code == 200


async def test_organization_admin_cannot_see_other_publishers(people: People) -> None:
    one, other = await people.create_publisher_api(), await people.create_publisher_api()
    listed = await one.admin.all("/publishers")
    assert [publisher["id"] for publisher in listed] == [one.publisher_id]
    for path in ("", "/users", "/audit", "/products"):
        assert refusal(await one.admin("GET", f"{other.path}{path}")) == (404, "publisherNotFound")
    assert refusal(await one.admin("PATCH", other.path, {"name": "Planted"})) == (404, "publisherNotFound")
    everything = {publisher["id"] for publisher in await people.host().all("/publishers?limit=200")}
    assert {one.publisher_id, other.publisher_id} <= everything


# --- whoever signed in first is the user


async def test_first_sign_in_binds_user_to_account(api: PublisherApi) -> None:
    user, first = await api.user(await api.role(products="read"))
    second = api.people.person(user["email"].upper(), oid=str(uuid4()))
    assert (await first("GET", f"{api.path}/products")).status_code == 200
    refused = await second("GET", f"{api.path}/products")
    assert refusal(refused) == (403, "forbidden")
    assert "belonged to another account" in refused.json()["detail"]
    assert (await second.get("/me"))["publishers"] == []
    assert (await first("GET", f"{api.path}/products")).status_code == 200
    shown = await api.admin.get(f"{api.path}/users/{user['id']}")
    assert set(shown) == set(user), "to whom a user is bound is not shown"
    (bound, _) = await api.audit(recordId=user["id"])
    assert (bound["actor"], bound["before"] is None) == (user["email"], False)
    # To take the user away and to make it again lets the other one in, and keeps the first one out.
    await api.admin.delete(f"{api.path}/users/{user['id']}")
    await api.user(*user["roleIds"], email=user["email"])
    assert (await second("GET", f"{api.path}/products")).status_code == 200
    assert refusal(await first("GET", f"{api.path}/products")) == (403, "forbidden")


async def test_bound_user_keeps_access_after_email_change_in_directory(api: PublisherApi) -> None:
    user, before = await api.user(await api.role(products="read"))
    identity = str(uuid4())
    before = api.people.person(user["email"], oid=identity)
    renamed = api.people.person(f"married-{uuid4()}@{DOMAIN}", oid=identity)
    assert refusal(await renamed("GET", api.path)) == (404, "publisherNotFound"), "nobody knows them yet"
    for caller in (before, renamed, before):
        assert (await caller("GET", f"{api.path}/products")).status_code == 200
    namesake = api.people.person(user["email"], oid=str(uuid4()))
    assert refusal(await namesake("GET", api.path)) == (403, "forbidden"), "who has the old address now"


async def test_concurrent_first_sign_ins_with_one_email_bind_one_account(api: PublisherApi) -> None:
    user, _ = await api.user()
    accounts = [api.people.person(user["email"], oid=str(uuid4())) for _ in range(4)]
    first = await asyncio.gather(*(account("GET", api.path) for account in accounts))
    again = await asyncio.gather(*(account("GET", api.path) for account in accounts))
    statuses = [answer.status_code for answer in first]
    assert sorted(statuses) == [200, 403, 403, 403]
    assert [answer.status_code for answer in again] == statuses


async def test_user_with_reassigned_email_grants_access_to_new_account_only(api: PublisherApi) -> None:
    user, before = await api.user(await api.role(products="read"))
    path, email = f"{api.path}/users/{user['id']}", f"successor-{uuid4()}@{DOMAIN}"
    after = api.people.person(email)
    assert (await before("GET", f"{api.path}/products")).status_code == 200
    await api.admin.edit(path, name="The same person", email=user["email"].upper())
    assert (await before("GET", f"{api.path}/products")).status_code == 200
    await api.admin.edit(path, email=email)
    assert refusal(await before("GET", f"{api.path}/products")) == (404, "publisherNotFound")
    assert (await after("GET", f"{api.path}/products")).status_code == 200
    assert refusal(await before("GET", f"{api.path}/products")) == (404, "publisherNotFound")


async def test_first_sign_in_during_email_reassignment_is_rejected(
    api: PublisherApi, instance: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, before = await api.user(await api.role(products="read"))
    email = f"successor-{uuid4()}@{DOMAIN}"
    update = instance.catalogue.update

    async def give_away_and_update(*args: Any, **more: Any) -> Any:
        await api.admin.edit(f"{api.path}/users/{user['id']}", email=email)
        return await update(*args, **more)

    monkeypatch.setattr(instance.catalogue, "update", give_away_and_update)
    with pytest.raises(PublisherNotFound):
        await instance.authenticator.authenticate(SIGNED_IN, f"Bearer {before.token}", api.publisher_id)
    for caller, status in ((before, 404), (api.people.person(email), 200)):
        assert (await caller("GET", f"{api.path}/products")).status_code == status


async def test_removed_allowed_domain_blocks_its_users(api: PublisherApi) -> None:
    host = api.people.host()
    user, caller = await api.user(await api.role(products="delete"))
    await host.edit(api.path, allowedDomains=["other.example"])
    for one in (caller, api.admin):
        refused = await one("GET", f"{api.path}/products")
        assert refusal(refused) == (403, "forbidden")
        assert "domain" in refused.json()["detail"]
    path = f"{api.path}/users"
    made = await host("POST", path, {"email": f"new@{DOMAIN}"})
    assert (refusal(made), made.json()["errors"][0]["code"]) == ((422, "ruleBroken"), "domainNotAllowed")
    moved = await host("PATCH", f"{path}/{user['id']}", {"email": f"new@{DOMAIN}"})
    assert (refusal(moved), moved.json()["errors"][0]["code"]) == ((422, "ruleBroken"), "domainNotAllowed")
    assert (await host.edit(f"{path}/{user['id']}", active=False))["active"] is False, "it can be switched off"
    await host.edit(f"{path}/{user['id']}", active=True)
    await host.edit(api.path, allowedDomains=["other.example", DOMAIN])
    assert await can(caller, api.seen_by(api.admin)) == {"products": [200, 200, 201, 204]}


DOMAINS = {
    "a domain below": f"ada@mail.{DOMAIN}",
    "a domain that ends alike": f"ada@evil{DOMAIN}",
    "a domain that begins alike": f"ada@{DOMAIN}.evil.example",
    "two addresses": f"ada@evil.example,eve@{DOMAIN}",
    "an address in an address": f"ada@evil.example@{DOMAIN}",
    "a name with a display name": f"Ada <ada@{DOMAIN}>",
    "no domain": "ada",
}


@pytest.mark.parametrize("email", DOMAINS.values(), ids=DOMAINS.keys())
async def test_create_user_with_email_outside_allowed_domains_is_rejected(access: AccessFixture, email: str) -> None:
    api = access.api
    assert refusal(await api.admin("POST", f"{api.path}/users", {"email": email})) == (422, "ruleBroken")


async def test_global_admin_has_access_despite_user_record_and_allowed_domains(people: People) -> None:
    """Also where somebody has made a user of that address, and its domain is allowed no more."""
    api = await people.create_publisher_api(allowedDomains=[DOMAIN, "host.example"])
    email = f"boss-{uuid4()}@host.example"
    user, _ = await api.user(email=email, active=False)
    boss = people.person(email, roles=["GlobalAdmin"])
    assert await can(boss, api) == {"products": [200, 200, 201, 204]}
    await boss.edit(api.path, allowedDomains=[DOMAIN])
    assert await can(boss, api) == {"products": [200, 200, 201, 204]}
    assert api.publisher_id in [publisher["id"] for publisher in (await boss.get("/me"))["publishers"]]
    # Without that role they are what the user is.
    assert refusal(await people.person(email)("GET", api.path)) == (403, "forbidden")
    assert (await boss.get(f"{api.path}/users/{user['id']}"))["etag"] == user["etag"], "and are not bound to it"


# --- somebody administers the publisher

REMOVALS: dict[str, Callable[[Caller, str], Awaitable[httpx.Response]]] = {
    "removed": lambda caller, path: caller("DELETE", path),
    "demoted": lambda caller, path: caller("PATCH", path, {"organizationAdmin": False}),
    "demoted by a default": lambda caller, path: caller("PATCH", path, {"organizationAdmin": None}),
    "switched off": lambda caller, path: caller("PATCH", path, {"active": False}),
}


async def admin_ids(api: PublisherApi) -> list[str]:
    users = await api.people.host().all(f"{api.path}/users")
    return [
        user["id"]
        for user in users
        if user["organizationAdmin"] and user["active"] and user["email"].endswith(f"@{DOMAIN}")
    ]


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS.keys())
async def test_removing_last_organization_admin_returns_409(
    api: PublisherApi, remove: Callable[[Caller, str], Awaitable[httpx.Response]]
) -> None:
    (last,) = await admin_ids(api)
    path = f"{api.path}/users/{last}"
    host = api.people.host()
    await host.edit(api.path, allowedDomains=[DOMAIN, "gone.example"])
    # Others who administer nothing: one is switched off, the other's domain is allowed no more.
    await api.user(organizationAdmin=True, active=False)
    await api.user(organizationAdmin=True, email=f"{uuid4()}@gone.example")
    await host.edit(api.path, allowedDomains=[DOMAIN])
    for caller in (api.admin, host):
        refused = await remove(caller, path)
        assert refusal(refused) == (409, "lastAdmin")
        assert "make somebody else one first" in refused.json()["detail"]
    assert await admin_ids(api) == [last]
    _, second = await api.user(organizationAdmin=True)
    assert (await remove(second, path)).status_code in (200, 204)
    assert last not in await admin_ids(api)
    assert (await api.admin("GET", f"{api.path}/audit")).status_code in (403, 404)


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS.keys())
async def test_concurrent_removal_of_two_organization_admins_keeps_one(
    api: PublisherApi, remove: Callable[[Caller, str], Awaitable[httpx.Response]]
) -> None:
    (one,) = await admin_ids(api)
    other, second = await api.user(organizationAdmin=True)
    await second.get("/me")
    answers = await asyncio.gather(
        remove(api.admin, f"{api.path}/users/{other['id']}"), remove(second, f"{api.path}/users/{one}")
    )
    (done,) = (answer for answer in answers if answer.status_code in (200, 204))
    (refused,) = (answer for answer in answers if answer is not done)
    # Whether the one refused was still an admin when their request came, only the two of them know.
    assert refusal(refused) in [(409, "lastAdmin"), (403, "forbidden"), (404, "publisherNotFound")]
    assert len(await admin_ids(api)) == 1


# --- a directory that is new here


@pytest.fixture
async def fresh(admin_settings: dict[str, str]) -> AsyncIterator[Services]:
    """An instance that nobody has signed in at yet."""
    made = Services(Settings.read(admin_settings))
    yield made
    await made.close()


async def test_new_directory_is_trusted_within_ten_seconds(
    people: People, fresh: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(access_service, "time", SimpleNamespace(monotonic=lambda: now))
    looks = 0
    directories = fresh.catalogue.directories

    async def counted() -> Any:
        nonlocal looks
        looks += 1
        return await directories()

    monkeypatch.setattr(fresh.catalogue, "directories", counted)
    directory_id = str(uuid4())
    stranger = people.person("ada@contoso.example", directory_id)

    async def enter() -> str:
        try:
            await fresh.authenticator.authenticate(SIGNED_IN, f"Bearer {stranger.token}", None)
        except Unauthenticated:
            return "refused"
        return "admitted"

    assert [await enter() for _ in range(3)] == ["refused"] * 3
    assert looks == 1, "however many strangers come, they do not make us look each time"
    await people.host().make("/publishers", name=unique("Publisher"), directoryId=directory_id)
    now += 9.9
    assert (await enter(), looks) == ("refused", 1)
    now += 0.2
    assert [await enter() for _ in range(3)] == ["admitted"] * 3
    assert looks == 2
    now += 1000
    assert (await enter(), looks) == ("admitted", 2)


async def test_concurrent_directory_changes_trust_committed_directory(
    people: People, fresh: Services, instance: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the other one, who is refused, was the last to announce theirs."""
    api = await people.create_publisher_api()
    etag = (await people.host().get(api.path))["etag"]
    kept, refused = str(uuid4()), str(uuid4())
    early_commit, late_commit = instance.store._commit, fresh.store._commit

    async def change(services: Services, directory_id: str) -> None:
        await services.catalogue.update(
            api.publisher_id,
            Publisher,
            api.publisher_id,
            lambda before: replace(before, directory_id=directory_id),
            actor="test",
            if_match=etag,
        )

    async def let_the_other_come_as_far_as_this(*early: Any) -> bool:
        is_done = False

        async def be_late(*late: Any) -> bool:
            nonlocal is_done
            is_done = await early_commit(*early)
            return await late_commit(*late)

        monkeypatch.setattr(fresh.store, "_commit", be_late)
        with pytest.raises(PreconditionFailed):
            await change(fresh, refused)
        return is_done

    monkeypatch.setattr(instance.store, "_commit", let_the_other_come_as_far_as_this)
    await change(instance, kept)
    caller = people.person(api.admin_email, kept)
    assert await fresh.authenticator.authenticate(SIGNED_IN, f"Bearer {caller.token}", None)


async def test_concurrent_first_requests_from_new_directory_are_authenticated(people: People, fresh: Services) -> None:
    """After a start everybody comes at once, and who is told to sign in again has to do it by hand."""
    api = await people.create_publisher_api(directoryId=str(uuid4()))
    entered = await asyncio.gather(
        *(fresh.authenticator.authenticate(SIGNED_IN, f"Bearer {api.admin.token}", api.publisher_id) for _ in range(20))
    )
    assert all(caller and caller.is_organization_admin for caller in entered)


async def test_authenticate_when_storage_fails_raises_storage_unavailable(
    people: People, fresh: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await people.create_publisher_api(directoryId=str(uuid4()))
    directories, fails = fresh.catalogue.directories, True

    async def failing() -> Any:
        if fails:
            raise StorageUnavailable("Not now.")
        return await directories()

    monkeypatch.setattr(fresh.catalogue, "directories", failing)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await fresh.authenticator.authenticate(SIGNED_IN, f"Bearer {api.admin.token}", None)
    fails = False
    assert await fresh.authenticator.authenticate(SIGNED_IN, f"Bearer {api.admin.token}", None)


async def test_authenticate_when_storage_hangs_raises_storage_unavailable(
    people: People, admin_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.services._RECORDS_WAIT_SECONDS", 0.3)
    foreign = people.person("ada@contoso.example", str(uuid4()))
    async with hanging() as account:
        hung = {"LICENSING_STORAGE": account, "LICENSING_STORAGE_TIMEOUT_SECONDS": "0.3"}
        services = Services(Settings.read(admin_settings | hung))
        for caller, publisher_id in ((foreign, None), (people.host(), str(uuid4()))):
            with pytest.raises(StorageUnavailable) as refused:
                await services.authenticator.authenticate(SIGNED_IN, f"Bearer {caller.token}", publisher_id)
            assert refused.value.retry_after_seconds
        await services.close()
