"""Everything R4 itself writes in FHIRPath: search expressions and invariants."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiles import model
from profiles.fhirpath import Environment, FhirPathError, Node, compile
from profiles.json import parse

EXAMPLES = os.environ.get("FHIR_EXAMPLES")
# With somebody listening to traces everything takes the general program.
GENERAL = Environment(trace=lambda name, values: None)


def test_every_search_expression_compiles() -> None:
    """All 1,375 search parameters and the parts of the composites."""
    expressions = [p.expression for p in model.SEARCH_PARAMETERS]
    expressions += [expression for p in model.SEARCH_PARAMETERS for _, expression in p.components]
    assert len(expressions) > 1400
    for expression in filter(None, expressions):
        compile(expression)


@pytest.mark.parametrize("key", sorted(model.INVARIANTS))
def test_every_invariant_compiles(key: str) -> None:
    """Each rule of R4's definitions."""
    expression = model.INVARIANTS[key].expression
    if expression:
        compile(expression)


def rules_of(value: Any, kind: str, more: tuple[str, ...] = ()) -> Iterator[tuple[str, Node]]:
    """Every rule and the node it is about, all the way down a resource."""
    kind = value["resourceType"] if kind == "Resource" else kind
    for rule in {*more, *(rule for name in model.ancestors(kind) for rule in model.TYPES[name].rules)}:
        yield rule, Node(value, kind)
    for name, inner in value.items() if isinstance(value, dict) else ():
        field = model.field(kind, name)
        if field is not None and field.type not in model.PRIMITIVES:
            for item in inner if isinstance(inner, list) else [inner]:
                yield from rules_of(item, field.type, field.element.rules)


def outcome(rule: str, node: Node, env: Environment | None) -> Any:
    try:
        return [found.value for found in compile(model.INVARIANTS[rule].expression)(node, env)]
    except FhirPathError as error:
        return error.text


@pytest.mark.skipif(not EXAMPLES, reason="the official examples are not here (FHIR_EXAMPLES)")
def test_conditions_run_the_same_both_ways_and_hold_for_the_official_examples() -> None:
    """The closures on JSON and the general program agree on every rule of every element, and no rule is broken."""
    files = [f for f in sorted(Path(str(EXAMPLES)).glob("*-*.json")) if f.stat().st_size < 40_000]
    checked = 0
    for file in random.Random(4).sample(files, 120):
        resource = parse(file.read_bytes())
        if not isinstance(resource, dict):
            continue
        env = Environment(resource=resource, root=resource)
        for rule, node in rules_of(resource, "Resource"):
            if rule not in model.INVARIANTS:
                continue
            found = outcome(rule, node, env)
            assert found == outcome(rule, node, Environment(resource=resource, root=resource, trace=GENERAL.trace)), (
                rule
            )
            assert found != [False] or model.INVARIANTS[rule].severity != "error", (file.name, rule)
            checked += 1
    assert checked > 5_000


def test_conditions_see_broken_rules() -> None:
    """The same expression fails where it should, on JSON as through the general program."""
    cases = [
        ("Period", {"start": "2020-02-01", "end": "2020-01-01"}, "per-1", [False]),
        ("Period", {"start": "2020", "end": "2020-01-01"}, "per-1", []),
        ("Quantity", {"code": "mg"}, "qty-3", [False]),
        ("Patient.contact", {"gender": "male"}, "pat-1", [False]),
        ("Patient.contact", {"_gender": {"id": "x"}, "organization": {"display": "x"}}, "pat-1", [True]),
        ("Organization", {"resourceType": "Organization"}, "org-1", [False]),
        ("Timing.repeat", {"offset": 1, "when": ["C"]}, "tim-9", [False]),
        ("Timing.repeat", {"offset": 1, "when": ["AC"]}, "tim-9", [True]),
        ("ElementDefinition", {"min": 2, "max": "1"}, "eld-2", [False]),
        ("RelatedPerson", {"contained": [{"resourceType": "Patient", "contained": [{}]}]}, "dom-2", [False]),
    ]
    for kind, value, rule, expected in cases:
        node = Node(value, kind)
        assert outcome(rule, node, None) == outcome(rule, node, GENERAL) == expected, rule
