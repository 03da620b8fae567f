"""The way in: read the body, check it, stamp id and meta, encode once, index, build the record to store."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from fhir_server.answers.respond import Response, instant_text, location, outcome, version_headers
from fhir_server.context import Context, Request, Resource
from fhir_server.http.formats import JSON, sent
from fhir_server.http.headers import version_of
from fhir_server.store import New, Stored
from fhir_server.writing.binaries import is_content, wrapped
from fhir_server.writing.checking import faults
from profiles.json import encode
from profiles.outcome import FhirError, Issue
from profiles.validate import with_places
from search.entries import compartment, entries

RESOURCE_FIRST = ("resourceType", "id", "meta")


async def incoming(request: Request, context: Context, type: str) -> Resource:
    """The resource of the request, of the type and valid; FhirError with every fault otherwise."""
    strange: list[Issue] = []
    resource = await as_sent(request, context, strange)
    check_type(resource, type)
    if not request.checked:
        found = await faults(resource, type, request, context, len(request.body))
        refuse_faults(_placed([*strange, *found], request, context))
    return resource


async def as_sent(request: Request, context: Context, strange: list[Issue]) -> Resource:
    """The resource as sent; of an XML text with faults what can be read, and all that does not belong there."""
    try:
        return await body_of(request, context)
    except FhirError:
        if request.resource is not None or is_content(request) or sent(request) is JSON:
            raise
        resource = await body_of(request, context, strange)
        if not strange:
            raise
        return resource


def _placed(issues: list[Issue], request: Request, context: Context) -> list[Issue]:
    """With line and column in the text that was sent; a big text is not read again for them."""
    if not issues or not request.body or request.resource is not None or is_content(request):
        return issues
    return issues if len(request.body) >= context.config.big_body else with_places(issues, request.body)


async def body_of(request: Request, context: Context, faults: list[Issue] | None = None) -> Resource:
    """The resource as sent; a big one is parsed in a thread, where it does not hold up the others.

    With `faults` what does not belong in the text is added there instead of ending the reading.
    """
    if request.resource is not None:
        return request.resource
    if is_content(request):
        return await wrapped(request, context)
    format = sent(request)

    def read(body: bytes) -> Any:
        if faults is None:
            return format.read(body)
        resource, found = format.examine(body)
        faults.extend(found)
        return resource

    if not request.body:
        raise FhirError("structure", "The request has no body; a resource is needed.")
    big = len(request.body) >= context.config.big_body
    resource = await asyncio.to_thread(read, request.body) if big else read(request.body)
    if not isinstance(resource, dict):
        raise FhirError("structure", "The body is no resource: a JSON object is needed.")
    return resource


def check_type(resource: Resource, type: str) -> None:
    """Refuse a resource of another type than the URL names."""
    name = resource.get("resourceType")
    if name is None:
        raise FhirError("structure", "The body has no resourceType.", "resourceType")
    if name != type:
        raise FhirError("invalid", f"The body is of type {name}, and the URL of type {type}.", "resourceType")


def refuse_faults(issues: list[Issue]) -> None:
    """Raise one FhirError that names every fault; warnings alone pass."""
    if any(issue.is_error for issue in issues):
        raise FhirError.of(issues)


def stamped(resource: Resource, id: str, version: int, at: datetime) -> Resource:
    """The resource as it will be stored: id and meta filled in by the server."""
    meta = resource.get("meta") or {}
    kept = {name: value for name, value in meta.items() if name not in ("versionId", "lastUpdated")}
    head = {
        "resourceType": resource["resourceType"],
        "id": id,
        "meta": {"versionId": str(version), "lastUpdated": instant_text(at), **kept},
    }
    return head | {name: value for name, value in resource.items() if name not in RESOURCE_FIRST}


def record(resource: Resource, id: str, version: int, at: datetime, method: str, context: Context) -> New:
    """The record of a version."""
    final = stamped(resource, id, version, at)
    registry, base = context.registry, context.config.base
    found, patient = entries(final, registry, base), compartment(final, registry, base)
    return New(final["resourceType"], id, version, at, encode(final), found, patient, method)


def is_same(resource: Resource, stored: Stored) -> bool:
    """Whether an update would change nothing; the order of keys does not count, the digits of decimals do."""
    if stored.body is None:
        return False
    body = encode(stamped(resource, stored.id, stored.version, stored.at))
    if body == stored.body:
        return True
    return len(body) == len(stored.body) and _canonical(body) == _canonical(stored.body)


def _canonical(body: bytes) -> Any:
    return json.loads(body, parse_float=lambda digits: ("decimal", digits))


def check_if_match(request: Request, current: Stored | None) -> None:
    """Refuse a change that was made against another version (http://hl7.org/fhir/R4/http.html#concurrency)."""
    value = request.headers.get("if-match")
    if value is None:
        return
    version = current.version if current is not None else 0
    if value.strip() == "*" and current is not None and not current.deleted:
        return
    if version_of(value) != str(version):
        told = f"the current version is {version}" if version else "there is no version of it"
        raise FhirError("conflict", f"If-Match is {value}, and {told}.", status=412)


def written(stored: Stored, created: bool, request: Request, context: Context) -> Response:
    """The answer to a write, with the content that the client prefers."""
    headers = version_headers(stored)
    headers["Location" if created else "Content-Location"] = location(stored, context)
    answer = Response(201 if created else 200, headers, stored=stored)
    preferred = request.prefer.answer or ("minimal" if request.in_bundle else "representation")
    if preferred == "representation":
        answer.body = stored.body or b""
    elif preferred == "OperationOutcome":
        done = "created" if created else "stored"
        text = f"{stored.type}/{stored.id} was {done} as version {stored.version}."
        answer.body = outcome([Issue("information", "informational", text)]).body
    return answer
