"""Licensing personnel over real HTTP: whoever calls, and what they call."""

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import httpx

from licensing.cli.local_issuer import DEMO_DIRECTORY_ID, Issuer
from tests.support.hosting import PUBLIC_URL

OWN_DIRECTORY = DEMO_DIRECTORY_ID
FOREIGN_DIRECTORY = "9a1c6f0e-2b7d-4c55-8a43-6d0f1e2b3c4d"
"""The directory of a publisher: the host knows it from the beginning. Of others it learns within ten seconds only."""
DOMAIN = "contoso.example"
_numbers = itertools.count(1)


def unique(what: str) -> str:
    """A name that nothing else has."""
    return f"{what} {next(_numbers)}"


@dataclass(frozen=True)
class Caller:
    """Whoever calls the API with this token. A path may begin after /api/v1."""

    client: httpx.AsyncClient
    token: str | None = field(default=None, repr=False)

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """With a body that is sent as JSON, or as it is where it is bytes. Names of headers have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        url = path if path.startswith(("/api/", "/.well-known/", "/status/")) else f"/api/v1{path}"
        return await self.client.request(method, url, headers=sent, **content)

    async def get(self, path: str) -> dict[str, Any]:
        return json_body(await self("GET", path))

    async def make(self, path: str, **fields: Any) -> dict[str, Any]:
        return json_body(await self("POST", path, fields), 201)

    async def edit(self, path: str, **fields: Any) -> dict[str, Any]:
        return json_body(await self("PATCH", path, fields))

    async def delete(self, path: str) -> None:
        response = await self("DELETE", path)
        assert (response.status_code, response.content) == (204, b""), response.text

    async def pages(self, path: str) -> AsyncIterator[list[dict[str, Any]]]:
        """Every page of a list, each by the link that the one before names."""
        link: str | None = f"{PUBLIC_URL}/api/v1{path}"
        while link is not None:
            assert link.startswith(f"{PUBLIC_URL}/api/v1/"), link
            document = await self.get(link.removeprefix(f"{PUBLIC_URL}/api/v1"))
            assert set(document) <= {"value", "nextLink"}
            yield document["value"]
            link = document.get("nextLink")

    async def all(self, path: str) -> list[dict[str, Any]]:
        return [item async for page in self.pages(path) for item in page]


def json_body(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The JSON object of an answer that has this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of the problem document that the answer is."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert document["requestId"] == response.headers["x-request-id"]
    return response.status_code, document["code"]


def faults(response: httpx.Response) -> dict[str, str]:
    """The code of each field at fault; for each there is a sentence."""
    errors = response.json()["errors"]
    for fault in errors:
        assert fault["message"].endswith("."), fault
        assert fault["message"] in response.json()["detail"]
    return {fault["field"]: fault["code"] for fault in errors}


@dataclass(frozen=True)
class People:
    """Who signs in: by tokens of the local issuer."""

    client: httpx.AsyncClient
    issuer: Issuer

    def nobody(self) -> Caller:
        return Caller(self.client)

    def person(self, email: str, directory_id: str = OWN_DIRECTORY, **claims: Any) -> Caller:
        return Caller(self.client, self.issuer.token(email=email, directory_id=directory_id, **claims))

    def application(self, application_id: str, directory_id: str = OWN_DIRECTORY, **claims: Any) -> Caller:
        given = {"roles": ["Application"], **claims}
        return Caller(self.client, self.issuer.token(application_id=application_id, directory_id=directory_id, **given))

    def host(self) -> Caller:
        """A global admin: one of those who host the service."""
        return self.person("boss@host.example", roles=["GlobalAdmin"])

    async def create_publisher_api(self, **publisher: Any) -> "PublisherApi":
        """A new publisher with an organization admin."""
        fields: dict[str, Any] = {"name": unique("Publisher"), "allowedDomains": [DOMAIN], **publisher}
        made = await self.host().make("/publishers", **fields)
        path = f"/publishers/{made['id']}"
        admin = f"admin-{uuid4()}@{DOMAIN}"
        await self.host().make(f"{path}/users", email=admin, organizationAdmin=True)
        directory_id = made["directoryId"] or OWN_DIRECTORY
        return PublisherApi(self, made["id"], path, directory_id, self.person(admin, directory_id), admin)


@dataclass(frozen=True)
class PublisherApi:
    """A publisher's own: where it is, and its first organization admin."""

    people: People
    publisher_id: str
    path: str
    directory_id: str
    admin: Caller
    admin_email: str

    async def role(self, **privileges: str) -> str:
        """The id of a new role with these privileges."""
        made = await self.admin.make(f"{self.path}/roles", name=unique("Role"), privileges=privileges)
        return str(made["id"])

    async def user(self, *role_ids: str, **fields: Any) -> tuple[dict[str, Any], Caller]:
        """A new user, and the person who signs in as them."""
        email = fields.pop("email", f"user-{uuid4()}@{DOMAIN}")
        made = await self.admin.make(f"{self.path}/users", email=email, roleIds=[*role_ids], **fields)
        return made, self.people.person(email, self.directory_id)

    async def product(self, **fields: Any) -> dict[str, Any]:
        return await self.admin.make(f"{self.path}/products", **{"name": unique("Product"), **fields})

    async def customer(self, **fields: Any) -> dict[str, Any]:
        return await self.admin.make(f"{self.path}/customers", **{"name": unique("Customer"), **fields})

    async def license(self, customer_id: str, product_id: str, **fields: Any) -> dict[str, Any]:
        given = {"productId": product_id, "licenseType": "annual", "numberOfUsers": 10, **fields}
        return await self.admin.make(f"{self.path}/customers/{customer_id}/products", **given)

    async def environment(self, customer_id: str, **fields: Any) -> dict[str, Any]:
        given = {"tenant": "fabrikam.example", "serialNumber": unique("S"), **fields}
        return await self.admin.make(f"{self.path}/customers/{customer_id}/environments", **given)

    async def audit(self, **query: str) -> list[dict[str, Any]]:
        asked = str(httpx.QueryParams(query))
        return await self.admin.all(f"{self.path}/audit?{asked}")

    def seen_by(self, caller: Caller) -> "PublisherApi":
        return replace(self, admin=caller)


def without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}
