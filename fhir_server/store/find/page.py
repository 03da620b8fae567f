"""A parsed search on MongoDB: one page of matches at one state of the database, and what is sent along with it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir_server.store.find.explain import explained
from fhir_server.store.find.includes import included
from fhir_server.store.find.inside import is_inside, part_of
from fhir_server.store.find.links import Links
from fhir_server.store.find.plan import estimated
from fhir_server.store.find.rank import ranked_rows
from fhir_server.store.find.rows import unsorted_rows, values_of
from fhir_server.store.find.search import (
    BATCH,
    Access,
    Found,
    Search,
    Terms,
    filled,
    reads_of,
    seen_by,
    too_costly,
)
from fhir_server.store.find.totals import total_beside, total_of
from fhir_server.store.reads import snapshot_of, snapshot_text
from fhir_server.store.records import Document, stored_of
from fhir_server.store.store import Store
from fhir_server.store.terms import terms_of
from profiles.outcome import FhirError, Issue
from search.clauses import Chain, Clause, Has, every, walk
from search.contained import searched
from search.filters import is_seen, widened
from search.matches import is_alone
from search.page import Position
from search.params import Registry
from search.plan import candidates
from search.query import Query

DEFAULT_COUNT = 20


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
    limit: float | None = None,
) -> Found:
    """One page of the query.

    `store` is a Store or a Transaction. `cursor` is a payload of an earlier page; `clauses` narrow the matches,
    `access` (type -> clause) narrows every type the search touches: matches, chains, `_has` and includes alike.
    `terms` answers `:in`, `:below` and `:above`; `pending` are parameters (urls) not yet written for all resources.
    Raises FhirError: `too-costly` after `limit` seconds (else those of the store), `expired` when
    the state a page link refers to is gone.
    """
    position = Position.of(cursor) if cursor and "i" in cursor else None
    snapshot = cursor.get("t") if cursor else None
    reads = reads_of(store, snapshot_of(snapshot) if snapshot else None)
    deadline = time.monotonic() + (store.search_seconds if limit is None else limit)
    search = Search(store, reads, query, registry, access, terms or _terms(store, registry), deadline)
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
    inside = search.query.contained != "false"
    if inside and not is_alone(search.query.where):
        links, where = Links(search), search.query.where
        held = await links.resolved(where, held=True)
        search.query = replace(search.query, where=await links.resolved(where), held=held)
    query = search.query
    wanted = seen_by(searched(query, search.registry), () if inside else query.types, search.access)
    wanted = every((wanted, *clauses))
    if not is_seen(wanted):
        linked = any(isinstance(part, Chain | Has) for part in walk(wanted))
        links = Links(search, few=linked and await _has_few(search, wanted))
        links.expect(wanted)
        wanted = await links.resolved(wanted)
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


async def _page(search: Search, position: Position | None) -> Found:
    query = search.query
    count = DEFAULT_COUNT if query.count is None else query.count
    rows = await _rows(search, position if position and position.name else None, count + 1)
    page, rows = await (_of_contained if is_inside(query) else _of_rows)(search, position, rows, count)
    page.first = {"t": _snapshot(search)}
    page.scores = {row["_id"]: row["score"] for row in rows if "score" in row}
    page.included = await included(search, rows)
    if query.explain:
        page.explanation = await explained(search, count + 1)
    return page


async def _of_rows(
    search: Search, position: Position | None, rows: list[Document], count: int
) -> tuple[Found, list[Document]]:
    """A page of the documents, with its neighbours, and those of the documents that are on it."""
    backward = position is not None and position.backward
    more = len(rows) > count
    rows = rows[:count]
    if backward:
        rows.reverse()
    total = await total_beside(search, position, len(rows), more)
    page = Found(await filled(search, [stored_of(row) for row in rows]), total=total, warnings=search.warnings)
    if rows and (more if not backward else True):
        page.next = _beside(search, rows[-1], total).payload()
    if rows and position is not None and (more if backward else True):
        page.prev = replace(_beside(search, rows[0], total), backward=True).payload()
    return page, rows


async def _of_contained(
    search: Search, position: Position | None, rows: list[Document], count: int
) -> tuple[Found, list[Document]]:
    """The same of what the documents contain; such pages go forward only."""
    part = await part_of(search, rows, position.within if position else 0, count)
    total = await total_beside(search, position, len(part.shown), part.more)
    page = Found(part.shown, total=total, warnings=search.warnings)
    if part.more:
        start = position or Position((), "", snapshot=_snapshot(search))
        last = _beside(search, part.done[-1], total) if part.done else replace(start, total=total)
        page.next = replace(last, within=part.within).payload()
    return page, part.rows


def _snapshot(search: Search) -> str:
    return snapshot_text(search.reads.at) if getattr(search.reads, "at", None) else ""


def _beside(search: Search, row: Document, total: int | None) -> Position:
    return Position(values_of(search.query.sort, row), row["_id"], False, _snapshot(search), total)


async def _rows(search: Search, position: Position | None, limit: int) -> list[Document]:
    """The next documents that match, in order, reversed for a page before the position."""
    return await (ranked_rows if search.is_ranked else unsorted_rows)(search, position, limit)
