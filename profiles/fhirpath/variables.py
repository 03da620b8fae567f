"""Environment variables (N1 section Environment variables; R4 fhirpath.html, «Variables»)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import Collection, Node, Scope, string

CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_PREFIXES = {
    "vs-": "http://hl7.org/fhir/ValueSet/",
    "ext-": "http://hl7.org/fhir/StructureDefinition/",
}
_CONTEXTS = ("context", "resource", "rootResource")
RESERVED = frozenset((*CONSTANTS, *_CONTEXTS))


def lookup(scope: Scope, name: str) -> Collection:
    """The value of `%name`: defined in the expression, by the caller, or by the specification."""
    if name in scope.variables:
        return scope.variables[name]
    run = scope.run
    if name in _CONTEXTS:
        return {"context": run.context, "resource": run.resource, "rootResource": run.root}[name]
    if name in run.env.variables:
        return nodes_of(run.env.variables[name])
    if name in CONSTANTS:
        return [string(CONSTANTS[name])]
    for prefix, base in _PREFIXES.items():
        if name.startswith(prefix):
            return [string(base + name.removeprefix(prefix))]
    raise FhirPathError(f"Unknown environment variable %{name}")


_SYSTEM_TYPES = {
    bool: "System.Boolean",
    int: "System.Integer",
    float: "System.Decimal",
    Decimal: "System.Decimal",
    str: "System.String",
}


def nodes_of(value: Any) -> Collection:
    """Plain values of the caller as nodes; None is empty, lists are collections."""
    if value is None:
        return []
    if isinstance(value, Node):
        return [value]
    if isinstance(value, (list, tuple)):
        return [node for item in value for node in nodes_of(item)]
    if isinstance(value, dict):
        return [Node(value, value.get("resourceType") or ("Quantity" if "value" in value else "Element"))]
    return [Node(value, _SYSTEM_TYPES.get(type(value), "System.Any"))]
