"""The registry of search parameters: what each code means on each type, and under which short keys its values stand.

Parameters that look at the same place share its key: `patient` and `subject`, `combo-code` and `code` with
`component-code`, membership of a compartment. So a value is written once, and the query asks for the keys it needs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from profiles import model
from profiles.outcome import FhirError
from search.places import Place, places, relative

# Values of the search parameter types, http://hl7.org/fhir/R4/search.html#ptypes.
TYPES = ("number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special")
COMPONENT = "_____"  # the key of a component, whose values are written under that of its composite
SHARED = "__"  # stands for the type in the keys of parameters that all types have
# Codes of these types come without their system, which follows from the value set.
BARE = frozenset({"code", "boolean", "flag:deceased"})
# The document itself tells: `_id`, and the instant of its last update.
UNWRITTEN = frozenset({"_id", "_lastUpdated"})

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Atom:
    """A place whose values are written under one key of five characters."""

    key: str
    kind: str
    place: Place

    @property
    def single(self) -> bool:
        """Whether a resource has at most one value here; the types of one choice exclude each other."""
        paths = {tuple(s.element for s in r.steps) for r in self.place.routes}
        return len(paths) == 1 and all(r.single for r in self.place.routes)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter as it is on one resource type.

    `keys` are those of its places, `bare` (key, type, value set) of elements whose codes come without their system.
    """

    code: str
    type: str
    url: str
    base: str
    expression: str
    targets: tuple[str, ...]
    atoms: tuple[Atom, ...]
    components: tuple[Parameter, ...] = ()
    bases: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(init=False, compare=False, repr=False)
    bare: tuple[tuple[str, str, str], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(dict.fromkeys(a.key for a in self.atoms)))
        bare = ((a.key, r.type, r.value_set) for a in self.atoms for r in a.place.routes if r.type in BARE)
        object.__setattr__(self, "bare", tuple(dict.fromkeys(bare)))

    @property
    def key(self) -> str:
        """The key of its first place, which is often the only one."""
        return self.atoms[0].key

    @property
    def value_types(self) -> frozenset[str]:
        """The FHIR types its values can have."""
        return frozenset(r.type for a in self.atoms for r in a.place.routes)


@dataclass(frozen=True, slots=True)
class Row:
    """A SearchParameter as defined."""

    url: str
    code: str
    type: str
    bases: tuple[str, ...]
    expression: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]


