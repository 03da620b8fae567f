"""The database: collections, concerns, and the one place where a call to the driver is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from fhir_server.store.records import Document

P = ParamSpec("P")
T = TypeVar("T")

Session = AsyncClientSession
Collection = AsyncCollection[Document]

# docs/security.md: at w:1, 145 of 3,116 acknowledged writes were lost to kill -9; at majority and journal none.
DURABLE = WriteConcern(w="majority", j=True)
MAJORITY = ReadConcern("majority")
SEARCH_SECONDS = 5.0
AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True)


class Driver:
    """One database of one client."""

    def __init__(
        self, client: AsyncMongoClient[Document], database: str, limit: float, search_seconds: float = SEARCH_SECONDS
    ) -> None:
        """`limit`: seconds that a call may take; `search_seconds`: what a search with all its calls may."""
        self.client = client
        self.limit = limit
        self.search_seconds = search_seconds
        self.database: AsyncDatabase[Document] = client.get_database(
            database, codec_options=AWARE, write_concern=DURABLE, read_concern=MAJORITY
        )
        self.resources: Collection = self.database["resources"]
        self.history: Collection = self.database["history"]
        self.match_keys: Collection = self.database["match_keys"]
        self.state: Collection = self.database["state"]

    async def send(self, operation: Callable[P, Awaitable[T]], /, *args: P.args, **options: P.kwargs) -> T:
        """Await one call of the driver within the time limit."""
        with pymongo.timeout(self.limit):
            return await self.call(operation, *args, **options)

    async def call(self, operation: Callable[P, Awaitable[T]], /, *args: P.args, **options: P.kwargs) -> T:
        """The one place where the driver is called; tests make the n-th call fail here."""
        return await operation(*args, **options)

    async def command(
        self, command: Document, session: Session | None = None, seconds: float | None = None
    ) -> Document:
        """One database command; half the driver's cost of a cursor object. The database is told the time limit."""
        run: Any = self.database.command
        with pymongo.timeout(seconds or self.limit):
            reply: Document = await self.call(run, command, session=session, codec_options=AWARE)
        return reply

    def session(self) -> Session:
        """A session without reads that wait for each other; it ends with its block."""
        return self.client.start_session(causal_consistency=False)

    async def more(self, cursor: int, collection: str, session: Session) -> Document:
        """The next batch of a cursor; the database takes no time limit for it, so the limit is on our side."""
        run: Any = self.database.command
        more = {"getMore": cursor, "collection": collection}
        async with asyncio.timeout(self.limit):
            reply: Document = await self.call(run, more, session=session, codec_options=AWARE)
        return reply
