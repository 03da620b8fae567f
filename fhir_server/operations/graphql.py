"""$graphql on the server and on a resource (http://hl7.org/fhir/R4/resource-operation-graphql.html)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Request
from fhir_server.graphql.asked import Asked, asked
from fhir_server.graphql.execute import answer, failed
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_version
from profiles.json import decode
from profiles.outcome import FhirError


async def run(call: Call, context: Context) -> Response:
    """What the query selects, as JSON that is no resource; in a Bundle it comes as a Binary."""
    try:
        query = asked(call.request)
        stored = await stored_version(call, context) if call.id else None
        root: Any = decode(stored.body or b"{}") if stored else None
        found = await answer(query, call.request, context, root, (stored.compartment,) if stored else ())
    except FhirError as error:
        found = failed([(error, {})], call.request)
    return _wrapped(found, call.request)


async def applied(query: str, done: Response, request: Request, context: Context) -> Response:
    """What a query selects from the answer of another operation (R4 graphql.html#operations)."""
    if done.status >= 300 or not done.body or done.media is not None:
        return done
    root: Any = decode(done.body)
    return _wrapped(await answer(Asked(query), request, context, root, done.compartments), request)


def _wrapped(found: Response, request: Request) -> Response:
    if not request.in_bundle:
        return found
    data = b64encode(found.body).decode()
    told = resource_answer({"resourceType": "Binary", "contentType": found.media, "data": data}, found.status)
    told.compartments = found.compartments
    return told
