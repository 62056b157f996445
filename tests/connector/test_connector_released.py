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


def test_definition_breaks_no_released_promise() -> None:
    assert broken(json.loads(RELEASED.read_text("utf-8")), promises(DOCUMENT)) == []


def gone(document: Any) -> None:
    del document["paths"][CUSTOMER]["get"]


def path_changed(document: Any) -> None:
    document["paths"]["/api/v2/customer"] = {"get": document["paths"][CUSTOMER].pop("get")}


def method_changed(document: Any) -> None:
    document["paths"][CUSTOMER]["put"] = document["paths"][CUSTOMER].pop("get")


def parameter_removed(document: Any) -> None:
    document["paths"]["/api/v1/publishers"]["get"]["parameters"].pop(0)


def enum_value_removed(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["region"]["enum"].remove("nordic")


def max_length_reduced(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["name"]["maxLength"] = 3


def parameter_mandatory(document: Any) -> None:
    document["paths"]["/api/v1/publishers"]["get"]["parameters"][0]["required"] = True


def field_mandatory(document: Any) -> None:
    document["definitions"]["CustomerInput"]["required"].append("number")


def new_mandatory_field(document: Any) -> None:
    document["definitions"]["CustomerInput"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["CustomerInput"]["required"].append("colour")


def request_field_removed(document: Any) -> None:
    del document["definitions"]["CustomerInput"]["properties"]["number"]


def response_field_type_changed(document: Any) -> None:
    document["definitions"]["CustomerProduct"]["properties"]["numberOfUsers"]["type"] = "string"


def response_field_removed(document: Any) -> None:
    del document["definitions"]["Customer"]["properties"]["number"]


def nested_response_field_removed(document: Any) -> None:
    del document["definitions"]["MyPublisher"]["properties"]["privileges"]["properties"]["users"]


def response_status_changed(document: Any) -> None:
    responses = document["paths"][CUSTOMER]["delete"]["responses"]
    responses["200"] = responses.pop("204")


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (gone, ["GetCustomer is gone."]),
        (path_changed, [f"GetCustomer was GET {CUSTOMER}, and is GET /api/v2/customer."]),
        (method_changed, [f"GetCustomer was GET {CUSTOMER}, and is PUT {CUSTOMER}."]),
        (parameter_removed, ["ListPublishers takes search no more, or as another type than string."]),
        (enum_value_removed, ["CreateCustomer takes body.region no more as nordic."]),
        (max_length_reduced, ["CreateCustomer takes body.name no more with 128 characters."]),
        (parameter_mandatory, ["ListPublishers: search is mandatory now."]),
        (field_mandatory, ["CreateCustomer: body.number is mandatory now."]),
        (new_mandatory_field, ["CreateCustomer: body.colour is mandatory now."]),
        (request_field_removed, ["CreateCustomer takes body.number no more, or as another type than string."]),
        (
            response_field_type_changed,
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
            response_field_removed,
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
        (
            nested_response_field_removed,
            ["GetMe answers 200.publishers[].privileges.users no more, or as another type than string."],
        ),
        (response_status_changed, ["DeleteCustomer answers 204 no more, or as another type than nothing."]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_reports_incompatible_change(change: Callable[[Any], None], faults: list[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert broken(promises(DOCUMENT), promises(document)) == faults


def test_broken_ignores_added_operations_and_fields() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["paths"]["/api/v1/colours"] = {
        "get": document["paths"]["/api/v1/me"]["get"] | {"operationId": "ListColours"}
    }
    document["definitions"]["CustomerInput"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["Customer"]["properties"]["colour"] = {"type": "string"}
    document["definitions"]["CustomerInput"]["required"].clear()
    assert broken(promises(DOCUMENT), promises(document)) == []
