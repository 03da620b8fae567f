"""The driving part of a query, chosen by measured selectivity (search.plan)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from fhir_server.store.store import Store
from search.clauses import Clause, Ids
from search.filters import compile
from search.plan import Plan, by_type, candidates, chosen, merged, sharp

if TYPE_CHECKING:
    from fhir_server.store.find import Search

# Counting goes so far: beyond, one part is as good as the other.
MEASURED = 1_000
# Seconds a measurement is believed, and how many are kept.
BELIEVED, KEPT = 60.0, 10_000

_MEASURES: WeakKeyDictionary[Store, dict[Clause, tuple[float, int]]] = WeakKeyDictionary()


async def plan(search: Search, clause: Clause, *, ordered: bool) -> Plan:
    """The plan of a clause; `ordered` when a page in the order of names is wanted, not all of the matches."""
    clause = merged(clause, search.registry)
    parts = candidates(clause)
    best = next((p for p in parts if sharp(p, search.registry)), None)
    if best is None and len(parts) > 1:
        sizes = await asyncio.gather(*(measured(search, p) for p in parts))
        least = min(sizes)
        best = parts[sizes.index(least)]
        if ordered and least >= MEASURED and not _is_in_order(chosen(clause, best)):
            return _walked(search, clause)
    elif best is None and parts and ordered and not _is_in_order(chosen(clause, parts[0])):
        best = parts[0]
        if await measured(search, best) >= MEASURED:
            return _walked(search, clause)
    return chosen(clause, best)


async def is_large(search: Search, clause: Clause) -> bool:
    """Whether a clause leaves so many resources that sorting them all would take long."""
    if any(sharp(p, search.registry) for p in candidates(clause)):
        return False
    return await measured(search, clause) >= MEASURED


def _is_in_order(found: Plan) -> bool:
    return found.in_order or isinstance(found.driver, Ids)


def _walked(search: Search, clause: Clause) -> Plan:
    """Where most resources of a type match, its own order is the quickest way to a page."""
    types = search.types
    return by_type(clause, types) if len(types) == 1 else chosen(clause, None)


async def measured(search: Search, clause: Clause) -> int:
    """How many resources a part leaves, counted up to a thousand; remembered for a minute."""
    known = _MEASURES.setdefault(search.source, {}) if isinstance(search.source, Store) else {}
    held = known.get(clause)
    now = time.monotonic()
    if held is not None and held[0] > now:
        return held[1]
    reads = search.source.reads if isinstance(search.source, Store) else search.reads
    counted: int = await reads.count(compile(clause), limit=MEASURED, max_time_ms=search.remaining())
    if len(known) >= KEPT:
        known.clear()
    known[clause] = (now + BELIEVED, counted)
    return counted
