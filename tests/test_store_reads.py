"""Reads of many documents, and many reads at a time, on a real mongod."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import ConfigurationError

from fhir_server.store import New, Store
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio

AT = datetime(2025, 1, 1, tzinfo=UTC)
MANY = 1_050


async def test_a_database_that_begins_is_waited_for(store: Store) -> None:
    """After its start it knows no sessions for a moment, which the driver takes for the kind of database it is."""
    usual, refusals = store.driver.call, iter(range(5))

    async def call(operation: Any, /, *args: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise ConfigurationError("Sessions are not supported by this MongoDB deployment")
        return await usual(operation, *args, **options)

    store.driver.call = call  # type: ignore[method-assign]
    assert await store.get("Patient", "1") is None
    refusals, store.driver.limit = iter(range(1_000)), 0.2
    with pytest.raises(FhirError) as late:
        await store.get("Patient", "1")
    assert late.value.status == 503


async def test_a_cursor_goes_on_beside_other_reads(store: Store) -> None:
    """More documents than one batch holds: the database gives the next batch to the session that began alone."""
    for start in range(0, MANY, 50):
        rows = (New("Patient", str(start + n), 1, AT, b"{}", ("Patient|",), "") for n in range(50))
        await asyncio.gather(*(store.create(row) for row in rows))
    found = await asyncio.gather(*(store.reads.find_documents({}, projection={"v": 1}) for _ in range(12)))
    assert [len(rows) for rows in found] == [MANY] * 12
