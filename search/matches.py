"""Clauses on one resource in memory, for subscriptions, scopes and access; `filters` says the same to MongoDB."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.clauses import (
    NEVER,
    Among,
    Between,
    Body,
    Chain,
    Clause,
    Coded,
    Every,
    Has,
    Ids,
    Kept,
    Kinds,
    Listed,
    Named,
    OneOf,
    Resource,
    Some,
    Updated,
    Without,
    walk,
)
from search.filters import KEY
from search.marks import referred_to
from search.values import span


@dataclass(frozen=True, slots=True)
class Subject:
    """A resource as clauses see it: its sorted entries, and itself.

    `linked` answers what other resources decide (chains, `_has`, terminology, lists); without it they are an error.
    `home` is what contains the resource, where something does: its references with `#` are to what is in there.
    """

    entries: Sequence[str]
    resource: Resource
    linked: Callable[[Clause, Subject], bool] | None = None
    home: Resource | None = None


def matches(
    clause: Clause,
    entries: Sequence[str],
    resource: Resource,
    linked: Callable[[Clause, Subject], bool] | None = None,
    home: Resource | None = None,
) -> bool:
    """Whether the clause holds for the resource with these sorted entries."""
    return holds(clause, Subject(entries, resource, linked, home))


def holds(clause: Clause, subject: Subject) -> bool:
    return HOLDS[type(clause)](clause, subject)


def _one_of(clause: OneOf, subject: Subject) -> bool:
    found = subject.entries
    return any((at := bisect_left(found, t)) < len(found) and found[at] == t for t in clause.texts)


def _between(clause: Between, subject: Subject) -> bool:
    found = subject.entries
    start, end = bisect_left(found, clause.low), bisect_left(found, clause.high)
    if not (clause.parts or clause.tail or clause.within):
        return start < end
    return any(_fits(clause, text) for text in found[start:end])


def _fits(clause: Between, text: str) -> bool:
    at = KEY
    for part in clause.parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    if clause.tail and not (text.endswith(clause.tail) and len(text) - len(clause.tail) >= at):
        return False
    if clause.within is None:
        return True
    cut, low, high = clause.within
    return low <= text[cut:] < high


def _linked(clause: Clause, subject: Subject) -> bool:
    if subject.linked is None:
        raise LookupError(f"{type(clause).__name__} needs other resources")
    return subject.linked(clause, subject)


def _chain(chain: Chain, subject: Subject) -> bool:
    return _ends_inside(chain, subject) or (chain.where != NEVER and _linked(chain, subject))


def _ends_inside(chain: Chain, subject: Subject) -> bool:
    """Whether a contained resource is what the chain asks for (http://hl7.org/fhir/R4/search.html#contained)."""
    if chain.inside is None:
        return False
    home = subject.resource if subject.home is None else subject.home
    found = referred_to(chain, home, subject.entries)
    return any(
        matches(chain.inside, chain.read(inner) if chain.read else (), inner, subject.linked, home) for inner in found
    )


def _updated(clause: Updated, subject: Subject) -> bool:
    text = subject.resource.get("meta", {}).get("lastUpdated")
    return bool(text) and clause.low <= span(text).low < clause.high


def name_of(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource.get('id', '')}"


HOLDS: dict[type, Callable[[Any, Subject], bool]] = {
    OneOf: _one_of,
    Between: _between,
    Every: lambda c, s: all(holds(part, s) for part in c.clauses),
    Some: lambda c, s: any(holds(part, s) for part in c.clauses),
    Without: lambda c, s: not holds(c.clause, s),
    Ids: lambda c, s: name_of(s.resource) in c.names,
    Kinds: lambda c, s: s.resource["resourceType"] in c.types,
    Named: lambda c, s: c.low <= name_of(s.resource) < c.high,
    Updated: _updated,
    Body: lambda c, s: c.check(s.resource),
    Among: lambda c, s: not c.texts.isdisjoint(s.entries),
    Chain: _chain,
    Has: _linked,
    Coded: _linked,
    Listed: _linked,
    Kept: lambda c, s: holds(c.clause, s),
}


# The same as one function, for a clause that is asked many times: a third of the time.

Test = Callable[[Sequence[str], Resource], bool]


def tested(clause: Clause) -> Test:
    """A function that says of entries and resource what `matches` says of them."""
    make = TESTS.get(type(clause))
    return make(clause) if make is not None else lambda entries, resource: matches(clause, entries, resource)


def _test_between(clause: Between) -> Test:
    low, high = clause.low, clause.high
    if clause.parts or clause.tail or clause.within:
        return lambda entries, resource: matches(clause, entries, resource)

    def test(entries: Sequence[str], resource: Resource) -> bool:
        start = bisect_left(entries, low)
        return start < len(entries) and entries[start] < high

    return test


def _test_every(clause: Every) -> Test:
    tests = tuple(map(tested, clause.clauses))

    def test(entries: Sequence[str], resource: Resource) -> bool:
        for each in tests:  # noqa: SIM110 - a generator costs as much as the tests
            if not each(entries, resource):
                return False
        return True

    return tests[0] if len(tests) == 1 else test


def _test_without(clause: Without) -> Test:
    inner = tested(clause.clause)
    return lambda entries, resource: not inner(entries, resource)


TESTS: dict[type, Callable[[Any], Test]] = {
    Between: _test_between,
    Every: _test_every,
    Without: _test_without,
    Kept: lambda clause: tested(clause.clause),
}

# What other resources decide.
LINKED = frozenset(kind for kind, how in HOLDS.items() if how is _linked)


def is_alone(clause: Clause) -> bool:
    """Whether a resource by itself decides the clause."""
    return not any(_needs_others(part) for part in walk(clause))


def _needs_others(part: Clause) -> bool:
    if isinstance(part, Chain):
        return part.where != NEVER or (part.inside is not None and not is_alone(part.inside))
    return type(part) in LINKED
