"""Reads of many documents, and many reads at a time, on a real mongod."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from fhir_server.store import New, Store

pytestmark = pytest.mark.anyio

AT = datetime(2025, 1, 1, tzinfo=UTC)
MANY = 1_050


async def test_a_cursor_goes_on_beside_other_reads(store: Store) -> None:
    """More documents than one batch holds: the database gives the next batch to the session that began alone."""
    for start in range(0, MANY, 50):
        rows = (New("Patient", str(start + n), 1, AT, b"{}", ("Patient|",), "") for n in range(50))
        await asyncio.gather(*(store.create(row) for row in rows))
    found = await asyncio.gather(*(store.reads.find_documents({}, projection={"v": 1}) for _ in range(12)))
    assert [len(rows) for rows in found] == [MANY] * 12
