"""The values a parameter has in a resource, for what no entry can answer and for the parts of composites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from profiles.fhirpath import FhirPathError
from profiles.fhirpath import compile as compile_path
from profiles.fhirpath.steps import LIKE
from search.clauses import Body, Resource
from search.params import Atom, Parameter
from search.places import Place, Route, Step, Test

Typed = tuple[str, Any]


def values(resource: Resource, parameter: Parameter) -> Iterator[Typed]:
    """(FHIR type, value) for every value of the parameter."""
    for atom in parameter.atoms:
        yield from at_place(resource, atom.place)


def at_place(root: Resource, place: Place) -> Iterator[Typed]:
    """(FHIR type, value) at a place, seen from its root."""
    if place.expression:
        yield from evaluated(place.expression)(root)
    for route in place.routes:
        yield from ((route.type, value) for value in at_route(root, route))


def evaluated(expression: str) -> Callable[[Resource], list[Typed]]:
    """What finds the values of an expression; none in a resource on which it fails, as that is no fault of the
    resource.
    """
    evaluate = compile_path(expression)

    def find(resource: Resource) -> list[Typed]:
        try:
            nodes = evaluate(resource)
        except FhirPathError:
            return []
        return [(OWN_TYPES.get(node.type, node.type), node.value) for node in nodes if node.value is not None]

    return find


# What functions such as count() and exists() give, as the types that elements have.
OWN_TYPES = LIKE | {"System.Quantity": "Quantity"}


def at_route(root: Resource, route: Route) -> Iterator[Any]:
    found: list[Any] = [root]
    for step in route.steps:
        found = [child for parent in found for child in _children(parent, step)]
    yield from found


def _children(parent: Any, step: Step) -> list[Any]:
    value = parent.get(step.name) if isinstance(parent, dict) else None
    items = value if isinstance(value, list) else [] if value is None else [value]
    for test in step.tests:
        items = PASSES[test.how](items, test)
    return [item for item in items if item is not None]


def _extension_urls(item: Any) -> list[str]:
    return [e.get("url", "") for e in item.get("extension", ())] if isinstance(item, dict) else []


PASSES: dict[str, Callable[[list[Any], Test], list[Any]]] = {
    "equals": lambda items, t: [i for i in items if i.get(t.name) == t.values[0]],
    "differs": lambda items, t: [i for i in items if i.get(t.name) not in t.values],
    "extension": lambda items, t: [i for i in items if i.get("url") == t.values[0]],
    "has-extension": lambda items, t: [i for i in items if t.values[0] in _extension_urls(i)],
    "first": lambda items, t: items[:1],
}


def holds(parameter: Parameter, name: str, test: Callable[[Any], bool]) -> Body:
    """Some value of the parameter passes the test."""

    def check(resource: Resource) -> bool:
        return any(test(value) for _, value in values(resource, parameter))

    return Body(check, f"{parameter.code} {name}")


def atom_values(resource: Resource, atom: Atom) -> Iterator[Typed]:
    return at_place(resource, atom.place)
