"""update, update as create and conditional update (http://hl7.org/fhir/R4/http.html#update, #cond-update)."""

from __future__ import annotations

from dataclasses import replace

from fhir_server import access
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request, Resource
from fhir_server.http.headers import matches_etag
from fhir_server.interactions.create import create_new
from fhir_server.interactions.read import missing
from fhir_server.store import Stored, instant
from fhir_server.writing.atomic import atomically, turn
from fhir_server.writing.conditions import hold, match_key, matching, narrowing, only
from fhir_server.writing.integrity import check_targets
from fhir_server.writing.resource import check_if_match, incoming, is_same, record, written
from profiles.outcome import FhirError

RIVALS = 20  # times an update starts over when other processes overtake it


async def update(request: Request, context: Context) -> Response:
    """200 with the next version, 201 where there was none, the same version when nothing would change."""
    type, id = request.parts
    resource = await incoming(request, context, type)
    check_id(resource, id)
    await access.may_store(request, context, resource)
    return await put(resource, id, request, context)


def check_id(resource: Resource, id: str) -> None:
    """The id in the body must be the one in the URL."""
    own = resource.get("id")
    if own is None:
        raise FhirError("invalid", f"The resource has no id; it must be {id}, as in the URL.", "id")
    if own != id:
        raise FhirError("invalid", f"The id in the body is {own}, and in the URL it is {id}.", "id")


async def put(resource: Resource, id: str, request: Request, context: Context, method: str = "PUT") -> Response:
    """Store the resource under the id, whichever version that becomes."""
    type = resource["resourceType"]
    async with turn(context, type, id):
        for _ in range(RIVALS):
            try:
                return await _put_once(resource, id, request, context, method)
            except FhirError as error:
                if not _overtaken(error, context):
                    raise
    raise FhirError("conflict", f"{type}/{id} is changed by many others at the same time; repeat the request.")


def _overtaken(error: FhirError, context: Context) -> bool:
    """Whether a race was lost that can be run again; a transaction starts over as a whole."""
    return error.code in ("conflict", "duplicate") and error.status == 409 and hasattr(context.store, "transaction")


async def _put_once(resource: Resource, id: str, request: Request, context: Context, method: str) -> Response:
    type = resource["resourceType"]
    current = await context.store.get(type, id)
    seen = current if current is None or await access.sees(request, context, current) else None
    check_if_match(request, seen)
    _check_none_match(request, seen)
    if seen is None or seen.deleted:
        await _check_first(resource, seen, request, context)
    if current is None:
        return await create_new(resource, id, request, context, method)
    if seen is None:
        raise missing(request)
    if is_same(resource, current):
        return written(current, False, request, context)
    stored = await replace_version(resource, current, request, context, method)
    return written(stored, current.deleted, request, context)


async def _check_first(resource: Resource, deleted: Stored | None, request: Request, context: Context) -> None:
    """Making a resource, also one that was deleted, has to be granted as a create, whether or not the id is taken."""
    if deleted is None and not context.config.update_create:
        name = "/".join(request.parts)
        raise FhirError("not-supported", f"{name} is not known; POST creates it.", status=405)
    await access.admit(request, context, "create")
    await access.may_store(request, context, resource, "c")


def _check_none_match(request: Request, current: Stored | None) -> None:
    """`If-None-Match: *` on an update creates only; a version is the one not to be replaced (RFC 9110 §13.1.2)."""
    value = request.headers.get("if-none-match")
    if value is None or current is None or current.deleted or not matches_etag(value, current.version):
        return
    told = "exists already" if value.strip() == "*" else f"is at version {current.version}, which If-None-Match names"
    raise FhirError("conflict", f"{current.type}/{current.id} {told}.", status=412)


async def replace_version(
    resource: Resource, current: Stored, request: Request, context: Context, method: str
) -> Stored:
    """Store the next version after `current`."""

    async def work(inner: Context) -> Stored:
        at = instant(inner.now(), current)
        new = record(resource, current.id, current.version + 1, at, method, inner)
        await check_targets(new, resource, request, inner, current)
        return await inner.store.replace(new, current)

    guarded = context.config.referential_integrity
    return await (atomically(context, work) if guarded else work(context))


async def conditional_update(request: Request, context: Context) -> Response:
    """Update the one match, create where there is none, 412 where there are several."""
    type = request.type
    resource = await incoming(request, context, type)
    await access.may_store(request, context, resource)
    key = match_key(type, narrowing(request.query))
    async with turn(context, "match", key):

        async def work(inner: Context) -> Response:
            await hold(inner, request, key)
            found = only(await matching(type, request.query, request, inner), type)
            return await _update_match(found, resource, request, inner)

        return await atomically(context, work)


async def _check_free(id: str, request: Request, context: Context) -> None:
    """Where nothing matches, a resource is made; one that is there and does not match is not meant.

    R4 does not say what becomes of it; R5 does (http://hl7.org/fhir/R5/http.html#cond-update).
    """
    current = await context.store.get(request.type, id)
    if current is not None and not current.deleted and await access.sees(request, context, current):
        told = f"The criteria match nothing, and {request.type}/{id}, the id in the body, is there already."
        raise FhirError("conflict", told, "id")


async def _update_match(found: Stored | None, resource: Resource, request: Request, context: Context) -> Response:
    own = resource.get("id")
    if found is not None and own is not None and own != found.id:
        raise FhirError("invalid", f"The id in the body is {own}, and the criteria match another resource.", "id")
    id = found.id if found is not None else own
    if id is None:
        check_if_match(request, None)
        await access.admit(request, context, "create")
        await access.may_store(request, context, resource, "c")
        return await create_new(resource, request.assigned or context.new_id(), request, context, "PUT")
    named = replace(request, parts=(request.type, id))
    if found is None:
        await _check_free(id, named, context)
    return await put({**resource, "id": id}, id, named, context)
