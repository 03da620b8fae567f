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
    walk,
)
from search.filters import widened
from search.params import TYPE_CODES

# Before the entries of a contained resource, which stand with those of the container.
MARK = "="


def marked(clause: Clause) -> Clause:
    """What the entries of a container must have, at least."""
    if isinstance(clause, OneOf):
        return OneOf(tuple(MARK + text for text in clause.texts))
    if isinstance(clause, Between):
        within = (clause.within[0] + 1, *clause.within[1:]) if clause.within else None
        return replace(clause, low=MARK + clause.low, high=MARK + clause.high, within=within)
    if isinstance(clause, Kinds):
        return OneOf(tuple(MARK + TYPE_CODES[kind] for kind in clause.types))
    if isinstance(clause, Every):
        return every(marked(c) for c in clause.clauses)
    if isinstance(clause, Some):
        return some(marked(c) for c in clause.clauses)
    return _marked_chain(clause) if isinstance(clause, Chain) else ALWAYS


def _marked_chain(chain: Chain) -> Clause:
    """The same for a chain that goes on from something contained: to what is stored, or within the document."""
    if chain.where != NEVER:
        return some(starting(MARK + key) for key in chain.keys)
    if chain.inside is None:
        return NEVER
    beside = every((some(starting(f"{MARK}{key}#") for key in chain.keys), marked(chain.inside)))
    container = OneOf(tuple(f"{MARK}{key}#" for key in chain.keys))
    return some((beside, every((container, Kinds((chain.target,)), widened(chain.inside)))))


def unmarked(entries: Sequence[str]) -> list[str]:
    """The entries of a resource with those of all that it contains, as if they were its own."""
    return [entry.removeprefix(MARK) for entry in entries]


def containing(chain: Chain) -> Clause:
    """What the entries of a resource must have, at least, for a chain to end in what it contains."""
    if chain.inside is None:
        return NEVER
    return every((some(starting(f"{key}#") for key in chain.keys), marked(chain.inside)))


def within(chain: Chain) -> Clause:
    """The chain as far as it does not leave the document."""
    return NEVER if chain.inside in (None, NEVER) else replace(chain, where=NEVER)


def leaving(clause: Clause) -> Iterator[Chain]:
    """The chains that go on from something contained to what is stored."""
    for part in walk(clause):
        if isinstance(part, Chain) and part.inside is not None:
            yield from (c for c in walk(part.inside) if isinstance(c, Chain) and c.where != NEVER)
            yield from leaving(part.inside)


def referred_to(chain: Chain, home: Resource, entries: Sequence[str]) -> Iterator[Resource]:
    """What these entries refer to of the chain's target type in a document: what it contains, and as `#` itself."""
    for inner in held(home):
        if inner.get("resourceType") == chain.target and any(k + name_inside(inner) in entries for k in chain.keys):
            yield inner
    if home["resourceType"] == chain.target and any(f"{key}#" in entries for key in chain.keys):
        yield home


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
