"""How licensing personnel keep records, over real HTTP: from a record's making to its deletion, and what it leaves."""

import asyncio
import base64
import itertools
import json
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import azure.functions as func
import httpx
import pytest

from licensing.catalogue import functions as catalogue_functions
from licensing.catalogue.draft import IdempotencyKey
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product
from licensing.catalogue.store import IdempotencyResult
from licensing.cli.local_issuer import Issuer
from licensing.http.app import App
from licensing.services import Services, services
from licensing.settings import Settings
from tests.support.administration import (
    DOMAIN,
    Caller,
    People,
    PublisherApi,
    faults,
    json_body,
    refusal,
    unique,
    without,
)
from tests.support.hosting import PUBLIC_URL, VALIDATE, question, replied, served
from tests.support.invariants import check_invariants
from tests.support.invocation import invoke
from tests.support.records import a_customer, a_license, a_product, an_environment
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class CatalogueFixture:
    """A publisher with one product and one customer, without anything below it, and one role."""

    api: PublisherApi
    product: dict[str, Any]
    customer: dict[str, Any]
    role_id: str

    @property
    def admin(self) -> Caller:
        return self.api.admin

    @property
    def customer_path(self) -> str:
        return f"{self.api.path}/customers/{self.customer['id']}"

    async def license(self, **fields: Any) -> str:
        """The path of a new customer product."""
        made = await self.api.license(self.customer["id"], self.product["id"], **fields)
        return f"{self.customer_path}/products/{made['id']}"

    async def environment(self, **fields: Any) -> str:
        """The path of a new environment."""
        made = await self.api.environment(self.customer["id"], **fields)
        return f"{self.customer_path}/environments/{made['id']}"


async def create_catalogue_fixture(api: PublisherApi) -> CatalogueFixture:
    return CatalogueFixture(api, await api.product(), await api.customer(), await api.role(products="read"))


@pytest.fixture
async def own_catalogue(api: PublisherApi) -> CatalogueFixture:
    """A shelf of the test's own."""
    return await create_catalogue_fixture(api)


@pytest.fixture
async def catalogue(shared: CatalogueFixture) -> CatalogueFixture:
    """A shelf whose customer is the test's own; beside those of other tests."""
    return replace(shared, customer=await shared.api.customer())


@pytest.fixture(scope="module")
async def shared(people: People) -> CatalogueFixture:
    """A shelf for tests that each have a record of their own on it."""
    return await create_catalogue_fixture(await people.create_publisher_api())


@pytest.fixture(scope="module")
async def held(shared: CatalogueFixture) -> tuple[CatalogueFixture, str]:
    """A shelf, and the path of a customer product on it that nobody changes."""
    return shared, await shared.license()


@dataclass(frozen=True)
class Kind:
    """One kind of record, and how callers know it. Written down here as docs/protocol.md has it."""

    kind: str
    at: Callable[[CatalogueFixture], str]
    """The path of its list."""
    least: Callable[[CatalogueFixture], dict[str, Any]]
    """As little as can be said of one."""
    defaults: dict[str, Any]
    """What the others of its fields are then."""
    full: Callable[[CatalogueFixture], dict[str, Any]]
    """All that can be said of one."""
    edit: dict[str, Any]
    derived: Callable[[CatalogueFixture], dict[str, Any]] = lambda _: {}
    """What is only shown of it."""


KINDS: dict[str, Kind] = {
    each.kind: each
    for each in (
        Kind(
            "product",
            at=lambda catalogue: f"{catalogue.api.path}/products",
            least=lambda _: {"name": unique("Product")},
            defaults={
                "description": "",
                "region": "none",
                "licenseControlDisabled": False,
                "termsUrl": "",
                "userGuideUrl": "",
                "releaseNotesUrl": "",
                "supportEmail": "",
                "active": True,
            },
            full=lambda _: {
                "name": unique("Prödukt"),
                "description": "What it does.\r\n\tAnd how: 'so', \"so\" 🧾",
                "region": "nordic",
                "licenseControlDisabled": True,
                "termsUrl": "https://example.com/terms",
                "userGuideUrl": "https://example.com/guide?a=1&b=2#c",
                "releaseNotesUrl": "http://example.com/notes",
                "supportEmail": "help.desk+x@mail.example.com",
                "active": False,
            },
            edit={"description": "edited", "active": True, "region": "anz"},
        ),
        Kind(
            "customer",
            at=lambda catalogue: f"{catalogue.api.path}/customers",
            least=lambda _: {"name": unique("Customer")},
            defaults={"description": "", "region": "none", "number": ""},
            full=lambda _: {
                "name": unique("Customer"),
                "description": "a.k.a.\nsomebody",
                "region": "global",
                "number": "C/1 #?",
            },
            edit={"number": "C-2", "name": "Edited"},
            derived=lambda _: {"productCount": 0, "environmentCount": 0},
        ),
        Kind(
            "customerProduct",
            at=lambda catalogue: f"{catalogue.customer_path}/products",
            least=lambda catalogue: {
                "productId": catalogue.product["id"],
                "licenseType": "perpetual",
                "siteLicense": True,
            },
            defaults={
                "enabled": True,
                "numberOfUsers": None,
                "startDate": None,
                "endDate": None,
                "featureDisableDate": None,
                "agreementStartDate": None,
                "wbs": "",
                "invoicedAs": "",
                "notes": "",
            },
            full=lambda catalogue: {
                "productId": catalogue.product["id"],
                "licenseType": "temp",
                "enabled": False,
                "siteLicense": True,
                "numberOfUsers": 7,
                "startDate": "2024-02-29",
                "endDate": "2996-12-31",
                "featureDisableDate": "2997-01-01",
                "agreementStartDate": "2025-06-30",
                "wbs": "W-1/2",
                "invoicedAs": "Smart | Send",
                "notes": "x\r\ny",
            },
            edit={"enabled": True, "numberOfUsers": 8, "endDate": "2996-12-30", "notes": "edited"},
            derived=lambda catalogue: {
                "customerId": catalogue.customer["id"],
                "productName": catalogue.product["name"],
                "active": True,
                "warnings": [],
            },
        ),
        Kind(
            "environment",
            at=lambda catalogue: f"{catalogue.customer_path}/environments",
            least=lambda _: {"tenant": "fabrikam.example", "serialNumber": unique("S")},
            defaults={"active": True},
            full=lambda _: {"tenant": "fabrikam.example", "serialNumber": unique("S/2 #?\\%'"), "active": False},
            edit={"active": True, "tenant": "edited.example"},
            derived=lambda catalogue: {"customerId": catalogue.customer["id"]},
        ),
        Kind(
            "role",
            at=lambda catalogue: f"{catalogue.api.path}/roles",
            least=lambda _: {"name": unique("Role")},
            defaults={"privileges": {}},
            full=lambda _: {"name": unique("Role"), "privileges": {"products": "create", "reports": "read"}},
            edit={"privileges": {"products": "create", "reports": "update"}},
        ),
        Kind(
            "user",
            at=lambda catalogue: f"{catalogue.api.path}/users",
            least=lambda _: {"email": f"{uuid4()}@{DOMAIN}"},
            defaults={"applicationId": "", "name": "", "organizationAdmin": False, "roleIds": [], "active": True},
            full=lambda catalogue: {
                "email": "",
                "applicationId": str(uuid4()),
                "name": "Nightly import",
                "organizationAdmin": True,
                "roleIds": [catalogue.role_id],
                "active": False,
            },
            edit={"name": "Edited", "active": True, "organizationAdmin": False},
        ),
    )
}
COMMON = {"id", "createdAt", "updatedAt", "etag"}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


async def make(kind: Kind, catalogue: CatalogueFixture) -> tuple[str, dict[str, Any]]:
    """A new record of the kind, and its path."""
    made = await catalogue.admin.make(kind.at(catalogue), **kind.full(catalogue))
    return f"{kind.at(catalogue)}/{made['id']}", made


async def listed(kind: Kind, catalogue: CatalogueFixture, record_id: str) -> list[dict[str, Any]]:
    """The record in its list: once, or not."""
    return [each for each in await catalogue.admin.all(kind.at(catalogue)) if each["id"] == record_id]


