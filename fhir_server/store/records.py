"""What goes into the store and what comes out of it, and the document between (docs/storage.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DocumentTooLarge

from fhir_server.store.bodies import INLINE_LIMIT, seal, unseal

Document = dict[str, Any]

DOCUMENT_LIMIT = 16 * 1024**2
DELETED = "DELETE"
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class New:
    """A version to be stored: `body` is canonical JSON with id and meta filled in, None makes a tombstone."""

    type: str
    id: str
    version: int
    at: datetime
    body: bytes | None
    entries: Sequence[str]
    compartment: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Stored:
    """One version as it stands in the database; `body` is None where the resource was deleted.

    Superseded versions carry no entries: they are not searched. A history marks as `back` those that brought a deleted
    resource back.
    """

    type: str
    id: str
    version: int
    at: datetime
    body: bytes | None
    method: str
    entries: Sequence[str] = ()
    compartment: str = ""
    blob: ObjectId | None = None
    back: bool = False

    @property
    def deleted(self) -> bool:
        return self.method == DELETED


def instant(now: datetime, after: Stored | None = None) -> datetime:
    """`now` in whole milliseconds, and later than the version it follows: history is ordered by it alone."""
    at = now.astimezone(UTC)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return at if after is None or at > after.at else after.at + MILLISECOND


def key_of(record: New | Stored) -> str:
    """`Patient/123`: the `_id` of the current version."""
    return f"{record.type}/{record.id}"


def version_key(key: str, version: int) -> str:
    """`Patient/123/_history/2`: the `_id` of a superseded version."""
    return f"{key}/_history/{version}"


def is_large(new: New) -> bool:
    """Whether the body outgrows a document and goes to GridFS."""
    return new.body is not None and len(new.body) > INLINE_LIMIT


def current_document(new: New, blob: ObjectId | None = None) -> Document:
    """The document of the collection `resources`."""
    return {
        "_id": key_of(new),
        "v": new.version,
        "at": new.at,
        "m": new.method,
        **_body_fields(new.body, blob),
        "s": new.entries,
        "p": new.compartment,
    }


def superseded_document(old: Stored, until: datetime) -> Document:
    """The document of the collection `history`: the version, and the instant its successor took its place."""
    key = key_of(old)
    return {
        "_id": version_key(key, old.version),
        "r": key,
        "v": old.version,
        "at": old.at,
        "until": until,
        "m": old.method,
        **_body_fields(None if old.blob else old.body, old.blob),
        "p": old.compartment,
    }


def encoded(document: Document) -> RawBSONDocument:
    """The document as BSON; what cannot be stored fails here, and not in a batch beside others."""
    raw = RawBSONDocument(bson.encode(document))
    if len(raw.raw) > DOCUMENT_LIMIT:
        raise DocumentTooLarge(f"{len(raw.raw)} bytes")
    return raw


def stored_of(document: Mapping[str, Any]) -> Stored:
    """The record of a document of either collection; a body in GridFS is named by `blob` and not yet read."""
    kind, _, rest = (document.get("r") or document["_id"]).partition("/")
    body = document.get("body")
    return Stored(
        kind,
        rest,
        document["v"],
        document["at"],
        None if body is None else unseal(body),
        document["m"],
        document.get("s", ()),
        document.get("p", ""),
        document.get("blob"),
    )


def stored_as(new: New, blob: ObjectId | None = None) -> Stored:
    """What a read returns once `new` is written."""
    return Stored(new.type, new.id, new.version, new.at, new.body, new.method, new.entries, new.compartment, blob)


def _body_fields(body: bytes | None, blob: ObjectId | None) -> Document:
    if blob is not None:
        return {"blob": blob}
    return {} if body is None else {"body": seal(body)}
