"""Definitions that come with the server, as resources: read by id, found by url; what clients stored goes before them.

They are not in the database: 9,000 of them would make every history and count of a hospital's data unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from fhir_server.store import Stored
from fhir_server.store.find.search import Found
from profiles import model
from profiles.json import decode, encode
from search.clauses import ALWAYS, Clause, every
from search.entries import entries
from search.filters import is_seen
from search.matches import matches
from search.query import Query
from search.words import score
from terminology.content import by_id, shipped

if TYPE_CHECKING:
    from fhir_server.context import Context

TERMINOLOGY = frozenset(("CodeSystem", "ValueSet", "ConceptMap"))
KINDS = TERMINOLOGY | {"StructureDefinition", "SearchParameter", "OperationDefinition", "CompartmentDefinition"}
# The date of R4 (4.0.1), by which a client may see that they do not change.
AT = datetime(2019, 11, 1, 9, 29, 23, tzinfo=UTC)


def shipped_version(type: str, id: str, context: Context) -> Stored | None:
    """The definition with this id as a stored version."""
    if type not in KINDS:
        return None
    resource = _definition(type, id)
    if resource is None:
        return None
    meta = {"versionId": "1", "lastUpdated": AT.isoformat().replace("+00:00", ".000Z")}
    whole = {"resourceType": type, "id": id, "meta": meta} | {k: v for k, v in resource.items() if k != "meta"}
    body = encode(whole | {"id": id})
    return Stored(type, id, 1, AT, body, "PUT", _entries(type, id, context), f"{type}/{id}")


def _entries(type: str, id: str, context: Context) -> list[str]:
    resource = (_definition(type, id) or {}) | {"id": id}
    return entries(resource, context.registry, context.config.base)


def is_asked(query: Query) -> bool:
    """Whether a query asks for definitions by url or id."""
    return bool(query.types) and KINDS.issuperset(query.types) and any(name in ("url", "_id") for name, _ in query.used)


async def add(found: Found, query: Query, context: Context, access: Callable[[str], Clause] | None) -> None:
    """Add what a query for urls or ids also finds here; what is stored under the same name goes before it."""
    for type in query.types:
        clause = every((query.clauses, access(type) if access else ALWAYS))
        for id in dict.fromkeys(_asked(type, query)) if is_seen(clause) else ():
            version = shipped_version(type, id, context)
            if version is None or not matches(clause, version.entries, decode(version.body or b"{}")):
                continue
            if await context.store.get(type, id) is None:
                if query.count and query.summary != "count":
                    found.matches.append(version)
                    found.scores |= _score(version, query) if found.scores else {}
                found.total = None if found.total is None else found.total + 1


def _score(version: Stored, query: Query) -> dict[str, float]:
    words = " ".join(value for name, value in query.used if name in ("_text", "_content"))
    return {f"{version.type}/{version.id}": score(decode(version.body or b"{}"), words)}


def _asked(type: str, query: Query) -> Iterator[str]:
    """The ids that a query can mean, from the values of `url` and `_id`."""
    for name, text in query.used:
        values = text.split(",")
        if name == "_id":
            yield from values
        if name == "url":
            yield from (id for value in values if (id := _by_url(type).get(value.partition("|")[0])) is not None)


def _definition(type: str, id: str) -> dict[str, Any] | None:
    if type not in TERMINOLOGY:
        return model.definition(type, id)
    place = by_id(type).get(id)
    return shipped().shown(type, *place) if place else None


@cache
def _by_url(type: str) -> dict[str, str]:
    if type not in TERMINOLOGY:
        return model.definition_urls(type)
    return {url: id for id, (url, _) in by_id(type).items()}