async def change_history(
    api: PublisherApi, record_id: str
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """From what to what each change of the record was, newest first."""
    return [(entry["before"], entry["after"]) for entry in await api.audit(recordId=record_id)]


# --- from making to deletion


@every_kind
async def test_record_can_be_created_read_listed_updated_and_deleted(catalogue: CatalogueFixture, kind: Kind) -> None:
    given, at = kind.full(catalogue), kind.at(catalogue)
    began = datetime.now(UTC)
    response = await catalogue.admin("POST", at, given)
    made = json_body(response, 201)
    assert without(made, *COMMON) == given | kind.derived(catalogue)
    assert UUID(made["id"]).version == 4
    assert began <= datetime.fromisoformat(made["createdAt"]) <= datetime.now(UTC)
    assert made["createdAt"].endswith("Z")
    assert made["createdAt"] == made["updatedAt"]

    path = f"{at}/{made['id']}"
    assert response.headers["location"] == f"{PUBLIC_URL}/api/v1{path}"
    got = await catalogue.admin("GET", path)
    assert json_body(got) == made
    assert response.headers["etag"] == got.headers["etag"] == f'"{made["etag"]}"'
    assert await listed(kind, catalogue, made["id"]) == [made]

    response = await catalogue.admin("PATCH", path, kind.edit)
    edited = json_body(response)
    assert edited == made | kind.edit | {name: edited[name] for name in ("updatedAt", "etag")}
    assert edited["etag"] != made["etag"]
    assert edited["updatedAt"] > made["updatedAt"]
    assert response.headers["etag"] == f'"{edited["etag"]}"'
    assert await catalogue.admin.get(path) == edited
    assert await listed(kind, catalogue, made["id"]) == [edited]

    response = await catalogue.admin("DELETE", path)
    assert (response.status_code, response.content) == (204, b"")
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert refusal(await catalogue.admin(method, path, body)) == (404, "notFound")
    assert await listed(kind, catalogue, made["id"]) == []


@every_kind
async def test_create_record_with_mandatory_fields_only_uses_defaults(catalogue: CatalogueFixture, kind: Kind) -> None:
    least = kind.least(catalogue)
    made = await catalogue.admin.make(kind.at(catalogue), **least)
    assert without(made, *COMMON) == kind.defaults | least | kind.derived(catalogue)
    assert set(kind.defaults) | set(least) == set(kind.full(catalogue)), "both tables say the same of the kind"
    nulls = dict.fromkeys(kind.defaults)
    again = await catalogue.admin.make(kind.at(catalogue), **nulls, **kind.least(catalogue))
    assert without(again, *COMMON, *least) == without(made, *COMMON, *least), "null is as if it were not there"


@every_kind
async def test_record_is_found_only_at_its_own_path(catalogue: CatalogueFixture, kind: Kind, people: People) -> None:
    path, made = await make(kind, catalogue)
    other = await catalogue.api.customer()
    elsewhere = await people.create_publisher_api()
    wrong = [
        f"{kind.at(catalogue)}/{uuid4()}",
        path.replace(catalogue.api.path, elsewhere.path),
        *([path.replace(catalogue.customer["id"], other["id"])] if catalogue.customer["id"] in path else []),
    ]
    for place in wrong:
        for method, body in (("GET", None), ("PATCH", kind.edit), ("DELETE", None)):
            answer = await people.host()(method, place, body)
            assert refusal(answer) == (404, "notFound"), place
    assert await catalogue.admin.get(path) == made


async def test_create_publisher_uses_given_id_or_generates_one(people: People) -> None:
    host, given = people.host(), str(uuid4())
    fields = {
        "name": "Contoso",
        "supportEmail": "help@contoso.example",
        "licensingEmail": "licensing@contoso.example",
        "timeZone": "Pacific/Auckland",
        "allowedDomains": ["contoso.example", "contoso.co.nz"],
        "directoryId": str(uuid4()),
        "telemetrySetting": "LICENSING_TELEMETRY_OF_CONTOSO",
        "telemetryShared": False,
        "enabledUsersCollected": True,
    }
    response = await host("POST", "/publishers", {**fields, "id": given.upper()})
    made = json_body(response, 201)
    assert without(made, *COMMON) == fields
    assert (made["id"], response.headers["location"]) == (given, f"{PUBLIC_URL}/api/v1/publishers/{given}")
    assert json_body(await host("GET", f"/publishers/{given}")) == made
    assert [each for each in await host.all("/publishers?limit=200") if each["id"] == given] == [made]
    edited = await host.edit(f"/publishers/{given}", name="Edited", licensingEmail=None)
    assert edited == {**made, "name": "Edited", "licensingEmail": ""} | {
        name: edited[name] for name in ("updatedAt", "etag")
    }
    taken = await host("POST", "/publishers", {"id": given, "name": "Another"})
    assert refusal(taken) == (409, "alreadyExists")
    for nothing in ({}, {"id": None}, {"id": ""}):
        made = await host.make("/publishers", name="Contoso", **nothing)
        assert UUID(made["id"])
        assert without(made, *COMMON, "name") == {
            "supportEmail": "",
            "licensingEmail": "",
            "timeZone": "",
            "allowedDomains": [],
            "directoryId": "",
            "telemetrySetting": "",
            "telemetryShared": True,
            "enabledUsersCollected": False,
        }
    assert (await host("DELETE", f"/publishers/{given}")).status_code == 405


# --- merge patches (RFC 7396)

TERMS: dict[str, Any] = {
    "licenseType": "annual",
    "numberOfUsers": 5,
    "siteLicense": False,
    "startDate": "2026-01-01",
    "endDate": "2026-12-31",
    "featureDisableDate": "2027-01-31",
    "notes": "n",
    "wbs": "w",
    "enabled": False,
}
# What a patch makes of these terms.
PATCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an empty patch changes nothing": ({}, {}),
    "what it names is replaced, and all else stays": ({"notes": "new"}, {"notes": "new"}),
    "null takes a date away": ({"featureDisableDate": None}, {"featureDisableDate": None}),
    "null makes a text empty": ({"notes": None}, {"notes": ""}),
    "an empty text is an empty text": ({"wbs": ""}, {"wbs": ""}),
    "null is the default of what has one": ({"enabled": None, "siteLicense": None}, {"enabled": True}),
    "an empty text takes dates and numbers away": (
        {"startDate": "", "endDate": "", "featureDisableDate": "", "siteLicense": True, "numberOfUsers": ""},
        {
            "startDate": None,
            "endDate": None,
            "featureDisableDate": None,
            "siteLicense": True,
            "numberOfUsers": None,
            "active": True,
        },
    ),
    "an empty text for what is not there changes nothing": ({"agreementStartDate": ""}, {}),
    "0 users with a site license are none": (
        {"siteLicense": True, "numberOfUsers": 0},
        {"siteLicense": True, "numberOfUsers": None},
    ),
    "null for what is not there changes nothing": ({"agreementStartDate": None, "invoicedAs": None}, {}),
    "several at once": (
        {"startDate": None, "numberOfUsers": 6, "wbs": "W-2"},
        {"startDate": None, "numberOfUsers": 6, "wbs": "W-2"},
    ),
    "users give way to a site license": (
        {"siteLicense": True, "numberOfUsers": None},
        {"siteLicense": True, "numberOfUsers": None},
    ),
    "five point zero is five": ({"numberOfUsers": 7.0}, {"numberOfUsers": 7}),
    "spaces round a text are nobody's": ({"wbs": "  W-2\t"}, {"wbs": "W-2"}),
}


@pytest.mark.parametrize("sentence", PATCHES)
async def test_patch_changes_only_given_fields(shared: CatalogueFixture, sentence: str) -> None:
    patch, changed = PATCHES[sentence]
    path = await shared.license(**TERMS)
    before = await shared.admin.get(path)
    after = await shared.admin.edit(path, **patch)
    assert without(after, "etag", "updatedAt") == without(before, "etag", "updatedAt") | changed
    assert (after["etag"] == before["etag"]) == (not changed)
    assert await shared.admin.get(path) == after


@pytest.mark.parametrize("media_type", ["Application/JSON;charset=utf-8", MERGE_PATCH, f"{MERGE_PATCH}; charset=utf-8"])
async def test_patch_accepts_json_and_merge_patch_media_types(shared: CatalogueFixture, media_type: str) -> None:
    path = await shared.license(notes="before")
    body = b'\xef\xbb\xbf{"notes": "after"}'  # with a byte order mark, as some .NET programs write it
    assert json_body(await shared.admin("PATCH", path, body, content_type=media_type))["notes"] == "after"


PRIVILEGE_PATCHES: dict[str, tuple[Any, dict[str, str]]] = {
    "a view is added": ({"reports": "read"}, {"products": "read", "users": "update", "reports": "read"}),
    "a view is changed": ({"products": "delete"}, {"products": "delete", "users": "update"}),
    "a view is taken away": ({"products": None}, {"users": "update"}),
    "a view that is not there is taken away": ({"notices": None}, {"products": "read", "users": "update"}),
    "several at once": (
        {"products": None, "users": "read", "notices": "create"},
        {"users": "read", "notices": "create"},
    ),
    "none": ({}, {"products": "read", "users": "update"}),
    "all are taken away": (None, {}),
}


@pytest.mark.parametrize("sentence", PRIVILEGE_PATCHES)
async def test_patch_privileges_changes_only_given_views(shared: CatalogueFixture, sentence: str) -> None:
    patch, expected = PRIVILEGE_PATCHES[sentence]
    fields = {"name": "Role", "privileges": {"products": "read", "users": "update"}}
    made = await shared.admin.make(f"{shared.api.path}/roles", **fields)
    edited = await shared.admin.edit(f"{shared.api.path}/roles/{made['id']}", privileges=patch)
    assert (edited["name"], edited["privileges"]) == ("Role", expected)


async def test_patch_replaces_list_field_completely(catalogue: CatalogueFixture) -> None:
    user, _ = await catalogue.api.user(catalogue.role_id)
    path, other = f"{catalogue.api.path}/users/{user['id']}", await catalogue.api.role()
    assert (await catalogue.admin.edit(path, roleIds=[other]))["roleIds"] == [other]
    assert (await catalogue.admin.edit(path, name="x"))["roleIds"] == [other]
    assert (await catalogue.admin.edit(path, roleIds=None))["roleIds"] == []


@every_kind
async def test_patch_with_unchanged_record_changes_nothing(
    catalogue: CatalogueFixture, kind: Kind, instance: Services
) -> None:
    path, _ = await make(kind, catalogue)
    record = await catalogue.admin.get(path)
    before = await instance.store.version(catalogue.api.publisher_id)
    slips = {"id": str(uuid4()), "createdAt": "1999-01-01", "updatedAt": 5, "etag": None, "customerId": "x"}
    of_others = {"productName": "x", "productCount": 9, "environmentCount": {"a": 1}}
    only_shown = {name: held for name, held in (slips | of_others).items() if name in record}
    for patch in ({}, record, only_shown, record | only_shown, dict.fromkeys(only_shown)):
        answer = await catalogue.admin("PATCH", path, patch)
        assert (json_body(answer), answer.headers["etag"]) == (record, f'"{record["etag"]}"')
    assert await instance.store.version(catalogue.api.publisher_id) == before
    assert [before is None for before, _ in await change_history(catalogue.api, record["id"])] == [True]


@every_kind
async def test_create_and_patch_reject_unknown_field(catalogue: CatalogueFixture, kind: Kind) -> None:
    path, made = await make(kind, catalogue)
    for name in ("descripton", "Name", "identity", "product_id", "", "x" * 500):
        for method, at, body in (("POST", kind.at(catalogue), kind.full(catalogue)), ("PATCH", path, kind.edit)):
            refused = await catalogue.admin(method, at, {**body, name: "x"})
            assert refusal(refused) == (422, "ruleBroken")
            assert faults(refused) == {name[:128]: "unknownField"}
    assert await catalogue.admin.get(path) == made


# --- ETag and If-Match

IF_MATCH: dict[str, tuple[str, bool]] = {
    # {} stands for the record's ETag
    "the ETag": ('"{}"', True),
    "the ETag as a weak one": ('W/"{}"', True),
    "the ETag without quotes": ("{}", True),
    "anything": ("*", True),
    "one that has been": ('"{stale}"', False),
    "one that has been, without quotes": ("{stale}", False),
    "one that never was": ('"0"', False),
    "a text": ('"planted"', False),
    "an empty one": ('""', False),
    "nothing": ("", False),
    "one that begins alike": ('"{}0"', False),
}


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("sentence", IF_MATCH)
async def test_if_match_allows_change_only_with_current_etag(
    shared: CatalogueFixture, sentence: str, method: str
) -> None:
    given, matches = IF_MATCH[sentence]
    made = await shared.api.product()
    path = f"{shared.api.path}/products/{made['id']}"
    now = await shared.admin.edit(path, description="somebody else's edit")
    if_match = given.format(now["etag"], stale=made["etag"])
    answer = await shared.admin(method, path, {"description": "mine"} if method == "PATCH" else None, if_match=if_match)
    if matches:
        assert answer.status_code == (200 if method == "PATCH" else 204)
    else:
        assert refusal(answer) == (412, "preconditionFailed")
        assert await shared.admin.get(path) == now


@every_kind
async def test_if_match_is_enforced_for_record_kind(catalogue: CatalogueFixture, kind: Kind) -> None:
    path, made = await make(kind, catalogue)
    stale = f'"{int(made["etag"]) - 1}"'
    for method, body in (("PATCH", kind.edit), ("DELETE", None)):
        assert refusal(await catalogue.admin(method, path, body, if_match=stale)) == (412, "preconditionFailed")
    edited = await catalogue.admin("PATCH", path, kind.edit, if_match=f'"{made["etag"]}"')
    assert json_body(edited)["etag"] != made["etag"]
    assert (await catalogue.admin("DELETE", path, if_match=f'"{made["etag"]}"')).status_code == 412
    assert (await catalogue.admin("DELETE", path, if_match=edited.headers["etag"])).status_code == 204


