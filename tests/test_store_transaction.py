"""Transactions on a real mongod: atomic, isolated, repeated on a collision."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from fhir_server.store import New, Store, Stored, instant
from fhir_server.store.bodies import INLINE_LIMIT
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio


def new(type: str, id: str, version: int = 1, body: bytes | None = b"{}", **fields: object) -> New:
    """A version with an entry that finds it by type."""
    row = {"entries": (type,), "compartment": f"{type}/{id}", "at": instant(datetime.now(UTC)), "method": "POST"}
    return New(type, id, version, body=body, **{**row, **fields})  # type: ignore[arg-type]


async def test_a_thousand_resources_are_a_handful_of_calls(store: Store) -> None:
    """Writes are kept back and sent together."""
    calls = Counter[str]()
    send = store.driver.call

    async def counted(operation, /, *args, **options):  # type: ignore[no-untyped-def]
        calls[operation.__name__] += 1
        return await send(operation, *args, **options)

    store.driver.call = counted  # type: ignore[method-assign]

    async def work(tx: Transaction) -> int:
        for n in range(1000):
            await tx.create(new("Observation", str(n)))
        return 1000

    assert await store.transaction(work) == 1000
    assert calls == {"insert_many": 1, "commit_transaction": 1}
    assert await store.reads.count({"s": "Observation"}) == 1000


async def test_an_error_leaves_nothing(store: Store) -> None:
    """An error in the middle undoes what was written and reaches the caller as it is."""

    async def work(tx: Transaction) -> None:
        await tx.create(new("Patient", "1"))
        await tx.create(new("Binary", "1", body=b"x" * (INLINE_LIMIT + 1)))
        await tx.flush()
        raise FhirError("invalid", "Entry 2 is wrong.")

    with pytest.raises(FhirError, match=r"Entry 2 is wrong\."):
        await store.transaction(work)
    for collection in ("resources", "history", "blobs.files"):
        assert await store.reads.count({}, collection=collection) == 0


async def test_it_reads_its_own_writes(store: Store) -> None:
    """Reads, searches and versions inside see what the transaction wrote before."""
    await store.create(new("Patient", "1"))
    before = await store.get("Patient", "1")

    async def work(tx: Transaction) -> list[int]:
        await tx.prefetch(["Patient/1", "Patient/2"])
        created = await tx.create(new("Patient", "2"))
        assert await tx.get("Patient", "2") == created
        assert await tx.count({"s": "Patient"}) == 2
        second = await tx.replace(new("Patient", "1", 2), 1)
        third = await tx.replace(new("Patient", "1", 3), second)
        gone = await tx.delete("Patient", "2", created, third.at)
        assert gone.deleted
        assert [row["_id"] for row in await tx.aggregate([{"$match": {"s": "Patient"}}])] == ["Patient/1"]
        found = [await tx.get_version("Patient", "1", number) for number in (1, 2, 3, 4)]
        return [stored.version for stored in found if stored]

    assert await store.transaction(work) == [1, 2, 3]
    assert [s.version for s in (await store.history("Patient", "1")).versions] == [3, 2, 1]
    assert [s.version for s in (await store.history("Patient", "2")).versions] == [2, 1]
    assert before is not None and await store.get_version("Patient", "1", 1) == Stored(
        **{**{name: getattr(before, name) for name in Stored.__slots__}, "entries": ()}
    )


async def test_guards_hold_inside(store: Store) -> None:
    """A taken id and an overtaken version are refused."""
    await store.create(new("Patient", "1"))

    async def again(tx: Transaction) -> None:
        await tx.get("Patient", "1")
        await tx.create(new("Patient", "1"))

    async def overtaken(tx: Transaction) -> None:
        await tx.replace(new("Patient", "1", 3), 2)

    async def unread(tx: Transaction) -> None:
        await tx.create(new("Patient", "1"))

    with pytest.raises(FhirError, match="exists already"):
        await store.transaction(again)
    with pytest.raises(FhirError, match="A resource with the same id was created") as caught:
        await store.transaction(unread)
    assert caught.value.status == 409
    with pytest.raises(FhirError, match="changed by another request"):
        await store.transaction(overtaken)


async def test_a_large_body_in_a_transaction(store: Store) -> None:
    """A body in GridFS is read inside and after."""
    large = b"x" * (INLINE_LIMIT + 1)

    async def work(tx: Transaction) -> None:
        await tx.create(new("Binary", "1", body=large))
        await tx.flush()
        read = await tx.get("Binary", "1")
        assert read is not None and read.body == large

    await store.transaction(work)
    read = await store.get("Binary", "1")
    assert read is not None and read.body == large


async def test_transactions_on_the_same_resource_take_turns(store: Store) -> None:
    """A write conflict is met with another attempt from the start, and none is lost."""
    await store.create(new("Patient", "1"))

    async def work(tx: Transaction) -> None:
        current = await tx.get("Patient", "1")
        assert current is not None
        at = instant(datetime.now(UTC), current)
        await tx.replace(new("Patient", "1", current.version + 1, at=at), current)

    await asyncio.gather(*(store.transaction(work) for _ in range(20)))
    versions = [stored.version for stored in (await store.history("Patient", "1")).versions]
    assert versions == list(range(21, 0, -1))


async def test_conditional_create_is_exactly_once(store: Store) -> None:
    """100 parallel conditional creates, one resource."""
    ids = iter(range(1000))

    async def work(tx: Transaction) -> str:
        await tx.match_key("Patient?identifier=x")
        found = await tx.find_documents({"s": "Patient"})
        if found:
            return "found"
        await tx.create(new("Patient", str(next(ids))))
        return "created"

    answers = await asyncio.gather(*(store.transaction(work) for _ in range(100)))
    assert Counter(answers) == {"created": 1, "found": 99}
    assert await store.reads.count({"s": "Patient"}) == 1


async def test_no_reference_to_a_deleted_target(store: Store) -> None:
    """Delete beside create, 50 pairs, none dangling."""

    async def refer(n: int) -> bool:
        async def work(tx: Transaction) -> bool:
            if await tx.touch([f"Patient/{n}"]):
                return False
            await tx.create(new("Observation", str(n), entries=(f"to|{n}",)))
            return True

        return await store.transaction(work)

    async def remove(n: int) -> bool:
        async def work(tx: Transaction) -> bool:
            if await tx.find_documents({"s": f"to|{n}"}, limit=1):
                return False
            current = await tx.get("Patient", str(n))
            assert current is not None
            await tx.delete("Patient", str(n), current, instant(datetime.now(UTC), current))
            return True

        return await store.transaction(work)

    for n in range(50):
        await store.create(new("Patient", str(n)))
    pairs = [await asyncio.gather(refer(n), remove(n)) for n in range(50)]
    assert [pair for pair in pairs if pair[0] == pair[1]] == []


async def test_touch_names_what_is_not_there(store: Store) -> None:
    """Missing and deleted targets are named; those that the transaction itself creates are there."""
    first = await store.create(new("Patient", "1"))
    second = await store.create(new("Patient", "2"))
    await store.delete("Patient", "2", second, instant(datetime.now(UTC), second))

    async def work(tx: Transaction) -> list[str]:
        await tx.create(new("Patient", "4"))
        assert await tx.touch([]) == []
        assert await tx.touch(["Patient/1", "Patient/4"]) == []
        return await tx.touch(["Patient/1", "Patient/2", "Patient/3", "Patient/4"])

    assert await store.transaction(work) == ["Patient/2", "Patient/3"]
    assert await store.get("Patient", "1") == await store.get("Patient", "1")
    assert first.version == 1


async def test_a_collision_without_end_is_answered(store: Store) -> None:
    """After its time a transaction that always collides is answered 503 with Retry-After."""
    await store.create(new("Patient", "1"))

    async def work(tx: Transaction) -> None:
        await tx.get("Patient", "1")
        current = await store.get("Patient", "1")
        assert current is not None
        at = instant(datetime.now(UTC), current)
        await store.replace(new("Patient", "1", current.version + 1, at=at), current)
        await tx.touch(["Patient/1"])

    with pytest.raises(FhirError, match="Too many requests change the same resources") as caught:
        await store.transaction(work, seconds=0.3)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})


async def test_operations_at_the_same_time_wait_for_each_other(store: Store) -> None:
    """Entries that are worked on concurrently share the one session."""

    async def work(tx: Transaction) -> list[int]:
        async def one(n: int) -> int:
            await tx.create(new("Patient", str(n)))
            return await tx.count({"_id": f"Patient/{n}"})

        return list(await asyncio.gather(*(one(n) for n in range(10))))

    assert await store.transaction(work) == [1] * 10


async def test_a_long_transaction_lets_others_have_their_turn(store: Store) -> None:
    """A thousand creates are not one step of the event loop."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def work(tx: Transaction) -> int:
        before = turns
        for n in range(1000):
            await tx.create(new("Observation", str(n)))
        return turns - before

    task = asyncio.create_task(other())
    assert await store.transaction(work) >= 30
    task.cancel()


async def test_many_transactions_wait_for_each_other(store: Store) -> None:
    """Only some are at work at once, so that none outlives its time in the database."""
    running, most = 0, 0

    async def work(tx: Transaction) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await tx.get("Patient", "1")
        running -= 1

    await asyncio.gather(*(store.transaction(work) for _ in range(30)))
    assert most == 8
