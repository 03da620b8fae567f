"""A parsed search on MongoDB: one page of matches at one state of the database, and what is sent along with it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bson import Timestamp

from fhir_server.store.find_explain import explained
from fhir_server.store.find_first import first_rows, is_first
from fhir_server.store.find_includes import included
from fhir_server.store.find_links import Links
from fhir_server.store.find_order import sorted_rows
from fhir_server.store.find_plan import MEASURED, MOST, estimated, leaves_many, plan, remember, remembered, walked
from fhir_server.store.find_rank import asks, ranked_rows
from fhir_server.store.reads import snapshot_of, snapshot_text
from fhir_server.store.records import Document, Stored, stored_of
from fhir_server.store.store import Store
from fhir_server.store.terms import terms_of
from profiles import model
from profiles.json import encode
from profiles.json import parse as parse_json
from profiles.outcome import FhirError, Issue
from search.clauses import ALWAYS, Chain, Clause, Has, Kinds, every, some, walk
from search.contained import fitting, searched
from search.filters import compile, is_seen, widened
from search.matches import matches
from search.page import Position, beyond, order
from search.params import Registry
from search.plan import Plan, candidates
from search.query import Query, Sort

DEFAULT_COUNT = 20
# Seconds a search may take before it is given up as too costly.
LIMIT = 5.0
BATCH = 200

Access = Callable[[str], Clause]
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
    links: Links | None = None
    plan: Plan | None = None
    ran: tuple[Mapping[str, Any], dict[str, Any]] | None = None  # the find that read a stretch of an order
    begun: float = field(default_factory=time.monotonic)
    counted: int | None = None  # how many match, as far as that was found out with the page
    warnings: list[Issue] = field(default_factory=list)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the documents that are looked at: any, where something contained is looked for."""
        return self.query.types if self.query.contained == "false" else ()

    def remaining(self) -> int:
        """Milliseconds left; FhirError when there are none."""
        left = int((self.deadline - time.monotonic()) * 1000)
        if left <= 0:
            raise too_costly()
        return left


def too_costly() -> FhirError:
    text = "The search takes too long; add a more selective parameter, such as patient, identifier or a date range."
    return FhirError("too-costly", text)


async def find(
    store: Any,
    query: Query,
    *,
    registry: Registry,
    cursor: Mapping[str, Any] | None = None,
    clauses: Sequence[Clause] = (),
    access: Access | None = None,
    terms: Terms | None = None,
    pending: Collection[str] = (),
    limit: float = LIMIT,
) -> Found:
    """One page of the query.

    `store` is a Store or a Transaction. `cursor` is a payload of an earlier page; `clauses` narrow the matches,
    `access` (type -> clause) narrows every type the search touches: matches, chains, `_has` and includes alike.
    `terms` answers `:in`, `:below` and `:above`; `pending` are parameters (urls) not yet written for all resources.
    Raises FhirError: `too-costly` after `limit` seconds, `expired` when
    the state a page link refers to is gone.
    """
    position = Position.of(cursor) if cursor and cursor.get("i") else None
    snapshot = cursor.get("t") if cursor else None
    reads = reads_of(store, snapshot_of(snapshot) if snapshot else None)
    search = Search(store, reads, query, registry, access, terms or _terms(store, registry), time.monotonic() + limit)
    search.links = Links(search)
    search.warnings += [unfinished(url) for url in sorted(query.parameters.intersection(pending))]
    try:
        return await _answer(search, position, clauses)
    except FhirError as error:
        raise too_costly() if error.code == "timeout" else error from None


def unfinished(url: str) -> Issue:
    """The warning that a parameter does not see older resources yet."""
    text = f"{url} is being indexed; resources that were stored before it may be missing."
    return Issue("warning", "incomplete", text)


def _terms(store: Any, registry: Registry) -> Terms | None:
    """The terminology of the store; a transaction has none of its own."""
    return terms_of(store, registry).codes if isinstance(store, Store) else None


