"""What the loader has brought in, by the content it sent: rows of the collection `state`, `_id` "load/<key>"."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pymongo import ReplaceOne

from fhir_server.store.errors import told
from fhir_server.store.store import Store

PREFIX = "load/"
AFTER = "load0"  # the text that sorts after every key with the prefix


async def known_loads(store: Store) -> dict[str, list[int]]:
    """The keys of what was loaded, each with the numbers of the parts that failed."""
    with told():
        rows = await store.driver.state.find({"_id": {"$gte": PREFIX, "$lt": AFTER}}).to_list()
    return {row["_id"].removeprefix(PREFIX): row["failed"] for row in rows}


async def record_loads(store: Store, rows: Mapping[str, Collection[int]]) -> None:
    """Write durably that these were loaded, but for the parts that failed."""
    writes = [
        ReplaceOne({"_id": PREFIX + key}, {"failed": sorted(failed)}, upsert=True) for key, failed in rows.items()
    ]
    with told():
        await store.driver.send(store.driver.state.bulk_write, writes, ordered=False)
