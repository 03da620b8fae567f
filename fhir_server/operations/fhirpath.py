"""$fhirpath: evaluate an expression on a resource that is sent or stored (http://hl7.org/fhir/R4/fhirpath.html)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_resource
from fhir_server.store.terms import terms_of
from fhir_server.writing.coded_values import membership, subsumption
from profiles.fhirpath import Environment, Node, compile
from profiles.json import encode
from profiles.model import RESOURCE_TYPES, element
from terminology.library import Library

# Functions that ask the terminology.
TERMINOLOGY = ("memberOf", "subsumes", "subsumedBy")
# What Parameters cannot hold, such as Patient.contact, comes as JSON in this extension, as other servers do it.
JSON_VALUE = "http://fhir.forms-lab.com/StructureDefinition/json-value"
_OPEN = element("Parameters.parameter", "value")
VALUE_TYPES = frozenset(_OPEN.types if _OPEN else ())
# Names of the System types that differ from FHIR's by more than the first letter.
SYSTEM = {"DateTime": "dateTime"}


async def run(call: Call, context: Context) -> Response:
    """Parameters with one `result` for each item, typed, and what was traced; strict, and without a resource too."""
    resource = call.one("resource")
    if resource is None and call.id:
        resource = await stored_resource(call, context)
    expression = str(call.one("expression"))
    if any(name in expression for name in TERMINOLOGY):
        # What it needs of stored definitions is looked up between two tries, so it cannot run beside the others.
        work = partial(_evaluated, expression, resource, context)
        rows = await terms_of(context.store, context.registry).ask(work)
    else:
        rows = await asyncio.to_thread(_evaluated, expression, resource, context)
    return resource_answer({"resourceType": "Parameters", **({"parameter": rows} if rows else {})})


def _evaluated(
    expression: str, resource: Resource | None, context: Context, terminology: Library | None = None
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    environment = Environment(
        now=context.now(),
        member_of=membership(terminology) if terminology else None,
        subsumes=subsumption(terminology) if terminology else None,
        trace=lambda name, values: told.append(traced(name, values)),
    )
    kind = resource["resourceType"] if resource else None
    found = compile(expression, kind, strict=True)(resource, environment)
    return [result(node) for node in found] + told


def traced(name: str, values: list[Any]) -> dict[str, Any]:
    """What trace() logged: its name and each value as JSON (N1, section trace)."""
    parts = [{"name": "value", "valueString": encode(value).decode()} for value in values]
    return {"name": "trace", "part": [{"name": "name", "valueString": name}, *parts]}


def result(node: Node) -> dict[str, Any]:
    """One result as a parameter."""
    type = node.type.rpartition("System.")[2]
    row: dict[str, Any] = {"name": "result"}
    if type in RESOURCE_TYPES:
        return row | {"resource": node.value}
    plain = SYSTEM.get(type, type[:1].lower() + type[1:])
    name = type if type in VALUE_TYPES else plain
    if name not in VALUE_TYPES:
        return row | {"extension": [{"url": JSON_VALUE, "valueString": encode(node.value).decode()}]}
    key = name[0].upper() + name[1:]
    row |= {f"value{key}": node.value} if node.value is not None else {}
    return row | ({f"_value{key}": node.extra} if node.extra else {})
