"""Routes as ASP.NET Core matches them: pure, from a path and a method to what is registered there.

Segment by segment a literal goes before a parameter with constraints, that before one without, and a
catch-all comes last; where a way leads nowhere, the next best is tried. Left out of ASP.NET's templates, and
refused at start: default values (`{x=1}`) and more than one thing in a segment (`{name}.{extension}`).
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from devhost.errors import StartError

type Check = Callable[[str], bool]

# Up to the next slash outside of braces; within a regex constraint a brace is written twice.
_SEGMENT = re.compile(r"(?:\{(?:[^{}]|\{\{|\}\})*\}|[^/{}])+")
_PARAMETER = re.compile(
    r"\{(?P<all>\*{0,2})(?P<name>\w+)(?P<checks>(?::[a-z]+(?:\(.*?\))?(?=[:?}]))*)(?P<optional>\??)\}",
    re.IGNORECASE,
)
_CHECK = re.compile(r":([a-z]+)(?:\((.*?)\))?(?=:|$)", re.IGNORECASE)
_GUID = re.compile(
    r"[0-9a-f]{32}|(?P<open>[{(])?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(open)[})])", re.IGNORECASE
)
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Match[T]:
    """What is registered for a request, and the values of its route's parameters by name."""

    target: T
    parameters: dict[str, str]


@dataclass(slots=True)
class _Leaf[T]:
    template: str
    methods: frozenset[str]  # empty: every method
    names: tuple[str, ...]
    target: T


@dataclass(slots=True)
class _Node[T]:
    literals: dict[str, "_Node[T]"] = field(default_factory=dict)
    parameters: dict[str, tuple[Check, "_Node[T]"]] = field(default_factory=dict)  # by their constraints, as written
    catch_alls: dict[str, tuple[Check, "_Node[T]"]] = field(default_factory=dict)
    leaves: list[_Leaf[T]] = field(default_factory=list)


