"""The first page and how many match, in one look: names are gathered first, bodies only for the page."""

from __future__ import annotations

from functools import lru_cache

from fhir_server.store.find.plan import MEASURED, MOST, guessed, is_few, note, remember, remembered, walked
from fhir_server.store.find.search import Search
from fhir_server.store.records import Document
from fhir_server.store.store import Store
from fhir_server.store.together import Search as Together
from profiles.outcome import FhirError
from search.clauses import Clause, Kept
from search.matches import tested
from search.page import Position, first, names_of, order
from search.plan import Plan

# Milliseconds after which counting is given up, and a page taken from the type's own order instead.
PATIENCE = 1_500

_test = lru_cache(maxsize=1_000)(tested)


async def first_rows(search: Search, clause: Clause, limit: int) -> list[Document]:
    """The first page in the order of names."""
    plan = search.plan
    assert plan is not None
    if is_few(search, plan) and any(isinstance(part, Kept) for part in plan.others):
        rows = await _sifted(search, plan, limit)
        if rows is not None:
            return rows
    if _fits(search, plan, limit):
        rows = await _asked(search, Together(plan.filter, order((), False), limit, search.remaining()))
        if len(rows) == limit and plan.driver is not None:
            note(search, plan.driver, MEASURED)  # not so few after all: the next one is counted
        return rows
    if not _ends_early(search, plan):
        page = await first_page(search, clause, plan, limit)
        if page is not None:
            return page
    search.ran = None
    if not plan.in_order:
        search.plan = plan = walked(search, clause)
    return await _asked(search, Together(plan.filter, order((), False), limit, search.remaining()))


async def _sifted(search: Search, plan: Plan, limit: int) -> list[Document] | None:
    """Few rows, what is kept of the plan looked at here: a hundred labels cost 100 µs in a filter, and 2 beside a row.

    None where there are too many to know them all. Which of them fall away is not to be seen from outside.
    """
    beside = [part for part in plan.others if isinstance(part, Kept)]
    wide = Plan(plan.driver, tuple(part for part in plan.others if not isinstance(part, Kept)))
    rows = await _asked(search, Together(wide.filter, order((), False), limit, search.remaining()))
    if len(rows) == limit:
        return None
    for fits in map(_test, beside):
        rows = [row for row in rows if fits(row["s"], _named(row))]
    return rows


def _named(row: Document) -> dict[str, str]:
    """As much of the resource as a clause on entries looks at."""
    kind, _, id = row["_id"].partition("/")
    return {"resourceType": kind, "id": id}


def _fits(search: Search, plan: Plan, limit: int) -> bool:
    """Whether what drives leaves less than a page, by all that is known: then there is nothing to count."""
    if plan.in_order or plan.driver is None:
        return False
    guess = guessed(search, plan.driver)
    return guess is not None and guess < limit


def _ends_early(search: Search, plan: Plan) -> bool:
    """Whether a page ends the work: the index gives it in order, and counting the rest is cheap or not wanted."""
    return plan.in_order and (plan.alone or is_few(search, plan) or search.query.total == "none")


async def first_page(search: Search, clause: Clause, plan: Plan, limit: int) -> list[Document] | None:
    """The first rows in the order of the query, and their number in `search.counted`; None where there are more than
    5,000, or where counting them takes too long.

    29 of 12,000 patients by a part of the name: 3.1 × what the page alone costs with a count of its own, 1.1 × so.
    """
    search.counted = remembered(search, clause)
    if search.counted is not None and search.counted > MOST:
        return None
    stages = first(() if search.is_ranked else search.query.sort, limit, MOST + 1)
    asked = Together(plan.filter, {}, limit, min(PATIENCE, search.remaining()), stages)
    try:
        search.ran = plan.filter, {"limit": MOST + 1}
        found = await _asked(search, asked)
    except FhirError as error:
        if error.code != "timeout":
            raise
        found = [{"n": MOST + 1}]
    search.counted = int(found[0]["n"]) if found else 0
    if search.counted > MOST:
        remember(search, clause, search.counted)
        return None
    if plan.driver is not None and not plan.others:
        remember(search, plan.driver, search.counted)
        note(search, plan.driver, search.counted)
    return _in_order(found) if found else []


def _in_order(found: list[Document]) -> list[Document]:
    """The documents in the order of the names that came with the first of them, with their sort values."""
    rows: dict[str, Document] = {row["_id"]: row for row in found}
    names = next(filter(None, map(names_of, found)))
    return [rows[name["_id"]] | dict(name) for name in names if name["_id"] in rows]


async def _asked(search: Search, asked: Together) -> list[Document]:
    """The first look goes with those that arrive at the same time; once a state is settled, this is read at it."""
    found: list[Document]
    if search.reads.at is None:
        found, search.reads.at = await search.source.find_together(asked)
        return found
    found = await search.reads.aggregate(asked.pipeline, max_time_ms=asked.max_time_ms)
    return found


def is_first(search: Search, position: Position | None) -> bool:
    """Whether this is a first page, read outside of a transaction."""
    return position is None and isinstance(search.source, Store)
