"""FHIRPath by the chapters of its specification, its limits, and the two ways an expression can run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.fhirpath import Environment, FhirPathError, Node, compile, evaluate
from profiles.fhirpath.functions import FUNCTIONS as FUNCTION_TABLE

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "example",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Peter</div>'},
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
    ],
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}],
    "gender": "male",
    "birthDate": "1974-12-25",
    "_birthDate": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
                "valueDateTime": "1974-12-25T14:35:45-05:00",
            }
        ]
    },
    "_deceasedBoolean": {"extension": [{"url": "http://example.org/unknown", "valueCode": "asked-unknown"}]},
    "contact": [{"name": {"family": "du Marché"}}],
    "managingOrganization": {"reference": "Organization/1"},
}
NOW = datetime(2026, 2, 25, 14, 31, 39, 96000, UTC)


def cases() -> Iterator[Any]:
    for file in sorted((Path(__file__).parent / "fhirpath").glob("*.yaml")):
        for expression, expected in yaml.safe_load(file.read_text())["cases"]:
            yield pytest.param(expression, expected, id=f"{file.stem}: {expression}")


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return isinstance(found, Decimal) and found == Decimal(str(expected))
    return bool(found == expected) and isinstance(found, bool) == isinstance(expected, bool)


@pytest.mark.parametrize(("expression", "expected"), list(cases()))
def test_specification(expression: str, expected: Any) -> None:
    """The expression gives what its chapter says."""
    if expected == "error":
        with pytest.raises(FhirPathError):
            evaluate(PATIENT, expression, now=NOW)
        return
    found = evaluate(PATIENT, expression, now=NOW)
    assert len(found) == len(expected), found
    assert all(same(a, b) for a, b in zip(found, expected, strict=True)), found


def test_nodes_know_their_types() -> None:
    """A search parameter needs the type beside the value."""
    assert [(n.value, n.type) for n in compile("Patient.name.family")(PATIENT)] == [("Chalmers", "string")]
    observation = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.50")}}
    found = compile("Observation.value")(observation)
    assert [(n.value, n.type) for n in found] == [({"value": Decimal("1.50")}, "Quantity")]


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("Patient.name.given", 3),
        ("(Patient.deceased as boolean)", 0),
        ("Patient.managingOrganization.where(resolve() is Organization)", 1),
        ("Patient.managingOrganization.where(resolve() is Patient)", 0),
        ("Person.name | Patient.name", 2),
        ("Patient.telecom | Patient.telecom", 2),
        ("Resource.id", 1),
        ("Practitioner.name", 0),
    ],
)
def test_straight_paths_run_the_same_both_ways(expression: str, count: int) -> None:
    """The closure for paths and the general program find the same."""
    expr = compile(expression)
    fast = expr(PATIENT)
    general = expr(Node(PATIENT, "Patient"))
    assert len(fast) == count
    assert [(n.value, n.type) for n in fast] == [(n.value, n.type) for n in general]


def test_paths_go_through_resources_of_any_type() -> None:
    """Contained and bundled resources are what they say they are."""
    bundle = {"resourceType": "Bundle", "entry": [{"resource": PATIENT}, {"resource": {"resourceType": "Group"}}]}
    assert [n.value for n in compile("Bundle.entry.resource.birthDate")(bundle)] == ["1974-12-25"]
    assert [n.type for n in compile("Bundle.entry.resource")(bundle)] == ["Patient", "Group"]
    assert [n.type for n in compile("Bundle.entry[0].resource as Patient")(bundle)] == ["Patient"]
    assert [n.type for n in compile("Bundle.entry.resource.ofType(Group)")(bundle)] == ["Group"]


def test_a_primitive_without_value_exists() -> None:
    """An extension alone makes the element exist; it has no value to return."""
    assert evaluate(PATIENT, "deceased.exists()") == [True]
    assert evaluate(PATIENT, "deceased.hasValue()") == [False]
    assert evaluate(PATIENT, "deceased.extension.value") == ["asked-unknown"]
    assert evaluate(PATIENT, "deceased") == []


def test_a_malformed_resource_is_skipped() -> None:
    """A string where an object belongs gives nothing, not an exception."""
    assert compile("Patient.name.family")({"resourceType": "Patient", "name": ["Jim", 3, None]}) == []
    assert compile("Patient.name.family")({"resourceType": ["x"]}) == []
    assert compile("Patient.name.family")({}) == []


def test_search_casts_may_be_many() -> None:
    """R4's `(Observation.component.value as Quantity)` meets several components; strictly that is an error."""
    component = {"valueQuantity": {"value": Decimal(1)}}
    observation = {"resourceType": "Observation", "component": [component, component]}
    expression = "(Observation.component.value as Quantity)"
    assert len(compile(expression)(observation)) == 2
    with pytest.raises(FhirPathError, match="single item"):
        evaluate(observation, expression)


def test_environment() -> None:
    """Variables, resolver, terminology and clock come in from outside."""
    assert evaluate(PATIENT, "%limit + 1", limit=2) == [3]
    assert evaluate(PATIENT, "now().toString()", now=NOW) == ["2026-02-25T14:31:39.096Z"]
    organization = {"resourceType": "Organization", "name": "Acme"}
    assert evaluate(PATIENT, "managingOrganization.resolve().name", resolve=lambda ref: organization) == ["Acme"]
    assert evaluate(PATIENT, "gender.memberOf('vs')", member_of=lambda v, t, url: (v, t, url) == ("male", "code", "vs"))
    traced: list[tuple[str, list[Any]]] = []
    evaluate(PATIENT, "name.given.first().trace('a')", trace=lambda name, values: traced.append((name, values)))
    assert traced == [("a", ["Peter"])]
    with pytest.raises(FhirPathError, match="no clock"):
        compile("now()")(PATIENT)


