"""The claims of a reply: those of docs/protocol.md to the letter, and nothing else of what is kept or was asked."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from clients.python.license_client import REPLY, verify
from licensing.catalogue.model import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Region,
)
from licensing.catalogue.snapshots import PublisherState, Snapshot
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.validation.model import Status
from licensing.validation.reply import claims
from licensing.validation.request import ValidationRequest
from licensing.validation.service import decide_all

REPLY_ID = "b2e30f44-dfa3-4f04-a516-1a0422585010"
NOW = datetime(2026, 11, 24, 12, 0, 0, 999_999, tzinfo=UTC)
IAT = int(datetime(2026, 11, 24, 12, 0, tzinfo=UTC).timestamp())
PUBLISHER_ID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
RECORD: dict[str, Any] = {"created_at": NOW, "updated_at": NOW}
PUBLISHER = Publisher(id=PUBLISHER_ID, name="Contoso Apps", support_email="help@contoso.com", **RECORD)
SMART_SEND = Product(
    id="smart-send",
    name="SmartSend",
    terms_url="https://contoso.com/terms",
    user_guide_url="https://contoso.com/guide",
    release_notes_url="https://contoso.com/notes",
    support_email="smartsend@contoso.com",
    **RECORD,
)
FOREX_RATES = Product(id="forex-rates", name="ForexRates", **RECORD)
ENVIRONMENT = Environment(
    id="environment", customer_id="customer", tenant="fabrikam.com", serial_number="C0FFEE-0042", **RECORD
)
LICENSE = CustomerProduct(
    id="license",
    customer_id="customer",
    product_id="smart-send",
    license_type=LicenseType.ANNUAL,
    number_of_users=50,
    start_date=date(2026, 1, 31),
    end_date=date(2026, 12, 1),
    feature_disable_date=date(2027, 1, 31),
    **RECORD,
)
SETTINGS = Settings(public_url="https://licenses.example.com", support_email="service@example.com")
CLAIMS = [
    "iss",
    "aud",
    "sub",
    "nonce",
    "jti",
    "ver",
    "iat",
    "refreshAfter",
    "exp",
    "stale",
    "supportEmail",
    "products",
    "notices",
]
PRODUCT_MEMBERS = [
    "productName",
    "status",
    "action",
    "warnings",
    "message",
    "licenseType",
    "siteLicense",
    "numberOfUsers",
    "startDate",
    "endDate",
    "featureDisableDate",
    "publisherName",
    "termsUrl",
    "userGuideUrl",
    "releaseNotesUrl",
    "supportEmail",
]


def request(*names: str, **members: Any) -> ValidationRequest:
    return ValidationRequest.parse(
        {
            "publisherId": PUBLISHER_ID.upper(),
            "serialNumber": " c0ffee-0042",
            "nonce": "9c1f8b0e6f5d4c3ab2a19087f6e5d4c3",
            "products": [{"productName": name, "enabledUsersCount": 51} for name in names],
        }
        | members
    )


def snapshot(*, environment: Environment | None = ENVIRONMENT, stale: bool = False, **publisher: Any) -> Snapshot:
    products = {"smartsend": SMART_SEND, "forexrates": FOREX_RATES}
    state = PublisherState(7, replace(PUBLISHER, **publisher), products)
    licenses = {"smart-send": (LICENSE,)} if environment else {}
    return Snapshot(state, environment, licenses, stale)


def replied(asked: ValidationRequest, known: Snapshot, settings: Settings = SETTINGS) -> dict[str, Any]:
    payload = claims(asked, known, decide_all(asked, known, NOW), settings=settings, now=NOW, reply_id=REPLY_ID)
    document: dict[str, Any] = json.loads(payload)
    return document


def test_a_reply_to_the_letter() -> None:
    reply = replied(request("SmartSend", "ForexRates"), snapshot())
    assert reply == {
        "iss": "https://licenses.example.com",
        "aud": PUBLISHER_ID,
        "sub": " c0ffee-0042",
        "nonce": "9c1f8b0e6f5d4c3ab2a19087f6e5d4c3",
        "jti": REPLY_ID,
        "ver": 1,
        "iat": IAT,
        "refreshAfter": IAT + 24 * 3600,
        "exp": IAT + 7 * 24 * 3600,
        "stale": False,
        "supportEmail": "help@contoso.com",
        "products": [
            {
                "productName": "SmartSend",
                "status": "licensed",
                "action": "allow",
                "warnings": ["expiresSoon", "usersExceeded"],
                "message": None,
                "licenseType": "annual",
                "siteLicense": False,
                "numberOfUsers": 50,
                "startDate": "2026-01-31",
                "endDate": "2026-12-01",
                "featureDisableDate": "2027-01-31",
                "publisherName": "Contoso Apps",
                "termsUrl": "https://contoso.com/terms",
                "userGuideUrl": "https://contoso.com/guide",
                "releaseNotesUrl": "https://contoso.com/notes",
                "supportEmail": "smartsend@contoso.com",
            },
            {
                "productName": "ForexRates",
                "status": "notLicensed",
                "action": "prompt",
                "warnings": [],
                "message": "Product ForexRates is enabled but not licensed: there is no license of it.",
                "licenseType": None,
                "siteLicense": None,
                "numberOfUsers": None,
                "startDate": None,
                "endDate": None,
                "featureDisableDate": None,
                "publisherName": "Contoso Apps",
                "termsUrl": None,
                "userGuideUrl": None,
                "releaseNotesUrl": None,
                "supportEmail": None,
            },
        ],
        "notices": [],
    }
    assert all(type(reply[name]) is int for name in ("ver", "iat", "refreshAfter", "exp"))


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (snapshot(), Status.LICENSED),
        (snapshot(environment=None), Status.UNKNOWN_ENVIRONMENT),
        (snapshot(environment=replace(ENVIRONMENT, active=False)), Status.ENVIRONMENT_INACTIVE),
    ],
    ids=["licensed", "unknown environment", "inactive environment"],
)
def test_the_members_are_the_same_whatever_is_decided(known: Snapshot, status: Status) -> None:
    reply = replied(request("SmartSend", "Unheard Of"), known)
    assert list(reply) == CLAIMS
    assert [list(product) for product in reply["products"]] == [PRODUCT_MEMBERS] * 2
    assert [product["status"] for product in reply["products"]] == [status, "unknownProduct"]


def test_products_come_as_they_were_asked_for_in_that_order_each_time() -> None:
    names = ["ForexRates", "smartSEND", "Unheard Of", "ForexRates", " SmartSend "]
    assert [product["productName"] for product in replied(request(*names), snapshot())["products"]] == names


def test_when_to_ask_again_and_how_long_it_counts_are_settings() -> None:
    settings = replace(SETTINGS, refresh_after_hours=0.5, reply_days=30.0)
    reply = replied(request("SmartSend"), snapshot(), settings)
    assert (reply["refreshAfter"] - reply["iat"], reply["exp"] - reply["iat"]) == (1800, 30 * 86_400)


def test_the_services_support_email_stands_in_for_the_publishers() -> None:
    assert replied(request("SmartSend"), snapshot(support_email=""))["supportEmail"] == "service@example.com"


def test_what_was_kept_is_called_stale() -> None:
    assert replied(request("SmartSend"), snapshot(stale=True))["stale"] is True


def test_texts_in_any_script_stay_whole() -> None:
    reply = replied(request("Größe 日本語 \U0001f600"), snapshot(name="Ærø A/S"))
    assert reply["products"][0]["productName"] == "Größe 日本語 \U0001f600"
    assert reply["products"][0]["publisherName"] == "Ærø A/S"


async def test_nothing_else_of_the_catalogue_or_the_request_is_in_a_reply(
    services: Services, publisher: Publisher, key_set: KeySet
) -> None:
    """Every text of every record is planted, and everything that a request can hold besides what comes back."""
    now = services.clock()

    def planted(what: str) -> str:
        return f"planted {what}"

    def common() -> dict[str, Any]:
        return {"id": f"planted-{uuid4()}", "created_at": now, "updated_at": now}

    async def keep[R: Record](record: R) -> R:
        return await services.catalogue.create(publisher.id, record, actor="planted actor")

    product = await keep(Product(**common(), name="SmartSend", description=planted("description"), region=Region.ANZ))
    other_product = await keep(Product(**common(), name=planted("product that nobody asked for")))
    serials = []
    for which in ("own", "other"):
        customer = await keep(
            Customer(
                **common(),
                name=planted(f"{which} customer"),
                description=planted("a.k.a."),
                number=planted("number"),
                region=Region.NORDIC,
            )
        )
        serials.append(f"{which}-{uuid4()}" if which == "own" else planted("serial number"))
        await keep(
            Environment(**common(), customer_id=customer.id, tenant=planted("tenant"), serial_number=serials[-1])
        )
        for held in (product, other_product):
            await keep(
                CustomerProduct(
                    **common(),
                    customer_id=customer.id,
                    product_id=held.id,
                    license_type=LicenseType.ANNUAL,
                    number_of_users=50 if which == "own" else 424_242,
                    end_date=now.date() + timedelta(days=100),
                    agreement_start_date=date(1999, 9, 19),
                    wbs=planted("wbs"),
                    invoiced_as=planted("invoice"),
                    notes=planted("notes"),
                )
            )
    await services.catalogue.update(
        publisher.id,
        Publisher,
        publisher.id,
        lambda it: replace(
            it, allowed_domains=("planted.example",), directory_id="badc0ffe-0000-4000-8000-000000000000"
        ),
        actor="planted actor",
    )
    asked = ValidationRequest.parse(
        {
            "publisherId": publisher.id,
            "serialNumber": serials[0],
            "nonce": "n" * 16,
            "hostUrl": planted("host"),
            "isProductionEnvironment": True,
            planted("member"): planted("value"),
            "products": [
                {
                    "productName": "SmartSend",
                    "modelName": planted("model"),
                    "modelVersion": planted("version"),
                    "isInstalled": True,
                    "isEnabled": True,
                    "enabledUsersCount": 565_656,
                    planted("member"): planted("value"),
                }
            ],
        }
    )
    reply = await services.validator.validate(asked, str(uuid4()))
    payload = verify(reply.token.decode(), {key.kid: key.public_key for key in key_set.keys}, REPLY)
    assert payload["products"][0]["warnings"] == ["usersExceeded"]
    text = json.dumps(payload, ensure_ascii=False)
    for secret in ("planted", "badc0ffe", "424242", "565656", "1999-09-19", "anz", "nordic"):
        assert secret not in text