class RouteTable[T]:
    """All routes of an app."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: str, methods: Collection[str], target: T) -> None:
        """Register `target` for `methods`, every method if there are none.

        Raises StartError for a template that cannot be read, and where another has the same route and method.
        """
        segments = _SEGMENT.findall(template.strip("/"))
        if "/".join(segments) != template.strip("/"):
            raise StartError(f"{target}: the route {template!r} cannot be read.")
        leaf = _Leaf(template, frozenset(method.upper() for method in methods), (), target)
        self._insert(self._root, segments, leaf)

    def find(self, path: str, method: str) -> Match[T] | None:
        """Return what answers `method` on `path`: that is decoded, but for %2F, and starts with a slash."""
        segments = path[1:].split("/")
        # One slash at the end makes no difference, but to a catch-all, which keeps it.
        end = len(segments) - (not segments[-1])
        return _find(self._root, segments, 0, end, (), method)

    def _insert(self, node: _Node[T], segments: Sequence[str], leaf: _Leaf[T]) -> None:
        if not segments:
            _add_leaf(node, leaf)
            return
        segment, *rest = segments
        if "{" not in segment:
            self._insert(node.literals.setdefault(segment.lower(), _Node()), rest, leaf)
            return
        match = _PARAMETER.fullmatch(segment)
        if not match or ((match["optional"] or match["all"]) and rest):
            raise StartError(f"{leaf.target}: {segment!r} in the route {leaf.template!r} is not understood here.")
        if match["optional"]:
            _add_leaf(node, leaf)
        longer = _Leaf(leaf.template, leaf.methods, (*leaf.names, match["name"]), leaf.target)
        children = node.catch_alls if match["all"] else node.parameters
        if match["checks"] not in children:
            children[match["checks"]] = (_parse_checks(match["checks"], leaf), _Node())
            # A parameter with constraints is tried before one without.
            ordered = sorted(children.items(), key=lambda item: not item[0])
            children.clear()
            children.update(ordered)
        self._insert(children[match["checks"]][1], rest, longer)


def _add_leaf[T](node: _Node[T], leaf: _Leaf[T]) -> None:
    for other in node.leaves:
        if not other.methods or not leaf.methods or other.methods & leaf.methods:
            raise StartError(
                f"{other.target} and {leaf.target} are on one route: {other.template!r}, {leaf.template!r}."
            )
    node.leaves.append(leaf)


def _find[T](  # noqa: PLR0913, PLR0917 - the state of the walk, passed on rather than kept
    node: _Node[T], segments: list[str], index: int, end: int, values: tuple[str, ...], method: str
) -> Match[T] | None:
    if index >= end:
        for leaf in node.leaves:
            if not leaf.methods or method in leaf.methods:
                return Match(leaf.target, dict(zip(leaf.names, values, strict=False)))
    else:
        segment = segments[index]
        child = node.literals.get(segment.lower())
        if child and (found := _find(child, segments, index + 1, end, values, method)):
            return found
        if segment:
            for check, child in node.parameters.values():
                if check(segment) and (found := _find(child, segments, index + 1, end, (*values, segment), method)):
                    return found
    rest = "/".join(segments[index:])
    for check, child in node.catch_alls.values():
        # Nothing left to catch is no value: the parameter is missing then.
        caught = (*values, rest) if rest else values
        if (not rest or check(rest)) and (found := _find(child, segments, end, end, caught, method)):
            return found
    return None


def _parse_checks[T](text: str, leaf: _Leaf[T]) -> Check:
    checks = []
    for name, argument in _CHECK.findall(text):
        try:
            checks.append(_CHECKS[name.lower()](argument.replace("{{", "{").replace("}}", "}")))
        except KeyError:
            raise StartError(
                f"{leaf.target}: the constraint {name!r} in the route {leaf.template!r} is not known here. "
                f"Known are: {', '.join(_CHECKS)}."
            ) from None
        except (ValueError, re.error) as error:
            raise StartError(
                f"{leaf.target}: the constraint {name!r} in the route {leaf.template!r}: {error}."
            ) from None
    return lambda value: all(check(value) for check in checks)


def _pattern(pattern: re.Pattern[str]) -> Callable[[str], Check]:
    return lambda _: lambda value: pattern.fullmatch(value) is not None


def _whole(low: int, high: int) -> Check:
    return lambda value: _INTEGER.fullmatch(value) is not None and low <= int(value) <= high


def _length(low: int, high: float) -> Check:
    return lambda value: low <= len(value) <= high


def _numbers(argument: str) -> tuple[int, int]:
    """Return both numbers of "1,5", and the one of "5" twice."""
    numbers = [int(part) for part in argument.split(",")]
    return numbers[0], numbers[-1]


def _regex(argument: str) -> Check:
    # As in .NET: found anywhere in the value, in any case, unless the expression says otherwise.
    pattern = re.compile(argument, re.IGNORECASE)
    return lambda value: pattern.search(value) is not None


_LONG = 2**63
_CHECKS: dict[str, Callable[[str], Check]] = {
    "alpha": _pattern(re.compile(r"[a-z]*", re.IGNORECASE)),
    "bool": _pattern(re.compile(r"true|false", re.IGNORECASE)),
    "guid": _pattern(_GUID),
    "int": lambda _: _whole(-(2**31), 2**31 - 1),
    "length": lambda argument: _length(*_numbers(argument)),
    "long": lambda _: _whole(-_LONG, _LONG - 1),
    "max": lambda argument: _whole(-_LONG, int(argument)),
    "maxlength": lambda argument: _length(0, int(argument)),
    "min": lambda argument: _whole(int(argument), _LONG - 1),
    "minlength": lambda argument: _length(int(argument), float("inf")),
    "range": lambda argument: _whole(*_numbers(argument)),
    "regex": _regex,
    "required": lambda _: bool,
}
