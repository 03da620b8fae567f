"""The time limit of searches, over HTTP: a costly one is stopped in the database too, and the next one is served."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import AsyncMongoClient

from fhir_server.store import open_store
from search.params import Registry
from tests.test_http import application

pytestmark = pytest.mark.anyio

SECONDS = 0.3
PATIENTS = 4_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BASE = "http://127.0.0.1:8000/fhir/"


async def fill(mongo_url: str, database: str) -> None:
    """Patients with many names, of which no part is that asked for."""
    name = Registry.r4().lookup("Patient", "name")
    assert name is not None
    store = await open_store(mongo_url, database)
    rows = [_row(n, name.key) for n in range(PATIENTS)]
    await store.driver.resources.insert_many(rows)
    await store.close()


def _row(n: int, key: str) -> dict[str, Any]:
    entries = sorted([f"Patient/{n}", "Pt", *(f"{key} {'ab' * 20}{n}{m}" for m in range(10))])
    return {
        "_id": f"Patient/{n}",
        "v": 1,
        "m": "PUT",
        "p": f"Patient/{n}",
        "at": NOW,
        "body": b'{"resourceType":"Patient"}',
        "s": entries,
    }


async def working(mongo_url: str, database: str) -> list[dict[str, Any]]:
    """What the database is doing for this one."""
    async with AsyncMongoClient(mongo_url) as client:
        cursor = await client.admin.aggregate([{"$currentOp": {}}, {"$match": {"ns": f"{database}.resources"}}])
        return [row async for row in cursor]


async def test_a_costly_search_is_stopped(mongo_url: str, database: str, tmp_path: Path) -> None:
    """Beyond FHIR_SEARCH_SECONDS: 400 too-costly with a hint, nothing goes on in the database, the next is answered."""
    await fill(mongo_url, database)
    parts = ",".join(f"a{n}z" for n in range(900))
    async with application(mongo_url, database, tmp_path, search_seconds=SECONDS) as app:
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
            begun = time.monotonic()
            answer = await client.post("Patient/_search", data={"name:contains": parts, "_total": "accurate"})
            took = time.monotonic() - begun
            issue = answer.json()["issue"][0]
            assert (answer.status_code, issue["code"]) == (400, "too-costly")
            assert "add a more selective parameter" in issue["details"]["text"]
            assert took < SECONDS + 3
            await asyncio.sleep(0.2)
            assert await working(mongo_url, database) == []
            after = await client.get("Patient?_id=7")
            assert (after.status_code, after.json()["total"]) == (200, 1)
