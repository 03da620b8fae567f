"""The store: current versions in `resources`, superseded ones in `history` (docs/storage.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from bson import ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from fhir_server.store.attempts import transact
from fhir_server.store.batches import Batches
from fhir_server.store.blobs import Blobs
from fhir_server.store.driver import Driver
from fhir_server.store.errors import DUPLICATE_KEY, fault, fault_of, fault_of_code, told
from fhir_server.store.history import Asked, Cursor, Lookup, Page, Period, page
from fhir_server.store.reads import Reads
from fhir_server.store.records import (
    DELETED,
    New,
    Stored,
    current_document,
    encoded,
    key_of,
    stored_as,
    stored_of,
    superseded_document,
    version_key,
)
from fhir_server.store.together import Answer, Search, Together
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError

T = TypeVar("T")

# What becomes the answer, the document, and for an update the version it supersedes and its copy.
Create = tuple[Stored, RawBSONDocument]
Replace = tuple[Stored, RawBSONDocument, int, RawBSONDocument]

# At work at once: each is alive in the database for five seconds at most, and they share one processor here.
TRANSACTIONS = 8

FULL = "The disk is nearly full: the server answers reads only until there is room again."


class Store:
    """One database of resources, shared by all requests of one event loop.

    Reads and writes that arrive together travel together; each caller gets its own answer or FhirError.
    """

    def __init__(self, driver: Driver, warnings: Sequence[str] = (), *, shared: bool = False) -> None:
        """`shared`: the connections are somebody else's to close."""
        self._shared = shared
        self.driver = driver
        self.warnings = tuple(warnings)
        self.read_only = False
        self._majority = Reads(driver, "majority")
        self._blobs = Blobs(driver)
        self._together = Together(driver)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._current = Batches(self._read_current, size=512, lanes=1)
        self._superseded = Batches(self._read_superseded, size=512, lanes=1)
        self._transactions = asyncio.Semaphore(TRANSACTIONS)
        self._lookup = Lookup(self._current, self._superseded)
        self._creates = Batches(self._insert, size=512, lanes=2)
        self._replaces = Batches(self._supersede, size=256, lanes=1)

    async def close(self) -> None:
        """Answer what is queued, then let go of the connections."""
        for batches in (self._current, self._superseded, self._creates, self._replaces):
            await batches.close()
        await self._together.close()
        if not self._shared:
            await self.driver.client.close()

    async def ping(self) -> None:
        """Return when the database answers; FhirError otherwise."""
        with told():
            await self.driver.command({"ping": 1})

    async def sizes(self) -> dict[str, float]:
        """How many resources and superseded versions there are, and their bytes on disk per resource."""
        stats = {}
        with told():
            await self.driver.client.admin.command({"fsync": 1})
            for name in ("resources", "history"):
                stats[name] = await self.driver.command({"collStats": name})
        resources = stats["resources"]
        count = max(resources["count"], 1)
        return {
            "resources": resources["count"],
            "versions": stats["history"]["count"],
            "data": resources["storageSize"] / count,
            "indexes": resources["totalIndexSize"] / count,
        }

    # Reading

    @property
    def search_seconds(self) -> float:
        """What a search may take."""
        return self.driver.search_seconds

    async def get(self, type: str, id: str) -> Stored | None:
        """The current version, a tombstone when it was deleted."""
        stored = await self._current(f"{type}/{id}")
        return await self.fill(stored) if stored is not None and stored.blob else stored

    async def get_version(self, type: str, id: str, version: int) -> Stored | None:
        """One version, current or superseded."""
        current = await self.get(type, id)
        if current is None or version > current.version:
            return None
        if version == current.version:
            return current
        stored = await self._superseded(version_key(key_of(current), version))
        return await self.fill(stored) if stored is not None and stored.blob else stored

    async def history(
        self,
        type: str | None = None,
        id: str | None = None,
        *,
        since: datetime | None = None,
        at: Period | None = None,
        count: int = 50,
        cursor: Cursor | None = None,
    ) -> Page:
        """One page of versions, newest first, delete entries included."""
        found = await page(self.snapshot(), self._lookup, Asked(type, id, since, at), count, cursor)
        versions = [await self.fill(stored) if stored.blob else stored for stored in found.versions]
        return Page(versions, found.total, found.cursor)

    async def fill(self, stored: Stored) -> Stored:
        """The same version with its body read where that is in GridFS."""
        with told():
            return await self._blobs.fill(stored)

    @property
    def reads(self) -> Reads:
        """Raw reads of what a majority holds."""
        return self._majority

    def snapshot(self, at: Timestamp | None = None) -> Reads:
        """Raw reads that all see one state: the one at `at`, or the one the first read finds."""
        return Reads(self.driver, "snapshot", at=at)

    async def find_together(self, search: Search) -> Answer:
        """Documents and instant of a search whose work is bounded, sent with those that arrive at the same time."""
        return await self._together.find(search)

    # Writing

    async def create(self, new: New) -> Stored:
        """Store the first version; FhirError `duplicate` when the id is taken."""
        self._check_writable()
        with told():
            blob = await self._blobs.write(new)
            document = encoded(current_document(new, blob))
        return await self._settled(self._creates((stored_as(new, blob), document)), blob)

    async def create_missing(self, news: Sequence[New]) -> None:
        """Store first versions in one call, those that are not there yet."""
        self._check_writable()
        with told():
            blobs = [await self._blobs.write(new) for new in news]
            items = [
                (stored_as(new, blob), encoded(current_document(new, blob)))
                for new, blob in zip(news, blobs, strict=True)
            ]
        for answer, blob in zip(await self._insert(items), blobs, strict=True):
            if isinstance(answer, FhirError):
                await self._blobs.drop(blob)
            if isinstance(answer, Exception) and not (isinstance(answer, FhirError) and answer.code == "duplicate"):
                raise answer

    async def replace(self, new: New, expected: int | Stored) -> Stored:
        """Supersede version `expected`; FhirError `conflict` when that is not the current one.

        A caller that has read the current version passes it, and it is not read again.
        """
        self._check_writable()
        current = await self._expected(new, expected) if isinstance(expected, int) else expected
        with told():
            blob = await self._blobs.write(new)
            document = encoded(current_document(new, blob))
            copy = encoded(superseded_document(current, new.at))
        return await self._settled(self._replaces((stored_as(new, blob), document, current.version, copy)), blob)

    async def delete(self, type: str, id: str, expected: int | Stored, at: datetime) -> Stored:
        """Put a tombstone in place of version `expected`."""
        current = expected if isinstance(expected, Stored) else await self.get(type, id)
        if current is None:
            raise conflict(f"{type}/{id}")
        version = expected if isinstance(expected, int) else expected.version
        return await self.replace(New(type, id, version + 1, at, None, (), current.compartment, DELETED), expected)

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]], *, seconds: float = 20) -> T:
        """Run `work` atomically; it is run again from the start when it collides with another, until `seconds`."""
        self._check_writable()
        async with self._transactions:
            return await transact(self.driver, self._blobs, work, seconds)

    @asynccontextmanager
    async def turn(self, type: str, id: str) -> AsyncIterator[None]:
        """One at a time per resource, or per key of another kind: read, decide and write without losing to a neighbour.

        Only spares work: across processes the version guard of `replace` and the match key decide.
        """
        async with self._turns.setdefault(f"{type}/{id}", asyncio.Lock()):
            yield

    def _check_writable(self) -> None:
        if self.read_only:
            raise FhirError("transient", FULL, headers={"Retry-After": "60"})

    async def _expected(self, new: New, expected: int) -> Stored:
        current = await self._current(key_of(new))
        if current is None or current.version != expected:
            raise conflict(key_of(new))
        return current

    async def _settled(self, answer: Awaitable[Stored], blob: ObjectId | None) -> Stored:
        try:
            return await answer
        except FhirError as error:
            if error.code in ("duplicate", "conflict"):
                await self._blobs.drop(blob)
            raise

    # Batches

    async def _read_current(self, keys: list[str]) -> list[Stored | Exception | None]:
        return await self._read(keys, "resources")

    async def _read_superseded(self, keys: list[str]) -> list[Stored | Exception | None]:
        return await self._read(keys, "history")

    async def _read(self, keys: list[str], collection: str) -> list[Stored | Exception | None]:
        names = {"$in": list(set(keys))} if len(keys) > 1 else keys[0]
        documents = await self._majority.find_documents({"_id": names}, collection=collection)
        found = {document["_id"]: stored_of(document) for document in documents}
        return [found.get(key) for key in keys]

    async def _insert(self, items: list[Create]) -> list[Stored | Exception]:
        documents = [document for _, document in items]
        answers: list[Stored | Exception] = [stored for stored, _ in items]
        try:
            await self.driver.send(self.driver.resources.insert_many, documents, ordered=False)
        except BulkWriteError as error:
            return _refused(error, answers, duplicate)
        except Exception as error:
            return [fault(error)] * len(items)
        return answers

    async def _supersede(self, items: list[Replace]) -> list[Stored | Exception]:
        """Copy the superseded versions, then replace each where it is still the expected version.

        The replace is an upsert: where the guard does not match, inserting the taken `_id` fails, and so the
        database names the rows that lost.
        """
        copies: list[ReplaceOne[Any]] = [
            ReplaceOne({"_id": version_key(key_of(stored), version)}, copy, upsert=True)
            for stored, _, version, copy in items
        ]
        replaces: list[ReplaceOne[Any]] = [
            ReplaceOne({"_id": key_of(stored), "v": version}, document, upsert=True)
            for stored, document, version, _ in items
        ]
        answers: list[Stored | Exception] = [stored for stored, *_ in items]
        with told():
            await self.driver.send(self.driver.history.bulk_write, copies, ordered=False)
        try:
            await self.driver.send(self.driver.resources.bulk_write, replaces, ordered=False)
        except BulkWriteError as error:
            return _refused(error, answers, conflict)
        except Exception as error:
            return [fault(error)] * len(items)
        return answers


def duplicate(key: str) -> FhirError:
    """The error of a create whose id is taken."""
    return FhirError("duplicate", f"{key} exists already.")


def conflict(key: str) -> FhirError:
    """The error of a write that was overtaken."""
    return FhirError("conflict", f"{key} was changed by another request meanwhile; read it again and repeat.")


def _refused(
    error: BulkWriteError, answers: list[Stored | Exception], taken: Callable[[str], FhirError]
) -> list[Stored | Exception]:
    """Each row's own answer; without the durability that was asked for, none is acknowledged."""
    details = error.details or {}
    if details.get("writeConcernErrors"):
        answers = [fault_of("timeout", "The write is not confirmed; read the resource before repeating it.")] * len(
            answers
        )
    for row in details.get("writeErrors", ()):
        stored = answers[row["index"]]
        if row["code"] != DUPLICATE_KEY:
            answers[row["index"]] = fault_of_code(row["code"])
        elif isinstance(stored, Stored):
            answers[row["index"]] = taken(key_of(stored))
    return answers
