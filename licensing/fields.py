"""The fields of what goes over the wire: described once, beside the types of Python that hold them.

From one description come the parser of a request, the JSON of an answer, and the schema of the connector. A type is a
frozen dataclass whose fields are made by `text` and `value`; its names in JSON are its attributes in camelCase.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from licensing.errors import FieldError, MalformedRequest, RuleBroken

_FIRST_YEAR, _LAST_YEAR = 1970, 2999
"""Of an instant that somebody may mean: there are others on both sides of it to reckon with."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def text(  # noqa: PLR0913 - what a text may hold
    label: str,
    *,
    most: int = 128,
    mandatory: bool = False,
    lines: bool = False,
    like: str | None = None,
    hint: str = "",
    settable: bool = True,
) -> Any:
    """A text of a record: what people call it, and what it may hold (`like`: "url", "email", "guid" or "setting")."""
    metadata = {"label": label, "most": most, "mandatory": mandatory, "lines": lines, "like": like, "hint": hint}
    return field(default="", metadata={**metadata, "settable": settable})


def value(  # noqa: PLR0913 - what a field may be
    label: str,
    *,
    default: Any = MISSING,
    hint: str = "",
    settable: bool = True,
    span: tuple[int, int] | None = None,
    name: str = "",
) -> Any:
    """Any other field; mandatory where it has no default. `span`: the least and the greatest that a number may be.

    `name`: what JSON calls it, where that is not its attribute's name.
    """
    mandatory = default is MISSING and settable
    metadata = {"label": label, "hint": hint, "settable": settable, "mandatory": mandatory, "span": span, "name": name}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def derived(label: str, *, default: Any, hint: str = "", shown: bool = True) -> Any:
    """A field that follows from other records: read, never written, and no part of the record's identity."""
    metadata = {"label": label, "hint": hint, "settable": False, "derived": True, "shown": shown, "mandatory": False}
    return field(default=default, compare=False, metadata=metadata)


def inner(default: Any, *, name: str = "") -> Any:
    """A field that is stored and never shown. `name`: in the row, where it is not that of the attribute."""
    known = {"settable": False, "shown": False, "mandatory": False, "label": "", "name": name}
    return field(default=default, metadata=known)


@dataclass(frozen=True, slots=True)
class Described:
    """One field as people and programs know it. `type` is without None; `nullable` says whether that is allowed too."""

    attribute: str
    name: str
    type: Any
    nullable: bool
    label: str
    hint: str
    settable: bool
    shown: bool
    derived: bool
    mandatory: bool
    most: int | None
    span: tuple[int, int] | None
    lines: bool
    like: str | None
    default: Any


_DESCRIBED: dict[type, tuple[Described, ...]] = {}


def described(kind: type) -> tuple[Described, ...]:
    """The fields of the dataclass, in their order."""
    if kind not in _DESCRIBED:
        hints = typing.get_type_hints(kind)
        _DESCRIBED[kind] = tuple(_described(item, hints[item.name]) for item in fields(kind))
    return _DESCRIBED[kind]


def _described(item: Field[Any], hint: Any) -> Described:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    (plain,) = (option for option in options if option is not types.NoneType)
    known = item.metadata
    return Described(
        attribute=item.name,
        name=known.get("name") or wire_name(item.name),
        type=plain,
        nullable=len(options) > 1,
        label=known.get("label", ""),
        hint=known.get("hint", ""),
        settable=known.get("settable", False),
        shown=known.get("shown", True),
        derived=known.get("derived", False),
        mandatory=known.get("mandatory", False),
        most=known.get("most"),
        span=known.get("span"),
        lines=known.get("lines", False),
        like=known.get("like"),
        default=item.default_factory() if item.default_factory is not MISSING else item.default,
    )


