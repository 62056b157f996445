"""The claims of a reply: those of docs/protocol.md to the letter, and nothing else of what is kept or was asked."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.python.license_client import REPLY, verify
from licensing.catalogue.environment_cache import PublisherState, Snapshot
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Region,
)
from licensing.catalogue.store import Version
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.validation.license_file import LicenseFile
from licensing.validation.model import Action, Status
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
    "changes",
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


def snapshot(
    *licenses: CustomerProduct,
    environment: Environment | None = ENVIRONMENT,
    product: Product = SMART_SEND,
    stale: bool = False,
    **publisher: Any,
) -> Snapshot:
    products = {"smartsend": product, "forexrates": FOREX_RATES}
    state = PublisherState(Version(7), replace(PUBLISHER, **publisher), products)
    held = {"smart-send": licenses or (LICENSE,)} if environment else {}
    return Snapshot(state, environment, held, stale)


def reply_claims(
    asked: ValidationRequest,
    known: Snapshot,
    settings: Settings = SETTINGS,
    *,
    at: datetime = NOW,
    file_days: int | None = None,
) -> dict[str, Any]:
    """The claims of a reply, or of a license file for so many days."""
    file = None
    if file_days is not None:
        file = LicenseFile(
            **RECORD,
            id="file",
            customer_id="customer",
            environment_id="environment",
            serial_number="C0FFEE-0042",
            expires_at=at + timedelta(days=file_days),
        )
    payload = claims(
        asked, known, decide_all(asked, known, at), settings=settings, now=at, reply_id=REPLY_ID, license_file=file
    )
    document: dict[str, Any] = json.loads(payload)
    return document


def test_claims_match_the_documented_reply_exactly() -> None:
    reply = reply_claims(request("SmartSend", "ForexRates"), snapshot())
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
                "changes": [],
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
                "message": "Product ForexRates is enabled but not licensed: there is no license of it. "
                "Contact help@contoso.com.",
                "licenseType": None,
                "siteLicense": None,
                "numberOfUsers": None,
                "startDate": None,
                "endDate": None,
                "featureDisableDate": None,
                "changes": [],
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
def test_claims_have_the_same_members_for_every_decision(known: Snapshot, status: Status) -> None:
    reply = reply_claims(request("SmartSend", "Unheard Of"), known)
    assert list(reply) == CLAIMS
    assert [list(product) for product in reply["products"]] == [PRODUCT_MEMBERS] * 2
    assert [product["status"] for product in reply["products"]] == [status, "unknownProduct"]


def test_claims_list_products_in_requested_order_with_repeats() -> None:
    names = ["ForexRates", "smartSEND", "Unheard Of", "ForexRates", " SmartSend "]
    assert [product["productName"] for product in reply_claims(request(*names), snapshot())["products"]] == names


def test_claims_refresh_after_and_exp_follow_settings() -> None:
    settings = replace(SETTINGS, refresh_after_hours=0.5, reply_days=30.0)
    reply = reply_claims(request("SmartSend"), snapshot(), settings)
    assert (reply["refreshAfter"] - reply["iat"], reply["exp"] - reply["iat"]) == (1800, 30 * 86_400)


def test_claims_without_publisher_support_email_use_service_email() -> None:
    assert reply_claims(request("SmartSend"), snapshot(support_email=""))["supportEmail"] == "service@example.com"


CONTACTS = {
    "of the product": (snapshot(), "smartsend@contoso.com"),
    "of the publisher, where the product has none": (
        snapshot(product=replace(SMART_SEND, support_email="")),
        "help@contoso.com",
    ),
    "of the service, where neither has one": (
        snapshot(product=replace(SMART_SEND, support_email=""), support_email=""),
        "service@example.com",
    ),
}


@pytest.mark.parametrize(("known", "contact"), CONTACTS.values(), ids=CONTACTS)
def test_message_of_a_prompt_ends_with_the_support_email(known: Snapshot, contact: str) -> None:
    (product,) = reply_claims(request("SmartSend"), replace(known, environment=None))["products"]
    assert product["message"] == (
        "Product SmartSend is enabled but not licensed: no environment is registered with this serial number. "
        f"Contact {contact}."
    )


def test_message_without_any_support_email_names_no_contact() -> None:
    known = replace(snapshot(product=replace(SMART_SEND, support_email=""), support_email=""), environment=None)
    (product,) = reply_claims(request("SmartSend"), known, replace(SETTINGS, support_email=""))["products"]
    assert product["message"].endswith("is registered with this serial number.")


# --- what comes next

TODAY = NOW.date()
EXPIRED, DISABLED, AHEAD = (
    f"Product SmartSend {reason} Contact smartsend@contoso.com."
    for reason in (
        "is enabled but not licensed: its license expired on {end}.",
        "is switched off: its end date was {end}, its feature disable date {disable}.",
        "is enabled but not licensed: its license starts on {start}.",
    )
)
type Expected = list[tuple[str, str, str | None]]


def license_of(start: int | None = None, end: int | None = None, disable: int | None = None, **more: Any) -> Any:
    """A license whose dates are so many days from today."""
    days = (None if offset is None else TODAY + timedelta(days=offset) for offset in (start, end, disable))
    start_date, end_date, feature_disable_date = days
    return replace(LICENSE, start_date=start_date, end_date=end_date, feature_disable_date=feature_disable_date, **more)


def expired(day: int) -> str:
    return EXPIRED.format(end=TODAY + timedelta(days=day))


def disabled(end: int, disable: int) -> str:
    return DISABLED.format(end=TODAY + timedelta(days=end), disable=TODAY + timedelta(days=disable))


def starts(day: int) -> str:
    return AHEAD.format(start=TODAY + timedelta(days=day))


# Today is 2026-11-24, and the reply is of noon UTC: it is valid until noon of 2026-12-01.
CHANGES: dict[str, tuple[Snapshot, int | None, Expected]] = {
    "none without dates": (snapshot(license_of()), 400, []),
    "none where all dates have passed": (snapshot(license_of(-100, -50, -20)), 400, []),
    "none where all dates lie behind exp": (snapshot(license_of(None, 400, 401)), 400, []),
    "the end, where it is over everywhere before exp": (
        snapshot(license_of(None, 5)),
        None,
        [("2026-11-30T12:00:00Z", "expired", expired(5))],
    ),
    "not the end that is over everywhere at exp": (snapshot(license_of(None, 6)), None, []),
    "the end that is over a day before exp": (
        snapshot(license_of(None, 398)),
        400,
        [("2027-12-28T12:00:00Z", "expired", expired(398))],
    ),
    "not what began at iat": (snapshot(license_of(None, -1)), None, []),
    "the start": (snapshot(license_of(3)), None, [("2026-11-26T10:00:00Z", "licensed", None)]),
    "start, end and feature disable date": (
        snapshot(license_of(3, 20, 60)),
        400,
        [
            ("2026-11-26T10:00:00Z", "licensed", None),
            ("2026-12-15T12:00:00Z", "expired", expired(20)),
            ("2027-01-23T12:00:00Z", "featureDisabled", disabled(20, 60)),
        ],
    ),
    "a feature disable date before the end date, once at its end": (
        snapshot(license_of(None, 20, 10)),
        400,
        [("2026-12-15T12:00:00Z", "featureDisabled", disabled(20, 10))],
    ),
    "nothing of a feature disable date without an end date": (snapshot(license_of(None, None, 10)), 400, []),
    "a perpetual license: only its feature disable date": (
        snapshot(license_of(None, 20, 60, license_type=LicenseType.PERPETUAL)),
        400,
        [("2027-01-23T12:00:00Z", "featureDisabled", disabled(20, 60))],
    ),
    "nothing of a license that is not enabled": (snapshot(license_of(3, 20, 60, enabled=False)), 400, []),
    "nothing in an inactive environment": (
        snapshot(license_of(3, 20, 60), environment=replace(ENVIRONMENT, active=False)),
        400,
        [],
    ),
    "nothing in an unknown environment": (snapshot(environment=None), 400, []),
    "nothing without license control": (
        snapshot(license_of(3, 20, 60), product=replace(SMART_SEND, license_control_disabled=True)),
        400,
        [],
    ),
    "nothing of a product that is not active": (
        snapshot(license_of(3, 20, 60), product=replace(SMART_SEND, active=False)),
        400,
        [],
    ),
    "one license after the other, without a gap": (
        snapshot(license_of(None, 20, id="first"), license_of(20, 50, id="second")),
        400,
        [("2027-01-14T12:00:00Z", "expired", expired(50))],
    ),
    "one license after the other, with a gap": (
        snapshot(license_of(None, 20, id="first"), license_of(30, 50, id="second")),
        400,
        [
            # Both prompt; the one with the later end date is the better one.
            ("2026-12-15T12:00:00Z", "notStarted", starts(30)),
            ("2026-12-23T10:00:00Z", "licensed", None),
            ("2027-01-14T12:00:00Z", "expired", expired(50)),
        ],
    ),
    "a feature of one license is disabled, another one prompts": (
        snapshot(license_of(None, 20, 30, id="first"), license_of(None, 10, id="second")),
        400,
        [
            ("2026-12-15T12:00:00Z", "expired", expired(20)),
            # The first one has the later end date, but disables.
            ("2026-12-24T12:00:00Z", "expired", expired(10)),
        ],
    ),
    "of two that have ended, the one with enough users": (
        snapshot(license_of(None, 20, id="first"), license_of(None, 10, id="second", number_of_users=60)),
        400,
        [("2026-12-15T12:00:00Z", "expired", expired(10))],
    ),
    "two boundaries at one instant are one change": (
        snapshot(license_of(None, 20, 21)),
        400,
        [("2026-12-15T12:00:00Z", "featureDisabled", disabled(20, 21))],
    ),
}


@pytest.mark.parametrize(("known", "file_days", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes_lists_every_change_by_date_before_exp(
    known: Snapshot, file_days: int | None, expected: Expected
) -> None:
    (product,) = reply_claims(request("SmartSend"), known, file_days=file_days)["products"]
    actions = {"licensed": "allow", "featureDisabled": "disable"}
    assert product["changes"] == [
        {"at": at, "status": status, "action": actions.get(status, "prompt"), "message": message}
        for at, status, message in expected
    ]


def test_changes_of_a_product_leave_its_license_fields_as_at_iat() -> None:
    known = snapshot(license_of(None, 2, id="first"), license_of(2, 50, id="second", number_of_users=7))
    (product,) = reply_claims(request("SmartSend"), known, file_days=30)["products"]
    assert (product["status"], product["endDate"], product["numberOfUsers"]) == ("licensed", "2026-11-26", 50)
    assert product["changes"] == []


LICENSES = st.builds(
    license_of,
    *[st.none() | st.integers(-40, 40)] * 3,
    id=st.uuids().map(str),
    enabled=st.sampled_from([True, True, True, False]),
    license_type=st.sampled_from([LicenseType.ANNUAL, LicenseType.PERPETUAL]),
    site_license=st.booleans(),
    number_of_users=st.sampled_from([50, 51, 52]),
)


@given(st.lists(LICENSES, min_size=1, max_size=3), st.none() | st.integers(1, 60), st.data())
def test_changes_at_any_instant_before_exp_match_a_new_reply(
    licenses: list[CustomerProduct], file_days: int | None, data: st.DataObject
) -> None:
    known = snapshot(*licenses)
    reply = reply_claims(request("SmartSend"), known, file_days=file_days)
    (product,) = reply["products"]
    ats = [int(datetime.fromisoformat(each["at"]).timestamp()) for each in product["changes"]]
    assert ats == sorted(set(ats))
    assert all(reply["iat"] < at < reply["exp"] for at in ats)
    edges = [each for at in (*ats, reply["exp"]) for each in (at - 1, at)]
    instants = st.sampled_from(edges) | st.integers(reply["iat"], reply["exp"])
    at = min(data.draw(instants), reply["exp"] - 1)
    in_force = [product, *(each for each, since in zip(product["changes"], ats, strict=True) if since <= at)][-1]
    (expected,) = reply_claims(request("SmartSend"), known, at=datetime.fromtimestamp(at, UTC))["products"]
    members = ("status", "action", "message")
    assert [in_force[member] for member in members] == [expected[member] for member in members]
    assert [each["action"] for each in product["changes"]].count(Action.DISABLE) <= 1


def test_claims_of_stale_snapshot_are_marked_stale() -> None:
    assert reply_claims(request("SmartSend"), snapshot(stale=True))["stale"] is True


def test_claims_keep_texts_in_any_script() -> None:
    reply = reply_claims(request("Größe 日本語 \U0001f600"), snapshot(name="Ærø A/S"))
    assert reply["products"][0]["productName"] == "Größe 日本語 \U0001f600"
    assert reply["products"][0]["publisherName"] == "Ærø A/S"


async def test_reply_contains_no_other_catalogue_or_request_data(
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
