"""Every case of tests/cases/*.yaml: in memory, on a real mongod, in a transaction there and over HTTP: all agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from fhir_server.app import build_app
from fhir_server.config import Config
from fhir_server.store import New, Store, Transaction, open_store
from fhir_server.store.find.page import find
from profiles.json import encode
from profiles.outcome import FhirError
from search.entries import compartment
from search.query import parse
from tests.searching import BASE, NOW, Case, all_cases, files, world

CASES = all_cases()


def compare(case: Case, found: list[str]) -> None:
    """In order where the case says so; as a set otherwise, nothing twice."""
    if case.ordered:
        assert found == list(case.names)
    else:
        assert sorted(found) == sorted(case.names)


def refused(case: Case, error: FhirError) -> None:
    assert case.error, error.text
    assert case.error in error.text
    assert error.status == 400


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_memory(case: Case) -> None:
    """The clauses of a query, run on the entries of each resource, find what the case says."""
    here = world(case.file)
    try:
        query = here.query(case)
        found = here.find(query.clauses)
    except FhirError as error:
        refused(case, error)
        return
    assert not case.error
    assert sorted(found) == sorted(case.names)


class Databases:
    """One database per file of cases, filled when the first case needs it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runner = asyncio.Runner()
        self.stores: dict[str, Store] = {}

    def store(self, file: str) -> Store:
        if file not in self.stores:
            self.stores[file] = self.runner.run(self._filled(file))
        return self.stores[file]

    async def _filled(self, file: str) -> Store:
        store = await open_store(self.url, self.database(file))
        here = world(file)
        at = datetime.fromisoformat("2025-06-01T12:00:00+00:00").astimezone(UTC)
        news = []
        for resource in here.resources:
            kind, id_ = resource["resourceType"], resource["id"]
            when = datetime.fromisoformat(resource["meta"]["lastUpdated"].replace("Z", "+00:00")) or at
            body, written = encode(resource), here.entries[f"{kind}/{id_}"]
            news.append(New(kind, id_, 1, when, body, written, compartment(resource)))
        await asyncio.gather(*(store.create(new) for new in news))
        deleted = await store.create(New("Patient", "gone", 1, at, b"{}", ["Pt"], "Patient/gone"))
        await store.delete("Patient", "gone", deleted.version, at)
        return store

    def database(self, file: str) -> str:
        return f"cases_{file.partition('.')[0]}"

    def close(self) -> None:
        for store in self.stores.values():
            self.runner.run(store.close())
        self.runner.close()
        with MongoClient[Any](self.url) as client:
            for file in files():
                client.drop_database(self.database(file))


@pytest.fixture(scope="module")
def databases(mongo_url: str) -> Iterator[Databases]:
    opened = Databases(mongo_url)
    yield opened
    opened.close()


async def search(store: Store | Transaction, case: Case, count: int) -> list[str]:
    """The names of all matches, page by page."""
    here = world(case.file)
    registry, found, cursor = here.registry, [], None
    pairs = [*case.pairs, ("_count", str(count))]
    query = parse(case.type, pairs, registry, compartment=case.compartment, base=BASE, now=NOW)

    async def terms(how: str, value: str) -> list[tuple[str, str]]:
        return here.codes(how, value)

    while True:
        page = await find(store, query, registry=registry, cursor=cursor, terms=terms)
        found += [f"{m.type}/{m.id}" for m in page.matches]
        cursor = page.next
        if cursor is None:
            return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_on_mongod(case: Case, databases: Databases) -> None:
    """The same query as a filter on a real mongod, in pages of 3, finds what the case says; tombstones never show."""
    store = databases.store(case.file)
    try:
        found = databases.runner.run(search(store, case, 3))
    except FhirError as error:
        refused(case, error)
        return
    assert not case.error
    compare(case, found)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_a_transaction(case: Case, databases: Databases) -> None:
    """Criteria within a transaction find the same, though the database takes fewer kinds of requests there."""
    store = databases.store(case.file)
    try:
        found = databases.runner.run(store.transaction(lambda transaction: search(transaction, case, 3)))
    except FhirError as error:
        refused(case, error)
        return
    assert not case.error
    compare(case, found)


class Servers:
    """The application over each file's database, asked as a client asks."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self.databases = databases
        self.folder = folder
        self.clients: dict[str, httpx2.AsyncClient] = {}
        self.stack = AsyncExitStack()

    def client(self, file: str) -> httpx2.AsyncClient:
        if file not in self.clients:
            self.databases.store(file)
            self.clients[file] = self.databases.runner.run(self._opened(file))
        return self.clients[file]

    async def _opened(self, file: str) -> httpx2.AsyncClient:
        name, folder = self.databases.database(file), self.folder / file
        config = Config(mongo=self.databases.url, database=name, data=folder, base_url=BASE, key="0" * 64)
        app = build_app(config)
        await self.stack.enter_async_context(app.running())
        assert app.fhir.context is not None
        app.fhir.context = replace(app.fhir.context, now=lambda: datetime.fromtimestamp(NOW / 1000, UTC))
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        client = httpx2.AsyncClient(transport=transport, base_url=f"{BASE}/")
        return await self.stack.enter_async_context(client)

    def close(self) -> None:
        self.databases.runner.run(self.stack.aclose())


@pytest.fixture(scope="module")
def servers(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    opened = Servers(databases, tmp_path_factory.mktemp("servers"))
    yield opened
    opened.close()


async def ask(client: httpx2.AsyncClient, case: Case) -> list[str]:
    """The names of the matches of a case, following the next links; FhirError for an OperationOutcome."""
    url = str(httpx2.URL(case.query.partition("?")[0], params=[*case.pairs, ("_count", "4")]))
    found: list[str] = []
    while True:
        answer = await client.get(url)
        bundle = answer.json()
        if answer.status_code != 200:
            raise FhirError("invalid", bundle["issue"][0]["details"]["text"], status=answer.status_code)
        entries = [e["resource"] for e in bundle.get("entry", ()) if e["search"]["mode"] == "match"]
        found += [f"{r['resourceType']}/{r['id']}" for r in entries]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        if not url:
            return found


# Terminology of its own stands behind these in memory, the server's real one over HTTP (test_terminology).
OWN_TERMS = (":in=", ":not-in=", ":below=http://snomed", ":above=http://snomed", " in http", " ni http", " ss ", " sb ")


@pytest.mark.parametrize("case", [c for c in CASES if not any(t in c.query for t in OWN_TERMS)], ids=str)
def test_over_http(case: Case, servers: Servers) -> None:
    """The same query asked of the server, page by page, finds what the case says."""
    client = servers.client(case.file)
    try:
        found = servers.databases.runner.run(ask(client, case))
    except FhirError as error:
        if case.type == "Foo" or "compartment" in case.error:
            assert error.status in (400, 404)
            return
        refused(case, error)
        return
    assert not case.error
    compare(case, found)


def test_there_are_enough_cases() -> None:
    """Six hundred cases or more, every one a query of its own."""
    assert len(CASES) >= 600
