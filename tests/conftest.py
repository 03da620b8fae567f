"""Fixtures for tests that need a database: one mongod per run, one database per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest
from pymongo import MongoClient

from fhir_server.context import Context
from fhir_server.store import Embedded, Store, open_store
from tests.demo_server import demo
from tests.shell import context_on
from tests.smart_world import Browser, World, apps, make_world, people


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked slow run when a `-m` expression asks for them."""
    if not config.option.markexpr:
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]


__all__ = ["demo"]
_NUMBERS = itertools.count(1)

# Most tests are not about access; those that are say so.
os.environ.setdefault("FHIR_AUTH", "none")


@pytest.fixture
def anyio_backend() -> str:
    """Coroutine tests marked `anyio` run on asyncio alone: the driver knows no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def mongod() -> Iterator[Embedded]:
    """The mongod of this test run, in a folder of its own that goes with it."""
    with tempfile.TemporaryDirectory(prefix="fhir-test-", ignore_cleanup_errors=True) as folder:
        embedded = asyncio.run(Embedded.start(folder, cache_gb=0.25, mortal=True))
        yield embedded
        asyncio.run(embedded.stop())


@pytest.fixture(scope="session")
def mongo_url(mongod: Embedded) -> str:
    """The URL of the replica set of this test run."""
    return mongod.url


@pytest.fixture
def database(mongo_url: str) -> Iterator[str]:
    """The name of an empty database, dropped after the test."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    yield name
    with MongoClient(mongo_url) as client:
        client.drop_database(name)


@pytest.fixture
async def store(mongo_url: str, database: str) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await open_store(mongo_url, database)
    yield opened
    await opened.close()


@pytest.fixture
async def context(store: Store) -> Context:
    """What every interaction may use."""
    return context_on(store)


@pytest.fixture
async def world(store: Store) -> World:
    """An authorization server with users and apps."""
    made = await make_world(store)
    await people(made)
    await apps(made)
    return made


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    """Somebody in front of it."""
    made = world.browser()
    yield made
    await made.http.aclose()
