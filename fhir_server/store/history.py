"""History of an instance, a type or everything, newest first (http://hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.store.reads import Reads
from fhir_server.store.records import DELETED, Document, Stored, key_of, stored_of, version_key

Cursor = Sequence[Any]
Period = tuple[datetime | None, datetime | None]

# Counting stops here and the bundle goes without a total: 10,000 index keys take about 5 ms.
COUNT_LIMIT = 10_000
# A type of up to this many documents is sorted in memory; a commoner one is found soon by walking the index `at`.
SMALL_TYPE = 5_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which versions: of all, of one type or of one resource; created since, or current at some time in a period."""

    type: str | None = None
    id: str | None = None
    since: datetime | None = None
    at: Period | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `cursor` is None on the last one, and `total` where counting would be dear, and beyond the first."""

    versions: list[Stored]
    total: int | None
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Reads by `_id` that travel with those of other requests: current versions, and superseded ones."""

    current: Callable[[str], Awaitable[Stored | None]]
    superseded: Callable[[str], Awaitable[Stored | None]]


async def page(reads: Reads, lookup: Lookup, asked: Asked, count: int, cursor: Cursor | None) -> Page:
    """At most `count` versions after `cursor`; `reads` see one state, as an update moves a version while it is read."""
    if asked.id and asked.since is None and asked.at is None:
        return await _instance(lookup, f"{asked.type}/{asked.id}", count, cursor)
    current = await _stream(reads, asked, "resources", count + 1, cursor)  # alone: the first read settles the state
    superseded, total = await asyncio.gather(
        _stream(reads, asked, "history", count + 1, cursor), _total(reads, asked, cursor)
    )
    documents = list(_merged(current, superseded))[: count + 1]
    versions = [stored_of(document) for document in documents[:count]]
    before = [_before(stored) for stored in versions if _follows(stored)]
    deleted = {"_id": {"$in": before}, "m": DELETED}
    rows = await reads.find_documents(deleted, collection="history", projection={"_id": 1}) if before else []
    versions = _marked(versions, {row["_id"] for row in rows})
    more = len(documents) > count > 0
    return Page(versions, total, _cursor(documents[count - 1]) if more else None)


def _marked(versions: list[Stored], deleted: Collection[str]) -> list[Stored]:
    """The versions, marked where the one before is a delete (named in `deleted`): no document tells it of the next."""
    return [replace(v, back=True) if _follows(v) and _before(v) in deleted else v for v in versions]


def _follows(stored: Stored) -> bool:
    """Whether this may have brought a deleted resource back."""
    return stored.method == "PUT" and stored.version > 1


def _before(stored: Stored) -> str:
    return version_key(key_of(stored), stored.version - 1)


async def _instance(lookup: Lookup, key: str, count: int, cursor: Cursor | None) -> Page:
    """Versions are numbered without gaps, so a page of them is named by `_id`: no sort, however many there are."""
    latest = await lookup.current(key)
    if latest is None:
        return Page([], 0, None)
    start = latest.version if cursor is None else int(cursor[0])
    end = max(start - count, 0)
    # One more than is shown: of the last one it tells whether it brought a deleted resource back.
    numbers = range(start, max(end - 1, 0), -1) if count else ()
    names = [version_key(key, number) for number in numbers if number != latest.version]
    older = await asyncio.gather(*map(lookup.superseded, names))
    newest = [latest] if start == latest.version and count else []
    found = [*newest, *(stored for stored in older if stored is not None)]
    deleted = {version_key(key, stored.version) for stored in found if stored.deleted}
    versions = _marked([stored for stored in found if stored.version > end], deleted)
    return Page(versions, latest.version, (end,) if end and count else None)


def _cursor(document: Document) -> Cursor:
    return (_milliseconds(document["at"]), _resource_key(document))


async def _stream(reads: Reads, asked: Asked, collection: str, count: int, cursor: Cursor | None) -> list[Document]:
    """The versions that one collection holds, ordered by (at, resource).

    Instants of one resource grow strictly, so the pair names a version, and it stays the same when the version
    moves to the other collection between two pages.
    """
    filter = {**_bounds(asked, collection), **_after(cursor, collection)}
    sort = {"at": -1, _RESOURCE[collection]: -1}
    hint = await _hint(reads, asked, collection)
    return await reads.find_documents(filter, collection=collection, sort=sort, limit=count, hint=hint)


def _merged(*streams: list[Document]) -> Iterable[Document]:
    """Both in one order. A copy that a crash left of a version that is still current is passed over."""
    previous = None
    for document in heapq.merge(*streams, key=_position, reverse=True):
        if _position(document) != previous:
            yield document
        previous = _position(document)


def _position(document: Document) -> tuple[datetime, str]:
    return document["at"], _resource_key(document)


def _resource_key(document: Document) -> str:
    key: str = document.get("r") or document["_id"]
    return key


_RESOURCE = {"resources": "_id", "history": "r"}


def _bounds(asked: Asked, collection: str) -> Document:
    bounds: Document = {}
    if asked.id:
        key = f"{asked.type}/{asked.id}"
        bounds["_id"] = key if collection == "resources" else _prefix(f"{key}/_history/")
    elif asked.type:
        bounds["_id"] = _prefix(f"{asked.type}/")
    low, high = asked.at or (None, None)
    at: Document = {}
    if asked.since:
        at["$gte"] = asked.since
    if high:
        at["$lt"] = high
    if at:
        bounds["at"] = at
    if low and collection == "history":
        bounds["until"] = {"$gt": low}
    return bounds


def _prefix(text: str) -> Document:
    """Every `_id` that begins so; the last character is a slash and `0` follows it in ASCII."""
    return {"$gte": text, "$lt": f"{text[:-1]}0"}


def _after(cursor: Cursor | None, collection: str) -> Document:
    if cursor is None:
        return {}
    at, key = EPOCH + timedelta(milliseconds=int(cursor[0])), str(cursor[1])
    earlier = {"at": {"$lt": at}}
    return {"$or": [earlier, {"at": at, _RESOURCE[collection]: {"$lt": key}}]}


async def _hint(reads: Reads, asked: Asked, collection: str) -> str:
    """A rare type is read by `_id` and sorted; walking `at` for it would pass over everything else."""
    if asked.type is None:
        return "at"
    if asked.id is not None:
        return "_id_"
    prefix = {"_id": _prefix(f"{asked.type}/")}
    found = await reads.count(prefix, collection=collection, limit=SMALL_TYPE, hint="_id_")
    return "_id_" if found < SMALL_TYPE else "at"


async def _total(reads: Reads, asked: Asked, cursor: Cursor | None) -> int | None:
    """How many versions there are; counted for the first page alone."""
    if cursor is not None:
        return None
    total = sum(await asyncio.gather(*(_count(reads, asked, collection) for collection in _RESOURCE)))
    return total if total < COUNT_LIMIT else None


async def _count(reads: Reads, asked: Asked, collection: str) -> int:
    bounds = _bounds(asked, collection)
    return await reads.count(bounds, collection=collection, limit=COUNT_LIMIT, hint=_count_hint(asked, bounds))


def _count_hint(asked: Asked, bounds: Mapping[str, Any]) -> str | None:
    return "_id_" if "_id" in bounds and "at" not in bounds else None


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)
