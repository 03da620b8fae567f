"""Erasing for good: versions of the past, tombstones, or all of a resource. Nothing of it can be brought back."""

from __future__ import annotations

from fhir_server.store.blobs import Blobs
from fhir_server.store.errors import told
from fhir_server.store.records import Stored, key_of
from fhir_server.store.store import Store


async def erase_versions(store: Store, current: Stored, limit: int) -> int:
    """Erase superseded versions, oldest first and at most `limit`; how many they were."""
    filter = {"r": key_of(current), "v": {"$lt": current.version}}
    names = [f"{key_of(current)}/_history/{number}" for number in range(1, current.version)][:limit]
    driver, blobs = store.driver, Blobs(store.driver)
    with told():
        rows = await store.reads.find_documents(
            {**filter, "_id": {"$in": names}}, collection="history", projection={"_id": 1, "blob": 1}
        )
        for row in rows:
            await blobs.drop(row.get("blob"))
        done = await driver.send(driver.history.delete_many, {"_id": {"$in": [row["_id"] for row in rows]}})
    return int(done.deleted_count)


async def erase_current(store: Store, current: Stored) -> int:
    """Erase the current version, unless it was changed meanwhile; 1 or 0."""
    driver = store.driver
    with told():
        done = await driver.send(driver.resources.delete_one, {"_id": key_of(current), "v": current.version})
        if done.deleted_count:
            await Blobs(driver).drop(current.blob)
    return int(done.deleted_count)
