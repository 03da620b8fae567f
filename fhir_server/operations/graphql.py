"""$graphql on the server and on a resource (http://hl7.org/fhir/R4/resource-operation-graphql.html)."""

from __future__ import annotations

from base64 import b64encode

from fhir_server.context import Context
from fhir_server.graphql.asked import asked
from fhir_server.graphql.execute import answer, failed
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource
from fhir_server.respond import Response, resource_answer
from profiles.outcome import FhirError


async def run(call: Call, context: Context) -> Response:
    """What the query selects, as JSON that is no resource; in a Bundle it comes as a Binary."""
    try:
        query = asked(call.request)
        root = await stored_resource(call, context) if call.id else None
        found = await answer(query, call.request, context, root)
    except FhirError as error:
        found = failed([(error, {})], call.request)
    if not call.request.in_bundle:
        return found
    told = resource_answer(
        {"resourceType": "Binary", "contentType": found.media, "data": b64encode(found.body).decode()}
    )
    told.status, told.compartments = found.status, found.compartments
    return told
