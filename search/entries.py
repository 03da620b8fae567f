"""The search entries of a resource: one pass over its JSON, with what to write at each property compiled per type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profiles.outcome import FhirError
from search.marks import MARK, held
from search.params import TYPE_CODES, Atom, Parameter, Registry
from search.places import Route, Step
from search.types import EMIT
from search.types.composite import emit_composite, parts_of
from search.types.reference import local
from search.types.rows import Add, Emit, presence
from search.walks import PASSES, at_route, evaluated
from search.words import add_words

# A resource with more values than this is refused: it would cost every later write and search (attack P21).
MOST = 20_000
# Each of their codes is one, and a code system may have 100,000.
MOST_CODES = 250_000
TERMINOLOGY = frozenset(("CodeSystem", "ValueSet", "ConceptMap"))

Extractor = Callable[[dict[str, Any], Add, str], None]


def entries(resource: dict[str, Any], registry: Registry, local_base: str | None = None) -> list[str]:
    """Sorted unique entries for `s`; `local_base` is the server's own url, references to it are written as relative.

    Raises FhirError `too-long` for more than 20,000 entries, 250,000 of a definition of codes.
    """
    kind = resource["resourceType"]
    found: set[str] = {TYPE_CODES[kind]}
    _extractor_of(registry, kind)(resource, found.add, local_base or "")
    add_words(resource, found.add)
    if "contained" in resource or kind == "Bundle":
        _add_held(resource, registry, found.add, local_base or "")
    most = MOST_CODES if kind in TERMINOLOGY else MOST
    if len(found) > most:
        raise FhirError(
            "too-long", f"The resource has {len(found)} searchable values; the most is {most}", kind, status=422
        )
    return sorted(found)


def _add_held(resource: dict[str, Any], registry: Registry, add: Add, base: str) -> None:
    for inner in held(resource):
        kind = inner.get("resourceType")
        if kind in TYPE_CODES:
            found: set[str] = {TYPE_CODES[kind]}
            _extractor_of(registry, kind)(inner, found.add, base)
            for text in found:
                add(MARK + text)


def compartment(resource: dict[str, Any], registry: Registry | None = None, local_base: str = "") -> str:
    """The value of `p`: the patient whose compartment the resource is in, or its own name where there is none."""
    kind = resource["resourceType"]
    own = f"{kind}/{resource['id']}"
    if kind == "Patient":
        return own
    rows = (registry or Registry.r4()).compartment("Patient", kind)
    routes = [r for p in rows for a in p.atoms for r in a.place.routes if r.type == "Reference"]
    for route in routes:
        patient = _first_patient(resource, route, local_base)
        if patient:
            return patient
    return own


def _first_patient(resource: dict[str, Any], route: Route, base: str) -> str:
    for value in at_route(resource, route):
        here = local(value.get("reference", ""), base)
        if here and here[0] == "Patient":
            return f"Patient/{here[1]}"
    return ""


class _Branch:
    """A property on the way: what is written here, and what lies below it."""

    __slots__ = ("below", "emits", "rooted")

    def __init__(self) -> None:
        self.below: dict[Step, _Branch] = {}
        self.emits: list[Emit] = []
        self.rooted: list[Callable[[Any, Any, Add, str], None]] = []

    def at(self, steps: tuple[Step, ...]) -> _Branch:
        branch = self
        for step in steps:
            branch = branch.below.setdefault(step, _Branch())
        return branch


def _extractor_of(registry: Registry, kind: str) -> Extractor:
    found: Extractor | None = registry.extractors.get(kind)
    if found is None:
        found = registry.extractors[kind] = extractor(registry, kind)
    return found


def extractor(registry: Registry, type_name: str) -> Extractor:
    """The compiled extraction of a type; parameters that share a place write it once."""
    root = _Branch()
    seen: set[str] = set()
    computed: list[Extractor] = []
    for parameter in registry.of(type_name):
        for atom in parameter.atoms:
            if atom.key not in seen:
                seen.add(atom.key)
                _plant(root, computed, parameter, atom)
    walk = _walker(root)

    def extract(resource: dict[str, Any], add: Add, base: str) -> None:
        walk(resource, resource, add, base)
        for compute in computed:
            compute(resource, add, base)

    return extract


def _plant(root: _Branch, computed: list[Extractor], parameter: Parameter, atom: Atom) -> None:
    if atom.place.expression:
        computed.append(_by_fhirpath(atom))
    for route in atom.place.routes:
        branch = root.at(route.steps)
        if atom.kind == "composite":
            branch.rooted.append(emit_composite(atom.key, parts_of(parameter)))
        else:
            _plant_value(branch, atom, route.type)


def _plant_value(branch: _Branch, atom: Atom, type_name: str) -> None:
    if type_name == "Extension":
        branch.emits.append(_of_extension(atom))
    else:
        branch.emits.append(EMIT.get((atom.kind, type_name), presence)(atom.key))


def _of_extension(atom: Atom) -> Emit:
    """The value of an extension, whatever its type."""

    def emit(value: Any, add: Add, base: str) -> None:
        for name, inner in value.items():
            if name.startswith("value"):
                type_name = name[5:] if (atom.kind, name[5:]) in EMIT else name[5:6].lower() + name[6:]
                EMIT.get((atom.kind, type_name), presence)(atom.key)(inner, add, base)

    return emit


def _by_fhirpath(atom: Atom) -> Extractor:
    find = evaluated(atom.place.expression)

    def extract(resource: dict[str, Any], add: Add, base: str) -> None:
        for type_name, value in find(resource):
            emit = EMIT.get((atom.kind, type_name))
            if emit is not None:
                emit(atom.key)(value, add, base)

    return extract


Walk = Callable[[Any, Any, Add, str], None]


def _walker(branch: _Branch) -> Walk:
    """A function (element, resource, add, base) that writes the entries of an element and of all below it."""
    table: dict[str, list[Walk]] = {}
    for step, child in branch.below.items():
        table.setdefault(step.name, []).append(_visitor(step, child))
    visits = {name: walks[0] if len(walks) == 1 else _all(walks) for name, walks in table.items()}
    emits, rooted = tuple(branch.emits), tuple(branch.rooted)
    find = visits.get

    def walk(element: Any, root: Any, add: Add, base: str) -> None:
        for emit in emits:
            emit(element, add, base)
        for compose in rooted:
            compose(element, root, add, base)
        if visits and type(element) is dict:
            for name, value in element.items():
                visit = find(name)
                if visit is not None:
                    visit(value, root, add, base)

    return walk if rooted or visits or len(emits) != 1 else _only(emits[0])


def _only(emit: Emit) -> Walk:
    """The commonest branch, one value to write and nothing below it, without loops."""

    def walk(element: Any, root: Any, add: Add, base: str) -> None:
        emit(element, add, base)

    return walk


def _all(walks: list[Walk]) -> Walk:
    def visit(value: Any, root: Any, add: Add, base: str) -> None:
        for walk in walks:
            walk(value, root, add, base)

    return visit


def _visitor(step: Step, branch: _Branch) -> Walk:
    """What to do with the value of a property, which is one element or a list of them."""
    walk = _walker(branch)

    def visit(value: Any, root: Any, add: Add, base: str) -> None:
        if type(value) is list:
            for item in value:
                if item is not None:
                    walk(item, root, add, base)
        else:
            walk(value, root, add, base)

    def visit_tested(value: Any, root: Any, add: Add, base: str) -> None:
        items = value if type(value) is list else [value]
        for test in step.tests:
            items = PASSES[test.how](items, test)
        for item in items:
            walk(item, root, add, base)

    return visit_tested if step.tests else visit
