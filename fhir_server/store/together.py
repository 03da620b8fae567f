"""Searches that arrive together, sent as one: the micro-batch of searches (docs/storage.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Timestamp

from fhir_server.store.batches import Batches
from fhir_server.store.driver import Driver
from fhir_server.store.reads import Reads, Sort
from fhir_server.store.records import Document
from profiles.outcome import FhirError

Answer = tuple[list[Document], Timestamp]

# Which of the searches a document answers.
MARK = "q"
# Milliseconds that searches may take together; one that is slower than its share of that goes alone from then on.
QUICK = 50
SLOW = 0.03
# Seconds that a kind of search is remembered as slow for the first time, and at most: a moment in which the machine was
# busy makes all kinds slow, and going alone would keep it busy.
MEMORY, LONGEST = 1.0, 60.0
# How many kinds are remembered.
KINDS = 1_000
# An entry begins with its type and parameter in so many characters; the value follows.
KEY = 5


@dataclass(frozen=True, slots=True)
class Search:
    """A find on `resources`; `max_time_ms` is the time it may take when it goes alone.

    `stages` of a pipeline may stand in place of order and limit.
    """

    filter: Mapping[str, Any]
    sort: Sort
    limit: int
    max_time_ms: int | None = None
    stages: Sequence[Mapping[str, Any]] = ()

    @property
    def pipeline(self) -> list[Mapping[str, Any]]:
        """The same as the stages of an aggregation."""
        return [{"$match": self.filter}, *(self.stages or ({"$sort": self.sort}, {"$limit": self.limit}))]


class Together:
    """Searches by an entry with a limit are short; together they cost a fraction.

    16 identifier searches together against one by one: 17 against 140 µs CPU of this process each, and 33 against
    100 of mongod (mongod 6.0.5, 2 cores). A slow one would hold up its neighbours, so together they have 0.05 seconds;
    after that each goes alone, and the kinds of search that were slow then stay alone for a second, and each time they
    are slow again for twice as long, up to a minute.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._batches: Batches[Search, Answer] = Batches(self._send, size=64, lanes=1)
        self._slow: dict[str, tuple[float, float]] = {}  # until when, and for how long

    async def find(self, search: Search) -> Answer:
        """The documents of one search, and the instant for its further pages."""
        if self._slow and self._slow.get(kind(search), (0.0, 0.0))[0] > _now():
            return await self._alone(search)
        return await self._batches(search)

    async def close(self) -> None:
        await self._batches.close()

    async def _send(self, searches: list[Search]) -> Sequence[Answer | Exception]:
        if len(searches) == 1:
            return [await self._alone(searches[0])]
        try:
            return await self._united(searches)
        except FhirError as error:
            if error.code == "transient":
                raise
            # One of them is at fault, or too slow: each gets its own answer.
            return await asyncio.gather(*map(self._timed, searches), return_exceptions=True)  # type: ignore[return-value]

    async def _timed(self, search: Search) -> Answer:
        started = _now()
        try:
            return await self._alone(search)
        finally:
            if _now() - started > SLOW:
                self._remember(kind(search))

    def _remember(self, slow: str) -> None:
        if len(self._slow) >= KINDS:
            self._slow.clear()
        until, held = self._slow.get(slow, (0.0, 0.0))
        if until > _now():
            return  # one of the same moment was noted
        again = until + LONGEST > _now()
        seconds = min(2 * held, LONGEST) if held and again else MEMORY
        self._slow[slow] = _now() + seconds, seconds

    async def _alone(self, search: Search) -> Answer:
        reads = Reads(self._driver, "snapshot")
        if search.stages:
            documents = await reads.aggregate(search.pipeline, max_time_ms=search.max_time_ms)
        else:
            documents = await reads.find_documents(
                search.filter, sort=search.sort, limit=search.limit, max_time_ms=search.max_time_ms
            )
        assert reads.at is not None
        return documents, reads.at

    async def _united(self, searches: list[Search]) -> list[Answer]:
        reads = Reads(self._driver, "snapshot")
        first, *others = [[*search.pipeline, {"$set": {MARK: n}}] for n, search in enumerate(searches)]
        rest = [{"$unionWith": {"coll": "resources", "pipeline": stages}} for stages in others]
        found: list[list[Document]] = [[] for _ in searches]
        for document in await reads.aggregate([*first, *rest], max_time_ms=QUICK):
            found[document.pop(MARK)].append(document)
        assert reads.at is not None
        return [(documents, reads.at) for documents in found]


def kind(search: Search) -> str:
    """What searches have in common that differ in their values only."""
    return _shape(search.filter)


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return value[:KEY]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_shape(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        if all(type(part) is str for part in value):  # a hundred labels behind the gate: 5 microseconds against 100
            return "[" + ",".join(dict.fromkeys([part[:KEY] for part in value])) + "]"
        return "[" + ",".join(map(_shape, value)) + "]"
    return type(value).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
