"""The stored resource that an operation is called on."""

from __future__ import annotations

from fhir_server import access
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.shipped import shipped_version
from fhir_server.store import Stored
from profiles.json import decode
from profiles.outcome import FhirError


async def stored_version(call: Call, context: Context) -> Stored:
    """The version that the path names, or the current one; FhirError 404 or 410 otherwise."""
    if call.version:
        number = int(call.version) if call.version.isascii() and call.version.isdigit() else 0
        stored = await context.store.get_version(call.type, call.id, number)
    else:
        stored = await context.store.get(call.type, call.id) or shipped_version(call.type, call.id, context)
    if stored is None or not await access.sees(call.request, context, stored):
        raise FhirError("not-found", f"{call.type}/{call.id} is not known.")
    call.opened.append(stored)
    stored = access.shown(call.request, context, stored)
    if stored.body is None:
        raise FhirError("deleted", f"{call.type}/{call.id} was deleted.")
    return stored


async def stored_resource(call: Call, context: Context) -> Resource:
    """The same, parsed."""
    stored = await stored_version(call, context)
    resource: Resource = decode(stored.body or b"")
    return resource
