"""The records of installed packages: rows of the collection `state`, `_id` "package/<name>#<version>"."""

from __future__ import annotations

from typing import Any

from fhir_server.store.errors import told
from fhir_server.store.store import Store

Record = dict[str, Any]

PREFIX = "package/"
AFTER = "package0"  # the text that sorts after every key with the prefix


async def package_records(store: Store) -> list[Record]:
    """The records of all packages, by name and version."""
    with told():
        rows = await store.driver.state.find({"_id": {"$gte": PREFIX, "$lt": AFTER}}).to_list()
    return sorted((dict(row["record"]) for row in rows), key=lambda record: (record["name"], record["version"]))


async def keep_record(store: Store, record: Record) -> None:
    """Write the record of a package durably."""
    key = _key(record["name"], record["version"])
    row = {"_id": key, "record": record}
    with told():
        await store.driver.send(store.driver.state.replace_one, {"_id": key}, row, upsert=True)


async def drop_record(store: Store, name: str, version: str) -> None:
    """Forget a package."""
    with told():
        await store.driver.send(store.driver.state.delete_one, {"_id": _key(name, version)})


def _key(name: str, version: str) -> str:
    return f"{PREFIX}{name}#{version}"