def wire_name(attribute: str) -> str:
    """`license_type` -> `licenseType`: the field's name in JSON and in the table."""
    head, *tail = attribute.split("_")
    return head + "".join(word.capitalize() for word in tail)


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, always of the same length: texts in this form sort as the instants do."""
    try:
        at = at.astimezone(UTC)
    except OverflowError:  # up to a day before the first instant there is, or after the last
        at = datetime.min.replace(tzinfo=UTC) if at.year == 1 else datetime.max.replace(tzinfo=UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


# Out.


def render(item: Any) -> dict[str, Any]:
    """The dataclass as JSON knows it: what is shown of it, and what is shown of what is in it."""
    return {each.name: _rendered(getattr(item, each.attribute)) for each in described(type(item)) if each.shown}


def _rendered(held: Any) -> Any:
    if isinstance(held, datetime):
        return instant(held)
    if isinstance(held, date):
        return held.isoformat()
    if isinstance(held, tuple | list):
        return [_rendered(each) for each in held]
    if isinstance(held, Mapping):
        return {str(key): _rendered(each) for key, each in held.items()}
    if is_dataclass(held):
        return render(held)
    return held


# In.


_EMPTY_AS_TEXT = (date, datetime, int)
"""The types that an empty text clears."""


def parse(kind: type, body: Any) -> dict[str, Any]:
    """What the JSON object says of the settable fields, by attribute; what it does not name is left out.

    Fields that are only shown may stand in it, and are passed over. Raises MalformedRequest where it is no object, and
    RuleBroken naming each field that is unknown, missing, or not of its type. null means: as if it were not there; but
    only of what could be there. "" means null for a date, an instant and a number: flows of the Power Platform leave
    out what is null.
    """
    given = dict(_object(body))
    faults: list[FieldError] = []
    found: dict[str, Any] = {}
    for each in described(kind):
        held = given.pop(each.name, None) if each.shown else None
        if held == "" and each.type in _EMPTY_AS_TEXT:
            held = None
        if held is None and each.mandatory and each.most is None:
            faults.append(FieldError(each.name, "mandatory", f"Fill in {each.label}."))
        elif held is not None and each.settable:
            try:
                found[each.attribute] = _read(each.type, held)
            except ValueError as error:
                faults.append(FieldError(each.name, "wrongType", f"{each.label or each.name}: {error}"))
            else:
                faults += span_faults(each, found[each.attribute])
    # Half a surrogate pair, that JSON can name, no answer can hold.
    unknown = [name[:128].encode(errors="replace").decode() for name in given]
    faults += [FieldError(name, "unknownField", "There is no such field.") for name in unknown]
    if faults:
        raise RuleBroken(" ".join(fault.message for fault in faults[:10]), errors=faults[:100])
    return found


def span_faults(known: Described, held: Any) -> list[FieldError]:
    """What is wrong with the number, if anything."""
    if known.span is None or held is None or known.span[0] <= held <= known.span[1]:
        return []
    least, most = known.span
    return [FieldError(known.name, "outOfRange", f"{known.label} is a number from {least:,} to {most:,}.")]


def merged(item: Any, patch: Any) -> dict[str, Any]:
    """What all settable fields are, once the JSON merge patch (RFC 7396) is applied to what is shown of the item.

    What the patch takes away has its default. Raises as `parse` does.
    """
    defaults = {each.attribute: each.default for each in described(type(item)) if each.settable}
    try:
        whole = _merged(render(item), _object(patch))
    except RecursionError:
        raise MalformedRequest("The patch is nested too deeply.") from None
    return defaults | parse(type(item), whole)


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    before = target if isinstance(target, dict) else {}
    result = before | {name: _merged(before.get(name), held) for name, held in patch.items()}
    # What is to be taken away and is not there stays: `parse` tells whether it could be.
    return {name: held for name, held in result.items() if held is not None or name not in before}


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise MalformedRequest("Send one JSON object.")
    return body


def _read(kind: Any, held: Any) -> Any:
    """The value as the type holds it. Raises ValueError with the end of a sentence."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(held, list):
            raise ValueError("a list is needed.")
        return tuple(_read(typing.get_args(kind)[0], each) for each in held)
    if origin is Mapping:
        if not isinstance(held, dict):
            raise ValueError("an object is needed.")
        keys, values = typing.get_args(kind)
        known = {_read(keys, key): each for key, each in held.items()}
        return {key: _read(values, each) for key, each in known.items() if each is not None}
    read: Callable[[Any, Any], Any] = _READERS.get(kind, _choice)
    return read(held, kind)


def _whole_number(held: Any, _: type) -> int:
    # JSON knows no integers of its own: 5.0 is five. true is no number, and 1e999 is infinite.
    if isinstance(held, bool) or not (isinstance(held, int) or (isinstance(held, float) and held.is_integer())):
        raise ValueError("a whole number is needed.")
    return int(held)


def _day(held: Any, _: type) -> date:
    if not isinstance(held, str) or not _DATE.fullmatch(held):
        raise ValueError("a date is needed, as 2026-11-24: without a time, and without a time zone.")
    try:
        return date.fromisoformat(held)
    except ValueError:
        raise ValueError("there is no such day.") from None


def _instant(held: Any, _: type) -> datetime:
    try:
        at = datetime.fromisoformat(held)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError("an instant is needed, as 2026-11-24T02:00:00Z: with its time zone.")
    return at.astimezone(UTC)


def _plain(what: str) -> Callable[[Any, type], Any]:
    def read(held: Any, kind: type) -> Any:
        if not isinstance(held, kind):
            raise ValueError(f"{what} is needed.")  # noqa: TRY004 - what `parse` expects
        return held

    return read


def _choice(held: Any, kind: type[StrEnum]) -> StrEnum:
    if held not in list(kind):
        raise ValueError(f"choose one of {', '.join(kind)}.")
    return kind(held)


_READERS: dict[type, Callable[[Any, Any], Any]] = {
    str: _plain("a text"),
    bool: _plain("true or false"),
    int: _whole_number,
    date: _day,
    datetime: _instant,
}
