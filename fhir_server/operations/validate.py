"""$validate: check a resource and store nothing (http://hl7.org/fhir/R4/resource-operation-validate.html)."""

from __future__ import annotations

from fhir_server.checking import full
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource
from fhir_server.respond import Response, outcome
from fhir_server.writing import check_type
from profiles.outcome import FhirError, Issue

MODES = ("create", "update", "delete", "profile")
FINE = Issue("information", "informational", "No faults were found.")


async def run(call: Call, context: Context) -> Response:
    """An OperationOutcome with every fault; 200 whatever it says, since the check itself was carried out."""
    mode = call.one("mode")
    if mode is not None and mode not in MODES:
        raise FhirError("value", f"mode={mode} is not one of {', '.join(MODES)}.", "mode", status=400)
    resource = call.one("resource")
    if resource is None and (call.id or mode == "delete"):
        return await _stored(call, context, mode)
    if resource is None:
        raise FhirError("required", "$validate needs the parameter resource.", "resource", status=400)
    return outcome(await faults(resource, call, mode, context) or [FINE])


async def _stored(call: Call, context: Context, mode: str | None) -> Response:
    if not call.id:
        raise FhirError("invalid", "mode=delete is asked of an instance: [type]/[id]/$validate.", "mode")
    resource = await stored_resource(call, context)
    return outcome([FINE] if mode == "delete" else await faults(resource, call, None, context) or [FINE])


async def faults(resource: Resource, call: Call, mode: str | None, context: Context) -> list[Issue]:
    """What is wrong with the resource, for the mode as well: an update needs the id of the URL."""
    try:
        check_type(resource, call.type or resource.get("resourceType", ""))
    except FhirError as error:
        return list(error.issues)
    profile = call.one("profile")
    issues = await full(resource, call.request, context, [profile] if profile else [])
    if mode == "update" and call.id and resource.get("id") != call.id:
        issues = [*issues, Issue("error", "invalid", f"The id must be {call.id}, as in the URL.", ("id",))]
    return issues
