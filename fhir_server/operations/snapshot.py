"""StructureDefinition/$snapshot: the snapshot of a profile (R4 structuredefinition-operation-snapshot.html)."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource
from fhir_server.writing.checking import structures
from profiles.outcome import FhirError
from profiles.validate import generate


async def run(call: Call, context: Context) -> Response:
    """The StructureDefinition with a snapshot made from its base and its differential."""
    definition = call.one("definition")
    if definition is None and not call.id and not call.one("url"):
        raise FhirError("required", "$snapshot needs the parameter definition or url.", "url", status=400)
    if definition is None and call.id:
        definition = await stored_resource(call, context)
    if definition is None and call.one("url"):
        definition = await _named(str(call.one("url")), call, context)
    if definition is None:
        raise FhirError("not-found", "There is no such StructureDefinition; send it, or name one by its url.", "url")
    if "snapshot" in definition and definition.get("derivation") != "constraint":
        return resource_answer(definition)
    elements = await structures(lambda find: generate(definition, find), context)
    return resource_answer({**definition, "snapshot": {"element": elements}})


async def _named(url: str, call: Call, context: Context) -> Resource | None:
    """The definition with this url; one that is stored here and not for the caller's eyes is not there."""
    found: Resource | None = await structures(lambda find: find(url), context)
    name = f"StructureDefinition/{(found or {}).get('id')}"
    if found is None or await context.store.get(*name.split("/")) is None:
        return found
    seen = await access.reached(name, call.request, context)
    return found if seen is not None else None
