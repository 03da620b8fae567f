"""The driving part of a query, chosen by measured selectivity (search.plan)."""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

from fhir_server.store.find.search import Search
from fhir_server.store.store import Store
from search.clauses import Clause
from search.filters import compile
from search.plan import Plan, by_type, candidates, chosen, kind, merged, parted, sharp

# Counting goes so far: beyond, one part is as good as the other.
MEASURED = 1_000
# Where every part leaves that many, the least is looked for up to here: 10 ms of index, where a wrong choice costs 1 s.
FURTHER = 30_000
# Sorting the names of so many is quicker than walking all of their type for a page: 1,500 of 600,000 in 38 ms, not 500.
MOST = 5_000
# Seconds a measurement is believed, and how many are kept.
BELIEVED, KEPT = 60.0, 10_000

# So many different values of a kind were counted to their end, and the next one is believed to leave no more.
ALIKE = 3

_MEASURES: WeakKeyDictionary[Store, dict[Clause, tuple[float, int]]] = WeakKeyDictionary()
# Of each kind of clause: until when it is believed, how many were counted, and the most that one of them left.
_HABITS: WeakKeyDictionary[Store, dict[str, tuple[float, int, int]]] = WeakKeyDictionary()


async def plan(search: Search, clause: Clause) -> Plan:
    """The plan of a clause: what is sure to leave few drives, or else the part of which least is counted."""
    clause, beside = parted(clause)
    clause = merged(clause, search.registry)
    parts = candidates(clause)
    if len(parts) < 2:
        return chosen(clause, parts[0] if parts else None, beside)
    best = next((p for p in parts if sharp(p, search.registry)), None)
    return chosen(clause, await _least(search, parts) if best is None else best, beside)


async def _least(search: Search, parts: list[Clause]) -> Clause:
    """The part that leaves least; only where all leave many, it is counted further how many."""
    sizes = await asyncio.gather(*(estimated(search, p) for p in parts))
    if min(sizes) >= MEASURED:
        sizes = await asyncio.gather(*(measured(search, p, FURTHER) for p in parts))
    return parts[sizes.index(min(sizes))]


async def is_large(search: Search, clause: Clause) -> bool:
    """Whether a clause leaves so many resources that sorting them all would take long."""
    if any(sharp(p, search.registry) for p in candidates(clause)):
        return False
    return await estimated(search, clause) >= MEASURED


def is_few(search: Search, plan: Plan) -> bool:
    """Whether what drives is sure to leave few."""
    return plan.driver is not None and sharp(plan.driver, search.registry)


async def leaves_many(search: Search, plan: Plan) -> bool:
    """Whether what drives leaves so many that a page is better taken from the type's own order."""
    if plan.in_order or plan.driver is None or is_few(search, plan):
        return False
    if await estimated(search, plan.driver) < MEASURED:
        return False
    return await measured(search, plan.driver, MOST) >= MOST


def walked(search: Search, clause: Clause) -> Plan:
    """Where most resources of a type match, its own order is the quickest way to a page."""
    types = search.types
    clause = merged(clause, search.registry)
    return by_type(clause, types) if len(types) == 1 else chosen(clause, None)


async def estimated(search: Search, clause: Clause) -> int:
    """How many resources a part leaves, up to a thousand; not counted where others of its kind all left few.

    A count costs as much as a selective search itself; a wrong guess costs time, never a result.
    """
    known = guessed(search, clause)
    return await measured(search, clause) if known is None else known


def guessed(search: Search, clause: Clause) -> int | None:
    """What was counted of a part in the last minute, or else the most that others of its kind left."""
    known = remembered(search, clause)
    if known is not None:
        return known
    until, times, most = _habits(search).get(kind(clause), (0.0, 0, 0))
    return most if times >= ALIKE and most < MEASURED and until > time.monotonic() else None


def _habits(search: Search) -> dict[str, tuple[float, int, int]]:
    return _HABITS.setdefault(search.source, {}) if isinstance(search.source, Store) else {}


def note(search: Search, clause: Clause, counted: int) -> None:
    """Let what was counted of a part speak for others of its kind."""
    habits, name, now = _habits(search), kind(clause), time.monotonic()
    until, times, most = habits.get(name, (0.0, 0, 0))
    if until < now:
        until, times, most = now + BELIEVED, 0, 0
    if len(habits) >= KEPT:
        habits.clear()
    habits[name] = until, times + 1, max(most, counted)


async def measured(search: Search, clause: Clause, most: int = MEASURED) -> int:
    """How many resources a part leaves, counted up to a thousand or as far as asked; remembered for a minute."""
    known = remembered(search, clause)
    if known is not None and (known != MEASURED or known >= most):
        return known
    reads = search.source.reads if isinstance(search.source, Store) else search.reads
    counted: int = await reads.count(compile(clause), limit=most, max_time_ms=search.remaining())
    remember(search, clause, counted)
    note(search, clause, counted)
    return counted


def remembered(search: Search, clause: Clause) -> int | None:
    """What was counted of a part in the last minute."""
    held = _MEASURES.get(search.source, {}).get(clause) if isinstance(search.source, Store) else None
    return held[1] if held is not None and held[0] > time.monotonic() else None


def remember(search: Search, clause: Clause, counted: int) -> None:
    """Believe a number for a minute."""
    if isinstance(search.source, Store):
        known = _MEASURES.setdefault(search.source, {})
        if len(known) >= KEPT:
            known.clear()
        known[clause] = (time.monotonic() + BELIEVED, counted)
