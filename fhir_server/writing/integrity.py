"""Referential integrity, when it is switched on (docs/security.md).

In a posted transaction what counts is what it leaves, so its checks wait for its end: the outcome does not depend on
the order of its entries (http://hl7.org/fhir/R4/http.html#trules).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache, partial
from typing import Any

from fhir_server import access
from fhir_server.context import Context, Request, Resource
from fhir_server.ids import local_name
from fhir_server.store import New, Stored, Transaction
from profiles.json import decode
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.params import TYPE_CODES, Registry

REFERRED = "is still referred to by other resources."


async def check_targets(
    new: New, resource: Resource, request: Request, context: Context, before: Stored | None = None
) -> None:
    """Refuse references to what is not there, and write to the targets so that a delete beside this collides.

    What the caller may not see is not there either, unless the version `before` refers to it already.
    """
    if not context.config.referential_integrity:
        return
    own = f"{new.type}/{new.id}"
    wanted = {target for target in targets(resource, context.config.base) if target != own}
    known = targets(decode(before.body), context.config.base) if before is not None and before.body else set()

    async def check(store: Transaction) -> None:
        unseen = {name for name in sorted(wanted - known) if await access.reached(name, request, context) is None}
        absent = sorted({*await store.touch(wanted - unseen), *unseen})
        if absent:
            told = f"The resource refers to {', '.join(absent)}, which is not known."
            raise FhirError("business-rule", told, status=422)

    await _in_time(check, context)


async def check_unreferenced(stored: Stored, context: Context) -> None:
    """Refuse to delete what another resource refers to; the answer does not name it, the caller may not see it."""
    if not context.config.referential_integrity:
        return

    async def check(store: Transaction) -> None:
        own = f"{stored.type}/{stored.id}"
        await store.touch([own])
        if await store.find_documents(referring(stored, context), projection={"_id": 1}, limit=1):
            raise FhirError("conflict", f"{own} {REFERRED}")

    await _in_time(check, context)


async def _in_time(check: Callable[[Transaction], Awaitable[None]], context: Context) -> None:
    """Now, or at the end of the posted transaction; never outside of the database's."""
    store = context.store
    if not isinstance(store, Transaction):
        return
    if context.later is None:
        await check(store)
    else:
        context.later.append(partial(check, store))


def referring(stored: Stored, context: Context) -> dict[str, Any]:
    """The filter for what refers to a resource."""
    entries = [f"{key}{TYPE_CODES[stored.type]}{stored.id}" for key in reference_keys(context.registry)]
    return {"s": {"$in": entries}, "_id": {"$ne": f"{stored.type}/{stored.id}"}}


@lru_cache(maxsize=4)
def reference_keys(registry: Registry) -> tuple[str, ...]:
    """The keys under which references are indexed, of all types."""
    rows = [row for type in RESOURCE_TYPES for row in registry.of(type) if row.type == "reference"]
    return tuple(sorted({key for row in rows for key in row.keys}))


def targets(resource: Any, base: str) -> set[str]:
    """What the resource refers to on this server, as `Patient/123`."""
    return {name for text in _references(resource) if (name := local_name(text, base))}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        text = value.get("reference")
        if isinstance(text, str):
            yield text
        for child in value.values():
            if isinstance(child, dict | list):
                yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)
