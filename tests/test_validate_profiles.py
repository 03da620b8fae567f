"""Full validation: profiles, slices, invariants, extensions, references, bundles, questionnaires."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from profiles import model
from profiles.json import parse
from profiles.packages import Package, read_package
from profiles.validate import Library, Options, Shelf, generate, validate, with_places
from profiles.validate.snapshot import element_id
from tests import official
from tests.test_validate_faults import places

DATA = Path(__file__).with_name("data")
IGS = Path(os.environ.get("FHIR_SHARED", Path(__file__).parents[2] / "shared")) / "igs"
P = "http://example.org/p"
Q = "http://example.org/q"
STRICT = Options(unknown_extensions="error")
Json = dict[str, Any]


def cases(name: str) -> list[Json]:
    found: list[Json] = yaml.safe_load((DATA / name).read_text())
    return found


def said(issues: list[Any]) -> list[str]:
    return [f"{i.severity} {i.text}" for i in issues]


def profile(type_name: str, elements: list[Json]) -> Json:
    return {
        "resourceType": "StructureDefinition",
        "url": P,
        "type": type_name,
        "derivation": "constraint",
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{type_name}",
        "differential": {"element": elements},
    }


def nowhere(value: Any, type_name: str, value_set: str) -> bool | None:
    return False if value_set.startswith("http://example.org/") else None


@pytest.mark.parametrize("case", cases("profiled.yaml"), ids=lambda c: c["title"])
def test_a_profile_is_enforced(case: Json) -> None:
    """What the differential says holds, and nothing else."""
    library = Library(find=Shelf([profile(case["type"], case["elements"])]).find, member_of=nowhere)
    resource = {"resourceType": case["type"]} | case["resource"]
    assert said(validate(resource, library, profiles=[P])) == case["expect"]


@pytest.mark.parametrize("case", cases("rules.yaml"), ids=lambda c: c["title"])
def test_a_rule_of_the_base_is_enforced(case: Json) -> None:
    """Invariants and the rules that the specification states in words."""
    found = said(validate(case["resource"]))
    assert len(found) == len(case["expect"]), found
    assert all(text.startswith(wanted) for text, wanted in zip(found, case["expect"], strict=True)), found


@pytest.mark.parametrize("case", cases("answers.yaml"), ids=lambda c: c["title"])
def test_answers_fit_their_questions(case: Json) -> None:
    """http://hl7.org/fhir/R4/questionnaireresponse.html"""
    questionnaire = {"resourceType": "Questionnaire", "url": Q, "status": "active", "item": case["questions"]}
    response = {"resourceType": "QuestionnaireResponse", "questionnaire": Q, "status": "completed"}
    if case["items"]:
        response["item"] = case["items"]
    found = said(validate(response, Library(find=Shelf([questionnaire]).find)))
    wanted = [f"error QuestionnaireResponse{'' if e.startswith(':') else '.'}{e}" for e in case["expect"]]
    assert found == wanted


@pytest.mark.parametrize("case", cases("contexts.yaml"), ids=str)
def test_an_extension_stands_where_it_may(case: Json) -> None:
    """http://hl7.org/fhir/R4/defining-extensions.html#context, and rules about the element that holds it."""
    definition = profile("Extension", [{"path": "Extension.url", "fixedUri": "http://example.org/x"}])
    definition |= {"url": "http://example.org/x", "context": [case["context"]]}
    definition |= {"contextInvariant": [case["invariant"]]} if "invariant" in case else {}
    text = json.dumps(case["resource"]).replace('"X"', '{"url": "http://example.org/x", "valueString": "v"}')
    issues = validate(json.loads(text) | {"resourceType": "Patient"}, Library(find=Shelf([definition]).find))
    assert not issues if case["allowed"] else [issue.severity for issue in issues] == ["error"]


def test_the_url_of_an_extension_tells_who_may_not_know_it() -> None:
    """Elements of other releases and HL7's own are a warning where they are unknown; every url is absolute."""
    release = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Patient.animal.species"
    found = [
        validate({"resourceType": "Patient", "extension": [{"url": url, "valueString": "v"}]}, options=STRICT)
        for url in (release, "http://elsewhere.net/x", "x")
    ]
    assert [[issue.severity for issue in issues] for issues in found] == [["warning"], ["error"], ["error"]]


def test_claimed_profiles_are_checked() -> None:
    """meta.profile, with a version of the line that is wanted; an unknown one is a warning."""
    narrow = profile("Patient", [{"path": "Patient.name", "min": 1}]) | {"version": "2.1.0"}
    library = Library(find=Shelf([narrow]).find)
    for claim, severity in ((P, "error"), (P + "|2.1", "error"), (P + "|3.0", "warning"), ("http://x/y", "warning")):
        patient = {"resourceType": "Patient", "meta": {"profile": [claim]}}
        assert [i.severity for i in validate(patient, library)] == [severity]


