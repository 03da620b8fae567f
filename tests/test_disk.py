"""Room on the disk: writing stops before it is full, on the disk of the database, and goes on later."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fhir_server.config import Config
from fhir_server.opening import open_context
from fhir_server.store import Store, open_store, watch_disk
from fhir_server.store.disk import ENOUGH, LOW, is_full
from fhir_server.store.mongod import folder_of

pytestmark = pytest.mark.anyio


def test_full_has_some_way_back() -> None:
    """Writing stops under the low mark and goes on above a higher one."""
    assert [is_full(LOW - 1, False), is_full(LOW, False), is_full(LOW, True), is_full(ENOUGH, True)] == [
        True,
        False,
        True,
        False,
    ]


async def test_the_disk_is_watched(mongo_url: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store turns read-only when the disk is nearly full and back when there is room."""
    store = await open_store(mongo_url, database)
    usage = shutil.disk_usage("/")
    free = [0]
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free[0]))
    watch = asyncio.create_task(watch_disk(store, "/", seconds=0.001))
    await asyncio.sleep(0.02)
    assert store.read_only
    free[0] = ENOUGH
    await asyncio.sleep(0.02)
    assert not store.read_only
    watch.cancel()
    await store.close()


async def test_the_disk_that_is_watched_is_the_databases(
    mongo_url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is given the URL of an embedded database has no data folder of its own, perhaps."""
    usage, looked = shutil.disk_usage("/"), []

    def look(path: Path) -> Any:
        looked.append(path)
        return usage._replace(free=0)

    monkeypatch.setattr("shutil.disk_usage", look)
    async with AsyncExitStack() as stack:
        context = await open_context(Config(mongo=mongo_url, database=database, data=tmp_path / "none"), stack)
        await asyncio.sleep(0)
        assert isinstance(context.store, Store)
        assert context.store.read_only
    [folder] = looked
    assert folder == folder_of(mongo_url)
    assert (folder / "mongod.lock").is_file()
    assert folder_of("mongodb://db1,db2/?replicaSet=rs0") is None
