"""`_contained`: searches inside contained resources (http://hl7.org/fhir/R4/search.html#contained).

Their entries stand with those of the container behind a `=`; whether they belong to one and the same contained
resource, only the body tells.
"""

from __future__ import annotations

from dataclasses import replace

from search.clauses import ALWAYS, Between, Body, Clause, Every, Kinds, OneOf, Resource, Some, every, some
from search.entries import MARK, entries
from search.matches import matches
from search.params import TYPE_CODES, Registry
from search.query import Query


def searched(query: Query, registry: Registry) -> Clause:
    """The clause of a query, on contained resources, on others or on both as it asks."""
    if query.contained == "false":
        return query.clauses
    inside = containers(query, registry)
    return inside if query.contained == "true" else some((query.clauses, inside))


def containers(query: Query, registry: Registry) -> Clause:
    """Resources in which something contained is what the query asks for."""
    kinds = OneOf(tuple(MARK + TYPE_CODES[t] for t in query.types or sorted(TYPE_CODES)))
    check = Body(lambda resource: bool(fitting(resource, query, registry)), "a contained resource")
    return every((kinds, marked(query.where), check))


def fitting(resource: Resource, query: Query, registry: Registry) -> list[Resource]:
    """The contained resources that match."""
    found = [c for c in resource.get("contained", ()) if c.get("resourceType") in (query.types or TYPE_CODES)]
    return [c for c in found if matches(query.where, entries(c, registry), c)]


def marked(clause: Clause) -> Clause:
    """What the entries of a container must have, at least."""
    if isinstance(clause, OneOf):
        return OneOf(tuple(MARK + text for text in clause.texts))
    if isinstance(clause, Between):
        within = (clause.within[0] + 1, *clause.within[1:]) if clause.within else None
        return replace(clause, low=MARK + clause.low, high=MARK + clause.high, within=within)
    if isinstance(clause, Every):
        return every(marked(c) for c in clause.clauses if not isinstance(c, Kinds))
    if isinstance(clause, Some):
        return some(marked(c) for c in clause.clauses)
    return ALWAYS
