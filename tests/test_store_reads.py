"""Reads of many documents, and many reads at a time, on a real mongod."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.store import New, Store

pytestmark = pytest.mark.anyio

AT = datetime(2025, 1, 1, tzinfo=UTC)
MANY = 1_050


@pytest.mark.parametrize("kind", [None, "Patient"])
@pytest.mark.parametrize("overtaken", ["resources", "history"])
async def test_a_history_is_of_one_state(store: Store, kind: str | None, overtaken: str) -> None:
    """An update while it is read moves a version between the collections: none is lost and none counted twice."""
    first = await store.create(New("Patient", "1", 1, AT, b"{}", (), ""))
    usual, read = store.driver.call, asyncio.Event()

    async def call(operation: Any, /, *args: Any, **options: Any) -> Any:
        """The other collection is read first, if they are read in any order, and the update comes in between."""
        looked = args[0].get("find") if args and isinstance(args[0], dict) else None
        if looked == overtaken:
            with suppress(TimeoutError):
                await asyncio.wait_for(read.wait(), 0.3)
            store.driver.call = usual  # type: ignore[method-assign]
            await store.replace(New("Patient", "1", 2, AT + timedelta(days=1), b"{}", (), "", "PUT"), first)
        answer = await usual(operation, *args, **options)
        if looked is not None:
            read.set()
        return answer

    store.driver.call = call  # type: ignore[method-assign]
    page = await store.history(kind)
    assert page.total == len(page.versions)
    assert page.versions[-1].version == 1
    assert page.versions[0].version == page.total


async def test_a_cursor_goes_on_beside_other_reads(store: Store) -> None:
    """More documents than one batch holds: the database gives the next batch to the session that began alone."""
    for start in range(0, MANY, 50):
        rows = (New("Patient", str(start + n), 1, AT, b"{}", ("Patient|",), "") for n in range(50))
        await asyncio.gather(*(store.create(row) for row in rows))
    found = await asyncio.gather(*(store.reads.find_documents({}, projection={"v": 1}) for _ in range(12)))
    assert [len(rows) for rows in found] == [MANY] * 12
