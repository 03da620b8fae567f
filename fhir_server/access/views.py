"""What a caller sees beyond what the request names: each look is a read or a search of its own at the one gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fhir_server import access
from fhir_server.answers.respond import milliseconds
from fhir_server.context import Context, Pairs, Request
from fhir_server.store import Stored
from fhir_server.store.find.page import find
from fhir_server.store.find.search import Found
from profiles.outcome import FhirError
from search.query import parse
from search.types.reference import local


async def view(request: Request, context: Context, kind: str, id: str, version: str = "") -> Stored | None:
    """A resource by id as the caller may see it; None where there is none, FhirError 403 for a type not granted."""
    own = replace(request, method="GET", parts=(kind, id), query=[])
    await access.admit(own, context, "read")
    store = context.store
    stored = await (store.get_version(kind, id, int(version)) if version else store.get(kind, id))
    if stored is None or stored.body is None or not await access.sees(own, context, stored):
        return None
    return access.shown(own, context, stored)


async def view_target(request: Request, context: Context, reference: str) -> Stored | None:
    """What a reference leads to; what is elsewhere, missing, not granted or not for the caller all look the same."""
    place = local(reference, context.config.base)
    if place is None or not (place[2].isdigit() or not place[2]) or len(place[2]) > 9:
        return None
    try:
        return await view(request, context, *place)
    except FhirError as error:
        if error.status == 403:
            return None
        raise


async def views(request: Request, context: Context, kind: str, pairs: Pairs, cursor: Any = None) -> Found:
    """One page of a search on a type, its matches as the caller may see them."""
    own = replace(request, method="GET", parts=(kind,), query=pairs)
    await access.admit(own, context, "search-type")
    now = milliseconds(context.now())
    query = parse(kind, pairs, context.registry, base=context.config.base, now=now)
    access.check_query(own, context, query)
    visible = access.clause_of(own, context)
    found = await find(
        context.store, query, registry=context.registry, cursor=cursor, access=visible, pending=context.pending
    )
    found.matches = [access.shown(own, context, stored) for stored in found.matches]
    return found
