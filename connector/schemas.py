"""Schemas of OpenAPI 2.0, from the fields that go over the wire (`licensing.fields`)."""

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from licensing.fields import Described, described
from licensing.identifiers import GUID

type Schema = dict[str, Any]

_SMALL_WORDS = frozenset({"a", "an", "and", "as", "for", "from", "in", "of", "on", "or", "the", "to"})
_PRIMITIVES: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int32"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
}
_PATTERNS = {
    "email": r"^([^@\s]+@[^@\s]+\.[^@\s.]+)?$",
    "url": "^(https?://.*)?$",
    "guid": f"^({GUID})?$",
    "setting": "^(LICENSING_TELEMETRY_OF_[A-Z0-9_]+)?$",
}
"""What a text is like. No formats, since it may be empty as well: that is how makers take it away."""
_OF_ALL_RECORDS = {
    "id": ("ID", "Tells the record from all others."),
    "createdAt": ("Created at", "When the record was made."),
    "updatedAt": ("Updated at", "When the record was last changed."),
}
_HINTS = {
    bool: "Yes or no.",
    date: "A day of the calendar.",
    datetime: "An instant, in UTC.",
    Mapping: "Fields by their names.",
}


def words(name: str) -> str:
    """`customerProduct` -> `customer product`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()


def title_case(text: str) -> str:
    """`Terms and conditions URL` -> `Terms and Conditions URL`."""
    parts = text.split()
    between = range(1, len(parts) - 1)
    return " ".join(
        part if index in between and part in _SMALL_WORDS else re.sub(r"^\W*\w", lambda match: match[0].upper(), part)
        for index, part in enumerate(parts)
    )


def told(summary: str, description: str) -> Schema:
    """What a maker's designer shows."""
    return {"x-ms-summary": summary, "description": description}


def typed(kind: Any) -> Schema:
    """The schema of what is neither a list nor an object."""
    return {"type": "string", "enum": list(kind)} if issubclass(kind, StrEnum) else dict(_PRIMITIVES[kind])


class Definitions:
    """The schemas that the definition names. `choices(name)`: what tells of the ids that a field holds, if anything."""

    def __init__(self, choices: Callable[[str], Schema]) -> None:
        self.all: dict[str, Schema] = {}
        self._choices = choices

    def answer(self, kind: type) -> Schema:
        """A reference to the schema of what is answered: all that is shown of the dataclass, always."""
        shown = [each for each in described(kind) if each.shown]
        properties = {each.name: self._answered(each) for each in shown}
        return self._define(kind.__name__, kind, properties, [each.name for each in shown])

    def page(self, kind: type) -> Schema:
        """A reference to the schema of a page of a list of them."""
        items = {"type": "array", "items": self.answer(kind), **told("Value", "What is on this page of the list.")}
        next_link = {
            "type": "string",
            **told("Next Link", "The address of the next page; missing on the last one."),
            "x-ms-visibility": "advanced",
        }
        return self._define(f"{kind.__name__}List", kind, {"value": items, "nextLink": next_link}, ["value"])

    def taken(self, kind: type, *, partial: bool) -> Schema:
        """A reference to the schema of what is sent: what can be set, and nothing else."""
        settable = [each for each in described(kind) if each.settable]
        properties = {each.name: self._taken(each) for each in settable}
        required = [] if partial else [each.name for each in settable if each.mandatory]
        reference = self._define(kind.__name__ + ("Patch" if partial else "Input"), kind, properties, required)
        self.all[name_of(reference)]["additionalProperties"] = False
        return reference

    def _define(self, name: str, kind: type, properties: Schema, required: typing.Sequence[str]) -> Schema:
        self.all[name] = {"type": "object", "description": first_sentence(kind), "properties": properties}
        if required:
            self.all[name]["required"] = list(required)
        return {"$ref": f"#/definitions/{name}"}

    def _answered(self, each: Described) -> Schema:
        schema = self._schema(each.type) | _named(each)
        if each.name == "id" or self._choices(each.name):
            _one(schema)["format"] = "uuid"
        if each.nullable:
            schema["x-nullable"] = True
        if each.name == "etag":
            schema["x-ms-visibility"] = "advanced"
        return schema

    def _taken(self, each: Described) -> Schema:
        schema = self._schema(each.type, taken=True) | _named(each)
        if each.most is not None:
            schema["maxLength"] = each.most
        if each.span is not None:
            schema["minimum"], schema["maximum"] = each.span
        if each.like is not None:
            schema["pattern"] = _PATTERNS[each.like]
        if choices := self._choices(each.name):
            _one(schema).update({"format": "uuid"} | choices)
        if each.mandatory:
            schema["x-ms-visibility"] = "important"
        else:
            schema["x-nullable"] = True  # which means: as if it were not there
        if each.mandatory and each.most is not None:
            schema["minLength"] = 1
        return schema

    def _schema(self, kind: Any, *, taken: bool = False) -> Schema:
        arguments = typing.get_args(kind)
        if typing.get_origin(kind) is tuple:
            return {"type": "array", "items": self._schema(arguments[0])}
        if typing.get_origin(kind) is Mapping:
            return _mapping(*arguments, taken=taken)
        return self.answer(kind) if isinstance(kind, type) and is_dataclass(kind) else typed(kind)


def name_of(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def first_sentence(kind: type) -> str:
    """What the dataclass says of itself, to its first full stop; what stands in brackets is for programmers."""
    sentence = (kind.__doc__ or "").partition(". ")[0].partition("\n")[0]
    return re.sub(r" \([^)]*\)", "", sentence).rstrip(".") + "."


def _one(schema: Schema) -> Schema:
    """Of a list the schema of what is in it."""
    one: Schema = schema.get("items", schema)
    return one


def _mapping(keys: Any, values: Any, *, taken: bool) -> Schema:
    if not issubclass(keys, StrEnum):
        return {"type": "object"}
    each = typed(values) | ({"x-nullable": True} if taken else {})
    properties = {key: each | told(title_case(words(key)), f"Of the {words(key)}.") for key in keys}
    return {"type": "object", "properties": properties} | ({"additionalProperties": False} if taken else {})


def _named(each: Described) -> Schema:
    label, hint = (each.label, each.hint) if each.label else _OF_ALL_RECORDS[each.name]
    plain = _HINTS.get(typing.get_origin(each.type) or each.type) or f"The {label[0].lower()}{label[1:]}."
    return told(title_case(label), hint or plain)
