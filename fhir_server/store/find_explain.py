"""`_explain`: how a search was carried out, for those who run the server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fhir_server.store.find_plan import MEASURED, measured, plan
from fhir_server.store.store import Store
from search.clauses import Every
from search.filters import is_seen, widened
from search.page import order
from search.plan import candidates, merged, shown

if TYPE_CHECKING:
    from fhir_server.store.find import Search


async def explained(search: Search, limit: int) -> dict[str, Any]:
    """Clauses, estimates, what drives, entries examined, documents fetched and milliseconds."""
    registry = search.registry
    wide = merged(widened(search.clause), registry)
    parts = wide.clauses if isinstance(wide, Every) else (wide,)
    able = candidates(wide)
    sizes = dict(zip(able, await asyncio.gather(*(measured(search, p) for p in able)), strict=True))
    chosen = search.plan or await plan(search, wide, ordered=not search.query.sort)
    found: dict[str, Any] = {
        "clauses": [
            {"clause": shown(p, registry), "estimate": _size(sizes.get(p)), "drives": p == chosen.driver} for p in parts
        ],
        "decided on bodies": not is_seen(search.clause),
    }
    if isinstance(search.source, Store):
        begun = time.perf_counter()
        sort: dict[str, Any] = {} if search.query.sort else {"sort": order((), False)}
        stats = (await search.source.reads.explain(chosen.filter, limit=limit, **sort))["executionStats"]
        found |= {
            "entries examined": stats["totalKeysExamined"],
            "documents fetched": stats["totalDocsExamined"],
            "milliseconds": stats["executionTimeMillis"],
            "milliseconds to explain": round((time.perf_counter() - begun) * 1000, 1),
        }
    return found


def _size(counted: int | None) -> str:
    if counted is None:
        return "not measured"
    return f"{MEASURED} or more" if counted >= MEASURED else str(counted)
