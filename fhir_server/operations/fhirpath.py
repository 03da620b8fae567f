"""$fhirpath: evaluate an expression on a resource that is sent or stored (http://hl7.org/fhir/R4/fhirpath.html)."""

from __future__ import annotations

import asyncio
from typing import Any

from fhir_server.access.views import view_target
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.ids import local_name
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_version
from fhir_server.store import Stored
from fhir_server.store.terms import Found, Missing, terms_of
from fhir_server.writing.coded_values import membership, subsumption
from profiles.fhirpath import Environment, Node, compile
from profiles.fhirpath.functions.fhir import reference_type
from profiles.json import decode, encode
from profiles.model import RESOURCE_TYPES, element
from profiles.outcome import FhirError
from terminology.library import Library

# What Parameters cannot hold, such as Patient.contact, comes as JSON in this extension, as other servers do it.
JSON_VALUE = "http://fhir.forms-lab.com/StructureDefinition/json-value"
_OPEN = element("Parameters.parameter", "value")
VALUE_TYPES = frozenset(_OPEN.types if _OPEN else ())
# Names of the System types that differ from FHIR's by more than the first letter.
SYSTEM = {"DateTime": "dateTime"}
MOST = 200  # references, and definitions, that one expression may follow
ROUNDS = 6  # tries; each reads what the one before it was missing


async def run(call: Call, context: Context) -> Response:
    """Parameters with one `result` for each item, typed, and what was traced; strict, and without a resource too."""
    resource, targets = call.one("resource"), Targets(context.config.base)
    if resource is None and call.id:
        resource = targets.taken(await stored_version(call, context))
    rows = await _resolved(str(call.one("expression")), resource, targets, call, context)
    answer = resource_answer({"resourceType": "Parameters", **({"parameter": rows} if rows else {})})
    answer.compartments = tuple(targets.compartments)
    return answer


async def _resolved(
    expression: str, resource: Resource | None, targets: Targets, call: Call, context: Context
) -> list[Resource]:
    """The results; what resolve() leads to is read between two tries, as far as the caller may see it."""
    for _ in range(ROUNDS):
        try:
            rows = await _tried(expression, resource, targets, context)
        except FhirError:
            if not targets.missing:
                raise
        else:
            if not targets.missing:
                return rows
        await targets.read(call, context)
    raise FhirError("too-costly", f"The expression resolves references through more than {ROUNDS - 1} resources.")


async def _tried(expression: str, resource: Resource | None, targets: Targets, context: Context) -> list[Resource]:
    """One try, beside the other requests; definitions that memberOf() and subsumes() need are looked up between."""
    terms = terms_of(context.store, context.registry)
    told: Found = {}
    for _ in range(MOST):
        try:
            return await asyncio.to_thread(_evaluated, expression, resource, targets, context, terms.library(told))
        except Missing as missing:
            await terms.look_up(told, [missing.key])
    raise FhirError("too-costly", f"The expression needs more than {MOST} definitions.")


class Targets:
    """The resources that references lead to: those at hand, those still to be read, and whose all of them are."""

    __slots__ = ("_base", "_found", "compartments", "missing")

    def __init__(self, base: str) -> None:
        self._base = base
        self._found: dict[str, Resource | None] = {}
        self.missing: set[str] = set()
        self.compartments: list[str] = []

    def taken(self, stored: Stored) -> Resource:
        """The resource of a version, noted for the audit trail."""
        self.compartments.append(stored.compartment)
        found: Resource = decode(stored.body or b"{}")
        return found

    def resolve(self, reference: str) -> Resource | None:
        """What is at hand; of anything else the type alone, as far as the reference tells it."""
        name = local_name(reference, self._base)
        if name is not None and name not in self._found:
            self.missing.add(name)
        found = self._found.get(name) if name else None
        kind = reference_type(reference)
        return found if found is not None else {"resourceType": kind} if kind else None

    async def read(self, call: Call, context: Context) -> None:
        """Read what is missing; what the caller may not see is not there."""
        if len(self._found) + len(self.missing) > MOST:
            raise FhirError("too-costly", f"The expression resolves more than {MOST} references.")
        for name in sorted(self.missing):
            stored = await view_target(call.request, context, name)
            self._found[name] = self.taken(stored) if stored is not None else None
        self.missing = set()


def _evaluated(
    expression: str, resource: Resource | None, targets: Targets, context: Context, terminology: Library
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    environment = Environment(
        now=context.now(),
        resolve=targets.resolve,
        member_of=membership(terminology),
        subsumes=subsumption(terminology),
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
