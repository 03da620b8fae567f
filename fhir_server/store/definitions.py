"""A number that grows with every definition that is written: by it each process knows that what it holds is old."""

from __future__ import annotations

from fhir_server.store.errors import told
from fhir_server.store.store import Store

ID = "definitions"


async def definitions_mark(store: Store) -> int:
    """The number; 0 before the first change."""
    rows = await store.reads.find_documents({"_id": ID}, collection="state")
    return int(rows[0]["number"]) if rows else 0


async def definitions_changed(store: Store) -> None:
    """Tell every process."""
    with told():
        await store.driver.send(store.driver.state.update_one, {"_id": ID}, {"$inc": {"number": 1}}, upsert=True)
