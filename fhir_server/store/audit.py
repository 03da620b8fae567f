"""The journal of the audit trail: one document a batch, which is also one link of the chain.

A batch is durable in one write, however many events it tells of, in some 250 bytes each. The AuditEvents made of it go
to `resources`, where they can be searched, when somebody asks or the server is idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from fhir_server.store.driver import Collection, Driver
from fhir_server.store.errors import told
from fhir_server.store.records import Document
from smart_auth.chain import Link, linked

# Only what has not moved on is in the index: it is small however long the chain grows. The oldest are read first.
OPEN = IndexModel([("open", ASCENDING), ("_id", ASCENDING)], name="open_first", partialFilterExpression={"open": True})
# The anchors of what was removed: one for each time.
CUT = IndexModel([("cut", ASCENDING)], name="cut", partialFilterExpression={"cut": True})
LEASE = timedelta(seconds=30)  # after which another worker moves events on


class Journal:
    """The links of one database, written by any number of workers."""

    def __init__(self, driver: Driver, key: bytes) -> None:
        self._driver = driver
        self._key = key
        self._last: Link | None = None
        self._owner = uuid4().hex

    @property
    def _links(self) -> Collection:
        return self._driver.database["audit"]

    async def prepare(self) -> None:
        """Create the indexes of what has not moved on, and of what was removed."""
        with told():
            await self._driver.send(self._links.create_indexes, [OPEN, CUT])

    async def append(self, text: bytes, *, open: bool = False, cut: bool = False) -> Link:
        """Write the next link and return it; when another worker took the number, go on after its link."""
        marks = {name: True for name, on in (("open", open), ("cut", cut)) if on}
        while True:
            link = linked(self._key, self._last, text)
            document = {"_id": link.number, "before": link.before, "text": link.text, "hash": link.hash}
            with told():
                try:
                    await self._driver.send(self._links.insert_one, document | marks)
                except DuplicateKeyError:
                    self._last = await self.last()
                    continue
            self._last = link
            return link

    async def last(self) -> Link | None:
        """The newest link."""
        found = await self._find({}, -1, 1)
        return found[0] if found else None

    async def open(self, upto: int, limit: int = 20) -> list[Link]:
        """Links up to a number whose events have not moved on, the oldest first."""
        return await self._find({"open": True, "_id": {"$lte": upto}}, ASCENDING, limit)

    async def close(self, numbers: Sequence[int]) -> None:
        """The events of these links are in `resources` now."""
        with told():
            await self._driver.send(self._links.update_many, {"_id": {"$in": list(numbers)}}, {"$unset": {"open": ""}})

    async def lead(self) -> bool:
        """Whether this is the worker that moves events on, for half a minute from now; the first to ask is."""
        now = datetime.now(UTC)
        free = {"_id": "mover", "$or": [{"owner": self._owner}, {"until": {"$lt": now}}]}
        taken = {"$set": {"owner": self._owner, "until": now + LEASE}}
        with told():
            try:
                await self._driver.send(self._driver.state.update_one, free, taken, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    async def walk(self, after: int = 0, limit: int = 500) -> list[Link]:
        """Links in their order."""
        return await self._find({"_id": {"$gt": after}}, ASCENDING, limit)

    async def link(self, number: int) -> Link | None:
        """One link."""
        found = await self._find({"_id": number}, ASCENDING, 1)
        return found[0] if found else None

    async def anchor(self) -> Link | None:
        """The newest link that says what was removed."""
        found = await self._find({"cut": True}, -1, 1)
        return found[0] if found else None

    async def remove(self, events: Sequence[str], through: int) -> None:
        """Take away the links up to one, and before them the AuditEvents that they tell of."""
        with told():
            names = {"_id": {"$in": [f"AuditEvent/{event}" for event in events]}}
            await self._driver.send(self._driver.resources.delete_many, names)
            await self._driver.send(self._links.delete_many, {"_id": {"$lte": through}})

    async def _find(self, filter: Document, direction: int, limit: int) -> list[Link]:
        with told():
            cursor = self._links.find(filter).sort("_id", direction).limit(limit)
            return [_link(document) for document in await self._driver.send(cursor.to_list)]


def _link(document: dict[str, Any]) -> Link:
    return Link(document["_id"], document["before"], bytes(document["text"]), document["hash"])
