"""Every search parameter on the official examples, beside FHIRPath: entries are where its expression has values."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from profiles import model
from profiles.fhirpath import Environment, Node, compile
from search.entries import entries
from search.matches import matches
from search.params import TYPE_CODES, Parameter, Registry
from search.specials import SPECIALS
from search.types import EMIT, missing
from search.values import Around

EXAMPLES = os.environ.get("FHIR_EXAMPLES", "")
REGISTRY = Registry.r4()
AROUND = Around(REGISTRY)
# Each has a thousand examples that are much alike; one in twenty is looked at.
MANY = frozenset({"StructureDefinition", "ValueSet", "CodeSystem", "SearchParameter", "OperationDefinition"})
# A canonical is a uri, so `(ConceptMap.source as uri)` has it here; this FHIRPath takes the types apart.
# R4 writes DateTime for dateTime in the composite, which is understood here.
WIDER = frozenset({("ConceptMap", "source-uri"), ("ConceptMap", "target-uri"), ("Observation", "code-value-date")})

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES, reason="FHIR_EXAMPLES names no folder with the official examples"),
]


def resolve(reference: str) -> dict[str, Any] | None:
    """A resource of the type that a reference names."""
    kind = reference.split("/")[-2] if "/" in reference else ""
    return {"resourceType": kind, "id": "x"} if kind in model.RESOURCE_TYPES else None


ENVIRONMENT = Environment(resolve=resolve)


@cache
def examples() -> list[dict[str, Any]]:
    paths = sorted(Path(EXAMPLES).glob("*.json"))
    found = [json.loads(path.read_text(), parse_float=Decimal) for path in paths]
    kept = [r for n, r in enumerate(found) if r.get("resourceType") in TYPE_CODES]
    return [{"id": "x", **r} for n, r in enumerate(kept) if r["resourceType"] not in MANY or n % 20 == 0]


def has_values(parameter: Parameter, resource: dict[str, Any]) -> bool:
    """What FHIRPath says: a composite has some element in which each of its components has values."""
    found = compile(parameter.expression)(resource, ENVIRONMENT)
    if parameter.type != "composite":
        return bool(found)
    return any(all(searchable(c, node, resource) for c in parameter.components) for node in found)


def searchable(component: Parameter, element: Node, resource: dict[str, Any]) -> bool:
    """Whether a component has a value that can be asked for: of a concept a code, of a quantity a number."""
    path = component.expression
    here: Any = resource if path.startswith("%resource.") else element
    found = compile(path.removeprefix("%resource."))(here, ENVIRONMENT)
    return any((component.type, node.type) in EMIT and _is_told(node.value) for node in found)


def _is_told(value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    coded = any("code" in coding for coding in value.get("coding", ()))
    return coded or bool({"value", "code", "reference", "low", "high", "start", "end", "data"} & set(value))


def test_entries_are_where_values_are() -> None:
    """29,000 pairs of an example and a parameter, the same answer twice; 1,100 of the parameters have an example."""
    wrong, seen, pairs = [], set(), 0
    for resource in examples():
        kind, written = resource["resourceType"], entries(resource, REGISTRY)
        for parameter in REGISTRY.of(kind):
            if not parameter.expression or parameter.code in SPECIALS or (kind, parameter.code) in WIDER:
                continue
            pairs += 1
            expected = has_values(parameter, resource)
            found = matches(missing(parameter, "false", AROUND), written, resource)
            if expected:
                seen.add(parameter.url)
            if found != expected:
                wrong.append(f"{kind}/{resource['id']} {parameter.code}: {expected}")
    assert wrong == [], "\n".join(wrong)
    assert pairs > 20_000
    assert len(seen) > 1_090
