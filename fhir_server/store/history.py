"""History of an instance, a type or everything, newest first (http://hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.store.reads import Reads
from fhir_server.store.records import Document, Stored, stored_of, version_key

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
    """One page; `cursor` is None on the last one, and `total` where counting would be dear."""

    versions: list[Stored]
    total: int | None
    cursor: Cursor | None


async def page(reads: Reads, asked: Asked, count: int, cursor: Cursor | None) -> Page:
    """At most `count` versions after `cursor`; one more is read to know whether another page follows."""
    total = await _total(reads, asked)
    if count == 0:
        return Page([], total, None)
    read = _instance if asked.id else _everything
    documents = await read(reads, asked, count + 1, cursor)
    versions = [stored_of(document) for document in documents[:count]]
    following = _cursor(documents[count - 1], asked) if len(documents) > count else None
    return Page(versions, total, following)


def _cursor(document: Document, asked: Asked) -> Cursor:
    if asked.id:
        return (document["v"],)
    return (_milliseconds(document["at"]), _resource_key(document))


async def _instance(reads: Reads, asked: Asked, count: int, cursor: Cursor | None) -> list[Document]:
    """Versions are numbered without gaps, so a page of them is named by `_id`: no sort, however many there are."""
    key = f"{asked.type}/{asked.id}"
    if cursor is None:
        current = await reads.find_documents({"_id": key})
        if not current:
            return []
        found = [d for d in current if _is_asked(d, asked)]
        version = current[0]["v"]
    else:
        found, version = [], int(cursor[0])
    while version > 1 and len(found) < count:
        low = max(1, version - max(count, 50))
        names = [version_key(key, number) for number in range(low, version)]
        documents = await reads.find_documents({"_id": {"$in": names}}, collection="history")
        documents.sort(key=lambda document: -int(document["v"]))
        found += [d for d in documents if _is_asked(d, asked)]
        if asked.since and documents and documents[-1]["at"] < asked.since:
            break
        version = low
    return found[:count]


def _is_asked(document: Document, asked: Asked) -> bool:
    if asked.since and document["at"] < asked.since:
        return False
    low, high = asked.at or (None, None)
    until = document.get("until")
    return (high is None or document["at"] < high) and (low is None or until is None or until > low)


async def _everything(reads: Reads, asked: Asked, count: int, cursor: Cursor | None) -> list[Document]:
    """Both collections, each ordered by (at, resource), merged.

    Instants of one resource grow strictly, so the pair names a version, and it stays the same when the version
    moves to the other collection between two pages.
    """
    streams = []
    for collection in ("resources", "history"):
        filter = {**_bounds(asked, collection), **_after(cursor, collection)}
        sort = {"at": -1, _RESOURCE[collection]: -1}
        hint = await _hint(reads, asked, collection)
        streams.append(await reads.find_documents(filter, collection=collection, sort=sort, limit=count, hint=hint))
    return list(_merged(streams))[:count]


def _merged(streams: Iterable[list[Document]]) -> Iterable[Document]:
    """A copy that a crash left of a version that is still current is passed over."""
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
    prefix = {"_id": _prefix(f"{asked.type}/")}
    found = await reads.count(prefix, collection=collection, limit=SMALL_TYPE, hint="_id_")
    return "_id_" if found < SMALL_TYPE else "at"


async def _total(reads: Reads, asked: Asked) -> int | None:
    total = 0
    for collection in ("resources", "history"):
        hint = _count_hint(asked, _bounds(asked, collection))
        total += await reads.count(_bounds(asked, collection), collection=collection, limit=COUNT_LIMIT, hint=hint)
    return total if total < COUNT_LIMIT else None


def _count_hint(asked: Asked, bounds: Mapping[str, Any]) -> str | None:
    return "_id_" if "_id" in bounds and "at" not in bounds else None


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)