def test_contained_and_bundled_references_resolve_without_a_resolver() -> None:
    """`#id` looks into the container, a Bundle's entries answer by fullUrl."""
    order = {
        "resourceType": "ServiceRequest",
        "contained": [{"resourceType": "Patient", "id": "p", "gender": "male"}],
        "subject": {"reference": "#p"},
    }
    assert evaluate(order, "subject.resolve().gender") == ["male"]
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {
                "fullUrl": "urn:uuid:1",
                "resource": {"resourceType": "Encounter", "subject": {"reference": "urn:uuid:2"}},
            },
            {"fullUrl": "urn:uuid:2", "resource": {"resourceType": "Patient", "gender": "female"}},
        ],
    }
    assert evaluate(bundle, "entry.resource.ofType(Encounter).subject.resolve().gender") == ["female"]


def test_invariants_see_the_element_and_its_resource() -> None:
    """A rule runs on a node, with `%resource` beside it."""
    rule = compile("system.exists() and %resource.id = 'example'")
    found = rule(Node(PATIENT["telecom"][0], "ContactPoint"), Environment(resource=PATIENT))
    assert [n.value for n in found] == [True]


@pytest.mark.parametrize(
    "expression",
    [
        "name." * 3000 + "given",
        "(" * 1000 + "1" + ")" * 1000,
        "-" * 1000 + "1",
        "+".join("1" * 1000),
        "'a'.repeatAll($this)",
        "Patient.descendants().select(%resource.descendants()).select(%resource.descendants())"
        ".select(%resource.descendants()).select(%resource.descendants())",
        "'a'" + ".replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 20,
        "(1|2)" + "".join(f".select($this|($this+{2**i}))" for i in range(25)),
    ],
)
def test_bombs_end_in_an_error_soon(expression: str) -> None:
    """Attack D17: whatever the expression, an error within half a second."""
    start = time.process_time()
    with pytest.raises(FhirPathError):
        evaluate(PATIENT, expression)
    assert time.process_time() - start < 2  # half a second on an idle machine


def test_huge_numbers_do_not_stall() -> None:
    """`1e300000` must not become an integer of 300,000 digits."""
    observation = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1e300000"), "code": "mg"}}
    for expression in ("Observation.value.value + 1", "Observation.value > 1 'g'", "Observation.value.value.floor()"):
        with pytest.raises(FhirPathError):
            evaluate(observation, expression)


TERMS = st.sampled_from(
    [
        "name",
        "given",
        "family",
        "birthDate",
        "telecom",
        "value",
        "deceased",
        "contact",
        "$this",
        "$index",
        "$total",
        "%resource",
        "%ucum",
        "{}",
        "true",
        "1",
        "-1",
        "2.50",
        "'a'",
        "''",
        "'('",
        "@2014",
        "@2014-02-03T10:00:00Z",
        "@T10:30:00.0",
        "(4 days)",
        "(5 'mg')",
        "Patient",
        "Patient.name.given",
        "text.div",
    ]
)
OPERATORS = st.sampled_from(
    [
        "+",
        "-",
        "*",
        "/",
        "div",
        "mod",
        "&",
        "|",
        "=",
        "!=",
        "~",
        "!~",
        "<",
        "<=",
        ">",
        ">=",
        "in",
        "contains",
        "and",
        "or",
        "xor",
        "implies",
    ]
)
FUNCTIONS = st.sampled_from(sorted(FUNCTION_TABLE))
TYPES = st.sampled_from(["string", "String", "HumanName", "FHIR.code", "System.Quantity", "Patient", "nothing"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions one level above others."""
    call = st.builds(lambda a, f, args: f"{a}.{f}({', '.join(args)})", inner, FUNCTIONS, st.lists(inner, max_size=2))
    binary = st.builds(lambda a, op, b: f"({a} {op} {b})", inner, OPERATORS, inner)
    typed = st.builds(lambda a, op, t: f"({a} {op} {t})", inner, st.sampled_from(["is", "as"]), TYPES)
    member = st.builds(lambda a, b: f"{a}.{b}", inner, st.sampled_from(["name", "given", "extension", "value", "id"]))
    return st.one_of(call, call, binary, typed, member, inner.map(lambda a: f"{a}[0]"), inner.map(lambda a: f"(-{a})"))


@given(st.recursive(TERMS, larger, max_leaves=8))
@settings(max_examples=500, deadline=None)
def test_no_expression_breaks_the_machine(text: str) -> None:
    """Any expression gives values or a FhirPathError, strictly or not; the fast ways give what the general one does."""
    general = Environment(now=NOW, trace=lambda name, values: None)
    runs: list[Callable[[], list[Any]]] = [
        lambda: evaluate(PATIENT, text, now=NOW),
        lambda: [node.value for node in compile(text)(PATIENT, Environment(now=NOW))],
        lambda: [node.value for node in compile(text)(PATIENT, general)],
    ]
    found = []
    for run in runs:
        try:
            found.append(run())
        except FhirPathError as error:
            assert error.text
            found.append(["error"])
    assert found[1] == found[2]


@given(st.text(max_size=40))
@settings(deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text at all."""
    try:
        compile(text)(PATIENT, Environment(now=NOW))
    except FhirPathError as error:
        assert error.text
