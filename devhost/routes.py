"""Routes as ASP.NET Core matches them: pure, from a path and a method to what is registered there.

Segment by segment a literal goes before a parameter, and a catch-all comes last. Where one leads nowhere, the next
best is tried. Left out of ASP.NET's templates, and refused at start: constraints (`{x:int}`), default values (`{x=1}`)
and more than one thing in a segment (`{name}.{extension}`).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from devhost.errors import StartError

_SEGMENT = re.compile(r"(?:\{[^{}]*\}|[^/{}])+")
_PARAMETER = re.compile(r"\{(?P<all>\*{0,2})(?P<name>\w+)(?P<optional>\??)\}")


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
    parameter: "_Node[T] | None" = None
    catch_all: "_Node[T] | None" = None
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
        if match["all"]:
            node.catch_all = node.catch_all or _Node()
            self._insert(node.catch_all, rest, longer)
        else:
            node.parameter = node.parameter or _Node()
            self._insert(node.parameter, rest, longer)


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
        if segment and node.parameter is not None:
            found = _find(node.parameter, segments, index + 1, end, (*values, segment), method)
            if found:
                return found
    if node.catch_all is None:
        return None
    rest = "/".join(segments[index:])
    # Nothing left to catch is no value: the parameter is missing then.
    return _find(node.catch_all, segments, end, end, (*values, rest) if rest else values, method)
