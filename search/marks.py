"""What is contained in a resource, as entries of the container and as clauses on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from search.clauses import (
    ALWAYS,
    NEVER,
    Between,
    Chain,
    Clause,
    Every,
    Kinds,
    OneOf,
    Resource,
    Some,
    every,
    some,
    starting,
)

# Before the entries of a contained resource, which stand with those of the container.
MARK = "="


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


def containing(chain: Chain) -> Clause:
    """What the entries of a resource must have, at least, for a chain to end in what it contains."""
    if chain.inside is None:
        return NEVER
    return every((some(starting(f"{key}#") for key in chain.keys), marked(chain.inside)))


def referred_to(chain: Chain, resource: Resource, entries: Sequence[str]) -> Iterator[Resource]:
    """The contained resources of the chain's target type that the resource refers to."""
    for inner in held(resource):
        if inner.get("resourceType") == chain.target and any(k + name_inside(inner) in entries for k in chain.keys):
            yield inner


def held(resource: Resource) -> Iterator[Resource]:
    """What a resource has inside: what it contains, and the Composition or MessageHeader that a Bundle begins with."""
    yield from resource.get("contained", ())
    if resource["resourceType"] == "Bundle":
        firsts = [entry.get("resource", {}) for entry in resource.get("entry", ())[:1]]
        yield from (first for first in firsts if first.get("resourceType") in FIRST)


# Their parameters give "access to search its contents" (http://hl7.org/fhir/R4/bundle.html#search).
FIRST = frozenset({"Composition", "MessageHeader"})


def name_inside(inner: Resource) -> str:
    """What refers to a resource within the same document."""
    return f"#{inner.get('id', '')}"
