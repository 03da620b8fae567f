"""Composition/$document: a Composition with all it refers to (R4 composition-operation-document.html)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fhir_server import access
from fhir_server.access.views import view_target
from fhir_server.answers.respond import Response, instant_text, resource_answer
from fhir_server.context import Context, Request, Resource
from fhir_server.interactions.create import create_new
from fhir_server.operations.call import Call
from fhir_server.operations.graph import walked
from fhir_server.operations.stored import stored_version
from fhir_server.store import Stored
from fhir_server.writing.integrity import targets
from profiles.json import decode, encode
from profiles.outcome import FhirError

MOST = 1_000  # resources of a document


async def run(call: Call, context: Context) -> Response:
    """A Bundle of type document: the Composition first, then everything it leads to, each resource once."""
    id = call.id or str(call.one("id") or "").rpartition("/")[2]
    if not id:
        raise FhirError("required", "$document needs an instance or the parameter id.", "id", status=400)
    first = await stored_version(replace(call, type="Composition", id=id), context)
    chosen = _reached(first, call.request, context) if call.one("graph") is None else _led(first, call, context)
    rows = await chosen
    call.opened.extend(stored for stored, _ in rows)
    document = _bundle(rows, context)
    if call.one("persist"):
        await _keep(document, call.request, context)
    return resource_answer(document)


async def _reached(first: Stored, request: Request, context: Context) -> list[tuple[Stored, Resource]]:
    """Breadth first; what the caller may not see, or is not here, stays a reference."""
    found: dict[str, tuple[Stored, Resource]] = {}
    front = [first]
    while front:
        wanted: dict[str, None] = {}
        for stored in front:
            resource = decode(stored.body or b"{}")
            found[f"{stored.type}/{stored.id}"] = (stored, resource)
            wanted |= dict.fromkeys(sorted(targets(resource, context.config.base)))
        if len(found) > MOST:
            raise FhirError("too-costly", f"The document would have more than {MOST} resources.")
        seen = [await view_target(request, context, name) for name in wanted if name not in found]
        front = [stored for stored in seen if stored is not None]
    return list(found.values())


async def _led(first: Stored, call: Call, context: Context) -> list[tuple[Stored, Resource]]:
    """The Composition, what the GraphDefinition leads to, and what the Composition refers to itself.

    Either a full document or an error: FhirError 422 where a rule of the definition is broken.
    """
    walk = await walked(first, call, context)
    if walk.warnings:
        raise FhirError.of([replace(issue, severity="error") for issue in walk.warnings])
    for name in sorted(targets(walk.take(first)[1], context.config.base)):
        stored = await view_target(call.request, context, name)
        if stored is not None:
            walk.take(stored)
    return list(walk.found.values())


def _bundle(rows: list[tuple[Stored, Resource]], context: Context) -> dict[str, Any]:
    id, base = context.new_id(), context.config.base
    labels = [label for _, resource in rows for label in resource.get("meta", {}).get("security", ())]
    return {
        "resourceType": "Bundle",
        "id": id,
        **({"meta": {"security": list({encode(each): each for each in labels}.values())}} if labels else {}),
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{id}"},
        "type": "document",
        "timestamp": instant_text(context.now()),
        "entry": [{"fullUrl": f"{base}/{row.type}/{row.id}", "resource": resource} for row, resource in rows],
    }


async def _keep(document: Resource, request: Request, context: Context) -> None:
    own = replace(request, method="POST", parts=("Bundle",), query=[], headers={})
    await access.admit(own, context, "create")
    await access.may_store(own, context, document)
    await create_new(document, document["id"], own, context, "POST")
