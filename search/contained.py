"""`_contained`: searches inside contained resources (http://hl7.org/fhir/R4/search.html#contained).

Their entries stand with those of the container behind a `=`; whether they belong to one and the same contained
resource, only the body tells.
"""

from __future__ import annotations

from profiles.outcome import FhirError
from search.clauses import Body, Clause, OneOf, Resource, every, some
from search.entries import entries
from search.marks import MARK, marked
from search.matches import Subject, matches
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
    return every((kinds, marked(query.inside), check))


def fitting(resource: Resource, query: Query, registry: Registry) -> list[Resource]:
    """The contained resources that match."""
    found = [c for c in resource.get("contained", ()) if c.get("resourceType") in (query.types or TYPE_CODES)]
    return [c for c in found if matches(query.inside, entries(c, registry), c, too_far, resource)]


def too_far(part: Clause, subject: Subject) -> bool:
    """What other resources decide is looked up before contained ones are asked, where that is few."""
    raise FhirError("too-costly", "_contained: too many other resources would have to be looked at; add criteria")
