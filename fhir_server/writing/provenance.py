"""`X-Provenance`: where a write came from, stored beside it or not at all (provenance.html#header)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fhir_server import access
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request, Resource
from fhir_server.store import Stored, Transaction
from fhir_server.writing.atomic import atomically
from fhir_server.writing.checking import faults
from profiles.json import parse
from profiles.outcome import FhirError, Issue

Perform: TypeAlias = Callable[[Request, Context], Awaitable[Response]]

HEADER = "x-provenance"
TYPE = "Provenance"
# Stands in for the target, which is only known when it is written.
SOMETHING = [{"reference": "Basic/written"}]


def names_source(request: Request) -> bool:
    """Whether a request has the header."""
    return HEADER in request.headers


async def sourced(
    request: Request, context: Context, perform: Perform, write: Callable[[Context], Awaitable[Response]]
) -> Response:
    """A write and its Provenance in one transaction; FhirError 400 or 403 before anything is written."""
    if request.method == "DELETE":
        raise FhirError(
            "not-supported", "X-Provenance goes with PUT, POST and PATCH, and this is a DELETE.", status=400
        )
    source = await source_of(request, context)

    async def work(inner: Context) -> Response:
        answer = await write(inner)
        await keep(source, request, inner, perform)
        return answer

    return await atomically(context, work)


async def source_of(request: Request, context: Context) -> Resource:
    """The Provenance of the header, valid but for its target, which the server fills in."""
    await access.admit(_create(request, {}), context, "create")
    try:
        source: Any = parse(request.headers[HEADER].encode("latin-1"))
    except FhirError as error:
        raise _refused(error.issues) from error
    if not isinstance(source, dict) or source.get("resourceType") != TYPE:
        raise FhirError("invalid", "X-Provenance: this is no Provenance in JSON.", status=400)
    if "target" in source:
        raise FhirError("invalid", "X-Provenance: there must be no target, the server fills it in.", status=400)
    found = await faults({**source, "target": SOMETHING}, TYPE, request, context)
    if any(issue.is_error for issue in found):
        raise _refused(found)
    return source


def _refused(issues: Any) -> FhirError:
    told = [Issue(issue.severity, issue.code, f"X-Provenance: {issue.text}", issue.expression) for issue in issues]
    return FhirError.of(told, status=400)


async def keep(source: Resource, request: Request, context: Context, perform: Perform) -> None:
    """Store the Provenance of what the open transaction wrote; nothing where nothing was changed."""
    written = context.store.versions if isinstance(context.store, Transaction) else []
    if written:
        await perform(_create(request, {**source, "target": [_target(stored) for stored in written]}), context)


def _target(stored: Stored) -> Resource:
    return {"reference": f"{stored.type}/{stored.id}/_history/{stored.version}"}


def _create(request: Request, resource: Resource) -> Request:
    """The Provenance as a create in the name of the caller; it is checked already."""
    return Request(
        "POST",
        (TYPE,),
        resource=resource,
        id=request.id,
        principal=request.principal,
        checked=True,
        in_bundle=True,
        peer=request.peer,
    )
