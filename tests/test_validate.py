"""Resources are checked against the base definitions: what is right passes, and what is wrong is said in words."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from profiles import model
from profiles.json import parse
from profiles.validate import check
from profiles.validate.explain import resource_faults
from profiles.validate.fast import INNER, surely_valid
from profiles.validate.formats import PATTERNS, fault
from profiles.validate.schema import schema_for
from tests import official

SYNTHEA = Path(os.environ.get("FHIR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "synthea"


def cases(name: str) -> Any:
    return yaml.safe_load((Path(__file__).with_name("data") / name).read_text())


# Official files whose own content breaks the specification, with the first fault.
WRONG = {
    "ImplementationGuide-fhir.json": "name is required",
    "ig-r4.json": "name is required",
    "Questionnaire-qs1.json": "linkId is required",
    "SearchParameter-codesystem-extensions-CodeSystem-author.json": "base is required",
    "SearchParameter-codesystem-extensions-CodeSystem-effective.json": "base is required",
    "SearchParameter-codesystem-extensions-CodeSystem-end.json": "base is required",
    "SearchParameter-codesystem-extensions-CodeSystem-keyword.json": "base is required",
    "SearchParameter-codesystem-extensions-CodeSystem-workflow.json": "base is required",
    "SearchParameter-valueset-extensions-ValueSet-author.json": "base is required",
    "SearchParameter-valueset-extensions-ValueSet-effective.json": "base is required",
    "SearchParameter-valueset-extensions-ValueSet-end.json": "base is required",
    "SearchParameter-valueset-extensions-ValueSet-keyword.json": "base is required",
    "SearchParameter-valueset-extensions-ValueSet-workflow.json": "base is required",
    "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json": "is no id",
}


@pytest.mark.parametrize("number", range(len(official.selection())))
def test_official_examples_pass(number: int) -> None:
    """The fast path and the explaining pass both accept them."""
    resource = parse(official.selection()[number])
    assert check(resource) == []
    assert list(resource_faults(resource)) == []


@pytest.mark.slow
@pytest.mark.skipif(official.PACKAGE is None, reason="FHIR_EXAMPLES does not name the official package")
def test_all_official_files_pass_but_those_that_are_wrong() -> None:
    """5,305 files; the exceptions are listed by name."""
    refused = {name: found[0].text for name, body in official.everything() if (found := check(parse(body)))}
    assert set(refused) == set(WRONG)
    assert all(WRONG[name] in text for name, text in refused.items())


@pytest.mark.slow
@pytest.mark.skipif(not SYNTHEA.exists(), reason="the Synthea bundles are not at hand (FHIR_SHARED)")
def test_synthea_bundles_pass_on_the_fast_path() -> None:
    """Bundles that nobody here wrote are valid, and need no explaining."""
    slow = [p.name for p in sorted(SYNTHEA.glob("*.gz")) if not surely_valid(parse(gzip.decompress(p.read_bytes())))]
    assert slow == []


@pytest.mark.parametrize("case", cases("faults.yaml"), ids=lambda c: c["text"][:40])
def test_a_fault_is_named_with_its_place(case: dict[str, Any]) -> None:
    """One fault, one issue: a FHIRPath and a sentence."""
    found = check({"resourceType": "Patient"} | case["change"])
    place, text = case["expression"], f"{case['expression']}: {case['text']}"
    assert [(i.severity, i.expression, i.text) for i in found] == [("error", (place,), text)]


def test_every_fault_is_named() -> None:
    """Not only the first one."""
    found = check({"resourceType": "Observation", "code": {"text": ""}, "valueString": 3, "effectiveInstant": "2020"})
    assert [i.expression[0] for i in found] == [
        "Observation.code.text",
        "Observation.value",
        "Observation.effective",
        "Observation.status",
    ]


@pytest.mark.parametrize(
    ("resource", "expected", "text"),
    [
        ([], None, "a resource (a JSON object) is expected, not an array"),
        ({}, None, "resourceType is missing: it must name one of the resource types of FHIR R4"),
        ({"resourceType": 7}, None, "resourceType must be a string, not a number"),
        ({"resourceType": "Pateint"}, None, "resourceType 'Pateint' is no resource type of FHIR R4 (did you mean Patient?)"),  # noqa: E501
        ({"resourceType": "DomainResource"}, None, "resourceType 'DomainResource' is no resource type of FHIR R4"),
        ({"resourceType": "Patient"}, "Group", "Patient: a Group is expected here, not a Patient"),
    ],
)  # fmt: skip
def test_the_type_itself(resource: Any, expected: str | None, text: str) -> None:
    """A resource that is none, or not the one that was asked for."""
    assert [i.text for i in check(resource, expected)] == [text]


@pytest.mark.parametrize(
    "legal",
    [
        {"name": [{"given": ["a", None], "_given": [None, {"extension": [{"url": "http://x", "valueCode": "b"}]}]}]},
        {"name": [{"_given": [{"id": "1"}]}]},
        {"_birthDate": {"extension": [{"url": "http://x", "valueTime": "10:00:00"}]}},
        {"gender": "male", "_gender": {"id": "g"}},
        {"extension": [{"id": "e", "url": "http://example.org/unknown", "valueAnnotation": {"text": "kept"}}]},
        {"modifierExtension": [{"url": "http://example.org/unknown", "valueBoolean": False}]},
        {"birthDate": "2020-02-29"},
        {"photo": [{"data": "AAAA\n BBBB"}]},
        {"contained": [{"resourceType": "Organization", "id": "o", "name": "x"}]},
        {"text": {"status": "empty", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}},
    ],
)
def test_what_is_legal_passes(legal: dict[str, Any]) -> None:
    """Extensions nobody knows, siblings, leap days, contained resources."""
    assert check({"resourceType": "Patient"} | legal) == []


def test_a_required_concept_needs_one_coding_of_its_value_set() -> None:
    """Condition.clinicalStatus: other codings may stand beside it, text alone is not enough."""
    system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    good, other = {"system": system, "code": "active"}, {"system": "http://example.org", "code": "x"}
    condition = {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}
    assert check(condition | {"clinicalStatus": {"coding": [other, good]}}) == []
    for wrong in ({"coding": [other]}, {"text": "active"}, {"coding": [{"code": "active"}]}):
        assert [i.code for i in check(condition | {"clinicalStatus": wrong})] == ["code-invalid"]


def test_a_base64_bomb_is_answered_at_once() -> None:
    """P11: the published pattern takes years for this."""
    assert fault("base64Binary", "AAAA  " * 200_000 + "!") is not None


@pytest.mark.parametrize("type_name", cases("formats.yaml"))
def test_primitive_formats(type_name: str) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#primitive; the schema's patterns accept nothing that is refused here."""
    good, bad = (cases("formats.yaml")[type_name][side] for side in ("good", "bad"))
    assert [v for v in good if fault(type_name, v)] == []
    assert [v for v in bad if not fault(type_name, v)] == []
    if type_name in PATTERNS:
        pattern = PATTERNS[type_name].removesuffix("$") + r"\Z"
        strict = jsonschema.Draft4Validator({"type": "string", "pattern": pattern})
        assert [v for v in bad if strict.is_valid(v)] == []


