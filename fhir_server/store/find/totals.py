"""How many resources match: what came with the page, what was asked for, or a small exact number."""

from __future__ import annotations

from fhir_server.store.find.inside import inner, is_inside
from fhir_server.store.find.plan import MEASURED, MOST, remember, remembered
from fhir_server.store.find.rows import checked
from fhir_server.store.find.search import BATCH, Search
from fhir_server.store.records import Document
from search.filters import compile, is_seen, widened
from search.page import Position


async def total_beside(search: Search, position: Position | None, size: int, more: bool) -> int | None:
    """What is known for nothing, what was asked for, or a small exact number."""
    if position is not None:
        return position.total
    asked = search.query.total
    if asked == "none":
        return None
    if not more:
        return size
    seen = _is_counted(search)
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


def _is_counted(search: Search) -> bool:
    """Whether the database can count: a document is a match, and its entries tell which."""
    return is_seen(search.clause) and not is_inside(search.query)


async def _matches(search: Search, rows: list[Document]) -> int:
    """How many matches are in the documents: one each, but for contained ones."""
    return sum([len(await inner(search, row)) for row in rows]) if is_inside(search.query) else len(rows)


async def total_of(search: Search) -> int:
    """How many resources match."""
    if _is_counted(search):
        counted: int = await search.reads.count(compile(search.clause), max_time_ms=search.remaining())
        return counted
    total, after = 0, ""
    while True:
        filter = {"$and": [compile(widened(search.clause)), {"_id": {"$gt": after}}]}
        rows = await search.reads.find_documents(
            filter, sort={"_id": 1}, limit=BATCH * 5, max_time_ms=search.remaining()
        )
        total += await _matches(search, await checked(search, rows))
        if len(rows) < BATCH * 5:
            return total
        after = rows[-1]["_id"]
