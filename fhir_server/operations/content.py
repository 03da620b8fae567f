"""$convert and $diff: a resource in another format, and what changed between two."""

from __future__ import annotations

from dataclasses import replace

from fhir_server import access
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource
from fhir_server.writing.resource import refuse_faults
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from profiles.patch import diff
from profiles.validate import check


async def convert(call: Call, context: Context) -> Response:
    """The resource as it was sent, in the format of Accept (http://hl7.org/fhir/R4/resource-operation-convert.html).

    One with faults is refused: what the other format has no place for would be lost.
    """
    resource = call.one("input")
    refuse_faults(check(resource))
    return resource_answer(resource)


async def difference(call: Call, context: Context) -> Response:
    """FHIRPath Patch from one version to another, or from one resource to another (R4 fhirpatch.html)."""
    if call.id:
        before, after = await _versions(call, context)
    else:
        before, after = [await _named(call, name, context) for name in ("from", "to")]
    answer = resource_answer(diff(before, after))
    answer.each = tuple(call.opened)
    return answer


async def _versions(call: Call, context: Context) -> tuple[Resource, Resource]:
    after = await stored_resource(call, context)
    given = call.one("fromVersion")
    before = str(int(after["meta"]["versionId"]) - 1) if given is None else str(given)
    if before == "0":
        raise FhirError("not-found", f"{call.type}/{call.id} has no earlier version.", "fromVersion")
    try:
        return await stored_resource(replace(call, version=before), context), after
    except FhirError as error:
        if error.code != "not-found":
            raise
        text = f"{call.type}/{call.id} has no version {before}."
        raise FhirError("not-found", text, "fromVersion") from None


async def _named(call: Call, name: str, context: Context) -> Resource:
    given = call.one(name)
    if given is None:
        raise FhirError("required", f"$diff needs the parameter {name}.", name, status=400)
    text = given.get("reference", "") if isinstance(given, dict) else str(given or "")
    name_of, _, version = text.removeprefix(f"{context.config.base}/").partition("/_history/")
    type, _, id = name_of.partition("/")
    if type not in RESOURCE_TYPES or not id:
        raise FhirError("value", f"{name}={text} is no reference to a resource here.", name, status=400)
    request = replace(call.request, method="GET", parts=(type, id))
    await access.admit(request, context, "read")
    return await stored_resource(replace(call, request=request, type=type, id=id, version=version), context)