def test_formats_have_limits() -> None:
    """A string ends at 1 MB, a decimal is finite."""
    assert fault("string", "x" * (1024 * 1024)) is None
    assert fault("string", "x" * (1024 * 1024 + 1)) == ("value", f"'{'x' * 77}...' is longer than 1 MB")
    assert fault("decimal", float("nan")) is not None


def test_schemas_are_legal_draft_4() -> None:
    """A second implementation reads them and agrees about an example."""
    for kind, status in (("Patient", {}), ("Questionnaire", {"status": "draft"})):
        schema = schema_for(kind)
        jsonschema.Draft4Validator.check_schema(schema)
        assert jsonschema.Draft4Validator(schema).is_valid({"resourceType": kind} | status)
        assert not jsonschema.Draft4Validator(schema).is_valid({"resourceType": kind, "status": 1})


def test_resources_inside_resources_are_all_known() -> None:
    """The places where the fast path looks for inner resources are those of the model."""
    places = {f"{t}.{n}" for t in model.TYPES for n, f in model.fields(t).items() if f.type == "Resource"}
    inner = {p for p in places if not p.endswith(".contained")}
    assert inner == {
        "Bundle.entry.resource",
        "Bundle.entry.response.outcome",
        "Parameters.parameter.resource",
    }
    assert set(INNER) == {p.split(".")[0] for p in inner}