async def test_concurrent_patches_with_same_etag_accept_one_and_return_412(catalogue: CatalogueFixture) -> None:
    path = await catalogue.license()
    etag = (await catalogue.admin("GET", path)).headers["etag"]
    answers = await asyncio.gather(
        *(catalogue.admin("PATCH", path, {"notes": f"by {who}"}, if_match=etag) for who in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    (done,) = (json_body(answer) for answer in answers if answer.status_code == 200)
    assert await catalogue.admin.get(path) == done


# --- what cannot be read


@dataclass(frozen=True)
class Bad:
    """A patch of a customer product, and how it is refused."""

    body: bytes
    answer: tuple[int, str]
    fault: tuple[str, str] | None = None
    media_type: str = "application/json"


def broken(body: bytes, field: str, code: str = "wrongType") -> Bad:
    return Bad(body, (422, "ruleBroken"), (field, code))


MALFORMED, UNSUPPORTED = (400, "malformedRequest"), (415, "unsupportedMediaType")
BAD: dict[str, Bad] = {
    "nothing": Bad(b"", MALFORMED),
    "half an object": Bad(b'{"notes": "x"', MALFORMED),
    "a member twice": Bad(b'{"notes": "x", "notes": "y"}', MALFORMED),
    "not UTF-8": Bad(b'{"notes": "\xff"}', MALFORMED),
    "NaN": Bad(b'{"numberOfUsers": NaN}', MALFORMED),
    "null": Bad(b"null", MALFORMED),
    "a list": Bad(b"[]", MALFORMED),
    "a text": Bad(b'"x"', MALFORMED),
    "objects 1,500 deep": Bad(b'{"notes": ' + b'{"a":' * 1_500 + b"1" + b"}" * 1_501, MALFORMED),
    "objects 9,000 deep": Bad(b'{"a":' * 9_000 + b"1" + b"}" * 9_000, MALFORMED),
    "lists 9,000 deep": broken(b'{"notes": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "notes"),
    "a byte more than 64 KiB": Bad(b"{}" + b" " * (64 * 1024 - 1), (413, "bodyTooLarge")),
    "no media type": Bad(b"{}", UNSUPPORTED, media_type=""),
    "plain text": Bad(b"{}", UNSUPPORTED, media_type="text/plain"),
    "another patch": Bad(b"[]", UNSUPPORTED, media_type="application/json-patch+json"),
    "a text for a number": broken(b'{"numberOfUsers": "5"}', "numberOfUsers"),
    "half a user": broken(b'{"numberOfUsers": 5.5}', "numberOfUsers"),
    "yes for a number": broken(b'{"numberOfUsers": true}', "numberOfUsers"),
    "infinitely many users": broken(b'{"numberOfUsers": 1e999}', "numberOfUsers"),
    "infinitely few users": broken(b'{"numberOfUsers": -1e999}', "numberOfUsers"),
    "more users than people": broken(b'{"numberOfUsers": 1e300}', "numberOfUsers", "outOfRange"),
    "less than no user": broken(b'{"numberOfUsers": -1}', "numberOfUsers", "outOfRange"),
    "a number for a text": broken(b'{"notes": 5}', "notes"),
    "an object for a text": broken(b'{"notes": {}}', "notes"),
    "one for yes": broken(b'{"enabled": 1}', "enabled"),
    "yes as a text": broken(b'{"enabled": "true"}', "enabled"),
    "another license type": broken(b'{"licenseType": "Annual"}', "licenseType"),
    "a list of license types": broken(b'{"licenseType": ["annual"]}', "licenseType"),
    "no license type": broken(b'{"licenseType": null}', "licenseType", "mandatory"),
    "no product": broken(b'{"productId": null}', "productId", "mandatory"),
    "a product of nobody": broken(b'{"productId": "x"}', "productId", "unknown"),
    "a text too long": broken(b'{"wbs": "' + b"x" * 129 + b'"}', "wbs", "tooLong"),
    "a null byte": broken(b'{"notes": "a\\u0000"}', "notes", "controlCharacter"),
    "half a surrogate pair": broken(b'{"notes": "\\ud800"}', "notes", "controlCharacter"),
    "half a surrogate pair for a name": broken(b'{"\\ud800": 1}', "?", "unknownField"),
}


@pytest.mark.parametrize("sentence", BAD)
async def test_patch_with_invalid_body_is_rejected_and_changes_nothing(
    held: tuple[CatalogueFixture, str], sentence: str
) -> None:
    (catalogue, path), bad = held, BAD[sentence]
    before = await catalogue.admin.get(path)
    refused = await catalogue.admin("PATCH", path, bad.body, content_type=bad.media_type)
    assert refusal(refused) == bad.answer
    if bad.fault:
        assert faults(refused) == dict([bad.fault])
    assert len(refused.content) < 2_000
    assert await catalogue.admin.get(path) == before


async def test_create_with_merge_patch_media_type_returns_415(held: tuple[CatalogueFixture, str]) -> None:
    catalogue, _ = held
    refused = await catalogue.admin(
        "POST", f"{catalogue.api.path}/products", b'{"name": "x"}', content_type=MERGE_PATCH
    )
    assert refusal(refused) == UNSUPPORTED


async def test_patch_accepts_body_of_64_kib(held: tuple[CatalogueFixture, str]) -> None:
    catalogue, path = held
    body = b"{}" + b" " * (64 * 1024 - 2)
    assert (await catalogue.admin("PATCH", path, body, content_type="application/json")).status_code == 200


# --- rules


@dataclass(frozen=True)
class Rule:
    """What is asked for, and the fields that are at fault."""

    kind: str
    fields: dict[str, Any]
    faults: dict[str, str]
    sentence: str


FAQ = "Fill in No. of Users, or set Site (Module) License to Yes."
RULES: dict[str, Rule] = {
    "a product without a name": Rule("product", {"name": ""}, {"name": "mandatory"}, "Fill in Name."),
    "a product with a blank name": Rule("product", {"name": " \t\u3000"}, {"name": "mandatory"}, "Fill in Name."),
    "a product whose name is null": Rule("product", {"name": None}, {"name": "mandatory"}, "Fill in Name."),
    "a customer with a blank name": Rule("customer", {"name": "  "}, {"name": "mandatory"}, "Fill in Name."),
    "an environment with a blank tenant": Rule(
        "environment", {"tenant": " "}, {"tenant": "mandatory"}, "Fill in Tenant."
    ),
    "an environment with a blank serial number": Rule(
        "environment", {"serialNumber": "\u00a0"}, {"serialNumber": "mandatory"}, "Fill in Serial number."
    ),
    "a role with a blank name": Rule("role", {"name": " "}, {"name": "mandatory"}, "Fill in Name."),
    "neither site license nor users": Rule(
        "customerProduct", {"siteLicense": False, "numberOfUsers": None}, {"numberOfUsers": "usersOrSite"}, FAQ
    ),
    "0 users without a site license": Rule(
        "customerProduct", {"siteLicense": False, "numberOfUsers": 0}, {"numberOfUsers": "usersOrSite"}, FAQ
    ),
    "less than 0 users": Rule(
        "customerProduct",
        {"numberOfUsers": -1},
        {"numberOfUsers": "outOfRange"},
        "No. of Users is a number from 0 to 1,000,000.",
    ),
    "adfs as a serial number": Rule(
        "environment",
        {"serialNumber": " ADFS "},
        {"serialNumber": "notASerialNumber"},
        "Copy the serial number from the About page of the customer's D365FO (Help & Support > About).",
    ),
    "an end before the start": Rule(
        "customerProduct",
        {"startDate": "2026-02-02", "endDate": "2026-02-01", "featureDisableDate": None},
        {"endDate": "datesOutOfOrder"},
        "The end date cannot lie before the start date.",
    ),
    "all at once": Rule(
        "product",
        {"name": "", "termsUrl": "terms", "supportEmail": "help", "description": "x" * 2001},
        {"name": "mandatory", "termsUrl": "notAUrl", "supportEmail": "notAnEmail", "description": "tooLong"},
        "Terms and conditions URL must begin with https://.",
    ),
    "a user with neither an address nor an application": Rule(
        "user", {"email": "", "applicationId": ""}, {"email": "emailOrApplication"}, "Fill in Email for a person"
    ),
    "a user with both": Rule(
        "user",
        {"email": f"a@{DOMAIN}", "applicationId": str(uuid4())},
        {"email": "emailOrApplication"},
        "Application for a program.",
    ),
    "a privilege that there is not": Rule(
        "role",
        {"privileges": {"products": "write"}},
        {"privileges": "wrongType"},
        "choose one of read, update, create, delete.",
    ),
    "a view that there is not": Rule(
        "role", {"privileges": {"everything": "read"}}, {"privileges": "wrongType"}, "choose one of products, customers"
    ),
}


@pytest.mark.parametrize("sentence", RULES)
async def test_broken_rule_returns_422_with_field_and_message(
    shared: CatalogueFixture, instance: Services, sentence: str
) -> None:
    rule, catalogue = RULES[sentence], shared
    kind = KINDS[rule.kind]
    path, made = await make(kind, catalogue)
    before = await instance.store.version(catalogue.api.publisher_id)
    full = kind.full(catalogue)
    for answer in (
        await catalogue.admin("POST", kind.at(catalogue), full | rule.fields),
        await catalogue.admin("PATCH", path, rule.fields),
    ):
        assert refusal(answer) == (422, "ruleBroken")
        assert faults(answer) == rule.faults
        assert rule.sentence in answer.json()["detail"]
    assert await instance.store.version(catalogue.api.publisher_id) == before
    assert await catalogue.admin.get(path) == made


async def test_duplicate_name_serial_number_or_email_returns_409(catalogue: CatalogueFixture) -> None:
    product, path = await catalogue.api.product(), await catalogue.environment()
    other = await catalogue.environment()
    serial_number = (await catalogue.admin.get(path))["serialNumber"]
    user, _ = await catalogue.api.user()
    users, someone = f"{catalogue.api.path}/users", (await catalogue.api.user())[0]
    elsewhere = f"{catalogue.api.path}/customers/{(await catalogue.api.customer())['id']}/environments"
    at = f"{catalogue.api.path}/products"
    environment = {"tenant": "Fabrikam.example ", "serialNumber": f" {serial_number.lower()} "}
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", at, {"name": product["name"].upper()}, "name"),
        ("PATCH", f"{at}/{catalogue.product['id']}", {"name": f" {product['name']}"}, "name"),
        ("POST", f"{catalogue.customer_path}/environments", environment, "serialNumber"),
        ("POST", elsewhere, environment, "serialNumber"),
        ("PATCH", other, {"serialNumber": serial_number}, "serialNumber"),
        ("POST", users, {"email": user["email"].upper()}, "email"),
        ("PATCH", f"{users}/{someone['id']}", {"email": user["email"]}, "email"),
    ]
    for method, place, body, field in cases:
        refused = await catalogue.admin(method, place, body)
        assert refusal(refused) == (409, "alreadyExists"), place
        assert faults(refused) == {field: "taken"}
    # Whose it is may write it otherwise, and once it is given up it is free.
    await catalogue.admin.edit(f"{at}/{product['id']}", name=product["name"].upper())
    await catalogue.admin.edit(path, serialNumber=f"{serial_number}-moved")
    await catalogue.admin.edit(other, serialNumber=serial_number)


# --- warnings

DISABLE = "The feature disable date has no effect"
WARNINGS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "no feature disable date": ({"featureDisableDate": None}, []),
    "without an end date": ({"endDate": None}, [("withoutEndDate", f"{DISABLE} without an end date.")]),
    "before the end date": (
        {"endDate": "2996-06-02"},
        [("beforeEndDate", f"{DISABLE} before the end date has passed.")],
    ),
    "on the end date": ({"endDate": "2996-06-01"}, []),
    "after the end date": ({"endDate": "2996-05-31"}, []),
    "before the start date": ({"startDate": "2996-06-02", "endDate": None}, [("withoutEndDate", f"{DISABLE} without")]),
    "perpetual, before the end of the maintenance": (
        {"licenseType": "perpetual", "endDate": "2996-06-02"},
        [("beforeEndDate", DISABLE)],
    ),
}


@pytest.mark.parametrize("sentence", WARNINGS)
async def test_feature_disable_date_is_saved_with_warning_if_ineffective(
    shared: CatalogueFixture, sentence: str
) -> None:
    fields, expected = WARNINGS[sentence]
    given = {"featureDisableDate": "2996-06-01", **fields}
    edited_path = await shared.license()
    path = await shared.license(**given)
    listed_at = path.rpartition("/")[0]
    for record in (
        await shared.admin.get(path),
        await shared.admin.edit(edited_path, **given),
        *(each for each in await shared.admin.all(listed_at) if each["id"] == path.rpartition("/")[2]),
    ):
        assert {name: record[name] for name in given} == given
        warnings = record["warnings"]
        assert [(each["field"], each["code"]) for each in warnings] == [
            ("featureDisableDate", code) for code, _ in expected
        ]
        assert all(each["message"].startswith(message) for each, (_, message) in zip(warnings, expected, strict=True))


async def test_create_customer_product_ignores_given_warnings(catalogue: CatalogueFixture) -> None:
    made = await catalogue.api.license(catalogue.customer["id"], catalogue.product["id"], warnings=[{"code": "x"}])
    assert made["warnings"] == []


# --- serial numbers


async def test_customer_can_register_serial_number_for_several_tenants(catalogue: CatalogueFixture) -> None:
    first = await catalogue.environment(tenant="fabrikam.onmicrosoft.com")
    serial_number = (await catalogue.admin.get(first))["serialNumber"]
    second = await catalogue.environment(serialNumber=serial_number.lower(), tenant="fabrikam.com")
    same = {"tenant": " FABRIKAM.com", "serialNumber": serial_number}
    for method, path, body in (
        ("POST", f"{catalogue.customer_path}/environments", same),
        ("PATCH", first, {"tenant": "Fabrikam.com"}),
    ):
        refused = await catalogue.admin(method, path, body)
        assert (refusal(refused), faults(refused)) == ((409, "alreadyExists"), {"serialNumber": "taken"})
        assert "for the tenant fabrikam.com already" in refused.json()["detail"]
    await catalogue.admin.delete(first)
    assert [each["id"] for each in await catalogue.admin.all(f"{catalogue.customer_path}/environments")] == [
        second.rpartition("/")[2]
    ]


async def test_validate_prefers_active_environment_of_serial_number(
    catalogue: CatalogueFixture, jwk_set: dict[str, Any]
) -> None:
    await catalogue.license()
    first = await catalogue.environment(tenant="fabrikam.onmicrosoft.com")
    serial_number = (await catalogue.admin.get(first))["serialNumber"]
    second = await catalogue.environment(serialNumber=serial_number, tenant="fabrikam.com")
    asked = question(catalogue.api.publisher_id, serial_number, catalogue.product["name"])

    async def status() -> str:
        (product,) = replied(await catalogue.admin.client.post(VALIDATE, json=asked), jwk_set)["products"]
        return str(product["status"])

    assert await status() == "licensed"
    await catalogue.admin.edit(first, active=False)
    assert await status() == "licensed", "the other one is active"
    await catalogue.admin.edit(second, active=False)
    assert await status() == "environmentInactive"
    await catalogue.admin.edit(first, active=True)
    assert await status() == "licensed"
    await catalogue.admin.delete(first)
    assert await status() == "environmentInactive", "the one that is left is not active"
    await catalogue.admin.delete(second)
    assert await status() == "unknownEnvironment"


CUSTOMER_NAME_VISIBILITY: dict[str, tuple[dict[str, str], bool]] = {
    "who may read customers": ({"environments": "create", "customers": "read"}, True),
    "who may delete customers": ({"environments": "create", "customers": "delete"}, True),
    "who may not see customers": ({"environments": "create", "products": "delete"}, False),
}


@pytest.mark.parametrize(
    ("privileges", "named"), CUSTOMER_NAME_VISIBILITY.values(), ids=CUSTOMER_NAME_VISIBILITY.keys()
)
async def test_duplicate_serial_number_error_names_customer_only_if_visible(
    catalogue: CatalogueFixture, privileges: dict[str, str], *, named: bool
) -> None:
    holder = await catalogue.api.customer(name=unique("Northwind"))
    taken = await catalogue.api.environment(holder["id"])
    own = await catalogue.environment()
    _, caller = await catalogue.api.user(await catalogue.api.role(**privileges))
    for method, path in (("POST", f"{catalogue.customer_path}/environments"), ("PATCH", own)):
        refused = await caller(method, path, {"tenant": "x.com", "serialNumber": taken["serialNumber"]})
        assert (refusal(refused), faults(refused)) == ((409, "alreadyExists"), {"serialNumber": "taken"})
        begins = f'The customer "{holder["name"]}" has' if named else "Another customer has"
        assert refused.json()["detail"].startswith(f"{begins} this serial number already.")
        assert (holder["name"] in refused.text) is named


async def test_new_license_types_and_regions_are_saved_and_validated(
    catalogue: CatalogueFixture, jwk_set: dict[str, Any]
) -> None:
    environment = await catalogue.admin.get(await catalogue.environment())
    asked = question(catalogue.api.publisher_id, environment["serialNumber"], catalogue.product["name"])
    path = await catalogue.license()
    for license_type in ("managedServices", "none"):
        assert (await catalogue.admin.edit(path, licenseType=license_type))["licenseType"] == license_type
        (product,) = replied(await catalogue.admin.client.post(VALIDATE, json=asked), jwk_set)["products"]
        assert (product["status"], product["licenseType"]) == ("licensed", license_type)
    for region in ("internal", "other"):
        assert (await catalogue.admin.edit(catalogue.customer_path, region=region))["region"] == region
        assert (await catalogue.api.product(region=region))["region"] == region


async def test_delete_with_dependent_records_returns_409_with_their_number(catalogue: CatalogueFixture) -> None:
    catalogue = replace(catalogue, product=await catalogue.api.product())
    second = await catalogue.api.customer()
    licenses = [await catalogue.license(), await catalogue.license()]
    other = await catalogue.api.license(second["id"], catalogue.product["id"])
    environments = [await catalogue.environment() for _ in range(2)]
    product = f"{catalogue.api.path}/products/{catalogue.product['id']}"

    async def refused(path: str, reason: str) -> None:
        answer = await catalogue.admin("DELETE", path)
        assert refusal(answer) == (409, "hasChildren")
        assert reason in answer.json()["detail"]

    await refused(product, f"{catalogue.product['name']} cannot be deleted: it still has 2 customers.")
    await refused(
        catalogue.customer_path, f"{catalogue.customer['name']} cannot be deleted: it still has 2 products and 2 env"
    )
    await refused(licenses[0], "The customer still has 2 environment(s)")
    await catalogue.admin.delete(environments[0])
    await refused(licenses[0], "The customer still has 1 environment(s)")
    await refused(catalogue.customer_path, "2 products and 1 environment.")
    await catalogue.admin.delete(environments[1])
    await refused(catalogue.customer_path, "it still has 2 products.")
    for path in licenses:
        await catalogue.admin.delete(path)
    await refused(product, "it still has 1 customer.")
    await catalogue.admin.delete(catalogue.customer_path)
    await catalogue.admin.delete(f"{catalogue.api.path}/customers/{second['id']}/products/{other['id']}")
    await catalogue.admin.delete(product)


# --- requests that come again


@every_kind
async def test_repeated_idempotency_key_creates_one_record(catalogue: CatalogueFixture, kind: Kind) -> None:
    key, body, at = str(uuid4()), kind.full(catalogue), kind.at(catalogue)
    first = await catalogue.admin("POST", at, body, idempotency_key=key)
    second = await catalogue.admin("POST", at, body, idempotency_key=key)
    assert json_body(second, 201) == json_body(first, 201)
    for name in ("location", "etag"):
        assert first.headers[name] == second.headers[name]
    made = first.json()
    assert await listed(kind, catalogue, made["id"]) == [made]
    assert len(await change_history(catalogue.api, made["id"])) == 1
    same = [each for each in await catalogue.admin.all(at) if body.items() <= each.items()]
    assert same == [made]
    otherwise = await catalogue.admin("POST", at, kind.full(catalogue) | {"name": "x"}, idempotency_key=key)
    assert refusal(otherwise) in [(422, "repeatedOtherwise"), (422, "ruleBroken")]
    # What it answers with is what it made, whatever has become of that.
    await catalogue.admin.edit(f"{at}/{made['id']}", **kind.edit)
    assert json_body(await catalogue.admin("POST", at, body, idempotency_key=key), 201) == made
    await catalogue.admin.delete(f"{at}/{made['id']}")
    assert json_body(await catalogue.admin("POST", at, body, idempotency_key=key), 201) == made
    assert await listed(kind, catalogue, made["id"]) == []


async def test_create_publisher_with_repeated_idempotency_key_creates_one(people: People) -> None:
    host, key = people.host(), str(uuid4())
    answers = await asyncio.gather(
        *(host("POST", "/publishers", {"name": "Contoso"}, idempotency_key=key) for _ in range(4))
    )
    made = [json_body(answer, 201) for answer in answers]
    assert made == [made[0]] * 4
    assert [each["id"] for each in await host.all("/publishers?limit=200&search=contoso")].count(made[0]["id"]) == 1
    otherwise = await host("POST", "/publishers", {"name": "Another"}, idempotency_key=key)
    assert refusal(otherwise) == (422, "repeatedOtherwise")


async def test_idempotency_key_is_scoped_to_caller_path_and_body(catalogue: CatalogueFixture) -> None:
    key, at = str(uuid4()), f"{catalogue.api.path}/customers"
    _, other = await catalogue.api.user(await catalogue.api.role(customers="create"))
    body = {"name": "Fabrikam"}
    first = json_body(await catalogue.admin("POST", at, body, idempotency_key=key), 201)
    for another in ({"name": "Another"}, {"name": "Fabrikam", "number": "1"}, {"name": "Fabrikam "}):
        refused = await catalogue.admin("POST", at, another, idempotency_key=key)
        assert refusal(refused) == (422, "repeatedOtherwise")
    others = [
        await other("POST", at, body, idempotency_key=key),
        await catalogue.admin("POST", at, body, idempotency_key=f"{key}x"),
        await catalogue.admin("POST", at, body),
        await catalogue.admin("POST", f"{catalogue.api.path}/products", body, idempotency_key=key),
        await catalogue.admin("POST", f"{catalogue.api.path}/roles", body, idempotency_key=key),
    ]
    ids = {first["id"], *(json_body(answer, 201)["id"] for answer in others)}
    assert len(ids) == 1 + len(others)
    too_long = await catalogue.admin("POST", at, body, idempotency_key="k" * 129)
    assert refusal(too_long) == MALFORMED
    # Who may make nothing any more is not told what they made.
    _, reader = await catalogue.api.user(await catalogue.api.role(customers="read"))
    assert refusal(await reader("POST", at, body, idempotency_key=key)) == (403, "forbidden")


async def test_idempotency_key_is_not_shared_with_later_user_of_same_email(catalogue: CatalogueFixture) -> None:
    key, at, users = str(uuid4()), f"{catalogue.api.path}/customers", f"{catalogue.api.path}/users"
    role_id = await catalogue.api.role(customers="create")
    user, first = await catalogue.api.user(role_id)
    made = json_body(await first("POST", at, {"name": "Fabrikam"}, idempotency_key=key), 201)
    await catalogue.admin.delete(f"{users}/{user['id']}")
    await catalogue.api.user(role_id, email=user["email"])
    second = catalogue.api.people.person(user["email"], oid=str(uuid4()))
    other = json_body(await second("POST", at, {"name": "Fabrikam"}, idempotency_key=key), 201)
    assert other["id"] != made["id"]


async def test_concurrent_requests_with_same_idempotency_key_create_one_record(catalogue: CatalogueFixture) -> None:
    at, key = f"{catalogue.api.path}/customers", str(uuid4())
    answers = await asyncio.gather(
        *(catalogue.admin("POST", at, {"name": "Twin"}, idempotency_key=key) for _ in range(8))
    )
    made = [json_body(answer, 201) for answer in answers]
    assert made == [made[0]] * 8
    assert [each["id"] for each in await catalogue.admin.all(f"{at}?search=twin")] == [made[0]["id"]]
    assert len(await change_history(catalogue.api, made[0]["id"])) == 1


async def test_create_when_concurrent_duplicate_commits_first_returns_its_record(
    catalogue: CatalogueFixture, instance: Services, admin_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the name taken finds it taken by themselves."""
    publisher_id, request = catalogue.api.publisher_id, IdempotencyKey(str(uuid4()), "body")
    product = a_product(unique("Twin"))
    done, twin = instance.store.find_idempotency_result, Services(Settings.read(admin_settings))

    async def look_and_be_overtaken(*args: str) -> IdempotencyResult | None:
        monkeypatch.setattr(instance.store, "find_idempotency_result", done)
        found = await done(*args)
        await twin.catalogue.create(publisher_id, replace(product, id=str(uuid4())), actor="test", request=request)
        return found

    monkeypatch.setattr(instance.store, "find_idempotency_result", look_and_be_overtaken)
    made = await instance.catalogue.create(publisher_id, product, actor="test", request=request)
    await twin.close()
    assert [
        each["id"] for each in await catalogue.admin.all(f"{catalogue.api.path}/products?search={product.name}")
    ] == [made.id]


async def test_idempotency_key_of_rejected_request_can_be_reused(catalogue: CatalogueFixture) -> None:
    key, at = str(uuid4()), f"{catalogue.api.path}/products"
    refused = await catalogue.admin("POST", at, {"name": " "}, idempotency_key=key)
    assert refusal(refused) == (422, "ruleBroken")
    taken = await catalogue.admin("POST", at, {"name": catalogue.product["name"]}, idempotency_key=key)
    assert refusal(taken) == (409, "alreadyExists")
    fixed = json_body(await catalogue.admin("POST", at, {"name": "Fixed"}, idempotency_key=key), 201)
    assert json_body(await catalogue.admin("POST", at, {"name": "Fixed"}, idempotency_key=key), 201) == fixed


@pytest.mark.parametrize("kind", ["customer", "publisher"])
async def test_idempotency_key_expires_after_one_day(
    catalogue: CatalogueFixture, issuer: Issuer, instance: Services, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In this process, whose clock can be moved: the real functions, the real sign-in, the real store."""
    monkeypatch.setattr("licensing.services._services", instance)
    token = issuer.token(email="boss@host.example", roles=["GlobalAdmin"], lifetime_seconds=3 * 86_400)
    path, parameters = "/publishers", dict[str, str]()
    if kind == "customer":
        path, parameters = f"{catalogue.api.path}/customers", {"publisherId": catalogue.api.publisher_id}
    now = datetime.now(UTC)
    # Before the first part is made: parts are made with the clock that there is.
    monkeypatch.setattr(instance, "clock", lambda: now)
    key, name = str(uuid4()), unique("After a day")
    body = json.dumps({"name": name}).encode()
    function = function_named(f"create_{kind}")

    async def create() -> str:
        request = func.HttpRequest(
            "POST",
            f"{PUBLIC_URL}/api/v1{path}",
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            },
            route_params=parameters,
            body=body,
        )
        response = await invoke(function, request)
        assert response.status_code == 201, response.get_body()
        return str(json.loads(response.get_body())["id"])

    first = await create()
    now += timedelta(hours=23, minutes=59)
    assert await create() == first
    now += timedelta(minutes=1)
    second = await create()
    assert second != first
    now += timedelta(hours=23)
    assert await create() == second
    made = await catalogue.api.people.host().all(f"{path}?search={name}")
    assert {each["id"] for each in made} == {first, second}


def function_named(name: str) -> Any:
    """A function of the app, as Azure's worker finds it."""
    app = App(services)
    app.register(catalogue_functions.endpoints)
    (found,) = (each for each in app.get_functions() if each.get_function_name() == name)
    return found


# --- pages


async def test_paging_returns_each_record_once_during_concurrent_changes(own_catalogue: CatalogueFixture) -> None:
    at = f"{own_catalogue.api.path}/customers"
    names = [f"{letter}-{number}" for letter in "bB" for number in range(8)] + ["Ö", "o\u0308x", "Zoë", "  a", "ß"]
    made = [await own_catalogue.admin.make(at, name=name) for name in names]
    seen: list[dict[str, Any]] = []
    sizes: list[int] = []
    async for page in own_catalogue.admin.pages(f"{at}?limit=4"):
        seen += page
        sizes.append(len(page))
        # Before where we are, after it, and just where we are.
        for name in ("a", "zzz", page[-1]["name"]):
            await own_catalogue.admin.make(at, name=name, number="meanwhile")
        if len(sizes) == 2:
            await own_catalogue.admin.delete(f"{at}/{page[-1]['id']}")  # where the next page is to begin
    ids = [each["id"] for each in seen]
    assert len(ids) == len(set(ids))
    old = [each["id"] for each in seen if each["number"] != "meanwhile"]
    assert set(old) == {each["id"] for each in made} | {own_catalogue.customer["id"]}
    assert sizes[:-1] == [4] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= 4
    positions = [(unicodedata.normalize("NFC", each["name"].casefold()), each["id"]) for each in seen]
    assert positions == sorted(positions), "by name, whatever its case"


@every_kind
async def test_list_is_paged_for_record_kind(own_catalogue: CatalogueFixture, kind: Kind) -> None:
    for _ in range(3):
        await make(kind, own_catalogue)
    whole = await own_catalogue.admin.all(kind.at(own_catalogue))
    pages = [page async for page in own_catalogue.admin.pages(f"{kind.at(own_catalogue)}?limit=1")]
    assert [each for page in pages for each in page] == whole
    assert {len(page) for page in pages} == {1}
    full = await own_catalogue.admin.get(f"{kind.at(own_catalogue)}?limit={len(whole)}")
    assert full == {"value": whole}, "on the last page there is no next one"


LIMITS: dict[str, int | None] = {
    "": 50,
    "limit=": 50,
    "limit=1": 1,
    "limit=51": 51,
    "limit=200": 52,
    "limit=0": None,
    "limit=201": None,
    "limit=-1": None,
    "limit=1.5": None,
    "limit=ten": None,
    "limit=1&limit=2": None,
    "limit=1e2": None,
    f"limit={'9' * 5000}": None,
}


@pytest.fixture(scope="module")
async def many(people: People) -> PublisherApi:
    """A publisher with 52 customers."""
    api = await people.create_publisher_api()
    for number in range(52):
        await api.customer(name=f"Customer {number:02d}")
    return api


@pytest.mark.parametrize("query", LIMITS, ids=lambda query: query[:20] or "no limit")
async def test_list_limit_accepts_1_to_200(many: PublisherApi, query: str) -> None:
    expected = LIMITS[query]
    answer = await many.admin("GET", f"{many.path}/customers?{query}")
    if expected is None:
        assert refusal(answer) == MALFORMED
        assert faults(answer) == {"limit": "malformed"}
        return
    document = json_body(answer)
    assert [each["name"] for each in document["value"]] == [f"Customer {number:02d}" for number in range(expected)]
    assert ("nextLink" in document) == (expected < 52)


async def test_cursor_is_valid_only_for_its_list_and_search(many: PublisherApi, people: People) -> None:
    at = f"{many.path}/customers"
    cursor = cursor_of(await many.admin.get(f"{at}?limit=1"))
    searched = cursor_of(await many.admin.get(f"{at}?limit=1&search=customer"))
    audit = cursor_of(await many.admin.get(f"{many.path}/audit?limit=1"))
    other = await people.create_publisher_api()
    good = [
        (many.admin, f"{at}?cursor={cursor}"),
        (many.admin, f"{at}?cursor={cursor}&limit=3"),
        (people.host(), f"{at}?cursor={cursor}"),
        (many.admin, f"{at}?search=customer&cursor={searched}"),
    ]
    for caller, path in good:
        assert (await caller.get(path))["value"][0]["name"] == "Customer 01"
    payload, _, signature = cursor.rpartition(".")
    forged = base64.urlsafe_b64encode(json.dumps(["customer 40", "x"]).encode()).decode().rstrip("=")
    bad = {
        "of a search, without it": f"{at}?cursor={searched}",
        "of a search, for another": f"{at}?search=customer%200&cursor={searched}",
        "of no search, for one": f"{at}?search=customer&cursor={cursor}",
        "of customers, for products": f"{many.path}/products?cursor={cursor}",
        "of customers, for the audit": f"{many.path}/audit?cursor={cursor}",
        "of the audit, for customers": f"{at}?cursor={audit}",
        "of the audit, for one of its filters": f"{many.path}/audit?actor=x&cursor={audit}",
        "of another publisher": f"{other.path}/customers?cursor={cursor}",
        "for all publishers": f"/publishers?cursor={cursor}",
        "cut short": f"{at}?cursor={cursor[:-1]}",
        "without its signature": f"{at}?cursor={payload}",
        "with another position": f"{at}?cursor={forged}.{signature}",
        "with another's signature": f"{at}?cursor={payload}.{audit.rpartition('.')[2]}",
        "made up": f"{at}?cursor=planted",
        "a dot": f"{at}?cursor=.",
        "no text": f"{at}?cursor=%ff%00",
        "that of a user's page": f"{at}?cursor={'x' * 5000}",
    }
    for what, path in bad.items():
        caller = other.admin if other.path in path else many.admin
        refused = await caller("GET", path)
        assert refusal(refused) == MALFORMED, what
        assert faults(refused) == {"cursor": "malformed"}, what


def cursor_of(document: Mapping[str, Any]) -> str:
    cursor: str = httpx.URL(document["nextLink"]).params["cursor"]
    return cursor


async def test_next_link_keeps_limit_and_search(many: PublisherApi) -> None:
    search = " cUSTOMER 0&limit=9#é "
    document = await many.admin.get(f"{many.path}/customers?{httpx.QueryParams({'limit': 3, 'search': 'cUSTOMER 0'})}")
    link = httpx.URL(document["nextLink"])
    assert str(link).startswith(f"{PUBLIC_URL}/api/v1{many.path}/customers?")
    assert {name: link.params[name] for name in ("limit", "search")} == {"limit": "3", "search": "cUSTOMER 0"}
    names = [each["name"] for each in await many.admin.all(f"{many.path}/customers?limit=3&search=cUSTOMER%200")]
    assert names == [f"Customer {number:02d}" for number in range(10)]
    odd = await many.customer(name=search), await many.customer(name=f"x{search}")
    found = await many.admin.all(f"{many.path}/customers?{httpx.QueryParams({'limit': 1, 'search': search})}")
    assert {each["id"] for each in found} == {each["id"] for each in odd}
    for each in odd:
        await many.admin.delete(f"{many.path}/customers/{each['id']}")


# --- unknown parameters

UNKNOWN_PARAMETERS: dict[str, tuple[str, list[str]]] = {
    "a typing error": ("serach=fab", ["serach"]),
    "OData": ("$filter=name eq 'x'", ["$filter"]),
    "an order that is not offered": ("orderby=name", ["orderby"]),
    "another case": ("Search=fab", ["Search"]),
    "together with a known one": ("search=fab&top=5&skip=5", ["top", "skip"]),
    "a very long name": (f"{'x' * 500}=1", ["x" * 128]),
}


@pytest.mark.parametrize(("query", "unknown"), UNKNOWN_PARAMETERS.values(), ids=UNKNOWN_PARAMETERS.keys())
async def test_list_with_unknown_parameter_returns_400_listing_known_ones(
    held: tuple[CatalogueFixture, str], query: str, unknown: list[str]
) -> None:
    catalogue, _ = held
    refused = await catalogue.admin("GET", f"{catalogue.api.path}/customers?{query}")
    assert refusal(refused) == (400, "malformedRequest")
    assert faults(refused) == dict.fromkeys(unknown, "unknownParameter")
    assert refused.json()["detail"].endswith("The parameters are: search, limit, cursor.")


# --- search

CUSTOMERS: list[dict[str, Any]] = [
    {"name": "Müller & Söhne", "number": "C-1001"},
    {"name": "Mu\u0308ller GmbH", "description": "a.k.a. Bäckerei"},
    {"name": "MULLER Ltd", "number": "c-2001", "description": "Two\nlines"},
    {"name": "Straße 5"},
    {"name": "Ærø", "number": "100%"},
]
SEARCHES: dict[str, set[int]] = {
    "": {0, 1, 2, 3, 4},
    "  ": {0, 1, 2, 3, 4},
    "müller": {0, 1},
    "MÜLLER": {0, 1},
    "mu\u0308ller": {0, 1},
    "muller": {2},
    "ller ": {0, 1, 2},
    "söhne": {0},
    "so\u0308hne": {0},
    "strasse": {3},
    "STRASSE 5": {3},
    "ÆRØ": {4},
    "c-": {0, 2},
    "C-2": {2},
    "bäckerei": {1},
    "two\nlines": {2},
    "100%": {4},
    "%": {4},
    "&": {0},
    "nobody": set(),
    "*": set(),
    "' or 1 eq 1": set(),
}


@pytest.fixture(scope="module")
async def searched(people: People) -> tuple[PublisherApi, list[str]]:
    """A publisher whose customers are those above, all with one product; and the ids of the customers."""
    api = await people.create_publisher_api()
    made = [(await api.admin.make(f"{api.path}/customers", **fields))["id"] for fields in CUSTOMERS]
    product = await api.product(name="Searched")
    for customer_id in made:
        await api.license(customer_id, product["id"])
    return api, made


@pytest.mark.parametrize("search", SEARCHES, ids=repr)
async def test_search_matches_substring_ignoring_case(searched: tuple[PublisherApi, list[str]], search: str) -> None:
    api, ids = searched
    (product,) = await api.admin.all(f"{api.path}/products")
    for at in (f"{api.path}/customers", f"{api.path}/products/{product['id']}/customers"):
        found = await api.admin.all(f"{at}?{httpx.QueryParams({'search': search})}")
        assert {ids.index(each["id"]) for each in found} == SEARCHES[search]


# Where a search looks, besides names.
SEARCHED = {
    "product": ["name", "description"],
    "customer": ["name", "description", "number"],
    "customerProduct": ["wbs", "invoicedAs", "notes"],
    "environment": ["tenant", "serialNumber"],
    "role": ["name"],
    "user": ["name"],
}


@every_kind
async def test_search_covers_text_fields_of_record_kind(catalogue: CatalogueFixture, kind: Kind) -> None:
    at = kind.at(catalogue)
    for name in SEARCHED[kind.kind]:
        _, made = await make(kind, catalogue)
        await catalogue.admin.edit(f"{at}/{made['id']}", **{name: f"x Needle{name} y"})
        assert [each["id"] for each in await catalogue.admin.all(f"{at}?search=nEEDLE{name}%20")] == [made["id"]]
    assert await catalogue.admin.all(f"{at}?search=needle-that-is-nowhere") == []
    derived = {"customerProduct": catalogue.product["name"], "user": catalogue.api.admin_email}.get(kind.kind)
    if derived:
        found = await catalogue.admin.all(f"{at}?{httpx.QueryParams({'search': derived.upper()})}")
        assert found
        assert all(derived in each.values() for each in found)


# --- the audit


async def test_audit_records_actor_time_and_values_of_change(catalogue: CatalogueFixture) -> None:
    _, editor = await catalogue.api.user(await catalogue.api.role(products="update"))
    email = (await editor.get("/me"))["email"]
    began = datetime.now(UTC)
    made = await catalogue.api.product(name="Audited")
    path = f"{catalogue.api.path}/products/{made['id']}"
    edited = await editor.edit(path, description="edited", active=False)
    await catalogue.admin.delete(path)
    deletion, edit, creation = await catalogue.api.audit(recordId=made["id"])
    admin = catalogue.api.admin_email
    assert [entry["actor"] for entry in (creation, edit, deletion)] == [admin, email, admin]
    for entry in (creation, edit, deletion):
        assert set(entry) == {"at", "actor", "kind", "recordId", "parentId", "number", "before", "after"}
        assert (entry["kind"], entry["recordId"], entry["parentId"]) == ("product", made["id"], "")
        assert began <= datetime.fromisoformat(entry["at"]) <= datetime.now(UTC)
    assert creation["number"] < edit["number"] < deletion["number"]
    assert (creation["before"], deletion["after"]) == (None, None)
    assert creation["after"] == edit["before"]
    assert edit["after"] == deletion["before"]
    assert edit["after"] == edit["before"] | {name: edited[name] for name in ("description", "active", "updatedAt")}
    assert edit["at"] == edited["updatedAt"]
    assert (edit["before"]["name"], edit["before"]["active"], "description" in edit["before"]) == (
        "Audited",
        True,
        False,
    )


@every_kind
async def test_audit_covers_record_kind(catalogue: CatalogueFixture, kind: Kind) -> None:
    path, made = await make(kind, catalogue)
    await catalogue.admin.edit(path, **kind.edit)
    await catalogue.admin.delete(path)
    entries = await catalogue.api.audit(recordId=made["id"])
    assert [(entry["kind"], entry["parentId"]) for entry in entries] == [
        (kind.kind, made.get("customerId", "")) for _ in range(3)
    ]
    ((deleted, _), (before, after), (_, created)) = await change_history(catalogue.api, made["id"])
    given = {
        name: held for name, held in without(made, *COMMON, *kind.derived(catalogue)).items() if held not in ("", None)
    }
    assert created is not None
    assert created.items() >= given.items()
    assert (before, after) == (created, deleted)
    assert after is not None
    assert after.items() >= kind.edit.items()


async def test_audit_omits_rejected_and_empty_changes(own_catalogue: CatalogueFixture) -> None:
    before = await own_catalogue.api.audit()
    path = f"{own_catalogue.api.path}/products/{own_catalogue.product['id']}"
    await own_catalogue.admin("PATCH", path, {"name": " "})
    await own_catalogue.admin("PATCH", path, {"name": "x"}, if_match='"0"')
    await own_catalogue.admin("POST", f"{own_catalogue.api.path}/products", {"name": own_catalogue.product["name"]})
    await own_catalogue.admin("DELETE", f"{own_catalogue.api.path}/products/{uuid4()}")
    await own_catalogue.admin.edit(path, name=own_catalogue.product["name"])
    assert await own_catalogue.api.audit() == before


async def test_audit_is_filtered_and_paged_newest_first(own_catalogue: CatalogueFixture) -> None:
    _, editor = await own_catalogue.api.user(await own_catalogue.api.role(customers="create"))
    email = (await editor.get("/me"))["email"]
    at = f"{own_catalogue.api.path}/customers"
    made = [await editor.make(at, name=f"Customer {number}") for number in range(5)]
    for record in made[:3]:
        await own_catalogue.admin.edit(f"{at}/{record['id']}", number="1")
    whole = await own_catalogue.api.audit()
    numbers = [entry["number"] for entry in whole]
    assert numbers == sorted(numbers, reverse=True)
    instants = sorted({entry["at"] for entry in whole}, reverse=True)
    assert instants == [entry["at"] for entry in whole]

    middle = whole[4]["at"]
    in_auckland = datetime.fromisoformat(middle).astimezone(timezone(timedelta(hours=13))).isoformat()
    filters: dict[str, tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = {
        "a record": ({"recordId": made[0]["id"]}, lambda entry: entry["recordId"] == made[0]["id"]),
        "an actor": ({"actor": email}, lambda entry: entry["actor"] == email),
        "an actor in capitals": ({"actor": f" {email.upper()} "}, lambda entry: entry["actor"] == email),
        "nobody": ({"actor": "nobody"}, lambda _: False),
        "since": ({"since": middle}, lambda entry: entry["at"] >= middle),
        "until": ({"until": middle}, lambda entry: entry["at"] < middle),
        "since, elsewhere": ({"since": in_auckland}, lambda entry: entry["at"] >= middle),
        "since the beginning": ({"since": "0001-01-01T00:00:00+14:00"}, lambda _: True),
        "until the end": ({"until": "9999-12-31T23:59:59.999999-14:00"}, lambda _: True),
        "an actor until": (
            {"actor": email, "until": middle},
            lambda entry: entry["actor"] == email and entry["at"] < middle,
        ),
        "everything": (
            {"recordId": made[1]["id"], "actor": own_catalogue.api.admin_email, "since": made[0]["createdAt"]},
            lambda entry: entry["recordId"] == made[1]["id"] and entry["actor"] == own_catalogue.api.admin_email,
        ),
        "a quote": ({"recordId": "' or RowKey gt '"}, lambda _: False),
    }
    for what, (query, is_meant) in filters.items():
        expected = [entry for entry in whole if is_meant(entry)]
        for limit in ("2", "200"):
            assert await own_catalogue.api.audit(**query, limit=limit) == expected, (what, limit)
    assert len(whole) > len([entry for entry in whole if filters["an actor until"][1](entry)]) > 0


async def test_audit_paging_returns_each_change_once_during_new_changes(own_catalogue: CatalogueFixture) -> None:
    before, seen = await own_catalogue.api.audit(), []
    async for page in own_catalogue.admin.pages(f"{own_catalogue.api.path}/audit?limit=1"):
        seen += page
        await own_catalogue.api.customer()
    assert seen == before


@pytest.mark.parametrize(
    "given", ["2026-11-24", "2026-11-24T00:00:00", "yesterday", "1795495482", "2026-13-01T00:00:00Z"]
)
@pytest.mark.parametrize("name", ["since", "until"])
async def test_audit_rejects_invalid_instant(held: tuple[CatalogueFixture, str], name: str, given: str) -> None:
    catalogue, _ = held
    refused = await catalogue.admin("GET", f"{catalogue.api.path}/audit?{name}={given}")
    assert refusal(refused) == MALFORMED
    assert faults(refused) == {name: "malformed"}


# --- what was once wrong elsewhere, and is never to be wrong here

BLANKS = ["", " ", "\t \r\n", "\u00a0", "\u2003\u3000", "\u200b\ufeff", None]


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
async def test_blank_name_tenant_or_serial_number_is_rejected(
    shared: CatalogueFixture, instance: Services, blank: str | None
) -> None:
    catalogue, before = shared, await instance.store.version(shared.api.publisher_id)
    environment = {"tenant": blank, "serialNumber": unique("S")}
    for at, body in (
        (f"{catalogue.api.path}/customers", {"name": blank}),
        (f"{catalogue.api.path}/products", {"name": blank}),
        (f"{catalogue.customer_path}/environments", environment),
        (f"{catalogue.customer_path}/environments", {"tenant": "t", "serialNumber": blank}),
    ):
        (blank_field,) = (name for name, held in body.items() if held == blank)
        refused = await catalogue.admin("POST", at, body)
        assert refusal(refused) == (422, "ruleBroken")
        assert faults(refused)[blank_field] == "mandatory"
    for path in (f"{catalogue.api.path}/products/{catalogue.product['id']}", catalogue.customer_path):
        refused = await catalogue.admin("PATCH", path, {"name": blank})
        assert refusal(refused) == (422, "ruleBroken")
        assert faults(refused)["name"] == "mandatory"
    assert await instance.store.version(shared.api.publisher_id) == before


SAME_NAMES = [
    ("SmartSend", "SmartSend"),
    ("SmartSend", "SMARTSEND"),
    ("SmartSend", "  SmartSend\t"),
    ("Caf\u00e9", "Cafe\u0301"),
    ("Cafe\u0301", "CAF\u00c9 "),
    ("Straße", "STRASSE"),
    ("SmartSend", "Smart\u200bSend"),
    ("Ångström", "\u212bngstro\u0308m"),
]


@pytest.mark.parametrize(("one", "other"), SAME_NAMES)
async def test_product_name_is_unique_ignoring_case_spaces_and_unicode_form(
    api: PublisherApi, one: str, other: str
) -> None:
    await api.product(name=one)
    second = await api.product(name="Another")
    at = f"{api.path}/products"
    for refused in (
        await api.admin("POST", at, {"name": other}),
        await api.admin("PATCH", f"{at}/{second['id']}", {"name": other}),
    ):
        assert refusal(refused) == (409, "alreadyExists")
        assert faults(refused) == {"name": "taken"}
    assert sorted(each["name"] for each in await api.admin.all(at)) == sorted(["Another", one])


async def test_concurrent_creation_of_same_product_name_accepts_one(api: PublisherApi) -> None:
    names = ["SmartSend", "smartsend", " SMARTSEND", "SmartSend "] * 2
    answers = await asyncio.gather(*(api.admin("POST", f"{api.path}/products", {"name": name}) for name in names))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert len(await api.admin.all(f"{api.path}/products")) == 1


async def test_description_and_date_edits_are_never_lost(catalogue: CatalogueFixture) -> None:
    """Each is there at once, alone, after the one before and beside those of others."""
    path, product = await catalogue.license(), f"{catalogue.api.path}/products/{catalogue.product['id']}"
    edits: list[tuple[str, dict[str, Any]]] = [
        *(
            (place, {"description": text})
            for place in (product, catalogue.customer_path)
            for text in ("one", "two\nlines", "")
        ),
        (path, {"endDate": "2027-01-31"}),
        (path, {"startDate": "2026-02-01"}),
        (path, {"featureDisableDate": "2027-02-28"}),
        (path, {"agreementStartDate": "2026-03-01"}),
        (path, {"endDate": "2027-02-28"}),
        (path, {"endDate": None}),
        (path, {"notes": "n", "invoicedAs": "i"}),
    ]
    expected: dict[str, dict[str, Any]] = {place: await catalogue.admin.get(place) for place, _ in edits}
    derived = ("etag", "updatedAt", "warnings")
    for place, patch in edits:
        expected[place] |= patch
        answer = await catalogue.admin.edit(place, **patch)
        assert without(answer, *derived) == without(expected[place], *derived)
        listed_at = f"{place.rpartition('/')[0]}?limit=200"
        (in_list,) = [each for each in await catalogue.admin.all(listed_at) if each["id"] == answer["id"]]
        assert in_list == await catalogue.admin.get(place) == answer
    for place, whole in expected.items():
        assert without(await catalogue.admin.get(place), *derived) == without(whole, *derived)


DATES = ["startDate", "endDate", "featureDisableDate", "agreementStartDate"]
# Among them those on which clocks are put forward and back in New Zealand and in California.
DAYS = ["2024-02-29", "2026-03-08", "2026-04-05", "2026-12-31", "0001-01-01", "9999-12-31"]


@pytest.mark.slow
async def test_dates_are_returned_unchanged_in_every_time_zone(
    catalogue: CatalogueFixture, admin_settings: dict[str, str], tmp_path: Path, jwk_set: dict[str, Any]
) -> None:
    """By hosts whose clocks are a day apart, each reading what the other has saved: here, in the audit, in replies."""
    path, at = (
        await catalogue.license(),
        f"{catalogue.api.path}/customers/{(await catalogue.api.customer())['id']}/products",
    )
    environment = await catalogue.admin.get(await catalogue.environment())
    async with AsyncExitStack() as stack:
        hosts: list[Caller] = []
        for zone in ("Pacific/Auckland", "America/Los_Angeles"):
            folder = tmp_path / zone.partition("/")[2]
            folder.mkdir()
            running = stack.enter_context(served({**admin_settings, "TZ": zone}, folder))
            client = httpx.AsyncClient(base_url=running.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False)
            hosts.append(replace(catalogue.admin, client=await stack.enter_async_context(client)))
        for day, (writer, reader) in zip(DAYS, itertools.cycle([hosts, hosts[::-1]]), strict=False):
            dates = dict.fromkeys(DATES, day)
            edited = await writer.edit(path, **dates)
            made = await writer.make(at, **without(edited, *COMMON))
            (entry,) = await catalogue.api.seen_by(reader).audit(recordId=made["id"])
            for found in (
                edited,
                made,
                *[await host.get(path) for host in hosts],
                *[each for each in await reader.all(at) if each["id"] == made["id"]],
                entry["after"],
            ):
                assert {name: found[name] for name in DATES} == dates
            asked = question(catalogue.api.publisher_id, environment["serialNumber"], catalogue.product["name"])
            (told,) = replied(await reader.client.post(VALIDATE, json=asked), jwk_set)["products"]
            assert {told[name] for name in ("startDate", "endDate", "featureDisableDate")} == {day}


INVALID_DATES: list[Any] = [
    "2026-11-24T00:00:00Z",
    "2026-11-24T00:00:00",
    "2026-11-24T00:00:00+13:00",
    "2026-11-24 00:00",
    "2026-11-24Z",
    " 2026-11-24",
    "2026-11-24\n",
    "24.11.2026",
    "11/24/2026",
    "20261124",
    "2026-W48-2",
    "2026-328",
    "2026-1-1",
    "26-11-24",
    "٢٠٢٦-١١-٢٤",  # noqa: RUF001 - digits of another script
    " ",
    "soon",
    20261124,
    1795495482.0,
    True,
    {"year": 2026},
    ["2026-11-24"],
]


@pytest.mark.parametrize("given", INVALID_DATES, ids=repr)
async def test_patch_rejects_date_value_that_is_not_a_plain_date(
    held: tuple[CatalogueFixture, str], given: object
) -> None:
    catalogue, path = held
    refused = await catalogue.admin("PATCH", path, dict.fromkeys(DATES, given))
    assert refusal(refused) == (422, "ruleBroken")
    assert faults(refused) == dict.fromkeys(DATES, "wrongType")
    sentence = ": a date is needed, as 2026-11-24: without a time, and without a time zone."
    assert all(fault["message"].endswith(sentence) for fault in refused.json()["errors"])


@pytest.mark.parametrize("given", ["2026-02-30", "2025-02-29", "2026-13-01", "2026-00-10", "0000-01-01"])
async def test_patch_rejects_nonexistent_day(held: tuple[CatalogueFixture, str], given: str) -> None:
    catalogue, path = held
    refused = await catalogue.admin("PATCH", path, {"endDate": given})
    assert (refusal(refused), faults(refused)) == ((422, "ruleBroken"), {"endDate": "wrongType"})
    assert "there is no such day" in refused.json()["detail"]


async def test_validate_disables_feature_after_end_and_feature_disable_dates(
    catalogue: CatalogueFixture, jwk_set: dict[str, Any]
) -> None:
    path = await catalogue.license()
    environment = await catalogue.admin.get(await catalogue.environment())
    asked = question(catalogue.api.publisher_id, environment["serialNumber"], catalogue.product["name"])

    async def told() -> tuple[str, str]:
        answer = await catalogue.admin.client.post(VALIDATE, json=asked)
        (product,) = replied(answer, jwk_set)["products"]
        return product["status"], product["action"]

    # A day that harms the customer has come once it has come everywhere on Earth.
    today = (datetime.now(UTC) - timedelta(hours=12)).date()
    assert await told() == ("licensed", "allow")
    for end, disable, expected in (
        (None, -1, ("licensed", "allow")),
        (0, 0, ("licensed", "allow")),
        (-1, 0, ("featureDisabled", "disable")),
        (-1, -1, ("featureDisabled", "disable")),
        (-1, 1, ("expired", "prompt")),
        (-1, None, ("expired", "prompt")),
    ):
        days = [None if offset is None else (today + timedelta(offset)).isoformat() for offset in (end, disable)]
        await catalogue.admin.edit(path, endDate=days[0], featureDisableDate=days[1])
        assert await told() == expected, "from the very next validation on"
    await catalogue.admin.edit(path, featureDisableDate=today.isoformat(), enabled=False)
    assert await told() == ("notEnabled", "prompt")


async def test_perpetual_license_stays_active_after_maintenance_end(catalogue: CatalogueFixture) -> None:
    path = await catalogue.license(licenseType="perpetual", endDate="2020-01-01")
    assert (await catalogue.admin.get(path))["active"] is True
    assert (await catalogue.admin.edit(path, licenseType="annual"))["active"] is False


async def test_customer_product_is_active_through_its_end_date(catalogue: CatalogueFixture) -> None:
    path = await catalogue.license()
    today = (datetime.now(UTC) - timedelta(hours=12)).date()
    for end, active in ((today, True), (today - timedelta(1), False), (today + timedelta(1), True), (None, True)):
        edited = await catalogue.admin.edit(path, endDate=end and end.isoformat())
        assert edited["active"] is active
        assert [each["active"] for each in await catalogue.admin.all(path.rpartition("/")[0])] == [active]


async def test_lists_and_totals_show_changes_immediately(own_catalogue: CatalogueFixture) -> None:
    at = own_catalogue.api.path
    holders = f"{at}/products/{own_catalogue.product['id']}/customers"

    async def counts() -> tuple[int, int]:
        (in_list,) = [
            each
            for each in await own_catalogue.admin.all(f"{at}/customers")
            if each["id"] == own_catalogue.customer["id"]
        ]
        assert in_list == await own_catalogue.admin.get(own_catalogue.customer_path)
        held = [each for each in await own_catalogue.admin.all(holders) if each["id"] == own_catalogue.customer["id"]]
        assert held == ([in_list] if in_list["productCount"] else [])
        lists = [
            len(await own_catalogue.admin.all(f"{own_catalogue.customer_path}/{part}"))
            for part in ("products", "environments")
        ]
        assert (in_list["productCount"], in_list["environmentCount"]) == (*lists,)
        return in_list["productCount"], in_list["environmentCount"]

    assert await counts() == (0, 0)
    license_, second = await own_catalogue.license(), await own_catalogue.license()
    assert await counts() == (2, 0)
    environment = await own_catalogue.environment()
    assert await counts() == (2, 1)
    await own_catalogue.admin.edit(f"{at}/products/{own_catalogue.product['id']}", name="Renamed")
    names = {each["productName"] for each in await own_catalogue.admin.all(f"{own_catalogue.customer_path}/products")}
    assert (names, (await own_catalogue.admin.get(license_))["productName"]) == ({"Renamed"}, "Renamed")
    await own_catalogue.admin.edit(own_catalogue.customer_path, name="Renamed too")
    assert [each["name"] for each in await own_catalogue.admin.all(holders)] == ["Renamed too"]
    await own_catalogue.admin.delete(environment)
    assert await counts() == (2, 0)
    for path in (license_, second):
        await own_catalogue.admin.delete(path)
    assert await counts() == (0, 0)
    await own_catalogue.admin.delete(own_catalogue.customer_path)
    assert await own_catalogue.admin.all(f"{at}/customers") == []
    for part in ("products", "environments"):
        assert refusal(await own_catalogue.admin("GET", f"{own_catalogue.customer_path}/{part}")) == (404, "notFound")
    await own_catalogue.admin.delete(f"{at}/products/{own_catalogue.product['id']}")
    assert await own_catalogue.admin.all(f"{at}/products") == []
    assert refusal(await own_catalogue.admin("GET", holders)) == (404, "notFound")


async def test_lists_and_totals_show_changes_of_other_instance_immediately(
    catalogue: CatalogueFixture, instance: Services
) -> None:
    publisher_id, at = catalogue.api.publisher_id, catalogue.api.path
    customer, product = a_customer("Elsewhere"), a_product("Elsewhere")
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id, unique("S"))

    async def seen() -> dict[str, Any]:
        customers = await catalogue.admin.all(f"{at}/customers?search=elsewhere")
        below = [
            [each["id"] for each in await catalogue.admin.all(f"{at}/customers/{customer.id}/{part}")]
            for part in ("products", "environments")
            if customers
        ]
        return {
            "products": [each["id"] for each in await catalogue.admin.all(f"{at}/products?search=elsewhere")],
            "customers": [(each["id"], each["productCount"], each["environmentCount"]) for each in customers],
            "below": below,
        }

    assert await seen() == {"products": [], "customers": [], "below": []}
    for record in (product, customer):
        await instance.catalogue.create(publisher_id, record, actor="elsewhere")
    assert await seen() == {"products": [product.id], "customers": [(customer.id, 0, 0)], "below": [[], []]}
    for below in (license_, environment):
        await instance.catalogue.create(publisher_id, below, actor="elsewhere")
    assert await seen() == {
        "products": [product.id],
        "customers": [(customer.id, 1, 1)],
        "below": [[license_.id], [environment.id]],
    }
    await instance.catalogue.delete(publisher_id, Environment, environment.id, actor="elsewhere", parent=customer.id)
    await instance.catalogue.update(
        publisher_id, Product, product.id, lambda before: replace(before, name="Gone"), actor="elsewhere"
    )
    assert await seen() == {"products": [], "customers": [(customer.id, 1, 0)], "below": [[license_.id], []]}
    await instance.catalogue.delete(publisher_id, CustomerProduct, license_.id, actor="elsewhere", parent=customer.id)
    await instance.catalogue.delete(publisher_id, Customer, customer.id, actor="elsewhere")
    assert await seen() == {"products": [], "customers": [], "below": []}


# --- eight at once

WRITERS, TURNS = 8, 2


@dataclass
class Writer:
    """Somebody who keeps changing one customer, and minds what others change: with If-Match, again and again."""

    number: int
    caller: Caller
    catalogue: CatalogueFixture
    shared: str
    """The path of a customer product that all of them edit."""
    kept: list[str]
    """The paths of what they have made and left there."""

    async def retry(self, change: Callable[[], Any]) -> httpx.Response:
        """The answer to a change that is tried again where others were in the way."""
        for _ in range(200):
            answer: httpx.Response = await change()
            if answer.status_code not in (412, 503):
                return answer
            if answer.status_code == 503:
                assert answer.headers["retry-after"]
        raise AssertionError("others are always in the way")

    async def add(self, path: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        async def change() -> httpx.Response:
            record = await self.caller("GET", path)
            assert record.status_code == 200, record.text
            return await self.caller("PATCH", path, edit(record.json()), if_match=record.headers["etag"])

        json_body(await self.retry(change))

    async def make(self, part: str, **fields: Any) -> str:
        at = f"{self.catalogue.customer_path}/{part}"
        made = json_body(await self.retry(lambda: self.caller("POST", at, fields)), 201)
        return f"{at}/{made['id']}"

    async def work(self) -> None:
        for turn in range(TURNS):
            await self.add(self.catalogue.customer_path, self.count_in_description)
            await self.add(self.shared, lambda license_: {"numberOfUsers": license_["numberOfUsers"] + 1})
            product = {"productId": self.catalogue.product["id"], "licenseType": "month", "numberOfUsers": turn + 1}
            path = await self.make("products", **product)
            await self.add(path, lambda license_: {"notes": f"{license_['notes']}edited"})
            self.kept.append(path)
            path = await self.make("environments", tenant="t", serialNumber=f"{self.number}-{turn}")
            if turn % 2:
                deleted = await self.retry(lambda path=path: self.caller("DELETE", path))  # type: ignore[misc]
                assert deleted.status_code == 204
            else:
                self.kept.append(path)

    def count_in_description(self, customer: dict[str, Any]) -> dict[str, Any]:
        counts = json.loads(customer["description"] or "{}")
        counts[str(self.number)] = counts.get(str(self.number), 0) + 1
        return {"description": json.dumps(counts)}


async def test_eight_concurrent_writers_of_one_customer_lose_no_change(
    own_catalogue: CatalogueFixture, instance: Services
) -> None:
    role_id = await own_catalogue.api.role(customers="update", customerProducts="create", environments="delete")
    shared = await own_catalogue.license(numberOfUsers=1)
    writers = [
        Writer(number, (await own_catalogue.api.user(role_id))[1], own_catalogue, shared, [])
        for number in range(WRITERS)
    ]
    for writer in writers:  # who is bound to their user with that
        await writer.caller.get(own_catalogue.customer_path)
    await asyncio.gather(*(writer.work() for writer in writers))
    customer = await own_catalogue.admin.get(own_catalogue.customer_path)
    assert json.loads(customer["description"]) == {str(number): TURNS for number in range(WRITERS)}
    assert (await own_catalogue.admin.get(shared))["numberOfUsers"] == 1 + WRITERS * TURNS
    kept = {path for writer in writers for path in writer.kept} | {shared}
    there = {
        f"{own_catalogue.customer_path}/{part}/{each['id']}"
        for part in ("products", "environments")
        for each in await own_catalogue.admin.all(f"{own_catalogue.customer_path}/{part}?limit=7")
    }
    assert there == kept
    assert (customer["productCount"], customer["environmentCount"]) == (
        1 + WRITERS * TURNS,
        WRITERS * (TURNS - TURNS // 2),
    )
    assert (await own_catalogue.admin.all(f"{own_catalogue.api.path}/customers"))[0] == customer
    _, entries = await check_invariants(instance, own_catalogue.api.publisher_id)
    edits = [entry for entry in entries if entry.record_id == shared.rpartition("/")[2] and entry.before]
    assert len(edits) == WRITERS * TURNS
