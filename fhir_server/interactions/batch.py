"""batch and transaction: a Bundle of requests (http://hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fhir_server.answers.respond import Response, failure
from fhir_server.answers.respond import bundle as bundle_body
from fhir_server.bundles.entries import Entry
from fhir_server.bundles.envelope import checked_entries
from fhir_server.bundles.replies import entry_request, reply
from fhir_server.context import Context, Request, Resource
from fhir_server.http.formats import chosen
from fhir_server.interactions.transaction import transaction
from fhir_server.writing.provenance import HEADER, names_source
from fhir_server.writing.resource import as_sent, check_type
from profiles.outcome import FhirError, Issue
from profiles.validate import check

Perform: TypeAlias = Callable[[Request, Context], Awaitable[Response]]

FORBIDDEN = ("batch", "transaction")


async def bundle(request: Request, context: Context, perform: Perform) -> Response:
    """The answer to a posted Bundle, by its type."""
    strange: list[Issue] = []
    sent = await as_sent(request, context, strange)
    check_type(sent, "Bundle")
    if strange:
        raise FhirError.of([*strange, *check(sent)])
    if request.in_bundle:
        raise FhirError("not-supported", "A Bundle inside a Bundle is not carried out.")
    type = sent.get("type")
    if type == "transaction":
        return await transaction(sent, request, context, perform)
    if type == "batch":
        return await batch(sent, request, context, perform)
    kind = f"of type {type}" if type else "without a type"
    raise FhirError("value", f"A Bundle {kind} cannot be carried out; use batch or transaction.", "Bundle.type")


async def batch(sent: Resource, request: Request, context: Context, perform: Perform) -> Response:
    """A batch-response: every entry is answered as it would be alone, whatever becomes of the others."""
    entries = checked_entries(sent, context.config.base, context.config.max_entries)
    width = asyncio.Semaphore(context.config.batch_width)

    async def run(entry: Entry | FhirError) -> bytes:
        async with width:
            return await _run(entry, request, context, perform)

    replies = await asyncio.gather(*map(run, entries))
    return Response(200, {}, bundle_body("batch-response", replies, context))


async def _run(entry: Entry | FhirError, request: Request, context: Context, perform: Perform) -> bytes:
    if isinstance(entry, FhirError):
        return reply(failure(entry, request), context)
    own = entry_request(entry, request)
    if names_source(request) and own.method in ("POST", "PUT", "PATCH"):
        own.headers = {**own.headers, HEADER: request.headers[HEADER]}
    try:
        chosen(own)
        return reply(await perform(own, context), context, own)
    except Exception as error:
        return reply(failure(error, own), context)
