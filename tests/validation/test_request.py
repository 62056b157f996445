"""Parsing of what an environment sends."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import MalformedRequest
from licensing.validation.request import ProductQuery, ValidationRequest

MARKER = "planted-7f3a"
GUID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
GOOD: dict[str, Any] = {
    "publisherId": GUID,
    "serialNumber": "C0FFEE-0042",
    "nonce": "9c1f8b0e6f5d4c3ab2a19087f6e5d4c3",
    "hostUrl": "https://contoso.operations.dynamics.com",
    "isProductionEnvironment": True,
    "products": [
        {
            "productName": "SmartSend",
            "modelName": "DXCSmartSend",
            "modelVersion": "10.0.34.20231031",
            "isInstalled": True,
            "isEnabled": True,
            "enabledUsersCount": 48,
        }
    ],
}
ABSENT = object()


def request_with(name: str, value: Any) -> dict[str, Any]:
    """The good request with one member changed, or taken away: `name` is a path like products[0].modelName."""
    request: dict[str, Any] = json.loads(json.dumps(GOOD))
    holder: dict[str, Any] = request
    if name.startswith("products[0]."):
        holder, name = request["products"][0], name.removeprefix("products[0].")
    if value is ABSENT:
        del holder[name]
    else:
        holder[name] = value
    return request


def field_errors(body: Any) -> list[tuple[str, str]]:
    """The fields at fault and their codes. Nothing of what was sent comes back."""
    with pytest.raises(MalformedRequest) as caught:
        ValidationRequest.parse(body)
    for fault in caught.value.errors:
        assert MARKER not in f"{fault.field} {fault.code} {fault.message}"
        assert fault.message.endswith(".")
        assert "ValidationRequest" not in fault.message
        assert "ProductQuery" not in fault.message
    assert MARKER not in caught.value.detail
    return [(fault.field, fault.code) for fault in caught.value.errors]


def test_validation_request_parses_the_documented_example() -> None:
    assert ValidationRequest.parse(GOOD) == ValidationRequest.model_construct(
        publisher_id=GUID,
        serial_number="C0FFEE-0042",
        nonce="9c1f8b0e6f5d4c3ab2a19087f6e5d4c3",
        host_url="https://contoso.operations.dynamics.com",
        is_production_environment=True,
        products=(
            ProductQuery(
                productName="SmartSend",
                modelName="DXCSmartSend",
                modelVersion="10.0.34.20231031",
                isInstalled=True,
                isEnabled=True,
                enabledUsersCount=48,
            ),
        ),
    )


MANDATORY = ["publisherId", "serialNumber", "nonce", "products", "products[0].productName"]
OPTIONAL = [
    "hostUrl",
    "isProductionEnvironment",
    *(f"products[0].{name}" for name in ("modelName", "modelVersion", "isInstalled", "isEnabled", "enabledUsersCount")),
]


@pytest.mark.parametrize("name", MANDATORY)
def test_validation_request_without_mandatory_member_raises(name: str) -> None:
    assert field_errors(request_with(name, ABSENT)) == [(name, "mandatory")]
    assert [field for field, _ in field_errors(request_with(name, None))] == [name]


@pytest.mark.parametrize("name", OPTIONAL)
def test_validation_request_accepts_missing_or_null_optional_member(name: str) -> None:
    absent, null = (ValidationRequest.parse(request_with(name, value)) for value in (ABSENT, None))
    assert absent.model_dump(exclude_none=True) == null.model_dump(exclude_none=True)


def test_validation_request_reports_all_invalid_fields_at_once() -> None:
    body = request_with("serialNumber", "") | {"nonce": 1, "products": [{"productName": "a"}, {}, {"productName": []}]}
    assert [field for field, _ in field_errors(body)] == [
        "serialNumber",
        "nonce",
        "products[1].productName",
        "products[2].productName",
    ]


VALID_VALUES: list[tuple[str, str, Any]] = [
    ("a serial number of one character", "serialNumber", "1"),
    ("a serial number of 128 characters", "serialNumber", "s" * 128),
    ("128 characters of four bytes each", "serialNumber", "\U0001f600" * 128),
    ("a serial number in any script", "serialNumber", "シリアル-Ærø"),
    ("a nonce of 16 characters", "nonce", "aA0-_aA0-_aA0-_a"),
    ("a nonce of 128 characters", "nonce", "n" * 128),
    ("a product name of 128 characters", "products[0].productName", "p" * 128),
    ("a model name of 256 characters", "products[0].modelName", "m" * 256),
    ("an empty model name", "products[0].modelName", ""),
    ("a host URL of 2,048 characters", "hostUrl", "h" * 2048),
    ("a host that is no URL: it is only collected", "hostUrl", "localhost"),
    ("no users", "products[0].enabledUsersCount", 0),
    ("ten million users", "products[0].enabledUsersCount", 10_000_000),
    ("200 products", "products", [{"productName": f"Product {number}"} for number in range(200)]),
    ("the same product twice", "products", [{"productName": "SmartSend"}] * 2),
]


@pytest.mark.parametrize(("name", "value"), [case[1:] for case in VALID_VALUES], ids=[case[0] for case in VALID_VALUES])
def test_validation_request_accepts_value(name: str, value: Any) -> None:
    sent = request_with(name, value)
    assert ValidationRequest.parse(sent).model_dump(mode="json", by_alias=True, exclude_unset=True) == sent


@pytest.mark.parametrize("guid", [GUID.upper(), "446D5d80-D20d-43c6-A96C-370628f5bd9F"])
def test_validation_request_lowercases_publisher_id(guid: str) -> None:
    assert ValidationRequest.parse(request_with("publisherId", guid)).publisher_id == GUID


def test_validation_request_ignores_unknown_members() -> None:
    body = request_with("products[0].userNames", [MARKER]) | {
        "token": MARKER,
        "": {"nested": [MARKER]},
        "publisher_id": 1,
    }
    parsed = ValidationRequest.parse(body)
    assert parsed == ValidationRequest.parse(GOOD)
    assert MARKER not in repr(parsed)


def test_validation_request_rejects_other_spellings_of_member_names() -> None:
    body = {name: value for name, value in GOOD.items() if name != "serialNumber"}
    for spelling in ("serial_number", "SerialNumber", "serialnumber", "serialNumber "):
        assert field_errors(body | {spelling: "C0FFEE-0042"}) == [("serialNumber", "mandatory")]


INVALID_VALUES: list[tuple[str, str, Any]] = [
    ("a GUID without dashes", "publisherId", GUID.replace("-", "")),
    ("a GUID in braces", "publisherId", f"{{{GUID}}}"),
    ("a GUID with a space", "publisherId", f" {GUID}"),
    ("a GUID and a line feed", "publisherId", f"{GUID}\n"),
    ("a GUID too long", "publisherId", f"{GUID}0"),
    ("a GUID with a letter too far", "publisherId", GUID.replace("f", "g")),
    ("a GUID in digits of another script", "publisherId", GUID.replace("4", "٤")),
    ("a GUID that is a path", "publisherId", "../../etc/passwd"),
    ("a number for a GUID", "publisherId", 7),
    ("a serial number that is blank", "serialNumber", ""),
    ("a serial number too long", "serialNumber", "s" * 129),
    ("a number for a serial number", "serialNumber", 42),
    ("a list for a serial number", "serialNumber", [MARKER]),
    ("a null byte", "serialNumber", f"{MARKER}\0"),
    ("a line feed", "serialNumber", f"{MARKER}\n"),
    ("a tab", "serialNumber", f"\t{MARKER}"),
    ("an escape character", "serialNumber", f"\x1b[31m{MARKER}"),
    ("a C1 control character", "serialNumber", f"{MARKER}\x85"),
    ("half of a surrogate pair", "serialNumber", f"{MARKER}\ud83d"),
    ("a nonce of 15 characters", "nonce", "n" * 15),
    ("a nonce of 129 characters", "nonce", "n" * 129),
    ("a nonce with a space", "nonce", f"{MARKER} {MARKER}"),
    ("a nonce with a plus, as plain base64 has it", "nonce", f"{MARKER}+/=="),
    ("a nonce with a line feed at its end", "nonce", f"{MARKER}-{MARKER}\n"),
    ("a nonce in another script", "nonce", "ñ" * 16),
    ("a number for a nonce", "nonce", 10**20),
    ("a host URL too long", "hostUrl", "h" * 2049),
    ("a host URL with a line feed", "hostUrl", f"https://{MARKER}\r\n"),
    ("an object for a host URL", "hostUrl", {MARKER: MARKER}),
    ("a word for yes", "isProductionEnvironment", "true"),
    ("a number for yes", "isProductionEnvironment", 1),
    ("no products", "products", []),
    ("201 products", "products", [{"productName": MARKER}] * 201),
    ("an object for the products", "products", {MARKER: MARKER}),
    ("a text for the products", "products", MARKER),
    ("a product name that is blank", "products[0].productName", ""),
    ("a product name too long", "products[0].productName", MARKER * 20),
    ("a product name with a null byte", "products[0].productName", f"{MARKER}\0"),
    ("a number for a product name", "products[0].productName", 1.5),
    ("a model name too long", "products[0].modelName", "m" * 257),
    ("a model version with a control character", "products[0].modelVersion", f"{MARKER}\x07"),
    ("a word for no", "products[0].isInstalled", "no"),
    ("a number for no", "products[0].isEnabled", 0),
    ("fewer users than none", "products[0].enabledUsersCount", -1),
    ("more users than people", "products[0].enabledUsersCount", 10_000_001),
    ("a number of users far beyond 64 bits", "products[0].enabledUsersCount", 10**400),
    ("half a user", "products[0].enabledUsersCount", 0.5),
    ("a fraction for a whole number of users", "products[0].enabledUsersCount", 48.0),
    ("endless users", "products[0].enabledUsersCount", float("inf")),
    ("yes for a number of users", "products[0].enabledUsersCount", True),
    ("a text for a number of users", "products[0].enabledUsersCount", "48"),
]


@pytest.mark.parametrize(
    ("name", "value"), [case[1:] for case in INVALID_VALUES], ids=[case[0] for case in INVALID_VALUES]
)
def test_validation_request_rejects_value(name: str, value: Any) -> None:
    assert [field for field, _ in field_errors(request_with(name, value))] == [name]


@pytest.mark.parametrize("body", [None, [], [GOOD], MARKER, 1, 1.5, True, [MARKER]], ids=repr)
def test_validation_request_rejects_non_object_body(body: Any) -> None:
    assert [field for field, _ in field_errors(body)] == [""]


@pytest.mark.parametrize("product", [None, [], MARKER, 1, True], ids=repr)
def test_validation_request_rejects_non_object_product(product: Any) -> None:
    products = [{"productName": "a"}, {"productName": "b"}, {"productName": "c"}, product]
    assert [field for field, _ in field_errors(GOOD | {"products": products})] == ["products[3]"]


def test_validation_request_names_invalid_field_by_its_path() -> None:
    products: list[Any] = [{"productName": f"Product {number}"} for number in range(5)]
    products[3] = {"productName": 3}
    assert field_errors(GOOD | {"products": products}) == [("products[3].productName", "wrongType")]


@pytest.mark.parametrize("product", [1, {}, {"productName": ""}], ids=repr)
def test_validation_request_with_too_many_products_reports_only_that(product: Any) -> None:
    """Else a body of 256 KiB would be answered by many megabytes of faults."""
    assert field_errors(GOOD | {"products": [product] * 100_000}) == [("products", "tooMany")]


TEXTS = st.text(max_size=20).map(lambda text: text + MARKER)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*MANDATORY, *OPTIONAL]), ANYTHING)
def test_validation_request_with_arbitrary_value_parses_or_rejects_without_echo(name: str, value: Any) -> None:
    body = request_with(name, value)
    try:
        ValidationRequest.parse(body)
    except MalformedRequest:
        assert {field.partition("[")[0] for field, _ in field_errors(body)} == {name.partition("[")[0]}
