"""Tenants: a row each in the default database, a database each for all that is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from fhir_server.store.driver import Driver
from fhir_server.store.errors import told
from fhir_server.store.records import Stored, stored_of
from fhir_server.store.schema import prepare
from fhir_server.store.store import Store

PREFIX = "tenant/"
ROWS = {"_id": {"$gte": PREFIX, "$lt": "tenant0"}}
PAGE = 500


async def tenant_names(store: Store) -> dict[str, datetime]:
    """The names of all tenants in their order, each with its birth: a name may be given again."""
    driver = store.driver
    with told():
        rows = await driver.send(driver.state.find(ROWS).sort("_id", 1).to_list)
    return {row["_id"].removeprefix(PREFIX): row["at"] for row in rows}


async def add_tenant(store: Store, name: str) -> bool:
    """Enter a tenant; False when there is one of this name."""
    with told():
        try:
            await store.driver.send(store.driver.state.insert_one, {"_id": PREFIX + name, "at": datetime.now(UTC)})
        except DuplicateKeyError:
            return False
    return True


async def remove_tenant(store: Store, name: str, database: str) -> bool:
    """Take a tenant out, so that no worker opens it any more, and drop its database; False where there is none."""
    with told():
        done = await store.driver.send(store.driver.state.delete_one, {"_id": PREFIX + name})
        await store.driver.send(store.driver.client.drop_database, database)
    return bool(done.deleted_count)


async def open_beside(store: Store, database: str) -> Store:
    """The store of another database over the same connections; closing it leaves them open."""
    driver = Driver(store.driver.client, database, store.driver.limit, store.driver.search_seconds)
    with told():
        await prepare(driver)
    return Store(driver, (), shared=True)


async def every_resource(store: Store) -> AsyncIterator[Stored]:
    """All current resources by type and id, deleted ones left out."""
    after = ""
    while True:
        filter: dict[str, Any] = {"_id": {"$gt": after}}
        rows = await store.reads.find_documents(filter, sort={"_id": 1}, limit=PAGE)
        for row in rows:
            stored = await store.fill(stored_of(row))
            if stored.body is not None:
                yield stored
        if len(rows) < PAGE:
            return
        after = rows[-1]["_id"]
