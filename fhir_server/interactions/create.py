"""create and conditional create (http://hl7.org/fhir/R4/http.html#create, #ccreate)."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Pairs, Request, Resource
from fhir_server.http.criteria import create_criteria
from fhir_server.store import Stored, instant
from fhir_server.writing.atomic import atomically, turn
from fhir_server.writing.conditions import hold, match_key, matching, narrowing, only
from fhir_server.writing.integrity import check_targets
from fhir_server.writing.resource import incoming, record, written
from profiles.outcome import FhirError

DOTS = (".", "..")


async def create(request: Request, context: Context) -> Response:
    """201 with a new id; with If-None-Exist 200 when the criteria match one resource, which stays as it is."""
    resource = await incoming(request, context, request.type)
    pairs = create_criteria(request.headers.get("if-none-exist"), request.query)
    if pairs is not None:
        await access.may_store(request, context, resource)
        return await _create_unless(pairs, resource, request, context)
    return await create_new(resource, request.assigned or context.new_id(), request, context, "POST", judged=False)


async def create_new(
    resource: Resource, id: str, request: Request, context: Context, method: str, *, judged: bool = True
) -> Response:
    """Store the first version under the id; `judged` says that the caller is known to be allowed this content."""
    if id in DOTS:
        raise FhirError(
            "invalid", f"{id!r} cannot be an id: in a URL it is a step of the path (RFC 3986 §5.2.4).", "id"
        )

    async def work(inner: Context) -> Stored:
        new = record(resource, id, 1, instant(inner.now()), method, inner)
        if not judged:
            await access.may_store(request, inner, resource, written=new.entries)
        await check_targets(new, resource, request, inner)
        return await inner.store.create(new)

    guarded = context.config.referential_integrity
    stored = await (atomically(context, work) if guarded else work(context))
    return written(stored, True, request, context)


async def _create_unless(pairs: Pairs, resource: Resource, request: Request, context: Context) -> Response:
    """Look first, since most repeats find their match; then look again with the match key in hand, and create."""
    type = request.type
    key = match_key(type, narrowing(pairs))
    async with turn(context, "match", key):
        found = only(await matching(type, pairs, request, context), type)
        if found is not None:
            return written(access.shown(request, context, found), False, request, context)

        async def work(inner: Context) -> Response:
            await hold(inner, request, key)
            again = only(await matching(type, pairs, request, inner), type)
            if again is not None:
                return written(access.shown(request, inner, again), False, request, inner)
            return await create_new(resource, request.assigned or inner.new_id(), request, inner, "POST")

        return await atomically(context, work)
