"""$expunge: erase versions, a deleted resource, or everything of a resource, for good."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context
from fhir_server.operations.call import Call
from fhir_server.operations.parameters import parameters
from fhir_server.store import Store
from fhir_server.store.expunge import erase_current, erase_versions
from profiles.outcome import FhirError

LIMIT = 1_000


async def run(call: Call, context: Context) -> Response:
    """Parameters with the `count` of what was erased; the current version goes only when it is deleted, or with all."""
    store = context.store
    if not isinstance(store, Store):
        raise FhirError("not-supported", "$expunge is sent alone: it cannot be taken back with a transaction.")
    everything = bool(call.one("expungeEverything"))
    versions = everything or bool(call.one("expungePreviousVersions"))
    deleted = everything or bool(call.one("expungeDeletedResources"))
    if not (versions or deleted):
        text = "Say what: expungePreviousVersions, expungeDeletedResources or expungeEverything."
        raise FhirError("required", text, "expungePreviousVersions", status=400)
    limit = LIMIT if call.one("limit") is None else int(call.one("limit"))
    if limit < 1:
        raise FhirError("value", f"limit={limit} is no whole number from 1.", "limit", status=400)
    async with store.turn(call.type, call.id):
        current = await store.get(call.type, call.id)
        if current is None or not await access.sees(call.request, context, current):
            raise FhirError("not-found", f"{call.type}/{call.id} is not known.")
        call.opened.append(current)
        gone = everything or (deleted and current.deleted)
        count = await erase_versions(store, current, limit) if versions or gone else 0
        if gone and count < limit:
            count += await erase_current(store, current)
    await access.erased(call.request, context, call.type)
    return resource_answer(parameters([("count", "valueInteger", count)]))
