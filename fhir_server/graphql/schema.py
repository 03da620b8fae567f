"""The GraphQL schema, made from the type model piece by piece as documents ask for it (R4 graphql.html)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from graphql import (
    DirectiveLocation,
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLDirective,
    GraphQLField,
    GraphQLID,
    GraphQLInputField,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLString,
    specified_directives,
)

from fhir_server.graphql import resolvers
from fhir_server.graphql.lazy import Input, Lazy, Object, Schema
from fhir_server.graphql.names import ANY, FHIR_NAMES, arguments_of, referring, type_name
from fhir_server.graphql.scalars import ANY_INPUT, NATIVE, SCALARS, SEARCH, scalar
from profiles.model import PRIMITIVES, RESOURCE_TYPES, Field, fields
from search.params import Parameter, Registry

QUERY, MUTATION = "Query", "Mutation"
TAILS = ("List", "Connection")
VERBS = ("Create", "Update", "Delete")
PATH = GraphQLArgument(GraphQLNonNull(GraphQLString), description="FHIRPath on an element, or $index: the suffix.")
ON_FIELDS = (DirectiveLocation.FIELD,)
DIRECTIVES = (
    *specified_directives,
    GraphQLDirective("flatten", ON_FIELDS, description="Puts the children in the place of the field."),
    GraphQLDirective("first", ON_FIELDS, description="Takes the first of the elements."),
    GraphQLDirective("singleton", ON_FIELDS, description="One value and no list."),
    GraphQLDirective("slice", ON_FIELDS, {"path": PATH}, description="A name of its own for each element."),
)
COUNTS = ("count", "offset", "pagesize", "pageSize")
CURSORS = ("first", "previous", "next", "last")
NARROWED = {
    "fhirpath": GraphQLArgument(GraphQLString),
    "_count": GraphQLArgument(GraphQLInt),
    "_offset": GraphQLArgument(GraphQLInt),
}
REFERENCE = {"_reference": GraphQLArgument(GraphQLNonNull(GraphQLString))}
TEXT = {name: GraphQLArgument(GraphQLString) for name in ("_filter", "_sort")}


class Types:
    """All types for one registry; a brief pool, which describes the whole schema, leaves out reverse references."""

    def __init__(self, registry: Registry, brief: bool = False) -> None:
        self.registry = registry
        self.brief = brief
        self._held: dict[str, dict[str, GraphQLArgument]] = {}
        names = [QUERY, MUTATION, *FHIR_NAMES, *SCALARS, *(f"{name}Input" for name in FHIR_NAMES if name != ANY)]
        names += [f"{name}{tail}" for name in sorted(RESOURCE_TYPES) for tail in ("Connection", "Edge")]
        self.named: Lazy[Any] = Lazy(names, self._named)
        # The same for every type that is referred to: one for each would take half a gigabyte.
        found = [f"{name}{tail}" for name in RESOURCE_TYPES for tail in TAILS]
        self._reverse = Lazy(found, lambda name: self._search(name, REFERENCE))

    def schema(self, type: str) -> Schema:
        """The schema of the server, or with a type that of one resource."""
        return Schema(self.named, DIRECTIVES, type or QUERY, None if type else MUTATION)

    def _named(self, name: str) -> GraphQLNamedType:
        if name in SCALARS:
            return scalar(name)
        if name in (QUERY, MUTATION):
            return Object(name, self._queries if name == QUERY else self._mutations)
        if name == ANY:
            return GraphQLInterfaceType(name, lambda: dict(self._contents(ANY).items()), resolve_type=_type_of)
        fhir = FHIR_NAMES.get(name)
        if fhir is not None:
            interfaces = (lambda: (self.named[ANY],)) if fhir in RESOURCE_TYPES else None
            return Object(name, lambda: self._contents(fhir), interfaces)
        inner = FHIR_NAMES.get(name.removesuffix("Input")) if name.endswith("Input") else None
        return Input(name, lambda: self._inputs(inner)) if inner else Object(name, lambda: self._page(name))

    # Elements

    def _contents(self, fhir: str) -> Lazy[GraphQLField]:
        rows = fields(fhir)
        names = _properties(fhir, rows)
        if fhir == "Reference":
            names.append("resource")
        reverse = referring(self.registry, fhir) if fhir in RESOURCE_TYPES and not self.brief else ()
        names += [f"{name}{tail}" for name in sorted(reverse) for tail in TAILS]
        return Lazy(names, lambda name: self._content(fhir, rows, name))

    def _content(self, fhir: str, rows: Mapping[str, Field], name: str) -> GraphQLField:
        row = rows.get(name)
        if row is not None:
            return self._element(row)
        if name == "resourceType":
            return GraphQLField(GraphQLString)
        if name.startswith("_"):
            return GraphQLField(_listed(self.named["Element"], rows[name[1:]]))
        if name == "resource":
            arguments = {"optional": GraphQLArgument(GraphQLBoolean), "type": GraphQLArgument(GraphQLString)}
            return GraphQLField(self.named[ANY], arguments, resolvers.target)
        return self._reverse[name]

    def _element(self, row: Field) -> GraphQLField:
        if row.type not in PRIMITIVES:
            kind = _listed(self.named[type_name(row.type)], row)
            return GraphQLField(kind, self._filters(row.type), resolvers.elements(row.type))
        kind = _listed(NATIVE.get(row.type) or self.named[row.type], row)
        return (
            GraphQLField(kind, NARROWED, resolvers.elements(row.type)) if row.element.max != 1 else GraphQLField(kind)
        )

    def _filters(self, fhir: str) -> dict[str, GraphQLArgument]:
        """Arguments of a complex element: its simple properties, an expression, and a stretch of the list."""
        held = self._held.get(fhir)
        if held is None:
            rows = ((name, row.type) for name, row in fields(fhir).items() if row.type in PRIMITIVES)
            own = {name: GraphQLArgument(NATIVE.get(kind) or self.named[kind]) for name, kind in rows}
            held = self._held[fhir] = own | NARROWED
        return held

    # Searches

    def _queries(self) -> Lazy[GraphQLField]:
        names = [f"{name}{tail}" for name in sorted(RESOURCE_TYPES) for tail in ("", *TAILS)]
        return Lazy(names, self._query)

    def _query(self, name: str) -> GraphQLField:
        if name in RESOURCE_TYPES:
            id = GraphQLArgument(GraphQLNonNull(GraphQLID))
            return GraphQLField(self.named[name], {"id": id}, resolvers.reading(name))
        paged = name.endswith("Connection")
        return self._search(name, {key: GraphQLArgument(GraphQLString) for key in ("_cursor", "cursor") if paged})

    def _search(self, name: str, more: dict[str, GraphQLArgument]) -> GraphQLField:
        paged = name.endswith("Connection")
        source = name.removesuffix("Connection" if paged else "List")
        rows = arguments_of(self.registry, source)
        arguments = more | {key: GraphQLArgument(self._argument(row)) for key, row in rows.items()} | TEXT | NARROWED
        kind = self.named[name] if paged else GraphQLList(self.named[source])
        return GraphQLField(kind, arguments, resolvers.searching(source, paged))

    def _argument(self, row: Parameter) -> Any:
        known = row.type in SEARCH or row.type in PRIMITIVES
        return GraphQLList(NATIVE.get(row.type) or self.named[row.type] if known else GraphQLString)

    def _page(self, name: str) -> Lazy[GraphQLField]:
        if name.endswith("Edge"):
            rows: dict[str, Any] = {"mode": GraphQLString, "score": self.named["decimal"]}
            rows["resource"] = self.named[name.removesuffix("Edge")]
        else:
            rows = {**dict.fromkeys(COUNTS, GraphQLInt), **dict.fromkeys(CURSORS, GraphQLString)}
            rows["edges"] = GraphQLList(self.named[name.removesuffix("Connection") + "Edge"])
        return Lazy(rows, lambda key: GraphQLField(rows[key]))

    # Mutations

    def _mutations(self) -> Lazy[GraphQLField]:
        return Lazy([f"{name}{verb}" for name in sorted(RESOURCE_TYPES) for verb in VERBS], self._mutation)

    def _mutation(self, name: str) -> GraphQLField:
        verb = next(verb for verb in VERBS if name.endswith(verb) and name.removesuffix(verb) in RESOURCE_TYPES)
        kind = name.removesuffix(verb)
        arguments = {} if verb == "Create" else {"id": GraphQLArgument(GraphQLNonNull(GraphQLID))}
        if verb == "Delete":
            return GraphQLField(GraphQLBoolean, arguments, resolvers.deleting(kind))
        arguments["res"] = GraphQLArgument(GraphQLNonNull(self.named[f"{kind}Input"]))
        return GraphQLField(self.named[kind], arguments, resolvers.writing(kind))

    def _inputs(self, fhir: str) -> Lazy[GraphQLInputField]:
        rows = fields(fhir)
        return Lazy(_properties(fhir, rows), lambda name: GraphQLInputField(self._input(rows, name)))

    def _input(self, rows: Mapping[str, Field], name: str) -> Any:
        row = rows.get(name)
        if row is None:
            return GraphQLString if name == "resourceType" else _listed(self.named["ElementInput"], rows[name[1:]])
        if row.type in PRIMITIVES:
            return _listed(NATIVE.get(row.type) or self.named[row.type], row)
        return _listed(self.named[ANY_INPUT if row.type == ANY else f"{type_name(row.type)}Input"], row)


@lru_cache(maxsize=256)
def schema_of(registry: Registry, type: str = "", brief: bool = False) -> Schema:
    """The schema of the server or of a type of resources."""
    return types_of(registry, brief).schema(type)


@lru_cache(maxsize=2)
def types_of(registry: Registry, brief: bool) -> Types:
    """The pool of types for a registry."""
    return Types(registry, brief)


def _type_of(value: Any, *rest: Any) -> str:
    return str(value["resourceType"])


def _listed(kind: Any, row: Field) -> Any:
    return kind if row.element.max == 1 else GraphQLList(kind)


def _properties(fhir: str, rows: Mapping[str, Field]) -> list[str]:
    """The properties in JSON, with the companions of primitives that carry their extensions."""
    names = ["resourceType"] if fhir in RESOURCE_TYPES or fhir == ANY else []
    return names + [name for row in rows for name in (row, f"_{row}") if name == row or _extends(rows[row])]


def _extends(row: Field) -> bool:
    return row.type in PRIMITIVES and row.type not in ("id", "xhtml") and row.element.name != "id"
