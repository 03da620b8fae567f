"""Documents of a search in its order: sorted, by name, or candidates that are looked at one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_server.store.find.first import first_rows, is_first
from fhir_server.store.find.links import Links
from fhir_server.store.find.order import sorted_rows
from fhir_server.store.find.plan import MEASURED, leaves_many, plan, walked
from fhir_server.store.find.search import BATCH, Search
from fhir_server.store.records import Document
from search.clauses import Clause
from search.filters import is_seen, widened
from search.page import Position, beyond, order
from search.plan import Plan
from search.query import Sort


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
        values = () if search.is_ranked else values_of(search.query.sort, rows[-1])
        position = Position(values, rows[-1]["_id"], backward)
    return found[:limit]


async def checked(search: Search, rows: list[Document]) -> list[Document]:
    """Those of the candidates for which the whole clause holds."""
    found = await Links(search).fitting(search.clause, rows)
    search.remaining()
    return found


async def read_rows(search: Search, clause: Clause, position: Position | None, limit: int) -> list[Document]:
    """Documents of a clause without unseen parts, in the order of the query."""
    if search.query.sort and not search.is_ranked:
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


def values_of(sort: Sequence[Sort], row: Document) -> tuple[Any, ...]:
    """The sort values of a document; the driver's own kind of integer is no JSON."""
    found = (row[f"k{n}"] for n in range(len(sort)))
    return tuple(int(v) if isinstance(v, int) else v for v in found)
