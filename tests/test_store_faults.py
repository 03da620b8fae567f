"""An error injected at the n-th driver call, for every n until the operation passes untouched (docs/security.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server.store import New, Store, instant
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError
from tests.faulty import ERRORS, Fault

pytestmark = pytest.mark.anyio

Operation = Callable[[Store], Awaitable[Any]]


def new(type: str, id: str, version: int = 1, body: bytes = b"{}") -> New:
    method = "POST" if version == 1 else "PUT"
    at = datetime(2024, 1, version, tzinfo=UTC)
    return New(type, id, version, at, body, (type,), f"{type}/{id}", method)


async def create(store: Store) -> None:
    await store.create(new("Patient", "new"))


async def create_large(store: Store) -> None:
    await store.create(new("Binary", "new", body=b"x" * 200))


async def update(store: Store) -> None:
    await store.replace(new("Patient", "old", 2), 1)


async def delete(store: Store) -> None:
    await store.delete("Patient", "old", 1, instant(datetime(2024, 1, 2, tzinfo=UTC)))


async def transaction(store: Store) -> None:
    async def work(tx: Transaction) -> None:
        await tx.match_key("Patient?identifier=1")
        assert await tx.touch(["Patient/old"]) == []
        await tx.create(new("Observation", "a"))
        assert await tx.count({"s": "Observation"}) == 1
        await tx.create(new("Observation", "b"))
        current = await tx.get("Patient", "old")
        assert current is not None
        await tx.replace(new("Patient", "old", 2), current)

    await store.transaction(work)


async def read(store: Store) -> None:
    assert await store.get("Patient", "old")
    assert (await store.history()).total == 1
    await store.snapshot().find_documents({"s": "Patient"})


async def present(store: Store) -> set[str]:
    """The current versions by key, each checked to be readable with all the versions before it."""
    found = set()
    for row in await store.reads.find_documents({}, projection={"v": 1}):
        type, _, id = row["_id"].partition("/")
        for number in range(1, row["v"] + 1):
            stored = await store.get_version(type, id, number)
            assert stored is not None and stored.version == number, f"{row['_id']} has lost version {number}"
        listed = [stored.version for stored in (await store.history(type, id)).versions]
        assert listed == list(range(row["v"], 0, -1))
        found.add(f"{row['_id']} {row['v']}")
    return found


BEFORE = {"Patient/old 1"}
# What each operation leaves when it was carried out.
AFTER: dict[Operation, set[str]] = {
    create: {"Patient/old 1", "Patient/new 1"},
    create_large: {"Patient/old 1", "Binary/new 1"},
    update: {"Patient/old 2"},
    delete: {"Patient/old 2"},
    transaction: {"Patient/old 2", "Observation/a 1", "Observation/b 1"},
    read: BEFORE,
}


NOTHING_DONE = ("WriteConflict", "NoSessions")  # they say that nothing was done


@pytest.mark.parametrize(
    ("error", "done"), [(e, d) for e in ERRORS for d in (False, True) if not (d and e in NOTHING_DONE)]
)
@pytest.mark.parametrize("operation", AFTER, ids=lambda operation: operation.__name__)
async def test_all_or_nothing_whatever_call_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, operation: Operation, error: str, done: bool
) -> None:
    """Acknowledged is done; refused is 503, and either nothing or everything; no version is ever lost."""
    monkeypatch.setattr("fhir_server.store.records.INLINE_LIMIT", 100)
    number, hit = 0, True
    while hit:
        number += 1
        for name in ("resources", "history"):
            await store.driver.database[name].delete_many({})
        await store.create(new("Patient", "old"))
        acknowledged = True
        async with Fault(store, number, ERRORS[error], done=done) as fault:
            try:
                await operation(store)
            except FhirError as refused:
                assert refused.status == 503 and refused.headers["Retry-After"], refused
                acknowledged = False
        hit = fault.hit
        state = await present(store)
        assert state == AFTER[operation] or (not acknowledged and state == BEFORE), (number, state)
    assert acknowledged and number > 1
