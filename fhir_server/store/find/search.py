"""The state of one search: what is looked for, from where, until when, and what was found out on the way."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bson import Timestamp

from fhir_server.store.records import Document, Stored, stored_of
from profiles import model
from profiles.json import decode
from profiles.outcome import FhirError, Issue
from search.clauses import ALWAYS, Clause, Kinds, every, some
from search.params import Registry
from search.plan import Plan
from search.query import Query

BATCH = 200


class Access(Protocol):
    """What the caller may see of a type.

    `sought` says how the search comes to it: by looking for what refers to something, as `_has` and `_revinclude` do,
    and not by following a reference to it.
    """

    def __call__(self, kind: str, sought: bool = False, /) -> Clause: ...


Terms = Callable[[str, str], Awaitable[Sequence[tuple[str, str]]]]


@dataclass(slots=True)
class Found:
    """One page. `next`, `prev` and `first` are payloads for page links, None where there is no such page."""

    matches: list[Stored]
    included: list[Stored] = field(default_factory=list)
    total: int | None = None
    next: dict[str, Any] | None = None
    prev: dict[str, Any] | None = None
    first: dict[str, Any] | None = None
    warnings: list[Issue] = field(default_factory=list)
    explanation: dict[str, Any] | None = None
    scores: dict[str, float] = field(default_factory=dict)  # by name, when the order is that of the scores


@dataclass(slots=True)
class Search:
    """One search under way."""

    source: Any
    reads: Any
    query: Query
    registry: Registry
    access: Access | None
    terms: Terms | None
    deadline: float
    clause: Clause = ALWAYS
    plan: Plan | None = None
    ran: tuple[Mapping[str, Any], dict[str, Any]] | None = None  # the find that read a stretch of an order
    begun: float = field(default_factory=time.monotonic)
    counted: int | None = None  # how many match, as far as that was found out with the page
    warnings: list[Issue] = field(default_factory=list)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the documents that are looked at: any, where something contained is looked for."""
        return self.query.types if self.query.contained == "false" else ()

    @property
    def is_ranked(self) -> bool:
        """Whether scores decide the order."""
        return any(key.code == "_score" for key in self.query.sort)

    def remaining(self) -> int:
        """Milliseconds left; FhirError when there are none."""
        return left_until(self.deadline)


def left_until(deadline: float) -> int:
    """Milliseconds until the deadline of a search; FhirError when it is over."""
    left = int((deadline - time.monotonic()) * 1000)
    if left <= 0:
        raise too_costly()
    return left


def too_costly() -> FhirError:
    text = "The search takes too long; add a more selective parameter, such as patient, identifier or a date range."
    return FhirError("too-costly", text)


def reads_of(store: Any, at: Timestamp | None) -> Any:
    """Reads at one snapshot; a transaction is one already."""
    return store.snapshot(at) if hasattr(store, "snapshot") else store


def by_sight(types: Sequence[str], access: Callable[[str], Clause]) -> dict[Clause, list[str]]:
    """The types of which the caller sees the same part."""
    kinds: dict[Clause, list[str]] = {}
    for name in types:
        kinds.setdefault(access(name), []).append(name)
    return kinds


def seen_by(clause: Clause, types: Sequence[str], access: Access | None) -> Clause:
    """The clause with what the caller may see of each type."""
    if access is None:
        return clause
    if len(types) == 1:  # which the clause speaks of
        return every((clause, access(types[0])))
    kinds = by_sight(types or sorted(model.RESOURCE_TYPES), access)
    if len(kinds) == 1 and ALWAYS in kinds:
        return clause
    return every((clause, some(every((Kinds(tuple(names)), allowed)) for allowed, names in kinds.items())))


async def filled(search: Search, found: list[Stored]) -> list[Stored]:
    """Bodies that are too large for a document are read from where they are."""
    return [await search.source.fill(s) if s.blob is not None else s for s in found]


async def resource_of(search: Search, row: Document) -> dict[str, Any]:
    """The resource of a document, parsed: only for what no entry can answer."""
    stored = (await filled(search, [stored_of(row)]))[0]
    resource = decode(stored.body or b"{}")
    assert isinstance(resource, dict)
    return resource
