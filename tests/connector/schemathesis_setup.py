"""How schemathesis calls every operation: with which records, and by which rules."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from connector.__main__ import DEFINITION
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Role,
    User,
)
from licensing.catalogue.service import draft_record
from licensing.notices.delivery.store import Delivery
from licensing.notices.model import ChannelKind, Notice, NoticeKind, Subscriber, SubscriberState, begun
from licensing.services import Services
from licensing.storage.batches import Operation
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

KINDS = (
    *("publisher", "product", "role", "user", "customer", "customerProduct", "environment"),
    *("notice", "subscriber"),
)


def id_of(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


PERMANENT_IDS = {kind: id_of(kind) for kind in KINDS}
"""One record of each kind that no operation deletes."""
NOTICE_ID_WITH_DEAD_LETTERS, SUBSCRIBER_IDS = (
    id_of("told"),
    [UUID(id_of(f"listener {number}")).hex for number in range(50)],
)
"""A notice and subscribers that no operation changes: of the one a message to each of the others was given up."""
DELETABLE_IDS = {kind: [id_of(f"{kind} {number}") for number in range(5)] for kind in KINDS if kind != "publisher"}
"""Records that operations may delete."""
DELETABLE_IDS["delivery"] = [f"{NOTICE_ID_WITH_DEAD_LETTERS}.posted.{listener}" for listener in SUBSCRIBER_IDS]
CUSTOMER_ID_WITH_ENVIRONMENTS = id_of("open")
"""The customer that has the environments: as long as there are any, its customer product cannot be deleted."""


def records(now: datetime) -> Iterator[Any]:
    """What there is before the first call, parents first."""

    def common(record_id: str) -> dict[str, Any]:
        return {"id": record_id, "created_at": now, "updated_at": now}

    def numbered(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return (
            (str(number), common(record_id))
            for number, record_id in enumerate([PERMANENT_IDS[kind], *DELETABLE_IDS[kind]])
        )

    yield Publisher(**common(PERMANENT_IDS["publisher"]), name="Contoso", allowed_domains=("example.com",))
    for number, record in numbered("product"):
        yield Product(**record, name=f"Product {number}")
    for number, record in numbered("role"):
        yield Role(**record, name=f"Role {number}")
    for number, record in numbered("user"):
        yield User(**record, email=f"user{number}@example.com")
    for number, record in [*numbered("notice"), ("told", common(NOTICE_ID_WITH_DEAD_LETTERS))]:
        incident = Notice(
            **record, notice_kind=NoticeKind.INCIDENT, title=f"Incident {number}", body="We look into it."
        )
        yield begun(incident, NoticeKind.INCIDENT)
    yield Customer(**common(CUSTOMER_ID_WITH_ENVIRONMENTS), name="Open")
    for number, record in numbered("customer"):
        yield Customer(**record, name=f"Customer {number}")
    for number, record in numbered("environment"):
        yield Environment(
            **record, customer_id=CUSTOMER_ID_WITH_ENVIRONMENTS, tenant="example.com", serial_number=number
        )
    held: dict[str, Any] = {
        "product_id": PERMANENT_IDS["product"],
        "license_type": LicenseType.ANNUAL,
        "site_license": True,
    }
    yield CustomerProduct(
        **common(id_of("open product")), **held, customer_id=CUSTOMER_ID_WITH_ENVIRONMENTS, end_date=now.date()
    )
    for _, record in numbered("customerProduct"):
        yield CustomerProduct(**record, **held, customer_id=PERMANENT_IDS["customer"], end_date=now.date())


async def seed(services: Services) -> None:
    async def prepare(draft: Draft) -> None:
        for record in records(draft.now):
            await draft_record(draft, record)

    await services.table("").create()
    await services.store.change(PERMANENT_IDS["publisher"], "test", prepare)
    now = services.clock()
    for number, subscriber_id in enumerate(
        [*SUBSCRIBER_IDS, PERMANENT_IDS["subscriber"], *DELETABLE_IDS["subscriber"]]
    ):
        record: dict[str, Any] = {"id": UUID(subscriber_id).hex, "created_at": now, "updated_at": now}
        subscriber = Subscriber(**record, address=f"subscriber{number}@example.com", state=SubscriberState.CONFIRMED)
        await services.subscriber_store.put_subscriber(PERMANENT_IDS["publisher"], subscriber)
    given_up = [
        Delivery(
            notice_id=NOTICE_ID_WITH_DEAD_LETTERS,
            announcement="posted",
            subscriber_id=listener,
            channel=ChannelKind.EMAIL,
            next_at=now,
        )
        for listener in SUBSCRIBER_IDS
    ]
    outbox = f"{PERMANENT_IDS['publisher']}|outbox"
    await services.table("").commit(outbox, [Operation("create", each.to_row("dead")) for each in given_up])


def mostly(dictionary: str) -> dict[str, Any]:
    """One value of the dictionary, but for a few calls."""
    return {"dictionary": dictionary, "probability": 0.9}


def parameters(method: str, path: str) -> dict[str, Any]:
    """Ids of records that there are: always of the parents, mostly of what the operation is about."""
    kinds = [name.removesuffix("Id") for name in re.findall(r"\{(\w+)\}", path)]
    found: dict[str, Any] = {f"path.{kind}Id": PERMANENT_IDS[kind] for kind in kinds if kind in PERMANENT_IDS}
    if "/environments" in path:
        found["path.customerId"] = CUSTOMER_ID_WITH_ENVIRONMENTS
    if path.endswith("}"):
        found[f"path.{kinds[-1]}Id"] = mostly(f"{kinds[-1]} that {'goes' if method == 'delete' else 'stays'}")
    if path.endswith("/replay"):
        found["path.deliveryId"] = mostly("delivery that goes")  # each can be replayed once
    return {
        **found,
        "body.productId": mostly("product that stays"),
        # A user has an address or an application, not both.
        "body.email": mostly("email"),
        "body.applicationId": mostly("nothing"),
        # Only the service makes a cursor.
        "query.cursor": "",
        # Few different keys are thought of, so that most answers would be those of an earlier request.
        "header.Idempotency-Key": "",
    }


_DAY = "2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
CLEARED_BY_EMPTY_TEXT = {
    "date": f"^({_DAY})?$",
    "date-time": f"^({_DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?$",
}
"""Formats that an empty text matches for the service. A maker's designer needs the format to offer a calendar."""


