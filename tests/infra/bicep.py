"""What a Bicep file declares and refers to, read by its grammar. No compiler: it knows no types."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

REPOSITORY = Path(__file__).resolve().parent.parent.parent
INFRA = REPOSITORY / "infra"
MAIN = INFRA / "main.bicep"
_PARSER = Parser(Language(tree_sitter_bicep.language()))
_DECLARATIONS = ("parameter", "variable", "resource", "module", "output")


def text(node: Node | None) -> str:
    return node.text.decode() if node is not None and node.text else ""


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def object_of(node: Node) -> Node:
    """The object that a declaration is made of, behind its condition or loop."""
    return next(each for each in walk(node) if each.type == "object")


def entries(node: Node) -> dict[str, Node]:
    """The properties of an object, by name."""
    pairs = (each.named_children for each in node.named_children if each.type == "object_property")
    return {text(pair[0]).strip("'"): pair[1] for pair in pairs}


@dataclass(frozen=True)
class Bicep:
    path: Path

    @cached_property
    def root(self) -> Node:
        return _PARSER.parse(self.path.read_bytes()).root_node

    @cached_property
    def faults(self) -> list[str]:
        bad = (each for each in walk(self.root) if each.type == "ERROR" or each.is_missing)
        return [f"{self.path.name}:{each.start_point.row + 1}: {text(each)[:60]}" for each in bad]

    def _declared(self, kind: str) -> dict[str, Node]:
        found = (each for each in walk(self.root) if each.type == f"{kind}_declaration")
        return {text(each.named_children[0]): each for each in found}

    @cached_property
    def declared(self) -> dict[str, dict[str, Node]]:
        """By kind, then by symbol."""
        return {kind: self._declared(kind) for kind in _DECLARATIONS}

    @cached_property
    def mandatory(self) -> set[str]:
        return {name for name, node in self.declared["parameter"].items() if " = " not in text(node)}

    @cached_property
    def symbols(self) -> set[str]:
        loops = {text(each) for each in walk(self.root) if each.type in {"loop_variable", "loop_enumerator"}}
        loops |= {text(each.named_children[0]) for each in walk(self.root) if each.type == "for_statement"}
        return loops.union(*(self.declared[kind] for kind in _DECLARATIONS if kind != "output"))

    def module_file(self, symbol: str) -> "Bicep":
        name = text(self.declared["module"][symbol].named_children[1]).strip("'")
        return Bicep((self.path.parent / name).resolve())

    @cached_property
    def resource_types(self) -> list[tuple[str, str]]:
        """Type and API version of every resource."""
        named = (text(each.named_children[1]).strip("'") for each in self.declared["resource"].values())
        return [(kind, version) for kind, _, version in (each.partition("@") for each in named)]

    @cached_property
    def functions(self) -> set[str]:
        return {text(each.named_children[0]) for each in walk(self.root) if each.type == "call_expression"}

    def references(self, node: Node) -> set[str]:
        """The symbols that an expression names. Not names of properties, functions or what is declared."""
        return {text(each) for each in walk(node) if each.type == "identifier" and _is_expression(each)}

    def outputs_used(self) -> set[tuple[str, str]]:
        """Module and output, wherever one is read."""
        return set(re.findall(r"\b(\w+)\.outputs\.(\w+)", text(self.root)))


def _is_expression(node: Node) -> bool:
    parent = node.parent
    if parent is None or parent.named_children[0] != node:
        return True
    return not (parent.type.endswith("_declaration") or parent.type in {"object_property", "call_expression"})


FILES = [Bicep(path) for path in sorted(INFRA.rglob("*.bicep"))]
