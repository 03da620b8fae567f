"""What most attacks are tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from fhir_server.store import Store
from tests.hospital import Hospital, open_hospital
from tests.test_http import application


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_hospital(store)


@pytest.fixture
async def client(mongo_url: str, database: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The application with the limits that it has."""
    async with application(mongo_url, database, tmp_path) as app:
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://x/fhir/") as made:
            yield made