class Registry:
    """All parameters of a server; never changed, `with_parameters` makes another one."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {row.url: row for row in rows}
        self._of: dict[str, dict[str, Parameter]] = {}
        self.extractors: dict[str, Any] = {}  # what `entries` made for a type
        self._abouts: dict[str, Atom] = {}
        self._by_base: dict[str, list[Row]] = {}
        for row in self.rows.values():
            for base in row.bases:
                self._by_base.setdefault(base, []).append(row)

    @staticmethod
    def r4() -> Registry:
        """The parameters of FHIR R4."""
        return _r4()

    def with_parameters(self, resources: Sequence[Mapping[str, Any]]) -> Registry:
        """This registry and more SearchParameter resources; one with a known url or code takes its place."""
        rows = [row_of(resource) for resource in resources]
        return Registry([*self.rows.values(), *rows])

    def lookup(self, type_name: str, code: str) -> Parameter | None:
        """The parameter called `code` on the type."""
        return self._table(type_name).get(code)

    def of(self, type_name: str) -> list[Parameter]:
        """Every parameter of the type, in the order of their codes."""
        return [p for _, p in sorted(self._table(type_name).items())]

    def compartment(self, name: str, type_name: str) -> list[Parameter]:
        """The parameters that put a resource of the type into the compartment `name`."""
        codes = model.COMPARTMENTS.get(name, {}).get(type_name, ())
        return [p for code in codes if (p := self.lookup(type_name, code)) is not None]

    def in_compartment(self, name: str, type_name: str) -> bool:
        """Whether resources of the type can be in the compartment at all."""
        return type_name == name or bool(model.COMPARTMENTS.get(name, {}).get(type_name))

    def about(self, key: str) -> Atom | None:
        """The place that is written under a key; None for keys of words."""
        known = self._abouts
        if key not in known:
            for name in [TYPE_OF_CODE[key[:2]]] if key[:2] in TYPE_OF_CODE else ["Resource", "DomainResource"]:
                known.update((a.key, a) for p in self.of(name) for a in p.atoms)
        return known.get(key)

    def _table(self, type_name: str) -> dict[str, Parameter]:
        table = self._of.get(type_name)
        if table is None:
            rows = [row for base in reversed(model.ancestors(type_name)) for row in self._by_base.get(base, ())]
            table = self._of[type_name] = {}
            for row in rows:
                table[row.code] = self.bound(row, type_name)
        return table

    def bound(self, row: Row, type_name: str) -> Parameter:
        """The parameter that a row makes on a type."""
        kind = "sound" if row.code == "phonetic" and row.type == "string" else row.type
        components = tuple(self._component(row, url, expression, type_name) for url, expression in row.components)
        found = _atoms(row, type_name, kind, components)
        return Parameter(
            row.code, kind, row.url, type_name, row.expression, row.targets, tuple(found), components, row.bases
        )

    def _component(self, row: Row, url: str, expression: str, type_name: str) -> Parameter:
        """A component: the values at its expression, compared as the parameter it names."""
        named = self.rows.get(url.split("|")[0])
        if named is None:
            raise FhirError(
                "invalid", f"SearchParameter {row.url}: component {url} is not known", "SearchParameter.component"
            )
        atoms = []
        for place in places(row.expression, type_name, "composite"):
            for route in place.routes:
                root = type_name if expression.startswith("%resource.") else route.type
                atoms += [Atom(COMPONENT, named.type, p) for p in relative(expression, root, named.type)]
        return Parameter(
            named.code, named.type, named.url, type_name, expression, named.targets, tuple(dict.fromkeys(atoms))
        )


def _atoms(row: Row, type_name: str, kind: str, components: tuple[Parameter, ...]) -> list[Atom]:
    if not row.expression or row.code in UNWRITTEN:
        return []
    found = places(row.expression, type_name, kind)
    owner = owner_of(row, type_name)
    parts = "".join(f"${c.type}:{c.expression}" for c in components)
    return [Atom(_key(owner, kind, place.name + parts), kind, place) for place in found]


def owner_of(row: Row, type_name: str) -> str:
    """The type in the key; what all resources have is written without it."""
    shared = {"Resource", "DomainResource"}.intersection(row.bases)
    return SHARED if shared else TYPE_CODES[type_name]


_RELATION = "http://hl7.org/fhir/SearchParameter/DocumentReference-"
# R4 swaps the expressions of these two components; R5 has them right.
CORRECTED = {
    f"{_RELATION}relationship": ((f"{_RELATION}relatesto", "target"), (f"{_RELATION}relation", "code")),
}


# R4 has no parameter for the language of a resource; later releases do, under this url.
LANGUAGE = Row(
    "http://hl7.org/fhir/SearchParameter/Resource-language",
    "_language",
    "token",
    ("Resource",),
    "Resource.language",
    (),
    (),
)

# The resource that decides who may see a Binary: R4 has the element and no parameter for it.
SECURITY_CONTEXT = Row(
    "urn:fhir-server:SearchParameter:Binary-security-context",
    "security-context",
    "reference",
    ("Binary",),
    "Binary.securityContext",
    (),
    (),
)


@cache
def _r4() -> Registry:
    rows = [
        Row(p.url, p.code, p.type, p.bases, p.expression, p.targets, CORRECTED.get(p.url, p.components))
        for p in model.SEARCH_PARAMETERS
    ]
    return Registry([*rows, LANGUAGE, SECURITY_CONTEXT])


@cache
def _key(owner: str, kind: str, place: str) -> str:
    """Two characters for the type, three for the place: a hash, so that it never depends on the other parameters."""
    number = int.from_bytes(hashlib.blake2b(f"{kind}:{place}".encode(), digest_size=6).digest(), "big")
    text = ""
    for _ in range(3):
        number, digit = divmod(number, 62)
        text += _LETTERS[digit]
    return owner + text


def _type_codes() -> dict[str, str]:
    """`Patient` -> `Pa`: two letters of the name, the first free pair in the order of the names."""
    codes: dict[str, str] = {}
    for name in sorted(model.RESOURCE_TYPES):
        pairs = [name[0] + c for c in name[1:] + _LETTERS]
        codes[name] = next(p for p in pairs if p not in codes.values())
    return codes


TYPE_CODES = _type_codes()
TYPE_OF_CODE = {code: name for name, code in TYPE_CODES.items()}


_CHOICE = re.compile(r"\.value([A-Z]\w*)")


def _of_type(found: re.Match[str]) -> str:
    """`.valueDateTime`, the property of the JSON, as the element that FHIRPath knows: published profiles write so."""
    kinds = (found[1], found[1][0].lower() + found[1][1:])
    kind = next((kind for kind in kinds if kind in model.TYPES), None)
    return found[0] if kind is None else f".value.ofType({kind})"


def row_of(resource: Mapping[str, Any]) -> Row:
    """The row of a SearchParameter resource (http://hl7.org/fhir/R4/searchparameter.html), with what it lacks named."""
    missing = [n for n in ("url", "code", "type", "base") if not resource.get(n)]
    if missing:
        raise FhirError("required", f"A SearchParameter needs {', '.join(missing)}", f"SearchParameter.{missing[0]}")
    kind = resource["type"]
    if kind not in TYPES:
        raise FhirError(
            "value", f"Unknown search parameter type {kind!r}; one of {', '.join(TYPES)}", "SearchParameter.type"
        )
    components = tuple((c["definition"], c["expression"]) for c in resource.get("component", ()))
    return Row(
        resource["url"],
        resource["code"],
        kind,
        tuple(resource["base"]),
        _CHOICE.sub(_of_type, resource.get("expression", "")),
        tuple(resource.get("target", ())),
        components,
    )
