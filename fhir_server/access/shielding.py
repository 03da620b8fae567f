"""Hidden elements: taken out of answers, and the search keys that would tell of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from search.clauses import Between, Body, Chain, Clause, Every, Has, OneOf, Some, Without
from search.params import TYPE_CODES, Atom, Parameter, Registry
from search.places import Place, Route
from search.query import Query
from search.words import ELSEWHERE, NARRATIVE

KEY = 5
# What no key can tell: a check on the body, and the words of a resource.
WHOLE = frozenset({"body", NARRATIVE, ELSEWHERE})


def without_elements(resource: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A copy without the elements (`Patient.contact.telecom`) and their extensions (`_birthDate`), marked SUBSETTED.

    The narrative goes with them: it may say in words what they say.
    """
    kind = resource["resourceType"]
    paths = [name.split(".")[1:] for name in names if name.split(".")[0] == kind]
    made = resource
    for path in paths:
        made = _without(made, path)
    if made is resource:
        return resource
    meta = made.get("meta", {})
    tags = [tag for tag in meta.get("tag", ()) if tag.get("code") != SUBSETTED["code"]]
    plain = {name: value for name, value in made.items() if name != "text"}
    return plain | {"meta": meta | {"tag": [*tags, SUBSETTED]}}


def without_inside(node: Any, names: Collection[str]) -> Any:
    """The same of a resource and of every resource within it: contained, in a Bundle, in Parameters."""
    if isinstance(node, list):
        return [without_inside(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: without_inside(value, names) for name, value in node.items()}
    return without_elements(made, names) if isinstance(made.get("resourceType"), str) else made


def without_links(query: Query, keys: Collection[str]) -> Query:
    """The query without includes along what is hidden."""
    kept = (
        replace(each, parameters=tuple(row for row in each.parameters if not set(row.keys) & set(keys)))
        for each in query.includes
    )
    return replace(query, includes=tuple(each for each in kept if each.parameters))


SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def _without(node: Any, path: list[str]) -> Any:
    if isinstance(node, list):
        return [_without(item, path) for item in node]
    if not isinstance(node, dict):
        return node
    name, rest = path[0], path[1:]
    if not rest:
        gone = {key for key in node if key.lstrip("_") == name or _is_choice(key.lstrip("_"), name)}
        return {key: value for key, value in node.items() if key not in gone} if gone else node
    return node | {name: _without(node[name], rest)} if name in node else node


def _is_choice(key: str, name: str) -> bool:
    """`deceased[x]` in a policy is `deceasedBoolean` in JSON."""
    return name.endswith("[x]") and key.startswith(name[:-3]) and key[len(name) - 3 : len(name) - 2].isupper()


def hidden_keys(kind: str, names: Collection[str], registry: Registry) -> frozenset[str]:
    """The keys of search entries that are made from the elements, and what no key can tell."""
    paths = [tuple(name.removesuffix("[x]").split(".")[1:]) for name in names if name.split(".")[0] == kind]
    if not paths:
        return frozenset()
    pairs = ((parameter, atom) for parameter in registry.of(kind) for atom in parameter.atoms)
    return WHOLE.union(
        (atom.key for parameter, atom in pairs if any(_looks_at(place, paths) for place in _places(parameter, atom))),
        _computed(registry),
    )


def _computed(registry: Registry) -> Iterator[str]:
    """The keys of any type that only FHIRPath finds values for: it may look anywhere, at contained resources too.

    No parameter of R4 is one, so most servers have none.
    """
    plain = Registry.r4().rows
    own = [row for url, row in registry.rows.items() if row is not plain.get(url)]
    made = (registry.bound(row, base if base in TYPE_CODES else "Basic") for row in own for base in row.bases)
    for parameter in made:
        for atom in parameter.atoms:
            if any(place.expression for place in _places(parameter, atom)):
                yield atom.key


def _places(parameter: Parameter, atom: Atom) -> Iterator[Place]:
    """Where the values under a key come from: those of a component too, unless they lie below."""
    yield atom.place
    for component in parameter.components:
        absolute = component.expression.startswith("%resource")
        yield from (inner.place for inner in component.atoms if absolute or inner.place.expression)


def _looks_at(place: Place, paths: list[tuple[str, ...]]) -> bool:
    """Whether a place lies in, above or below one of the paths; where only FHIRPath can tell, it may."""
    own = (steps for route in place.routes for steps in _paths(route))
    return bool(place.expression) or any(_meets(steps, path) for steps in own for path in paths)


def _paths(route: Route) -> Iterator[tuple[str, ...]]:
    """The way of a route, and the elements by which it chooses (`telecom.where(system = 'phone')`)."""
    names = tuple(step.name for step in route.steps)
    yield (route.type.removeprefix("flag:"),) if route.type.startswith("flag:") else names
    for at, step in enumerate(route.steps, 1):
        yield from ((*names[:at], test.name) for test in step.tests if test.name)


def _meets(own: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return all(a == b or a.startswith(b) for a, b in zip(own, path, strict=False))


def keys_of(query: Query) -> set[str]:
    """The keys a query looks at: in its condition, chains and `_has` with it, its sort and its includes."""
    found = set(_keys(query.where))
    found.update(atom.key for sort in query.sort if sort.parameter for atom in sort.parameter.atoms)
    found.update(atom.key for each in query.includes for parameter in each.parameters for atom in parameter.atoms)
    return found


def _keys(clause: Clause) -> Iterator[str]:
    match clause:
        case OneOf(texts):
            yield from (text[:KEY] for text in texts)
        case Between(low=low):
            yield low[:KEY]
        case Body():
            yield "body"
        case Every(clauses) | Some(clauses):
            for part in clauses:
                yield from _keys(part)
        case Without(part):
            yield from _keys(part)
        case Chain(keys=keys, where=where) | Has(keys=keys, where=where):
            yield from keys
            yield from _keys(where)
        case _:
            yield from getattr(clause, "keys", ())
