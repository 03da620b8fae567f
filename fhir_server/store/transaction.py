"""Transactions: many resources, all or none (http://hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne, UpdateOne

from fhir_server.store.blobs import Blobs
from fhir_server.store.driver import Driver, Session
from fhir_server.store.errors import told
from fhir_server.store.reads import Reads
from fhir_server.store.records import (
    DELETED,
    Document,
    New,
    Stored,
    current_document,
    key_of,
    stored_as,
    stored_of,
    superseded_document,
    version_key,
)
from profiles.outcome import FhirError

# Creates after which other requests get a turn of the event loop: about 4 ms of work.
TURN = 32


@dataclass(slots=True)
class Pending:
    """Writes that have not been sent: creates, superseded copies and guarded replaces."""

    creates: dict[str, Document] = field(default_factory=dict)
    copies: list[Document] = field(default_factory=list)
    replaces: dict[str, tuple[int, Document]] = field(default_factory=dict)


class Transaction:
    """One attempt; it reads the state at its first operation and its own writes.

    Writes are kept back until something has to see them, so that a thousand of them are three calls.
    Operations of one attempt follow each other; callers that run at the same time wait for their turn.
    """

    def __init__(self, driver: Driver, blobs: Blobs, session: Session) -> None:
        self._driver = driver
        self._blobs = blobs
        self._session = session
        self._reads = Reads(driver, None, session)
        self._known: dict[str, Stored | None] = {}
        self._pending = Pending()
        self._written: list[ObjectId] = []
        self._versions: dict[str, Stored] = {}
        self._one = asyncio.Lock()

    # Reading

    @property
    def search_seconds(self) -> float:
        """What a search may take."""
        return self._driver.search_seconds

    async def get(self, type: str, id: str) -> Stored | None:
        """The current version as this transaction sees it, a tombstone when it was deleted."""
        key = f"{type}/{id}"
        async with self._one:
            await self._learn([key])
        stored = self._known[key]
        return await self.fill(stored) if stored is not None else None

    async def prefetch(self, keys: Iterable[str]) -> None:
        """Read many (`Patient/1`, ...) at once; `get` then answers from memory."""
        async with self._one:
            await self._learn(list(keys))

    async def get_version(self, type: str, id: str, version: int) -> Stored | None:
        """One version, current or superseded."""
        current = await self.get(type, id)
        if current is None or version >= current.version:
            return current if current is not None and version == current.version else None
        name = version_key(key_of(current), version)
        found = await self.find_documents({"_id": name}, collection="history")
        return await self.fill(stored_of(found[0])) if found else None

    async def fill(self, stored: Stored) -> Stored:
        """The same version with its body read where that is in GridFS."""
        if stored.blob is None:
            return stored
        with told():
            return await self._blobs.fill(stored)

    async def find_documents(self, filter: Mapping[str, Any], **options: Any) -> list[Document]:
        """As Reads.find_documents, own writes included."""
        async with self._one:
            await self._flush()
            return await self._reads.find_documents(filter, **options)

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]], **options: Any) -> list[Document]:
        """As Reads.aggregate, own writes included."""
        async with self._one:
            await self._flush()
            return await self._reads.aggregate(pipeline, **options)

    async def count(self, filter: Mapping[str, Any], **options: Any) -> int:
        """As Reads.count, own writes included."""
        async with self._one:
            await self._flush()
            return await self._reads.count(filter, **options)

    # Writing

    @property
    def versions(self) -> list[Stored]:
        """What this attempt wrote so far: the last version of each resource, and no deletes."""
        return [stored for stored in self._versions.values() if not stored.deleted]

    async def create(self, new: New) -> Stored:
        """Store the first version; FhirError `duplicate` when this transaction knows the id to be taken."""
        key = key_of(new)
        if self._known.get(key) is not None:
            raise FhirError("duplicate", f"{key} exists already.")
        blob = await self._blob(new)
        self._pending.creates[key] = current_document(new, blob)
        if len(self._pending.creates) % TURN == 0:
            await asyncio.sleep(0)
        return self._remember(key, new, blob)

    async def replace(self, new: New, expected: int | Stored) -> Stored:
        """Supersede version `expected`; FhirError `conflict` when that is not the current one."""
        key = key_of(new)
        current = await self.get(new.type, new.id)
        version = expected if isinstance(expected, int) else expected.version
        if current is None or current.version != version:
            raise FhirError("conflict", f"{key} was changed by another request meanwhile; read it again and repeat.")
        blob = await self._blob(new)
        self._supersede(key, current, new, current_document(new, blob))
        return self._remember(key, new, blob)

    async def delete(self, type: str, id: str, expected: int | Stored, at: datetime) -> Stored:
        """Put a tombstone in place of version `expected`."""
        version = expected if isinstance(expected, int) else expected.version
        current = await self.get(type, id)
        compartment = current.compartment if current else ""
        return await self.replace(New(type, id, version + 1, at, None, (), compartment, DELETED), version)

    async def match_key(self, *hashes: str) -> None:
        """Take the match keys of conditional creates: of two transactions with the same one, the second starts over.

        To be called before the search that the condition needs (docs/security.md).
        """
        now = datetime.now(UTC)
        update = {"$inc": {"n": 1}, "$set": {"at": now}}
        takes = [UpdateOne({"_id": name}, update, upsert=True) for name in sorted(set(hashes))]
        async with self._one:
            with told():
                await self._driver.send(self._driver.match_keys.bulk_write, takes, session=self._session)

    async def note(self, name: str) -> bool:
        """Write down that this transaction was carried out; False when one of the same name was before.

        Of two at the same time the second starts over, and then finds the first.
        """
        if await self.find_documents({"_id": name}, collection="state"):
            return False
        async with self._one:
            with told():
                row = {"_id": name, "at": datetime.now(UTC)}
                await self._driver.send(self._driver.state.insert_one, row, session=self._session)
        return True

    async def touch(self, keys: Iterable[str]) -> list[str]:
        """Write to the targets of references, so that a delete beside this collides; those that are not there.

        (docs/security.md)
        """
        wanted = sorted({key for key in keys if key not in self._pending.creates})
        alive = {"_id": {"$in": wanted}, "m": {"$ne": DELETED}}
        if not wanted:
            return []
        async with self._one:
            await self._flush()
            with told():
                result = await self._driver.send(
                    self._driver.resources.update_many, alive, {"$inc": {"t": 1}}, session=self._session
                )
            if result.matched_count == len(wanted):
                return []
            found = await self._reads.find_documents(alive, projection={"_id": 1})
        return sorted(set(wanted) - {document["_id"] for document in found})

    async def flush(self) -> None:
        """Send the writes kept back so far."""
        async with self._one:
            await self._flush()

    async def forget(self) -> None:
        """Drop the large bodies of an attempt that was not carried out."""
        for blob in self._written:
            await self._blobs.drop(blob)

    async def _learn(self, keys: Sequence[str]) -> None:
        unknown = list({key for key in keys if key not in self._known})
        if not unknown:
            return
        documents = await self._reads.find_documents({"_id": {"$in": unknown}})
        self._known |= dict.fromkeys(unknown)
        self._known |= {document["_id"]: stored_of(document) for document in documents}

    async def _blob(self, new: New) -> ObjectId | None:
        with told():
            blob = await self._blobs.write(new)
        self._written += [blob] if blob else []
        return blob

    def _remember(self, key: str, new: New, blob: ObjectId | None) -> Stored:
        stored = stored_as(new, blob)
        self._known[key] = self._versions[key] = stored
        return stored

    def _supersede(self, key: str, current: Stored, new: New, document: Document) -> None:
        self._pending.copies.append(superseded_document(current, new.at))
        if key in self._pending.creates:
            self._pending.creates[key] = document
        else:
            guard, _ = self._pending.replaces.get(key, (current.version, document))
            self._pending.replaces[key] = (guard, document)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, Pending()
        with told():
            await self._send(pending)

    async def _send(self, pending: Pending) -> None:
        driver, session = self._driver, self._session
        if pending.creates:
            await driver.send(driver.resources.insert_many, list(pending.creates.values()), session=session)
        if pending.copies:
            copies = [ReplaceOne({"_id": copy["_id"]}, copy, upsert=True) for copy in pending.copies]
            await driver.send(driver.history.bulk_write, copies, session=session)
        if pending.replaces:
            rows = [ReplaceOne({"_id": key, "v": guard}, new) for key, (guard, new) in pending.replaces.items()]
            result = await driver.send(driver.resources.bulk_write, rows, session=session)
            if result.matched_count != len(rows):
                raise FhirError("conflict", "A resource was changed by another request meanwhile; repeat the request.")
