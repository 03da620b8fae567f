"""The journal of the audit trail: one document a batch, which is also one link of the chain.

A batch is durable in one write, however many events it has. Their bodies move on to `resources`, where they can be
searched, when somebody asks or the server is idle; the ids and digests stay here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from fhir_server.store.driver import Collection, Driver
from fhir_server.store.errors import told
from fhir_server.store.records import Document
from smart_auth.chain import Link, linked

PENDING = IndexModel([("open", ASCENDING)], name="open", partialFilterExpression={"open": True})


class Journal:
    """The links of one database, written by any number of workers."""

    def __init__(self, driver: Driver, key: bytes) -> None:
        self._driver = driver
        self._key = key
        self._last: Link | None = None

    @property
    def _links(self) -> Collection:
        return self._driver.database["audit"]

    async def prepare(self) -> None:
        """Create the index of what has not moved on."""
        with told():
            await self._driver.send(self._links.create_indexes, [PENDING])

    async def append(self, rows: Sequence[tuple[str, str]], bodies: Sequence[bytes]) -> None:
        """Write a batch as the next link; when another worker took the number, go on after its link."""
        while True:
            link = linked(self._key, self._last, rows)
            document = _document(link) | {"open": True, "bodies": list(bodies)}
            with told():
                try:
                    await self._driver.send(self._links.insert_one, document)
                except DuplicateKeyError:
                    self._last = await self.last()
                    continue
            self._last = link
            return

    async def last(self) -> Link | None:
        """The newest link."""
        with told():
            cursor = self._links.find({}, {"bodies": 0}).sort("_id", -1).limit(1)
            found = await self._driver.send(cursor.to_list)
        return _link(found[0]) if found else None

    async def open(self, limit: int = 20) -> list[tuple[int, list[bytes]]]:
        """Batches whose events have not moved on, the oldest first."""
        with told():
            cursor = self._links.find({"open": True}, {"bodies": 1}).sort("_id", ASCENDING).limit(limit)
            found = await self._driver.send(cursor.to_list)
        return [(document["_id"], document["bodies"]) for document in found]

    async def close(self, numbers: Sequence[int]) -> None:
        """The events of these batches are in `resources` now."""
        change = {"$unset": {"bodies": "", "open": ""}}
        with told():
            await self._driver.send(self._links.update_many, {"_id": {"$in": list(numbers)}}, change)

    async def walk(self, after: int = 0, limit: int = 500) -> list[Link]:
        """Links in their order."""
        with told():
            cursor = self._links.find({"_id": {"$gt": after}}, {"bodies": 0}).sort("_id", ASCENDING).limit(limit)
            return [_link(document) for document in await self._driver.send(cursor.to_list)]


def _document(link: Link) -> Document:
    return {"_id": link.number, "before": link.before, "rows": [list(row) for row in link.rows], "hash": link.hash}


def _link(document: dict[str, Any]) -> Link:
    rows = tuple((row[0], row[1]) for row in document["rows"])
    return Link(document["_id"], document["before"], rows, document["hash"])
