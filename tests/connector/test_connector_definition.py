"""The definition as the Power Platform wants it. No one validator holds all of its rules: these hold the rest."""

import copy
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator

from connector.__main__ import DEFINITION, FOLDER, PROPERTIES, RELEASED, written
from connector.definition import operation_id
from connector.released import promises
from licensing.http.endpoints import ROUTES
from licensing.http.permissions import ANONYMOUS

REPOSITORY = FOLDER.parent
DOCUMENT: dict[str, Any] = json.loads(DEFINITION.read_text("utf-8"))
DEFINITIONS: dict[str, Any] = DOCUMENT["definitions"]
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: {**operation, "path": path, "method": method}
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
SMALL_WORDS = {"a", "an", "and", "as", "for", "from", "in", "of", "on", "or", "the", "to"}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = DEFINITIONS[schema["$ref"].removeprefix("#/definitions/")] if "$ref" in schema else schema
    return found


def success(operation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    ((status, answer),) = [each for each in operation["responses"].items() if each[0].startswith("2")]
    return status, answer


def shown() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every parameter, and every field, with where it stands."""
    for name, operation in OPERATIONS.items():
        yield from ((f"{name} {each['name']}", each) for each in operation["parameters"])
    for name, definition in DEFINITIONS.items():
        yield from fields(name, definition)


def fields(where: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in schema.get("properties", {}).items():
        yield f"{where}.{name}", each
        yield from fields(f"{where}.{name}", each)


def sentences(within: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every description."""
    if isinstance(within, dict):
        for name, each in within.items():
            if name == "description" and isinstance(each, str):
                yield where, each
            yield from sentences(each, f"{where}/{name}")
    elif isinstance(within, list):
        for each in within:
            yield from sentences(each, where)


# The files.


def test_generated_files_match_the_service() -> None:
    for path, text in written().items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run make connector."


def test_connector_check_reports_stale_file_and_a_run_rewrites_it(tmp_path: Path) -> None:
    for folder in ("connector", "licensing"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    stale = tmp_path / "connector" / DEFINITION.name
    stale.write_text(stale.read_text("utf-8").replace("List customers", "List clients"), "utf-8")

    def run(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "connector", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    sentence = "apiDefinition.swagger.json in connector/ no longer tells what the service offers: run make connector."
    assert run("--check") == (1, f"{sentence}\n")
    assert run("--release") == run() == run("--check") == (0, "")
    assert stale.read_text("utf-8") == DEFINITION.read_text("utf-8")
    assert json.loads((tmp_path / "connector" / RELEASED.name).read_text("utf-8")) == promises(DOCUMENT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what the validator itself imports
def test_definition_is_valid_openapi_2() -> None:
    from swagger_spec_validator.validator20 import validate_spec  # noqa: PLC0415 - so that the mark above counts

    assert list(OpenAPIV2SpecValidator(DOCUMENT).iter_errors()) == []
    validate_spec(copy.deepcopy(DOCUMENT))  # it writes into what it reads
    assert DEFINITION.stat().st_size < 1_000_000


def test_definition_contains_exactly_the_routes_with_an_operation() -> None:
    offered = {(operation_id(route), f"/{route.template}") for route in ROUTES if route.operation}
    assert {(name, operation["path"]) for name, operation in OPERATIONS.items()} == offered
    assert not [path for path in DOCUMENT["paths"] if re.search("validate|keys|health|jwks|public|subscriptions", path)]


def test_icon_is_a_png_in_the_brand_colour() -> None:
    icon = (FOLDER / "icon.png").read_bytes()
    width, height = struct.unpack(">II", icon[16:24])
    start = icon.index(b"IDAT")
    first_pixel = zlib.decompressobj().decompress(icon[start + 4 :], 4)[1:]
    assert icon.startswith(b"\x89PNG")
    assert (width, height, len(icon) < 1_000_000) == (230, 230, True)
    assert f"#{first_pixel.hex()}" == json.loads(PROPERTIES.read_text())["properties"]["iconBrandColor"]


def test_readme_recipe_fills_in_every_placeholder(tmp_path: Path) -> None:
    (recipe,) = re.findall(
        r"<!-- A test runs this .*? -->\n +```bash\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL
    )
    (tmp_path / "connector").symlink_to(FOLDER)
    subprocess.run(["bash", "-euo", "pipefail", "-c", recipe], cwd=tmp_path, check=True)
    filled = tmp_path / ".local/connector"
    assert {path.name for path in filled.iterdir()} == {DEFINITION.name, PROPERTIES.name, "icon.png"}
    definition, properties = (json.loads((filled / path.name).read_text()) for path in (DEFINITION, PROPERTIES))
    assert definition == DOCUMENT | {"host": "licenses.contoso.com"}
    settings = properties["properties"]["connectionParameters"]["token"]["oAuthSettings"]
    assert settings["clientId"] == "66666666-7777-8888-9999-000000000000"
    assert settings["customParameters"]["tenantId"] == {"value": "organizations"}
    assert settings["customParameters"]["resourceUri"] == {"value": "api://11111111-2222-3333-4444-555555555555"}
    assert (
        settings["properties"]["AzureActiveDirectoryResourceId"] == settings["customParameters"]["resourceUri"]["value"]
    )


# Texts.


def test_definition_title_is_short_and_avoids_reserved_words() -> None:
    info = DOCUMENT["info"]
    assert len(info["title"]) <= 30
    assert not re.search("api|connector|microsoft|azure|power|dynamics|d365|office|teams", info["title"], re.IGNORECASE)
    assert 30 <= len(info["description"]) <= 500


@every_operation
def test_operation_has_name_summary_and_description(operation: dict[str, Any]) -> None:
    assert re.fullmatch("([A-Z][a-z]+)+", operation["operationId"])
    assert re.fullmatch("[A-Z][a-zA-Z ()]{1,78}[a-zA-Z]", operation["summary"])
    assert all(word.islower() or word == "I" for word in operation["summary"].split()[1:]), "sentence case"
    assert operation["description"].rstrip(".") != operation["summary"]
    assert not re.search(r"\ba (?=[aeio])", operation["summary"])


def test_descriptions_are_sentences() -> None:
    for where, sentence in sentences(DOCUMENT):
        assert re.fullmatch(r"[A-Z].*[^.]\.", sentence), (where, sentence)
        assert "://" not in sentence.replace("https://", ""), (where, sentence)
        assert "  " not in sentence, (where, sentence)


def test_parameters_and_fields_have_title_case_summaries() -> None:
    for where, each in shown():
        if "$ref" in each:
            continue
        words = each["x-ms-summary"].split()
        for index, word in enumerate(words):
            small = word in SMALL_WORDS and 0 < index < len(words) - 1
            assert small or word.lstrip("(")[0].isupper(), (where, words)
        assert words[-1].rstrip(")")[-1].isalnum()
        assert each["description"].rstrip(".") != each["x-ms-summary"], where
        assert each.get("x-ms-visibility", "important") in ("important", "advanced", "internal"), where
        assert not (each.get("x-ms-visibility") == "internal" and each.get("required") is True), where


# Operations.


@every_operation
def test_operation_declares_success_and_error_responses(operation: dict[str, Any]) -> None:
    status, answer = success(operation)
    assert ("schema" in answer) == (status != "204")  # which has no content
    refused = {status: each for status, each in operation["responses"].items() if not status.startswith("2")}
    assert {"400", "401", "403", "404", "413", "500", "503"} <= refused.keys()
    assert ("415" in refused) == any(each["in"] == "body" for each in operation["parameters"])
    assert all(each["schema"] == {"$ref": "#/definitions/Problem"} for each in refused.values())
    assert [*map(int, operation["responses"])] == sorted(map(int, operation["responses"]))


@every_operation
def test_operation_declares_every_path_parameter(operation: dict[str, Any]) -> None:
    in_path = [each for each in operation["parameters"] if each["in"] == "path"]
    assert [each["name"] for each in in_path] == re.findall(r"\{(\w+)\}", operation["path"])
    for each in in_path:
        assert (each["required"], each["x-ms-url-encoding"], each["x-ms-visibility"]) == (True, "single", "important")


@every_operation
def test_operation_offers_if_match_or_idempotency_key_where_supported(operation: dict[str, Any]) -> None:
    headers = {each["name"]: each["x-ms-visibility"] for each in operation["parameters"] if each["in"] == "header"}
    if operation["method"] in ("patch", "delete"):
        assert headers == {"If-Match": "advanced"}
    else:
        assert headers == ({"Idempotency-Key": "advanced"} if success(operation)[0] == "201" else {})


@every_operation
def test_list_operation_is_pageable_with_limit_and_cursor(operation: dict[str, Any]) -> None:
    _, answer = success(operation)
    fields_ = resolved(answer.get("schema", {})).get("properties", {})
    is_list = "value" in fields_
    assert operation.get("x-ms-pageable") == ({"nextLinkName": "nextLink"} if is_list else None)
    if is_list:
        assert fields_["nextLink"]["type"] == "string"
        limit, cursor = (each for each in operation["parameters"] if each["name"] in ("limit", "cursor"))
        assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 200, 50)
        assert cursor["x-ms-visibility"] == limit["x-ms-visibility"] == "advanced"


def test_next_link_policy_covers_every_pageable_operation() -> None:
    (policy,) = json.loads(PROPERTIES.read_text())["properties"]["policyTemplateInstances"]
    assert policy["templateId"] == "updatenextlink"
    parameters = policy["parameters"]
    assert parameters["x-ms-apimTemplateParameter.nextLinkPropertyName"] == "nextLink"
    paged = [name for name, operation in OPERATIONS.items() if "x-ms-pageable" in operation]
    assert parameters["x-ms-apimTemplate-operationName"] == paged


# Choices, which no validator looks into.


def choices(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What an operation offers to choose from: for which parameter or field, and how."""
    for parameter in operation["parameters"]:
        found = [(parameter["name"], parameter)]
        if "schema" in parameter:
            found = list(fields("body", resolved(parameter["schema"])))
        for name, each in found:
            values = each.get("items", each).get("x-ms-dynamic-values")
            if values is not None:
                yield name, values


@every_operation
def test_dynamic_values_refer_to_existing_operation_and_parameters(operation: dict[str, Any]) -> None:
    own = {each["name"] for each in operation["parameters"]}
    for name, values in choices(operation):
        source = OPERATIONS[values["operationId"]]
        taken = {each["name"]: each["required"] for each in source["parameters"]}
        assert values["parameters"].keys() <= taken.keys(), name
        assert {each for each, required in taken.items() if required} <= values["parameters"].keys(), name
        assert {each["parameter"] for each in values["parameters"].values() if isinstance(each, dict)} <= own - {name}
        items = resolved(success(source)[1]["schema"])["properties"][values["value-collection"]]["items"]
        assert {values["value-path"], values["value-title"]} <= resolved(items)["properties"].keys(), name


@every_operation
def test_path_ids_have_dynamic_values(operation: dict[str, Any]) -> None:
    """But for what could not be delivered: that is a list of its own, and no record."""
    chosen = {name for name, _ in choices(operation)}
    assert {each["name"] for each in operation["parameters"] if each["in"] == "path"} <= chosen | {"deliveryId"}


@pytest.mark.parametrize(
    ("operation", "field", "source"),
    [
        ("CreateCustomerProduct", "body.productId", "ListProducts"),
        ("UpdateCustomerProduct", "body.productId", "ListProducts"),
        ("CreateUser", "body.roleIds", "ListRoles"),
        ("UpdateUser", "body.roleIds", "ListRoles"),
    ],
)
def test_body_ids_have_dynamic_values(operation: str, field: str, source: str) -> None:
    assert dict(choices(OPERATIONS[operation]))[field]["operationId"] == source


# Fields.


def test_request_schemas_have_the_limits_of_the_service() -> None:
    field = DEFINITIONS["CustomerProductInput"]["properties"]
    assert DEFINITIONS["CustomerProductInput"]["required"] == ["productId", "licenseType"]
    assert "required" not in DEFINITIONS["CustomerProductPatch"]
    assert (field["notes"]["maxLength"], field["numberOfUsers"]["maximum"]) == (5000, 1_000_000)
    assert (field["endDate"]["format"], field["endDate"]["x-nullable"]) == ("date", True)
    assert field["licenseType"]["enum"] == [
        *("perpetual", "month", "quarter", "annual", "subscription", "temp", "managedServices", "none"),
    ]
    assert "x-nullable" not in field["licenseType"]
    assert {"productName", "active", "warnings", "id", "etag"}.isdisjoint(field)
    region = DEFINITIONS["CustomerInput"]["properties"]["region"]
    assert region["enum"] == ["none", "anz", "global", "nordic", "internal", "other"]
    assert all(
        DEFINITIONS[name]["additionalProperties"] is False for name in DEFINITIONS if name.endswith(("Input", "Patch"))
    )


def test_response_schemas_require_all_their_fields() -> None:
    answered = DEFINITIONS["CustomerProduct"]
    assert answered["required"] == list(answered["properties"])
    assert answered["properties"]["createdAt"]["format"] == "date-time"
    assert answered["properties"]["id"]["format"] == answered["properties"]["productId"]["format"] == "uuid"
    assert answered["properties"]["numberOfUsers"]["x-nullable"] is True
    assert answered["properties"]["warnings"]["items"] == {"$ref": "#/definitions/RecordWarning"}
    assert DEFINITIONS["RecordWarning"]["required"] == ["field", "code", "message"]
    assert DEFINITIONS["Role"]["properties"]["privileges"]["properties"]["users"]["enum"] == [
        "read",
        "update",
        "create",
        "delete",
    ]


def test_expiry_item_schema_lists_the_csv_columns() -> None:
    assert DEFINITIONS["ExpiryItem"]["required"] == [
        *("customerName", "customerNumber", "region", "productName", "licenseType", "endDate", "featureDisableDate"),
        *("enabled", "daysLeft", "expired", "maintenanceExpired", "customerId", "productId", "customerProductId"),
    ]


def test_operation_query_parameters_match_the_route() -> None:
    for route in ROUTES:
        if route.access is ANONYMOUS:
            continue
        assert route.operation is not None, f"{route.name}: nobody could know its parameters"
        operation = DOCUMENT["paths"][f"/{route.template}"][route.methods[0].lower()]
        shown = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
        assert shown == [each.name for each in route.operation.query]


def test_definition_paths_are_sorted() -> None:
    assert all(one <= other for one, other in pairwise(DOCUMENT["paths"]))
