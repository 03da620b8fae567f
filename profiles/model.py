"""The type model of FHIR R4: what every type contains (compiled by scripts/build_definitions.py).

Inner elements are types named by their path (`Patient.contact`); a content reference names the path it repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

import msgspec

from profiles.json import parse
from profiles.tables import read_block, read_table

T = TypeVar("T")


class Binding(msgspec.Struct, frozen=True, array_like=True):
    """The value set an element is bound to; `most` is the outer limit of an extensible or preferred binding, or ""."""

    strength: str
    value_set: str
    most: str


class Element(msgspec.Struct, frozen=True, array_like=True):
    """One element of a type (http://hl7.org/fhir/R4/elementdefinition.html)."""

    name: str  # without [x]
    path: str
    min: int
    max: int | None  # None is *
    types: tuple[str, ...]  # FHIR type names; empty where `ref` is set
    targets: tuple[str, ...]  # what a Reference may point at; ("Resource",) is any
    canonicals: tuple[str, ...]  # what a canonical may point at
    profiles: tuple[str, ...]  # profiles on the type, such as SimpleQuantity
    binding: Binding | None
    ref: str | None  # contentReference: the path whose content this element repeats
    is_choice: bool
    is_modifier: bool
    is_summary: bool
    is_attribute: bool  # written as an attribute in XML
    rules: tuple[str, ...]  # keys into INVARIANTS, ele-* and ext-* left out
    max_length: int | None


class Type(msgspec.Struct, frozen=True, array_like=True):
    """A type: kind is `resource`, `complex-type`, `primitive-type` or `inner`; `elements` are its own only."""

    kind: str
    base: str | None
    abstract: bool
    rules: tuple[str, ...]
    elements: tuple[Element, ...]


class Invariant(msgspec.Struct, frozen=True, array_like=True):
    severity: str
    text: str
    expression: str
    best_practice: bool


class SearchParameter(msgspec.Struct, frozen=True, array_like=True):
    """A base search parameter; `components` are (definition url, expression) pairs of a composite."""

    url: str
    id: str
    code: str
    type: str
    bases: tuple[str, ...]
    expression: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]


class _Tables(msgspec.Struct, frozen=True):
    types: dict[str, Type]
    invariants: dict[str, Invariant]


@dataclass(frozen=True, slots=True)
class Field:
    """A JSON property: its element, and the type of its content (`HumanName`, `Patient.contact`, `string`)."""

    element: Element
    type: str


def _table(name: str, shape: type[T]) -> T:
    return msgspec.json.decode(read_table(name), type=shape)


_tables = _table("types.json.zst", _Tables)
TYPES: dict[str, Type] = _tables.types
INVARIANTS: dict[str, Invariant] = _tables.invariants
RESOURCE_TYPES = frozenset(n for n, t in TYPES.items() if t.kind == "resource" and not t.abstract)
PRIMITIVES = frozenset(n for n, t in TYPES.items() if t.kind == "primitive-type")
SEARCH_PARAMETERS: tuple[SearchParameter, ...] = _table("search.json.zst", tuple[SearchParameter, ...])
# Compartment -> resource type -> codes of the parameters that link a resource to it; absent types are not in it.
COMPARTMENTS: dict[str, dict[str, list[str]]] = _table("compartments.json.zst", dict[str, dict[str, list[str]]])


def base_of(type_name: str) -> str | None:
    """The type this one specializes: `DomainResource` for `Patient`, `BackboneElement` for `Patient.contact`."""
    row = TYPES.get(type_name)
    return row.base if row else None


@cache
def ancestors(type_name: str) -> tuple[str, ...]:
    """The type itself and what it specializes, nearest first."""
    base = base_of(type_name)
    return (type_name, *ancestors(base)) if base else (type_name,)


def is_a(type_name: str, ancestor: str) -> bool:
    return ancestor in ancestors(type_name)


@cache
def elements(type_name: str) -> dict[str, Element]:
    """All elements of a type by name (choices without [x]), inherited ones first, in the order of the specification."""
    row = TYPES.get(type_name)
    if row is None:
        return {}
    inherited = elements(row.base) if row.base else {}
    return inherited | {e.name: e for e in row.elements}


def element(type_name: str, child_name: str) -> Element | None:
    """The element called `child_name` (`value`, not `valueQuantity`), or None."""
    return elements(type_name).get(child_name)


def content_type(child: Element, type_name: str) -> str:
    """The type whose elements the content of `child` has: the path itself for inner elements."""
    if child.ref:
        return child.ref
    return child.path if type_name in ("BackboneElement", "Element") and child.path in TYPES else type_name


def choice_name(name: str, type_name: str) -> str:
    """The JSON name of a choice: `value` and `dateTime` give `valueDateTime`."""
    return name + type_name[0].upper() + type_name[1:]


@cache
def fields(type_name: str) -> dict[str, Field]:
    """JSON property name -> Field, with a row for each type of a choice."""
    found: dict[str, Field] = {}
    for child in elements(type_name).values():
        for kind in child.types or (child.ref or "",):
            name = choice_name(child.name, kind) if child.is_choice else child.name
            found[name] = Field(child, content_type(child, kind))
    return found


def field(type_name: str, json_name: str) -> Field | None:
    return fields(type_name).get(json_name)


class _Index(msgspec.Struct, frozen=True):
    blocks: list[int]
    kinds: dict[str, dict[str, tuple[str, int, int, int]]]


@cache
def _index() -> _Index:
    return _table("index.json.zst", _Index)


@lru_cache(maxsize=2)  # 4 MB each, read in 6 ms: neighbours are mostly asked for together
def _block(number: int) -> bytes:
    sizes = _index().blocks
    return read_block("definitions.zst", sum(sizes[:number]), sizes[number])


@cache
def definition_urls(kind: str) -> dict[str, str]:
    """Canonical url -> id of the official definitions of a kind (`StructureDefinition`, `ValueSet` ...)."""
    return {row[0]: id_ for id_, row in _index().kinds.get(kind, {}).items()}


def definition_body(kind: str, key: str) -> bytes | None:
    """The JSON text of an official definition, by id or canonical url (a version after | is not looked at)."""
    rows = _index().kinds.get(kind, {})
    row = rows.get(key) or rows.get(definition_urls(kind).get(key.split("|")[0], ""))
    return _block(row[1])[row[2] : row[2] + row[3]] if row else None


def definition(kind: str, key: str) -> dict[str, Any] | None:
    """An official definition as published, but for its generated narrative; a fresh copy that the caller may change."""
    body = definition_body(kind, key)
    found = parse(body) if body else None
    return found if isinstance(found, dict) else None


def definitions(kind: str) -> Iterator[dict[str, Any]]:
    """All official definitions of a kind, in the order of their files."""
    for key in _index().kinds.get(kind, {}):
        found = definition(kind, key)
        if found is not None:
            yield found


@cache
def required_codes() -> dict[str, dict[str, frozenset[str]]]:
    """ValueSet url -> system -> codes, for value sets of required bindings; grammars (MIME types) are left out."""
    return _table("codes.json.zst", dict[str, dict[str, frozenset[str]]])


@cache
def expansions() -> dict[str, tuple[bool, dict[str, list[tuple[str, str]]]]]:
    """ValueSet url -> (complete, system -> [(code, display)]): published expansions, SNOMED CT left out."""
    return _table("expansions.json.zst", dict[str, tuple[bool, dict[str, list[tuple[str, str]]]]])