def definition() -> dict[str, Any]:
    """The definition as schemathesis has to read it to try all that it can."""

    def with_null(schema: dict[str, Any]) -> dict[str, Any]:
        # OpenAPI 2.0 knows no null. x-nullable is read as OpenAPI 3.0's nullable, which asks for null among the values
        # of a choice; but a maker's designer would offer it there.
        return schema | {"enum": [*schema["enum"], None]} if "x-nullable" in schema and "enum" in schema else schema

    document: dict[str, Any] = json.loads(DEFINITION.read_text("utf-8"), object_hook=with_null)
    for name, taken in document["definitions"].items():
        for field in taken["properties"].values() if name.endswith(("Input", "Patch")) else ():
            if "x-nullable" in field and field.get("format") in CLEARED_BY_EMPTY_TEXT:
                field["pattern"] = CLEARED_BY_EMPTY_TEXT[field.pop("format")]
    # What happens without a token, or with a wrong one, is tried with a plain header only.
    plain = {"type": "apiKey", "in": "header", "name": "Authorization"}
    return document | {"securityDefinitions": {"oauth2": plain}, "security": [{"oauth2": []}]}


def config(paths: dict[str, dict[str, Any]]) -> str:
    """The configuration of schemathesis: all checks are on. The token comes from the environment."""
    settings: dict[str, Any] = {
        "headers": {"Authorization": "Bearer ${TOKEN}"},
        "continue-on-failure": True,
        "request-timeout": WAIT_TIMEOUT_SECONDS,
        "cache": {"enabled": False},
        "generation": {"max-examples": 10, "deterministic": True},
        "checks": {
            # Rules that no schema can tell are answered by 409 and 422, an ETag that is not the record's by 412.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "412", "422"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "409", "412", "413", "415", "422"]},
        },
        # Not TRACE: Azure hands no such request to a function in Python.
        "phases": {"coverage": {"unexpected-methods": ["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]}},
        "operations": [
            {"include-operation-id": operation["operationId"], "parameters": parameters(method, path)}
            for path, operations in paths.items()
            for method, operation in operations.items()
        ],
        "dictionaries": {
            **{f"{kind} that stays": {"values": [record_id]} for kind, record_id in PERMANENT_IDS.items()},
            **{f"{kind} that goes": {"values": record_ids} for kind, record_ids in DELETABLE_IDS.items()},
            "email": {"values": [f"new{number}@example.com" for number in range(9)]},
            "nothing": {"values": [""]},
        },
    }
    return "\n".join(f"{name} = {_toml(each)}" for name, each in settings.items())


def _toml(value: Any) -> str:
    """The value in TOML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else json.dumps(value)
