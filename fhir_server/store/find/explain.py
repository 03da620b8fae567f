"""`_explain`: how a search was carried out, for those who run the server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fhir_server.store.find.plan import MEASURED, measured, plan
from fhir_server.store.find.search import Search
from fhir_server.store.store import Store
from profiles.json import encode
from profiles.outcome import Issue
from search.clauses import Every
from search.filters import is_seen, widened
from search.page import order
from search.plan import candidates, merged, shown


async def explained(search: Search, limit: int) -> dict[str, Any]:
    """Clauses, estimates, what drives, entries examined, documents fetched and milliseconds."""
    registry = search.registry
    wide = merged(widened(search.clause), registry)
    parts = wide.clauses if isinstance(wide, Every) else (wide,)
    able = candidates(wide)
    sizes = dict(zip(able, await asyncio.gather(*(measured(search, p) for p in able)), strict=True))
    chosen = search.plan or await plan(search, wide)
    took = round((time.monotonic() - search.begun) * 1000, 1)
    found: dict[str, Any] = {
        "clauses": [
            {"clause": shown(p, registry), "estimate": _size(sizes.get(p)), "drives": p == chosen.driver} for p in parts
        ],
        "decided on bodies": not is_seen(search.clause),
        "milliseconds": took,
    }
    if isinstance(search.source, Store):
        # A sorted page looks at all that match, and so does a count; a page in the order of names ends early.
        whole = bool(search.query.sort) or search.query.count == 0
        options: dict[str, Any] = {} if whole else {"sort": order((), False), "limit": limit}
        filter, options = search.ran or (chosen.filter, options)
        stats = (await search.source.reads.explain(filter, **options))["executionStats"]
        found |= {
            "entries examined": stats["totalKeysExamined"],
            "documents fetched": stats["totalDocsExamined"],
            "milliseconds in the database": stats["executionTimeMillis"],
        }
    return found


def told(explanation: dict[str, Any]) -> list[Issue]:
    """An explanation for the Bundle: one issue per clause, and one with the sums, each with JSON for programs."""
    clauses = [_clause(number, row) for number, row in enumerate(explanation["clauses"], 1)]
    sums = {name: value for name, value in explanation.items() if name != "clauses"}
    return [*clauses, _note(f"Sums: {encode(sums).decode()}")]


def _clause(number: int, row: dict[str, Any]) -> Issue:
    drives = ", drives the search" if row["drives"] else ""
    return _note(f"Clause {number}, estimate {row['estimate']}{drives}: {encode(row['clause']).decode()}")


def _note(text: str) -> Issue:
    return Issue("information", "informational", text)


def _size(counted: int | None) -> str:
    if counted is None:
        return "not measured"
    return f"{MEASURED} or more" if counted >= MEASURED else str(counted)
