"""kill -9 of mongod and of a writer: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fhir_server.store import Embedded, New, Store, instant, open_store
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio

WRITERS = 32


def new(type: str, id: str, version: int, at: datetime) -> New:
    method = "POST" if version == 1 else "PUT"
    return New(type, id, version, at, b'{"id":"%b"}' % id.encode(), (type, f"{type}|{id}"), f"{type}/{id}", method)


async def write(store: Store, writer: int, turn: int) -> list[tuple[str, int]]:
    """One create, one update of a shared resource, one transaction over two types; what was acknowledged."""
    now = instant(datetime.now(UTC))
    id = f"{writer}-{turn}-{os.getpid()}-{time.monotonic_ns()}"
    done = []
    await store.create(new("Patient", id, 1, now))
    done.append((f"Patient/{id}", 1))
    shared = f"shared{writer % 4}"
    async with store.turn("Patient", shared):
        current = await store.get("Patient", shared)
        assert current is not None
        with contextlib.suppress(FhirError):  # another process may have been faster
            version = new("Patient", shared, current.version + 1, instant(now, current))
            done.append((f"Patient/{shared}", (await store.replace(version, current)).version))

    async def both(tx: Transaction) -> None:
        await tx.create(new("Encounter", id, 1, now))
        await tx.create(new("Observation", id, 1, now))

    await store.transaction(both)
    return [*done, (f"Encounter/{id}", 1), (f"Observation/{id}", 1)]


async def writer(store: Store, number: int, acknowledged: list[tuple[str, int]]) -> None:
    """Write until told otherwise; an error is only no acknowledgement."""
    turn = 0
    while True:
        turn += 1
        with contextlib.suppress(FhirError):
            acknowledged += await write(store, number, turn)


async def share(store: Store) -> None:
    for n in range(4):
        with contextlib.suppress(FhirError):
            await store.create(new("Patient", f"shared{n}", 1, instant(datetime.now(UTC))))


async def check(store: Store, acknowledged: list[tuple[str, int]]) -> None:
    """Nothing acknowledged is lost, no transaction is half done, no history has a gap, entries and bodies agree."""
    rows = {row["_id"]: row for row in await store.reads.find_documents({})}
    lost = [entry for entry in acknowledged if entry[0] not in rows or rows[entry[0]]["v"] < entry[1]]
    assert lost == []
    halves = {kind: {key.split("/")[1] for key in rows if key.startswith(kind)} for kind in ("Enc", "Obs")}
    assert halves["Enc"] == halves["Obs"]
    for n in range(4):
        size = rows[f"Patient/shared{n}"]["v"]
        page = await store.history("Patient", f"shared{n}", count=size + 1)
        assert [stored.version for stored in page.versions] == list(range(size, 0, -1))
    found = await store.reads.find_documents({"s": "Patient"}, projection={"_id": 1})
    assert {row["_id"] for row in found} == {key for key in rows if key.startswith("Patient")}


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
async def test_kill_of_mongod_loses_nothing_acknowledged(tmp_path: Path, rounds: int) -> None:
    """32 writers; mongod is killed under them and started again, some rounds; 0 lost, 0 partial."""
    acknowledged: list[tuple[str, int]] = []
    for _ in range(rounds):
        embedded = await Embedded.start(tmp_path, cache_gb=0.25, mortal=True)
        store = await open_store(embedded.url, limit=1, reach=0.5)
        await share(store)
        before = len(acknowledged)
        writers = [asyncio.create_task(writer(store, n, acknowledged)) for n in range(WRITERS)]
        await asyncio.sleep(0.5 + random.random() / 2)
        os.kill(embedded.pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
        for task in writers:
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        await store.close()
        await embedded.stop()
        assert len(acknowledged) > before
    embedded = await Embedded.start(tmp_path, cache_gb=0.25, mortal=True)
    store = await open_store(embedded.url)
    await check(store, acknowledged)
    await store.close()
    await embedded.stop()


def spawn(url: str, database: str) -> subprocess.Popen[str]:
    """A process that writes and prints what was acknowledged to it."""
    command = [sys.executable, "-m", "tests.test_crash", url, database]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
async def test_kill_of_a_writer_leaves_nothing_half_done(
    store: Store, mongo_url: str, database: str, rounds: int
) -> None:
    """Writing processes are killed; what they were told is stored, and others go on within 10 seconds."""
    await share(store)
    acknowledged: list[tuple[str, int]] = []
    for _ in range(rounds):
        process = await asyncio.to_thread(spawn, mongo_url, database)
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(0.3 + random.random() / 2)
        process.kill()
        rest, _ = await asyncio.to_thread(process.communicate)
        lines = [line.split() for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
        acknowledged += [(key, int(version)) for key, version in lines]
        started = time.monotonic()
        await write(store, 0, 0)
        assert time.monotonic() - started < 10
    assert len(acknowledged) > rounds
    await check(store, acknowledged)


async def _main(url: str, database: str) -> None:
    store = await open_store(url, database)

    async def talk(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            for key, version in await write(store, number, turn):
                print(key, version, flush=True)

    await asyncio.gather(*(talk(n) for n in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
