"""Sorted pages. Few matches are sorted as a whole; of many, only a stretch of the order that holds a page is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fhir_server.store.find.first import first_page, is_first
from fhir_server.store.find.links import Links
from fhir_server.store.find.plan import MOST, is_large, plan
from fhir_server.store.find.search import Search
from fhir_server.store.records import Document
from profiles.outcome import FhirError
from search.clauses import ALWAYS, Between, Clause, Every, Kinds, every, some
from search.filters import Filter, compile, is_seen, moment
from search.page import Position, order, stages
from search.params import SHARED, Parameter
from search.plan import hidden
from search.query import Sort
from search.texts import DAY, EPOCH, LAST, bound, instant, instant_of

_START = datetime(1970, 1, 1, tzinfo=UTC)
# A stretch begins with a day and grows; what was enough for a parameter is where the next search begins.
FIRST_WIDTH, GROWTH = DAY, 4
SOME = 200
_WIDTHS: dict[tuple[str, ...], int] = {}
_EDGES: dict[tuple[Any, ...], int] = {}


async def sorted_rows(search: Search, clause: Clause, position: Position | None, limit: int) -> list[Document]:
    """The next documents in the order of the query."""
    sort = search.query.sort
    if len(sort) == 1 and await is_large(search, clause):
        search.counted = MOST + 1
        if sort[0].code == "_lastUpdated":
            return await _by_update(search, clause, sort[0], position, limit)
        if sort[0].parameter is not None and _has_stretches(sort[0], sort[0].parameter):
            rows = await _by_stretch(search, clause, sort, sort[0].parameter, position, limit)
            if rows is not None:
                return rows
    if search.plan is None:
        search.plan = await plan(search, clause)
    if is_first(search, position) and search.counted is None and not any(key.hops for key in sort):
        first = await first_page(search, clause, search.plan, limit)
        if first is not None:
            return first
    return await _all_sorted(search, search.plan.filter, position, limit)


async def _all_sorted(search: Search, filter: Filter, position: Position | None, limit: int) -> list[Document]:
    pipeline = stages(filter, search.query.sort, position, limit, await _seen(search))
    rows: list[Document] = await search.reads.aggregate(pipeline, max_time_ms=search.remaining())
    return rows


def _has_stretches(sort: Sort, parameter: Parameter) -> bool:
    """Dates of the type itself: a stretch of entries that all types share would bring other types too."""
    return parameter.type == "date" and not sort.hops and not parameter.key.startswith(SHARED)


async def _seen(search: Search) -> dict[str, Filter]:
    """What the caller may see of each type that the order looks at."""
    found: dict[str, Filter] = {}
    for target in {target for key in search.query.sort for hop in key.hops for _, target in hop}:
        allowed = search.access(target) if search.access else ALWAYS
        clause = await Links(search).resolved(every((Kinds((target,)), allowed)))
        if not is_seen(clause):
            raise FhirError(
                "forbidden", f"_sort: the order of {target} cannot be told apart from what is hidden there."
            )
        found[target] = compile(clause)
    return found


async def _by_update(
    search: Search, clause: Clause, sort: Sort, position: Position | None, limit: int
) -> list[Document]:
    """In the order of the index on the instant of the last update: 2 ms where sorting 36,000 documents took 265."""
    backward = position is not None and position.backward
    way = order((sort,), backward)["k0"]
    filter: Filter = {"$and": [*_of_types(search.types), *(hidden(c) for c in _others(clause))]}
    if position is not None:
        filter["$and"] += _after(position, way)
    search.ran = filter, {"sort": {"at": way, "_id": way}, "hint": "at", "limit": limit}
    rows: list[Document] = await search.reads.find_documents(
        filter, sort={"at": way, "_id": way}, hint="at", limit=limit, max_time_ms=search.remaining()
    )
    for row in rows:
        row["k0"] = round((row["at"] - _START).total_seconds() * 1000)
    return rows


def _of_types(types: Sequence[str]) -> list[Filter]:
    """Live resources; of one type, by the name that stands in the index too."""
    live: Filter = compile(Kinds(tuple(types))) if types else {"s.0": {"$exists": True}}
    found = [{"$nor": [{"$nor": [live]}]}]
    return [{"_id": {"$gte": f"{types[0]}/", "$lt": f"{types[0]}0"}}, *found] if len(types) == 1 else found


def _others(clause: Clause) -> list[Clause]:
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    return [p for p in parts if not isinstance(p, Kinds)]


def _after(position: Position, way: int) -> list[Filter]:
    at = moment(position.values[0])
    less, up_to = ("$gt", "$gte") if way > 0 else ("$lt", "$lte")
    return [{"at": {up_to: at}}, {"$or": [{"at": {less: at}}, {"at": at, "_id": {less: position.name}}]}]


async def _by_stretch(
    search: Search,
    clause: Clause,
    sort: Sequence[Sort],
    parameter: Parameter,
    position: Position | None,
    limit: int,
) -> list[Document] | None:
    """A stretch of time beside the position that holds a page; None when all time holds less than one."""
    down = sort[0].descending != (position is not None and position.backward)
    if position is not None and position.values[0] is None:
        return None
    edge = instant_of(position.values[0]) if position else await _edge(search, parameter, down)
    width = _WIDTHS.get(parameter.keys, FIRST_WIDTH)
    while True:
        low, high = (edge - width, LAST) if down else (-EPOCH, edge + width)
        whole = low <= -EPOCH if down else high >= LAST
        if whole:
            return None
        if position is not None:
            low, high = (low, edge + DAY) if down else (edge - DAY, high)
        filter = {"$and": [compile(stretch(parameter, low, high)), *(hidden(c) for c in _others(clause))]}
        rows = await _all_sorted(search, filter, position, limit)
        if len(rows) >= limit:
            search.ran = filter, {}
            _WIDTHS[parameter.keys] = width
            return rows
        width *= GROWTH


def stretch(parameter: Parameter, low: int, high: int) -> Clause:
    """Some date of the parameter begins in the stretch."""
    points = [Between(key + bound(low), key + bound(high)) for key in parameter.keys]
    spans = [Between(f"{key}({instant(low)}", f"{key}({instant(high)}") for key in parameter.keys]
    return some([*points, *spans] if parameter.value_types & {"Period", "Timing"} else points)


async def _edge(search: Search, parameter: Parameter, down: bool) -> int:
    """The last (or first) day beyond which there are some values, found by halving; one date in the year 9999 does not
    count. A day that is out of date costs time, never a result."""
    known = _EDGES.get((parameter.keys, down))
    if known is not None:
        return known
    low, high = 0, (LAST + EPOCH) // DAY
    while high - low > 1:
        middle = (low + high) // 2
        half = (middle * DAY - EPOCH, LAST) if down else (-EPOCH, middle * DAY - EPOCH)
        found = await search.reads.count(compile(stretch(parameter, *half)), limit=SOME, max_time_ms=search.remaining())
        low, high = (middle, high) if (found >= SOME) == down else (low, middle)
    edge = (high if down else low) * DAY - EPOCH
    _EDGES[parameter.keys, down] = edge
    return edge