async def _answer(search: Search, position: Position | None, clauses: Sequence[Clause]) -> Found:
    query = search.query
    assert search.links is not None
    inside = query.contained != "false"
    wanted = seen_by(searched(query, search.registry), () if inside else query.types, search.access)
    wanted = every((wanted, *clauses))
    if not is_seen(wanted):
        linked = any(isinstance(part, Chain | Has) for part in walk(wanted))
        search.links.few = linked and await _has_few(search, wanted)
        wanted = await search.links.resolved(wanted)
    search.clause = wanted
    if query.count == 0 or query.summary == "count":
        found = Found([], total=await total_of(search), warnings=search.warnings)
        found.explanation = await explained(search, 0) if query.explain else None
        return found
    return await _page(search, position)


async def _has_few(search: Search, clause: Clause) -> bool:
    """Whether the parts that entries answer leave so few candidates that links are best followed from them."""
    wide = widened(clause)
    return bool(candidates(wide)) and await estimated(search, wide) <= BATCH


def reads_of(store: Any, at: Timestamp | None) -> Any:
    """Reads at one snapshot; a transaction is one already."""
    return store.snapshot(at) if hasattr(store, "snapshot") else store


def seen_by(clause: Clause, types: Sequence[str], access: Access | None) -> Clause:
    """The clause with what the caller may see of each type."""
    if access is None:
        return clause
    kinds = by_sight(types or sorted(model.RESOURCE_TYPES), access)
    return every((clause, some(every((Kinds(tuple(names)), allowed)) for allowed, names in kinds.items())))


def by_sight(types: Sequence[str], access: Access) -> dict[Clause, list[str]]:
    """The types of which the caller sees the same part."""
    kinds: dict[Clause, list[str]] = {}
    for name in types:
        kinds.setdefault(access(name), []).append(name)
    return kinds


async def _page(search: Search, position: Position | None) -> Found:
    query = search.query
    count = DEFAULT_COUNT if query.count is None else query.count
    rows = await _rows(search, position, count + 1)
    backward = position is not None and position.backward
    more = len(rows) > count
    rows = rows[:count]
    if backward:
        rows.reverse()
    total = await _total(search, position, len(rows), more)
    snapshot = snapshot_text(search.reads.at) if getattr(search.reads, "at", None) else ""
    page = Found(await _shown(search, rows), total=total, warnings=search.warnings)
    if rows and (more if not backward else True):
        page.next = _beside(query.sort, rows[-1], False, snapshot, total)
    if rows and position is not None and (more if backward else True):
        page.prev = _beside(query.sort, rows[0], True, snapshot, total)
    page.first = {"t": snapshot}
    page.scores = {row["_id"]: row["score"] for row in rows if "score" in row}
    page.included = await included(search, rows)
    if query.explain:
        page.explanation = await explained(search, count + 1)
    return page


async def _shown(search: Search, rows: list[Document]) -> list[Stored]:
    """The matches as they are sent: for `_containedType=contained`, what is inside them."""
    found = await _filled(search, [stored_of(row) for row in rows])
    query = search.query
    if query.contained == "false" or query.contained_type == "container":
        return found
    shown: list[Stored] = []
    for stored in found:
        resource = parse_json(stored.body or b"{}")
        assert isinstance(resource, dict)
        itself = query.contained == "both" and matches(query.clauses, stored.entries, resource)
        shown += [stored] if itself else []
        inner = fitting(resource, query, search.registry)
        shown += [replace(stored, id=f"{stored.id}#{c.get('id', '')}", body=encode(c), entries=()) for c in inner]
    return shown


async def _filled(search: Search, found: list[Stored]) -> list[Stored]:
    """Bodies that are too large for a document are read from where they are."""
    return [await search.source.fill(s) if s.blob is not None else s for s in found]


def _beside(sort: Sequence[Sort], row: Document, backward: bool, snapshot: str, total: int | None) -> dict[str, Any]:
    return Position(values_of(sort, row), row["_id"], backward, snapshot, total).payload()


def values_of(sort: Sequence[Sort], row: Document) -> tuple[Any, ...]:
    """The sort values of a document; the driver's own kind of integer is no JSON."""
    found = (row[f"k{n}"] for n in range(len(sort)))
    return tuple(int(v) if isinstance(v, int) else v for v in found)


