"""Operations: one file each, one row in the table; the OperationDefinition drives parameters, routes and capabilities.

http://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request
from fhir_server.operations import (
    content,
    document,
    everything,
    expunge,
    fhirpath,
    graph,
    graphql,
    lastn,
    meta,
    packages,
    reindex,
    snapshot,
    stats,
    summary,
    terminology,
    validate,
)
from fhir_server.operations.call import Call, Operation, Row, operation_of
from fhir_server.operations.parameters import given, refuse_misshapen
from fhir_server.writing.resource import body_of
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError, Issue
from profiles.validate import with_expressions

ROWS: tuple[Row, ...] = (
    Row("Resource-validate", validate.run, examines=True, more=(validate.ALONG,)),
    Row("Resource-meta", meta.show),
    Row("Resource-meta-add", meta.add),
    Row("Resource-meta-delete", meta.remove),
    Row("Resource-convert", content.convert),
    Row("Resource-diff", content.difference),
    Row("Resource-fhirpath", fhirpath.run),
    Row("Resource-graphql", graphql.run, raw=True),
    Row("Resource-graph", graph.run),
    Row("Patient-everything", everything.run),
    Row("Encounter-everything", everything.run),
    Row("Group-everything", everything.run),
    Row("Practitioner-everything", everything.run),
    Row("Observation-lastn", lastn.run, open=True),
    Row("Observation-stats", stats.run),
    Row("Composition-document", document.run),
    Row("Patient-summary", summary.run),
    Row("StructureDefinition-snapshot", snapshot.run),
    Row("Resource-expunge", expunge.run),
    Row("Resource-reindex", reindex.run),
    Row("Resource-reindex-status", reindex.status),
    Row("CodeSystem-lookup", terminology.run, open=True),
    Row("CodeSystem-validate-code", terminology.run, open=True),
    Row("CodeSystem-subsumes", terminology.run, open=True),
    Row("CodeSystem-find-matches", terminology.run, open=True),
    Row("ValueSet-expand", terminology.run, open=True),
    Row("ValueSet-validate-code", terminology.run, open=True),
    Row("ValueSet-batch-validate-code", terminology.run, open=True),
    Row("ConceptMap-translate", terminology.run, open=True),
    Row("ConceptMap-closure", terminology.close_table, open=True),
    Row("CapabilityStatement-versions", terminology.versions),
    Row("ImplementationGuide-install", packages.add),
    Row("ImplementationGuide-installed", packages.show),
    Row("ImplementationGuide-uninstall", packages.drop),
)

GRAPHQL = "_graphql"  # a parameter of every operation (R4 graphql.html#operations)

OPERATIONS: tuple[Operation, ...] = tuple(operation_of(row) for row in ROWS)


def offered(type: str) -> list[Operation]:
    """The operations of a type, and with an empty name those of the whole server."""
    if not type:
        return [row for row in OPERATIONS if row.system]
    return [row for row in OPERATIONS if (row.type or row.instance) and row.is_for(type)]


def find(request: Request) -> Operation:
    """The operation that the path names, at the level where it was called; FhirError 404 or 400 otherwise."""
    name = request.parts[-1].removeprefix("$")
    type = request.parts[0] if request.parts[0] in RESOURCE_TYPES else ""
    return _offered(name, type, "system" if not type else "type" if len(request.parts) == 2 else "instance")


# A look along all rows costs 25 µs, a tenth of a $lookup.
@lru_cache(maxsize=1024)
def _offered(name: str, type: str, level: str) -> Operation:
    known = [row for row in OPERATIONS if row.name == name]
    fitting = [row for row in known if getattr(row, level) and (not type or row.is_for(type))]
    if fitting:
        return fitting[0]
    if known:
        raise FhirError("not-supported", f"${name} is not offered here: {where(known)}.")
    raise FhirError("not-supported", f"${name} is no operation of this server.", status=404)


def where(rows: list[Operation]) -> str:
    """Where the operations can be called."""
    places = [place for row in rows for place in row.places()]
    return ", ".join(places)


async def invoke(request: Request, context: Context) -> Response:
    """Carry out the operation, and where `_graphql` asks for it, select from its answer."""
    query = request.first(GRAPHQL)
    if query is None:
        return await _run(request, context)
    plain = replace(request, query=[pair for pair in request.query if pair[0] != GRAPHQL])
    return await graphql.applied(query, await _run(plain, context), plain, context)


async def _run(request: Request, context: Context) -> Response:
    """Carry out the operation with the parameters of the query or the body."""
    operation = find(request)
    if request.method != "POST" and operation.affects_state:
        raise FhirError(
            "not-supported", f"${operation.name} changes things: use POST.", status=405, headers={"Allow": "POST"}
        )
    sent = None
    faults: list[Issue] = []
    if request.method == "POST" and not operation.raw and (request.body or request.resource is not None):
        examined = faults if operation.examines else None
        try:
            sent = (
                packages.packaged(request)
                if packages.is_package(request)
                else await body_of(request, context, examined)
            )
        except FhirError as error:
            if not operation.examines or not request.body:
                raise
            raise FhirError.of(with_expressions(error.issues, request.body, request.parts[0])) from None
    if sent is not None and sent.get("resourceType") == "Parameters":
        refuse_misshapen(sent)
    path = request.parts[:-1]
    type = path[0] if path else ""
    parameters = {} if operation.open else given(operation, request.query, sent, type)
    id = path[1] if len(path) > 1 else ""
    version = path[3] if len(path) > 3 else ""
    call = Call(request, parameters, type, id, version, sent, tuple(faults))
    answer = await operation.run(call, context)
    answer.compartments += tuple([stored.compartment for stored in call.opened])
    return answer
