"""Raw reads for searches: find, aggregate and count, outside or inside a transaction or at one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from bson import Timestamp
from pymongo.errors import ConnectionFailure, NetworkTimeout

from fhir_server.store.driver import Driver, Session
from fhir_server.store.errors import told
from fhir_server.store.records import Document

Sort = Mapping[str, int]


class Reads:
    """Reads with one read concern, in one session or in none.

    With concern level `snapshot` the first read learns the instant from the database and the later ones repeat it,
    so all of them see one state; `at` carries it to the next page. A state older than the database keeps (five
    minutes by default) is a FhirError `expired`, 410.
    """

    def __init__(self, driver: Driver, level: str | None, session: Session | None = None, at: Timestamp | None = None):
        self._driver = driver
        self._level = level
        self._session = session
        self.at = at

    async def find_documents(
        self,
        filter: Mapping[str, Any],
        *,
        collection: str = "resources",
        projection: Mapping[str, Any] | None = None,
        sort: Sort | None = None,
        skip: int = 0,
        limit: int = 0,
        hint: str | Mapping[str, int] | None = None,
        max_time_ms: int | None = None,
    ) -> list[Document]:
        """The documents that match, all of them when `limit` is 0."""
        options = {"projection": projection, "sort": sort, "skip": skip, "limit": limit, "hint": hint}
        command: Document = {"find": collection, "filter": filter, "batchSize": limit + 1 if limit else 1_000}
        command.update((name, value) for name, value in options.items() if value)
        return await self._all(command, max_time_ms)

    async def aggregate(
        self,
        pipeline: Sequence[Mapping[str, Any]],
        *,
        collection: str = "resources",
        hint: str | Mapping[str, int] | None = None,
        max_time_ms: int | None = None,
    ) -> list[Document]:
        """Every document the pipeline yields."""
        command: Document = {"aggregate": collection, "pipeline": pipeline, "cursor": {"batchSize": 1_000}}
        if hint:
            command["hint"] = hint
        return await self._all(command, max_time_ms)

    async def count(
        self,
        filter: Mapping[str, Any],
        *,
        collection: str = "resources",
        limit: int = 0,
        hint: str | Mapping[str, int] | None = None,
        max_time_ms: int | None = None,
    ) -> int:
        """How many documents match; counting stops at `limit` when it is given."""
        stages: list[Mapping[str, Any]] = [{"$match": filter}]
        stages += [{"$limit": limit}] if limit else []
        stages.append({"$group": {"_id": None, "n": {"$sum": 1}}})
        rows = await self.aggregate(stages, collection=collection, hint=hint, max_time_ms=max_time_ms)
        return int(rows[0]["n"]) if rows else 0

    async def explain(self, filter: Mapping[str, Any], *, collection: str = "resources", **options: Any) -> Document:
        """The database's account of how a find ran."""
        command = {"find": collection, "filter": filter, **options}
        with told():
            return await self._driver.command({"explain": command, "verbosity": "executionStats"}, self._session)

    async def _all(self, command: Document, max_time_ms: int | None) -> list[Document]:
        collection = command.get("find") or command["aggregate"]
        seconds = max_time_ms / 1000 if max_time_ms else None
        with told():
            async with self._in_session() as session:
                cursor = (await self._first(command, session, seconds))["cursor"]
                documents: list[Document] = cursor["firstBatch"]
                while cursor["id"]:
                    cursor = (await self._driver.more(cursor["id"], collection, session))["cursor"]
                    documents += cursor["nextBatch"]
        return documents

    def _in_session(self) -> AbstractAsyncContextManager[Session]:
        """One session for all batches: the database gives the next one to no other."""
        return nullcontext(self._session) if self._session is not None else self._driver.session()

    async def _first(self, command: Document, session: Session, seconds: float | None) -> Document:
        if self._session is not None:
            return await self._driver.command(command, session, seconds)
        if self._level is not None:
            command["readConcern"] = self._concern()
        reply = await self._again(command, session, seconds)
        if self._level == "snapshot" and self.at is None:
            self.at = reply["cursor"]["atClusterTime"]
        return reply

    async def _again(self, command: Document, session: Session, seconds: float | None) -> Document:
        """A read is safe to repeat, once, when the connection broke under it."""
        try:
            return await self._driver.command(command, session, seconds)
        except NetworkTimeout:
            raise
        except ConnectionFailure:
            return await self._driver.command(command, session, seconds)

    def _concern(self) -> Document:
        concern: Document = {"level": self._level}
        if self.at is not None:
            concern["atClusterTime"] = self.at
        return concern


def snapshot_text(at: Timestamp) -> str:
    """The instant of a snapshot for a page link."""
    return f"{at.time:x}.{at.inc:x}"


def snapshot_of(text: str) -> Timestamp:
    """The instant a page link carries."""
    seconds, _, increment = text.partition(".")
    return Timestamp(int(seconds, 16), int(increment, 16))
