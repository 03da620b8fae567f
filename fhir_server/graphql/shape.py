"""The output as `@flatten`, `@singleton` and `@slice` shape it (R4 graphql.html#flattening)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    get_named_type,
    visit,
)

from profiles.outcome import FhirError

SHAPING = frozenset(("flatten", "singleton", "slice"))
Place = tuple[str | int, ...]


class Used(Visitor):
    """The directives of a document, and the type of each of its fields."""

    def __init__(self, info: TypeInfo) -> None:
        super().__init__()
        self.info = info
        self.types: dict[int, str] = {}
        self.directives: set[str] = set()

    def enter_field(self, node: FieldNode, *rest: Any) -> None:
        """Note both."""
        kind = self.info.get_type()
        self.types[id(node)] = get_named_type(kind).name if kind else ""
        self.directives |= {directive.name.value for directive in node.directives or ()}


def shaped(
    data: dict[str, Any],
    operation: OperationDefinitionNode,
    document: DocumentNode,
    schema: GraphQLSchema,
    suffixes: Mapping[Place, list[str]],
) -> dict[str, Any]:
    """The data as the directives say; the same where there are none."""
    info = TypeInfo(schema)
    used = Used(info)
    visit(document, TypeInfoVisitor(info, used))
    if SHAPING.isdisjoint(used.directives):
        return data
    rows = (row for row in document.definitions if isinstance(row, FragmentDefinitionNode))
    shaping = Shaping({row.name.value: row for row in rows}, used.types, suffixes)
    made = Made()
    shaping.fill(made, [operation.selection_set], data, (), False, "")
    return made.data


@dataclass(slots=True)
class Made:
    """An object that is being made, and the type of what came into each of its properties."""

    data: dict[str, Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: Any, type: str, listed: bool, single: bool) -> None:
        """One value more; FhirError where a property would get two types, or two values instead of one."""
        if self.types.setdefault(name, type) != type:
            raise _unfit(f"{name} would have values of the types {self.types[name]} and {type}")
        if listed and not single:
            self.data.setdefault(name, []).extend(() if value is None else (value,))
        elif self.data.get(name) is not None and value is not None:
            raise _unfit(f"{name} would have more than one value")
        elif value is not None or name not in self.data:
            self.data[name] = value


def _unfit(text: str) -> FhirError:
    return FhirError("invalid", f"The directives do not fit: {text}.", "query")


@dataclass(frozen=True, slots=True)
class Shaping:
    """One answer that is being shaped."""

    fragments: Mapping[str, FragmentDefinitionNode]
    types: Mapping[int, str]
    suffixes: Mapping[Place, list[str]]

    def fill(self, made: Made, chosen: list[Any], data: dict[str, Any], place: Place, many: bool, tail: str) -> None:
        """Put the selected properties into an object; `many` below a flattened list, `tail` below a sliced one."""
        for name, nodes in self._fields(chosen, data).items():
            value, here = data[name], (*place, name)
            named = {directive.name.value for node in nodes for directive in node.directives or ()}
            listed = isinstance(value, list)
            tails = self.suffixes.get(here, ())
            for number, item in enumerate(value if isinstance(value, list) else [value]):
                own = f"{tail}.{tails[number]}" if number < len(tails) else tail
                inner = [node.selection_set for node in nodes if node.selection_set]
                spot = (*here, number) if listed else here
                if "flatten" in named and isinstance(item, dict):
                    self.fill(made, inner, item, spot, many or listed, own)
                elif "flatten" not in named:
                    part = self._made(inner, item, spot) if isinstance(item, dict) else item
                    made.add(name + own, part, self.types.get(id(nodes[0]), ""), many or listed, "singleton" in named)
            if value == [] and "flatten" not in named:
                made.data.setdefault(name + tail, None if "singleton" in named else [])

    def _made(self, chosen: list[Any], data: dict[str, Any], place: Place) -> dict[str, Any]:
        made = Made()
        self.fill(made, chosen, data, place, False, "")
        return made.data

    def _fields(self, chosen: list[Any], data: Mapping[str, Any]) -> dict[str, list[FieldNode]]:
        """The fields that are in the data, by the name of their answer."""
        found: dict[str, list[FieldNode]] = {}
        for node in self._written_out(chosen):
            name = (node.alias or node.name).value
            if name in data:
                found.setdefault(name, []).append(node)
        return found

    def _written_out(self, chosen: list[Any]) -> Iterator[FieldNode]:
        for selection in chosen:
            for node in selection.selections:
                if isinstance(node, FieldNode):
                    yield node
                elif isinstance(node, FragmentSpreadNode):
                    yield from self._written_out([self.fragments[node.name.value].selection_set])
                else:
                    yield from self._written_out([node.selection_set])
