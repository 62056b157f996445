"""What a release promises of the connector, and what would break the flows and apps that rely on it."""

from collections.abc import Iterator
from typing import Any

from connector.schemas import Schema, name_of

type Promise = dict[str, Any]
"""Of an operation: its call; what it takes and what it answers, each field with its type; what of it is mandatory.

And how far what it takes may go: the choices of a field, and how long a text may be.
"""


def promises(document: Schema) -> dict[str, Promise]:
    """What the definition promises, by operation."""
    definitions = document["definitions"]
    return {
        operation["operationId"]: _promise(f"{method.upper()} {path}", operation, definitions)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def broken(released: dict[str, Promise], current: dict[str, Promise]) -> list[str]:
    """A sentence for each promise of the release that is not kept."""
    faults = []
    for name, promise in released.items():
        now = current.get(name)
        if now is None:
            faults.append(f"{name} is gone.")
            continue
        if now["call"] != promise["call"]:
            faults.append(f"{name} was {promise['call']}, and is {now['call']}.")
        for part in ("takes", "answers"):
            faults += [
                f"{name} {part} {field} no more, or as another type than {kind}."
                for field, kind in promise[part].items()
                if now[part].get(field) != kind
            ]
        faults += [
            f"{name} takes {field} no more as {', '.join(gone)}."
            for field, choices in promise["choices"].items()
            if (gone := sorted({*choices} - {*now["choices"].get(field, choices)}))
        ]
        faults += [
            f"{name} takes {field} no more with {longest} characters."
            for field, longest in promise["longest"].items()
            if now["longest"].get(field, longest) < longest
        ]
        faults += [
            f"{name}: {field} is mandatory now." for field in now["mandatory"] if field not in promise["mandatory"]
        ]
    return faults


def _promise(call: str, operation: Schema, definitions: Schema) -> Promise:
    takes: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    longest: dict[str, int] = {}
    mandatory: list[str] = []
    for parameter in operation["parameters"]:
        schema = parameter.get("schema", parameter)
        takes |= _fields(parameter["name"], schema, definitions)
        for field, inner in _walk(parameter["name"], schema, definitions):
            choices |= {field: inner["enum"]} if "enum" in inner else {}
            longest |= {field: inner["maxLength"]} if "maxLength" in inner else {}
        mandatory += [parameter["name"]] if parameter["required"] else []
        if "$ref" in schema:
            mandatory += [f"body.{name}" for name in definitions[name_of(schema)].get("required", [])]
    answers = {
        field: kind
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for field, kind in (
            _fields(status, answer["schema"], definitions) if "schema" in answer else {status: "nothing"}
        ).items()
    }
    bounds = {"choices": choices, "longest": longest}
    return {"call": call, "takes": takes, "mandatory": mandatory, "answers": answers, **bounds}


def _fields(name: str, schema: Schema, definitions: Schema) -> dict[str, str]:
    """Every field in it with its type: `body.roleIds[]`, `string`."""
    return {field: inner["type"] for field, inner in _walk(name, schema, definitions)}


def _walk(name: str, schema: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Every field in it with its own schema."""
    if "$ref" in schema:
        schema = definitions[name_of(schema)]
    yield name, schema
    if schema["type"] == "array":
        yield from _walk(f"{name}[]", schema["items"], definitions)
    for each, inner in schema.get("properties", {}).items():
        yield from _walk(f"{name}.{each}", inner, definitions)
