"""$validate: check a resource and store nothing (http://hl7.org/fhir/R4/resource-operation-validate.html)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fhir_server import access
from fhir_server.answers.respond import Response, outcome
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource, stored_version
from fhir_server.writing.checking import full, store_of
from fhir_server.writing.integrity import REFERRED, referring
from fhir_server.writing.resource import check_type
from profiles.outcome import FhirError, Issue
from profiles.validate import Options, with_places

MODES = ("create", "update", "delete", "profile")
WRITES = ("create", "update")
# Definitions for this check alone, by the name that HL7's terminology servers give to such (tx-ecosystem).
ALONG: dict[str, Any] = {"name": "tx-resource", "use": "in", "min": 0, "max": "*", "type": "Resource"}
FINE = Issue("information", "informational", "No faults were found.")


async def run(call: Call, context: Context) -> Response:
    """An OperationOutcome with every fault; 200 whatever it says, since the check itself was carried out."""
    mode, profile, resource = call.one("mode"), call.one("profile"), call.one("resource")
    _check_call(call, mode, profile, resource)
    if mode == "delete":
        issues = await _deletion(call, context)
    elif resource is None:
        issues = await faults(await stored_resource(call, context), call, mode, context)
    else:
        issues = await _placed(await faults(resource, call, mode, context), call, resource, context)
    return outcome(issues or [FINE])


def _check_call(call: Call, mode: Any, profile: Any, resource: Any) -> None:
    """The parameters that the mode needs; FhirError names the one at fault."""
    if mode is not None and mode not in MODES:
        raise FhirError("value", f"mode={mode} is not one of {', '.join(MODES)}.", "mode", status=400)
    if mode == "delete" and not call.id:
        raise FhirError("invalid", "mode=delete is asked of an instance: [type]/[id]/$validate.", "mode")
    if mode == "profile" and profile is None:
        raise FhirError("required", "mode=profile needs the parameter profile.", "profile", status=400)
    if resource is None and not call.id:
        raise FhirError("required", "$validate needs the parameter resource.", "resource", status=400)


async def _deletion(call: Call, context: Context) -> list[Issue]:
    """What keeps the instance from being deleted; told to who may delete it, since others can be what keeps it."""
    deletion = replace(call.request, method="DELETE", parts=(call.type, call.id))
    await access.admit(deletion, context, "delete")
    stored = await stored_version(replace(call, request=deletion), context)
    if not context.config.referential_integrity:
        return []
    if not await store_of(context).reads.find_documents(referring(stored, context), projection={"_id": 1}, limit=1):
        return []
    return [Issue("error", "conflict", f"{stored.type}/{stored.id} {REFERRED}", (stored.type,))]


async def faults(resource: Resource, call: Call, mode: str | None, context: Context) -> list[Issue]:
    """What is wrong with the resource, for the mode as well: a write needs the profiles that are required here."""
    type = call.type or resource.get("resourceType", "")
    try:
        check_type(resource, type)
    except FhirError as error:
        return list(error.issues)
    profiles = [url for url in (call.one("profile"),) if url]
    if mode in WRITES:
        profiles += context.config.required_profiles.get(type, ())
    config = context.config
    options = Options(unknown_extensions=config.unknown_extensions, forbid_html=config.forbid_html)
    size, along = len(call.request.body), call.all(ALONG["name"])
    issues = _of_text(call) + await full(resource, call.request, context, profiles, options, size, along)
    if mode == "update" and call.id and resource.get("id") != call.id:
        place = f"{type}.id"
        issues.append(Issue("error", "invalid", f"{place}: the id must be {call.id}, as in the URL.", (place,)))
    elif mode == "update" and "id" not in resource:
        issues.append(Issue("error", "required", f"{type}: an update needs an id.", (type,)))
    return issues


def _of_text(call: Call) -> list[Issue]:
    """What is wrong with the text of the body, named by its place in the resource."""
    inside = _inside(call)
    return [
        replace(issue, expression=tuple(_within(place, inside, call) for place in issue.expression))
        for issue in call.faults
    ]


def _within(place: str, inside: str, call: Call) -> str:
    if not inside or not place.startswith(inside):
        return place
    return str(call.one("resource").get("resourceType", "")) + place[len(inside) :]


def _inside(call: Call) -> str:
    """Where in the body the resource stands: a part of Parameters, or the whole."""
    parts: Iterable[Any] = (call.sent or {}).get("parameter", ())
    resource = call.one("resource")
    for number, part in enumerate(parts):
        if isinstance(part, dict) and part.get("resource") is resource:
            return f"Parameters.parameter[{number}].resource"
    return ""


async def _placed(issues: list[Issue], call: Call, resource: Resource, context: Context) -> list[Issue]:
    """With line and column, where the resource was sent as text."""
    body = call.request.body
    if not body or not issues or call.request.resource is not None:
        return issues
    if len(body) >= context.config.big_body:
        return await asyncio.to_thread(with_places, issues, body, _inside(call))
    return with_places(issues, body, _inside(call))
