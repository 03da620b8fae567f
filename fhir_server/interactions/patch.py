"""patch and conditional patch, in four formats (http://hl7.org/fhir/R4/http.html#patch)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace

from fhir_server import access
from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request, Resource
from fhir_server.http.headers import media
from fhir_server.interactions.read import missing
from fhir_server.interactions.update import RIVALS, replace_version
from fhir_server.store import Store
from fhir_server.writing.atomic import atomically, turn
from fhir_server.writing.checking import faults
from fhir_server.writing.conditions import hold, match_key, matching, narrowing, only
from fhir_server.writing.resource import check_if_match, check_type, is_same, refuse_faults, written
from profiles.json import check_depth, decode, parse
from profiles.outcome import FhirError
from profiles.patch import fhirpath_patch, json_patch, merge_patch, xml_patch
from profiles.xml import parse_xml

Patch = Callable[[Resource, bytes], Resource]


def _by_shape(resource: Resource, raw: bytes) -> Resource:
    """A patch sent as plain JSON, as some clients do: its shape tells which of the three it is."""
    content = parse(raw)
    if isinstance(content, list):
        return json_patch(resource, content)
    is_parameters = isinstance(content, dict) and content.get("resourceType") == "Parameters"
    return fhirpath_patch(resource, content) if is_parameters else merge_patch(resource, content)


PATCHES: dict[str, Patch] = {
    "application/json-patch+json": lambda resource, raw: json_patch(resource, parse(raw)),
    "application/merge-patch+json": lambda resource, raw: merge_patch(resource, parse(raw)),
    "application/xml-patch+xml": xml_patch,
    "application/fhir+json": lambda resource, raw: fhirpath_patch(resource, parse(raw)),
    "application/fhir+xml": lambda resource, raw: fhirpath_patch(resource, parse_xml(raw)),
    "application/json": _by_shape,
}


async def patch(request: Request, context: Context) -> Response:
    """200 with the changed resource as the next version; the result is checked like any update."""
    type, id = request.parts
    change = change_of(request)
    async with turn(context, type, id):
        for _ in range(RIVALS):
            try:
                return await _patch_once(change, request, context)
            except FhirError as error:
                if error.code != "conflict" or error.status != 409 or not isinstance(context.store, Store):
                    raise
    raise FhirError("conflict", f"{type}/{id} is changed by many others at the same time; repeat the request.")


def change_of(request: Request) -> Callable[[Resource], Resource]:
    """The change that the body describes; in a Bundle a Binary carries it."""
    if request.resource is not None and request.resource.get("resourceType") == "Parameters":
        parameters = request.resource
        return lambda resource: fhirpath_patch(resource, parameters)
    name, raw = _sent(request)
    apply = PATCHES.get(name)
    if apply is None:
        raise FhirError(
            "not-supported", f"A patch of type {name or 'none'} is not supported; use {', '.join(PATCHES)}.", status=415
        )
    return lambda resource: apply(resource, raw)


def _sent(request: Request) -> tuple[str, bytes]:
    carried = request.resource
    if carried is None:
        return media(request.headers.get("content-type", "")).name, request.body
    if carried.get("resourceType") != "Binary":
        raise FhirError("invalid", "A patch in a Bundle is a Binary, or Parameters for FHIRPath Patch.", "resource")
    try:
        return media(str(carried.get("contentType", ""))).name, b64decode(carried.get("data", ""), validate=True)
    except ValueError:
        raise FhirError("value", "Binary.data is not base64.", "Binary.data", status=400) from None


async def _patch_once(change: Callable[[Resource], Resource], request: Request, context: Context) -> Response:
    type, id = request.parts
    current = await context.store.get(type, id)
    if current is None or not await access.sees(request, context, current):
        raise missing(request)
    if current.body is None:
        raise FhirError("deleted", f"{type}/{id} was deleted.")
    check_if_match(request, current)
    resource = change(decode(current.body))
    check_depth(resource)
    if request.settle is not None:
        await request.settle(resource, current)
    check_type(resource, type)
    if resource.get("id") != id:
        raise FhirError("business-rule", "A patch cannot change the id.", f"{type}.id")
    refuse_faults(await faults(resource, type, request, context))
    await access.may_store(request, context, resource)
    if is_same(resource, current):
        return written(current, False, request, context)
    stored = await replace_version(resource, current, request, context, "PATCH")
    return written(stored, False, request, context)


async def conditional_patch(request: Request, context: Context) -> Response:
    """Patch the one match; 404 where there is none, 412 where there are several."""
    type = request.type
    key = match_key(type, narrowing(request.query))

    async def work(inner: Context) -> Response:
        await hold(inner, request, key)
        found = only(await matching(type, request.query, request, inner), type)
        if found is None:
            raise FhirError("not-found", f"The criteria match no {type}.")
        return await patch(replace(request, parts=(type, found.id), query=[]), inner)

    async with turn(context, "match", key):
        return await atomically(context, work)
