"""delete and conditional delete (http://hl7.org/fhir/R4/http.html#delete, #3.1.0.7.1)."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response, outcome
from fhir_server.context import Context, Request
from fhir_server.http.headers import etag
from fhir_server.interactions.update import RIVALS
from fhir_server.store import Store, Stored, instant
from fhir_server.writing.atomic import atomically, turn
from fhir_server.writing.conditions import matching, only
from fhir_server.writing.integrity import check_unreferenced
from fhir_server.writing.resource import check_if_match
from profiles.outcome import FhirError, Issue


async def delete(request: Request, context: Context) -> Response:
    """204, also when there is nothing to delete; reads answer 410 from now on, and versions go on."""
    type, id = request.parts
    async with turn(context, type, id):
        for _ in range(RIVALS):
            current = await context.store.get(type, id)
            if current is None or not await access.sees(request, context, current):
                check_if_match(request, None)
                return _gone(request, None)
            check_if_match(request, current)
            try:
                buried = () if current.deleted else (await _bury(current, context),)
                return _gone(request, buried[0] if buried else current, buried)
            except FhirError as error:
                if error.code != "conflict" or not isinstance(context.store, Store):
                    raise
                overtaken = error
    raise overtaken


async def _bury(current: Stored, context: Context) -> Stored:
    async def work(inner: Context) -> Stored:
        await check_unreferenced(current, inner)
        return await inner.store.delete(current.type, current.id, current, instant(inner.now(), current))

    guarded = context.config.referential_integrity
    return await (atomically(context, work) if guarded else work(context))


def _gone(request: Request, tombstone: Stored | None, buried: tuple[Stored, ...] = ()) -> Response:
    """The answer, with the tombstone that is there now; `buried` are those that were put just now."""
    headers = {"ETag": etag(tombstone.version)} if tombstone is not None else {}
    if request.prefer.answer != "OperationOutcome":
        return Response(204, headers, each=buried)
    said = outcome([Issue("information", "informational", f"{len(buried)} deleted.")])
    return Response(200, headers, said.body, each=buried)


async def conditional_delete(request: Request, context: Context) -> Response:
    """Delete what matches: one resource, or several up to the cap, all or none."""
    config, type = context.config, request.type
    most = config.max_conditional_delete if config.conditional_delete == "multiple" else 1

    async def work(inner: Context) -> tuple[Stored, ...]:
        found = await matching(type, request.query, request, inner, most + 1)
        found = [stored for stored in found if await access.sees(request, inner, stored)]
        _check_count(found, most, type)
        for stored in found:
            check_if_match(request, stored)
        buried = [await inner.store.delete(type, stored.id, stored, instant(inner.now(), stored)) for stored in found]
        for stored in found:
            await check_unreferenced(stored, inner)
        return tuple(buried)

    return _gone(request, None, await atomically(context, work))


def _check_count(found: list[Stored], most: int, type: str) -> None:
    if most == 1:
        only(found, type)
    if len(found) > most:
        raise FhirError("multiple-matches", f"The criteria match more than {most} {type} resources; none was deleted.")