async def _rows(search: Search, position: Position | None, limit: int) -> list[Document]:
    """The next documents that match, in order, reversed for a page before the position."""
    return await (ranked_rows if asks(search) else unsorted_rows)(search, position, limit)


async def unsorted_rows(search: Search, position: Position | None, limit: int) -> list[Document]:
    """The same, where no score decides the order."""
    if is_seen(search.clause):
        return await read_rows(search, search.clause, position, limit)
    found: list[Document] = []
    wide = widened(search.clause)
    while len(found) < limit:
        rows = await read_rows(search, wide, position, BATCH)
        found += await checked(search, rows)
        if len(rows) < BATCH:
            break
        backward = position is not None and position.backward
        values = () if asks(search) else values_of(search.query.sort, rows[-1])
        position = Position(values, rows[-1]["_id"], backward)
    return found[:limit]


async def checked(search: Search, rows: list[Document]) -> list[Document]:
    """Those of the candidates for which the whole clause holds."""
    assert search.links is not None
    linked = await search.links.for_rows(search.clause, rows)
    search.remaining()
    return [row for row in rows if matches(search.clause, row["s"], await resource_of(search, row), linked)]


async def resource_of(search: Search, row: Document) -> dict[str, Any]:
    """The resource of a document, parsed: only for what no entry can answer."""
    stored = (await _filled(search, [stored_of(row)]))[0]
    resource = parse_json(stored.body or b"{}")
    assert isinstance(resource, dict)
    return resource


async def read_rows(search: Search, clause: Clause, position: Position | None, limit: int) -> list[Document]:
    """Documents of a clause without unseen parts, in the order of the query."""
    if search.query.sort and not asks(search):
        return await sorted_rows(search, clause, position, limit)
    if search.plan is None:
        search.plan = await plan(search, clause)
    if is_first(search, position):
        return await first_rows(search, clause, limit)
    filter: Mapping[str, Any] = (await _in_order(search, clause, position)).filter
    backward = position is not None and position.backward
    if position is not None:
        filter = {"$and": [filter, beyond((), position)]}
    found: list[Document] = await search.reads.find_documents(
        filter, sort=order((), backward), limit=limit, max_time_ms=search.remaining()
    )
    return found


async def _in_order(search: Search, clause: Clause, position: Position | None) -> Plan:
    """The plan for a page in the order of names: the matches are sorted where they are few."""
    assert search.plan is not None
    known = position.total if position is not None else None
    few = known is not None and known <= MEASURED
    return search.plan if few or not await leaves_many(search, search.plan) else walked(search, clause)


async def _total(search: Search, position: Position | None, size: int, more: bool) -> int | None:
    """What is known for nothing, what was asked for, or a small exact number."""
    if position is not None:
        return position.total
    asked = search.query.total
    if asked == "none":
        return None
    if not more:
        return size
    seen = is_seen(search.clause)
    wanted = MEASURED if asked is None else MOST
    if seen and search.counted is not None and search.counted <= wanted:
        return search.counted
    if asked in ("accurate", "estimate"):
        return await total_of(search)
    if not seen or search.counted is not None or (remembered(search, search.clause) or 0) > MEASURED:
        return None
    filter, left = compile(search.clause), search.remaining()
    counted: int = await search.reads.count(filter, limit=MEASURED + 1, max_time_ms=left)
    if counted <= MEASURED:
        return counted
    remember(search, search.clause, counted)
    return None


async def total_of(search: Search) -> int:
    """How many resources match."""
    if is_seen(search.clause):
        counted: int = await search.reads.count(compile(search.clause), max_time_ms=search.remaining())
        return counted
    total, after = 0, ""
    while True:
        filter = {"$and": [compile(widened(search.clause)), {"_id": {"$gt": after}}]}
        rows = await search.reads.find_documents(
            filter, sort={"_id": 1}, limit=BATCH * 5, max_time_ms=search.remaining()
        )
        total += len(await checked(search, rows))
        if len(rows) < BATCH * 5:
            return total
        after = rows[-1]["_id"]
