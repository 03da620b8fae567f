"""The collections of the authorization server: users, clients, codes, tokens, keys, launches, sessions, counters.

Each kind is a collection `auth_KIND` of small documents `{_id, ..., expires}`. What expires is removed by the database
within a minute or so; until then a read does not see it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from fhir_server.store.driver import Collection, Driver
from fhir_server.store.errors import told
from fhir_server.store.records import Document

EXPIRY = IndexModel([("expires", ASCENDING)], name="expires", expireAfterSeconds=0)


def by(*fields: str) -> IndexModel:
    """An index over the fields that `find`, `drop` and `change_all` are asked for."""
    return IndexModel([(field, ASCENDING) for field in fields], name="_".join(fields))


# Kind -> indexes. Without them a revocation would read every token of the tenant.
KINDS: dict[str, list[IndexModel]] = {
    "users": [by("sub"), by("fhir_user"), by("external")],
    "clients": [],
    "policies": [],
    "keys": [],
    "codes": [EXPIRY],
    "flows": [EXPIRY],
    "sessions": [EXPIRY, by("user")],
    "tokens": [EXPIRY, by("family"), by("user"), by("client"), by("kid")],
    "refresh": [EXPIRY, by("family"), by("user"), by("client")],
    "ended": [EXPIRY],
    "grants": [by("user"), by("client")],
    "launches": [EXPIRY],
    "assertions": [EXPIRY],
    "challenges": [EXPIRY],
    "external": [EXPIRY],
    "resets": [EXPIRY],
    "registrations": [EXPIRY],
    "limits": [EXPIRY],
    "state": [],
}


class AuthRecords:
    """Records by kind and key (`smart_auth.realm.Records`)."""

    def __init__(self, driver: Driver, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._driver = driver
        self._now = now

    async def prepare(self) -> None:
        """Create the indexes; nothing is changed where they are there."""
        for kind, indexes in KINDS.items():
            if indexes:
                with told():
                    await self._driver.send(self._of(kind).create_indexes, indexes)

    async def get(self, kind: str, key: str) -> Document | None:
        with told():
            return self._live(await self._driver.send(self._of(kind).find_one, {"_id": key}))

    async def add(self, kind: str, key: str, record: Document, expires: datetime | None = None) -> bool:
        document = _document(key, record, expires)
        with told():
            try:
                await self._driver.send(self._of(kind).insert_one, document)
            except DuplicateKeyError:
                return False
        return True

    async def put(self, kind: str, key: str, record: Document, expires: datetime | None = None) -> None:
        document = _document(key, record, expires)
        with told():
            await self._driver.send(self._of(kind).replace_one, {"_id": key}, document, upsert=True)

    async def take(self, kind: str, key: str) -> Document | None:
        with told():
            return self._live(await self._driver.send(self._of(kind).find_one_and_delete, {"_id": key}))

    async def change(self, kind: str, key: str, fields: Document, when: Document | None = None) -> Document | None:
        change = self._of(kind).find_one_and_update
        with told():
            found = await self._driver.send(
                change, {"_id": key, **(when or {})}, {"$set": fields}, return_document=ReturnDocument.BEFORE
            )
        return self._live(found)

    async def change_all(self, kind: str, where: Document, fields: Document) -> int:
        with told():
            result = await self._driver.send(self._of(kind).update_many, where, {"$set": fields})
        return result.matched_count

    async def find(self, kind: str, where: Document, limit: int = 1000) -> list[Document]:
        with told():
            cursor = self._of(kind).find(where).sort("_id", ASCENDING).limit(limit)
            documents = await self._driver.send(cursor.to_list)
        return [live for live in map(self._live, documents) if live is not None]

    async def drop(self, kind: str, where: Document) -> int:
        with told():
            result = await self._driver.send(self._of(kind).delete_many, where)
        return result.deleted_count

    async def count(self, kind: str, key: str, by: int, expires: datetime) -> int:
        """Add to a counter; of two workers that create it at once, one meets the unique key and adds to the other's."""
        add: Any = self._of(kind).find_one_and_update
        change = {"$inc": {"n": by}, "$setOnInsert": {"expires": expires}}
        for _ in range(2):
            with told():
                try:
                    found = await self._driver.send(
                        add, {"_id": key}, change, upsert=True, return_document=ReturnDocument.AFTER
                    )
                    return int(found["n"])
                except DuplicateKeyError:
                    continue
        return by

    def _of(self, kind: str) -> Collection:
        if kind not in KINDS:
            raise LookupError(f"no records of kind {kind}")
        return self._driver.database[f"auth_{kind}"]

    def _live(self, document: Document | None) -> Document | None:
        if document is None or ("expires" in document and document["expires"] <= self._now()):
            return None
        document["key"] = document.pop("_id")
        return document


def _document(key: str, record: Document, expires: datetime | None) -> Document:
    fields = {name: value for name, value in record.items() if name not in ("key", "expires")}
    return {"_id": key, **fields, **({"expires": expires} if expires else {})}