def test_the_target_in_the_same_bundle_fits_its_profile() -> None:
    """A reference is followed inside a Bundle, and its target held to the profile that is asked of it."""
    asked = [{"path": "Observation.subject", "type": [{"code": "Reference", "targetProfile": [P + "/patient"]}]}]
    patient = profile("Patient", [{"path": "Patient.birthDate", "min": 1}]) | {"url": P + "/patient"}
    library = Library(find=Shelf([profile("Observation", asked), patient]).find)
    url = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"
    observation = {
        "resourceType": "Observation",
        "meta": {"profile": [P]},
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": url},
    }
    entries = [
        {"fullUrl": url[:-1] + "1", "resource": observation},
        {"fullUrl": url, "resource": {"resourceType": "Patient"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    text = f"Bundle.entry[0].resource.subject: the target does not fit {P}/patient"
    assert said(validate(bundle, library)) == [f"error {text}"]
    entries[1]["resource"] = {"resourceType": "Patient", "birthDate": "2000"}
    assert validate(bundle, library) == []


def test_profiles_that_refer_to_each_other_end() -> None:
    """Two patients linked in a circle, each held to the profile that asks the same of the other."""
    asked = [{"path": "Patient.link.other", "type": [{"code": "Reference", "targetProfile": [P]}]}]
    urls = [f"urn:uuid:c757873d-ec9a-4326-a141-55600000000{n}" for n in (1, 2)]
    patients = [
        {"resourceType": "Patient", "meta": {"profile": [P]}, "link": [{"type": "seealso", "other": {"reference": u}}]}
        for u in reversed(urls)
    ]
    entries = [{"fullUrl": u, "resource": p} for u, p in zip(urls, patients, strict=True)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    assert validate(bundle, Library(find=Shelf([profile("Patient", asked)]).find)) == []


def test_what_is_unknown_is_reported_as_asked() -> None:
    """Unknown extensions are silent, a warning or an error; best practice is off unless asked for."""
    patient: Json = {"resourceType": "Patient", "extension": [{"url": "http://example.org/x", "valueString": "y"}]}
    assert validate(patient) == []
    for url, severity, told in (
        ("http://x.org/y", "error", "error"),
        ("http://x.org/y", "warning", "warning"),
        ("http://example.org/y", "error", "information"),
        ("http://hl7.org/fhir/StructureDefinition/later", "error", "warning"),
    ):
        patient["extension"] = [{"url": url, "valueString": "y"}]
        found = said(validate(patient, options=Options(unknown_extensions=severity)))
        assert found == [f"{told} Patient.extension[0]: the extension {url} is not known"]
    assert "dom-6" in said(validate(patient, options=Options(best_practice=True)))[0]


def test_issues_have_line_and_column() -> None:
    """The place in the text that was sent; of what is missing, the place of what should have it."""
    raw = b'{"resourceType":"Patient",\n "name":[{"family":"x"},\n  {"family":""}],\n "link":[{"type":"refer"}]}'
    found = with_places(validate(parse(raw)), raw)
    assert [(i.expression[0], i.line, i.column) for i in found] == [
        ("Patient.name[1].family", 3, 13),
        ("Patient.link[0].other", 4, 10),
    ]


# Where a generated snapshot has other elements than the published one, and why.
DIFFERENT = {
    "bp": "the published one unfolds value[x] although nothing below it is changed",
    "catalog": "its differential is on Composition.date, its published snapshot has none",
    "elementdefinition-de": "the published one unfolds the extension Question although nothing below it is changed",
    "familymemberhistory-genetic": "its published snapshot lacks elements of its base",
}


def test_snapshots_are_those_that_were_published() -> None:
    """439 official profiles: the same elements with the same cardinality."""
    library, different, count = Library(), set(), 0
    for structure in model.definitions("StructureDefinition"):
        if structure.get("derivation") == "constraint" and {"snapshot", "differential"} <= structure.keys():
            count += 1
            made, published = generate(structure, library.structure), structure["snapshot"]["element"]
            shape = [{element_id(e): (e.get("min"), e.get("max")) for e in side} for side in (made, published)]
            if shape[0] != shape[1]:
                different.add(structure["id"])
    assert count == 439
    assert different == set(DIFFERENT)


@pytest.mark.parametrize("number", range(len(official.selection())))
def test_official_examples_have_no_errors(number: int) -> None:
    """No false alarm on what the specification shows; the faults of examples themselves are listed by name."""
    resource = parse(official.selection()[number])
    errors = [i.text for i in validate(resource) if i.severity == "error"]
    assert not errors or errors[0] in WRONG
    assert not [i for i in validate(resource) if i.code == "processing"]


WRONG = {row[2] for row in yaml.safe_load((Path(__file__).parent / "conformance" / "official_faults.yaml").read_text())}


def test_bad_content_never_raises() -> None:
    """Examples with odd values at odd places: always a list of issues."""
    odd: list[Any] = [None, True, -1, "", "#", "x", [], [None], [3], {}, {"id": 3}, [{"url": 3}], {"reference": 3}]
    for turn, resource in enumerate(official.resources()):
        spots = list(places(resource, resource["resourceType"], ""))
        for offset, value in enumerate(odd):
            parent, key, _, _ = spots[(turn * 7 + offset * 31) % len(spots)]
            before, parent[key] = parent.get(key), value
            assert isinstance(validate(resource), list)
            parent[key] = before
            if before is None:
                del parent[key]


# Examples of US Core whose own content is wrong.
WRONG_US = {
    "Bundle-docref-example-2.json": "is not that of DocumentReference/",
    "Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2.json": "is not that of Endpoint/71",
    "Bundle-c887e62f-6166-419f-8268-b5ecd6c7b901.json": "leads nowhere",
}


def us_core(name: str) -> Package:
    return read_package((IGS / f"{name}.tgz").read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(not IGS.exists(), reason="the implementation guides are not at hand (FHIR_SHARED)")
@pytest.mark.parametrize("name", ["us_core_610", "us_core_800"])
def test_us_core_examples_fit_their_profiles(name: str) -> None:
    """Every example of the guide claims a profile and fits it."""
    package = us_core(name)
    library = Library(find=Shelf(m.resource for m in package.of() if m.url).find)
    for member in package.of(examples=True):
        errors = (
            [i.text for i in validate(member.resource, library) if i.severity == "error"] if member.is_example else []
        )
        known = WRONG_US.get(Path(member.path).name)
        assert not errors or (known and known in errors[0]), (member.path, errors)


@pytest.mark.slow
@pytest.mark.skipif(not IGS.exists(), reason="the implementation guides are not at hand (FHIR_SHARED)")
def test_us_core_faults_are_found() -> None:
    """A Patient that lacks what US Core asks for, a vital sign with another code, an ethnicity without text."""
    package = us_core("us_core_610")
    library = Library(find=Shelf(m.resource for m in package.of() if m.url).find)
    base = "http://hl7.org/fhir/us/core/StructureDefinition/"
    patient = {"resourceType": "Patient", "meta": {"profile": [base + "us-core-patient"]}, "name": [{"use": "usual"}]}
    found = [i.expression[0] for i in validate(patient, library) if i.severity == "error"]
    assert found == ["Patient.name[0]", "Patient.identifier", "Patient.gender"]
    ethnicity = {"url": base + "us-core-ethnicity", "extension": [{"url": "detailed", "valueString": "x"}]}
    found = [i.text for i in validate({"resourceType": "Patient", "extension": [ethnicity]}, library)]
    assert any("extension:text: at least 1 required" in t for t in found)
    assert any("the type string is not allowed here, only Coding" in t for t in found)


def test_a_measure_report_fits_its_measure() -> None:
    """http://hl7.org/fhir/R4/measurereport.html: groups and populations by code, no score for a cohort, no subjects."""
    system = "http://terminology.hl7.org/CodeSystem/measure-population"

    def code(name: str) -> Json:
        return {"coding": [{"system": system, "code": name}]}

    measure = {
        "resourceType": "Measure",
        "url": "http://example.org/m",
        "status": "active",
        "scoring": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/measure-scoring", "code": "cohort"}]},
        "group": [{"population": [{"code": code("initial-population")}]}],
    }
    populations = [{"code": code("numerator"), "count": 1, "subjectResults": {"reference": "List/1"}}]
    made = {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "summary",
        "measure": "http://example.org/m",
        "period": {"start": "2020"},
        "group": [{"population": populations, "measureScore": {"value": 1}}],
    }
    assert [i.text for i in validate(made, Library(find=Shelf([measure]).find))] == [
        "MeasureReport.group[0].population[0]: a report of type summary lists no subjects",
        "MeasureReport.group[0].measureScore: a measure of a cohort has no score",
        "MeasureReport.group[0].population[0]: the population needs a code that the Measure has for a population",
        "MeasureReport.group[0]: the population 'initial-population' of the Measure is missing",
    ]


def test_a_rule_may_ask_for_a_profile() -> None:
    """conformsTo() in an invariant checks the resource against that profile."""
    rule = {"key": "x-1", "severity": "error", "human": "Narrow", "expression": f"conformsTo('{P}/narrow')"}
    narrow = profile("Patient", [{"path": "Patient.name", "min": 1}]) | {"url": P + "/narrow"}
    library = Library(find=Shelf([profile("Patient", [{"path": "Patient", "constraint": [rule]}]), narrow]).find)
    assert said(validate({"resourceType": "Patient", "active": True}, library, profiles=[P])) == [
        "error Patient: Narrow (x-1)"
    ]
    assert validate({"resourceType": "Patient", "name": [{"text": "x"}]}, library, profiles=[P]) == []
