"""What was released stays: flows and apps of other people rely on it."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from connector.__main__ import DEFINITION, RELEASED
from connector.released import broken, promises

DOCUMENT: dict[str, Any] = json.loads(DEFINITION.read_text("utf-8"))
CUSTOMER = "/api/v1/publishers/{publisherId}/customers/{customerId}"


def test_every_promise_of_the_last_release_is_kept() -> None:
    assert broken(json.loads(RELEASED.read_text("utf-8")), promises(DOCUMENT)) == []


def gone(document: Any) -> None:
    del document["paths"][CUSTOMER]["get"]


def moved(document: Any) -> None:
    document["paths"]["/api/v2/customer"] = {"get": document["paths"][CUSTOMER].pop("get")}


def another_method(document: Any) -> None:
    document["paths"][CUSTOMER]["put"] = document["paths"][CUSTOMER].pop("get")


def parameter_gone(document: Any) -> None:
    document["paths"]["/api/v1/publishers"]["get"]["parameters"].pop(0)


def fewer_choices(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["region"]["enum"].remove("nordic")


def shorter_text(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["name"]["maxLength"] = 3


def parameter_mandatory(document: Any) -> None:
    document["paths"]["/api/v1/publishers"]["get"]["parameters"][0]["required"] = True


def field_mandatory(document: Any) -> None:
    document["definitions"]["CustomerInput"]["required"].append("number")


def new_mandatory_field(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["CustomerInput"]["required"].append("colour")


def field_taken_no_more(document: Any) -> None:
    del document["definitions"]["CustomerInput"]["properties"]["number"]


def another_type(document: Any) -> None:
    document["definitions"]["CustomerProduct"]["properties"]["numberOfUsers"]["type"] = "string"


def field_answered_no_more(document: Any) -> None:
    del document["definitions"]["Customer"]["properties"]["number"]


def deep_field_gone(document: Any) -> None:
    del document["definitions"]["MyPublisher"]["properties"]["privileges"]["properties"]["users"]


def another_status(document: Any) -> None:
    responses = document["paths"][CUSTOMER]["delete"]["responses"]
    responses["200"] = responses.pop("204")


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (gone, ["GetCustomer is gone."]),
        (moved, [f"GetCustomer was GET {CUSTOMER}, and is GET /api/v2/customer."]),
        (another_method, [f"GetCustomer was GET {CUSTOMER}, and is PUT {CUSTOMER}."]),
        (parameter_gone, ["ListPublishers takes search no more, or as another type than string."]),
        (fewer_choices, ["CreateCustomer takes body.region no more as nordic."]),
        (shorter_text, ["CreateCustomer takes body.name no more with 128 characters."]),
        (parameter_mandatory, ["ListPublishers: search is mandatory now."]),
        (field_mandatory, ["CreateCustomer: body.number is mandatory now."]),
        (new_mandatory_field, ["CreateCustomer: body.colour is mandatory now."]),
        (field_taken_no_more, ["CreateCustomer takes body.number no more, or as another type than string."]),
        (
            another_type,
            [
                f"{name} answers {field}.numberOfUsers no more, or as another type than integer."
                for name, field in [
                    ("ListCustomerProducts", "200.value[]"),
                    ("CreateCustomerProduct", "201"),
                    ("GetCustomerProduct", "200"),
                    ("UpdateCustomerProduct", "200"),
                ]
            ],
        ),
        (
            field_answered_no_more,
            [
                f"{name} answers {field}.number no more, or as another type than string."
                for name, field in [
                    ("ListCustomers", "200.value[]"),
                    ("CreateCustomer", "201"),
                    ("GetCustomer", "200"),
                    ("UpdateCustomer", "200"),
                    ("ListProductCustomers", "200.value[]"),
                ]
            ],
        ),
        (deep_field_gone, ["GetMe answers 200.publishers[].privileges.users no more, or as another type than string."]),
        (another_status, ["DeleteCustomer answers 204 no more, or as another type than nothing."]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_promise_that_is_broken_is_told(change: Callable[[Any], None], faults: list[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert broken(promises(DOCUMENT), promises(document)) == faults


def test_what_is_added_breaks_nothing() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["paths"]["/api/v1/colours"] = {
        "get": document["paths"]["/api/v1/me"]["get"] | {"operationId": "ListColours"}
    }
    document["definitions"]["CustomerInput"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["Customer"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["CustomerInput"]["required"].clear()
    assert broken(promises(DOCUMENT), promises(document)) == []
