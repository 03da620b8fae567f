"""Patient/$summary: sections, narrative, what is absent, the forms of a call, the gate, the IPS profiles themselves."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.context import Context
from fhir_server.loading.direct import Direct
from fhir_server.loading.hospital import load_hospital
from fhir_server.store import Store
from profiles.json import parse
from profiles.packages import read_package
from profiles.validate import Library, Shelf, validate
from tests.hospital import open_hospital
from tests.shell import BASE, ask, content, context_on, text_of

pytestmark = pytest.mark.anyio

IGS = Path(os.environ.get("FHIR_SHARED", Path(__file__).parents[2] / "shared")) / "igs"
MORE = Path(os.environ.get("FHIR_GUIDES", "no-such-folder"))
GUIDES = [*MORE.glob("hl7.fhir.uv.ips-*.tgz"), *IGS.glob("*ips*.tgz")]
LOINC, CLINICAL = "http://loinc.org", "http://terminology.hl7.org/CodeSystem/condition-clinical"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
MINE = {"reference": "Patient/ada"}


def coded(code: str, system: str = LOINC, **more: Any) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}], **more}


def observed(id: str, code: str, date: str, category: str = "", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        **({"category": [coded(category, CATEGORY)]} if category else {}),
        "code": coded(code, text=f"Test {code}"),
        "subject": MINE,
        "effectiveDateTime": date,
        **more,
    }


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "clinic", "name": "Clinic"},
    {"resourceType": "Organization", "id": "elsewhere", "name": "Elsewhere"},
    {"resourceType": "Practitioner", "id": "dora"},
    {
        "resourceType": "Patient",
        "id": "ada",
        "identifier": [{"system": "http://x", "value": "1"}],
        "name": [{"family": "Lovelace <Byron>", "given": ["Ada"]}],
        "birthDate": "1815-12-10",
        "managingOrganization": {"reference": "Organization/clinic"},
    },
    {"resourceType": "Patient", "id": "bare", "identifier": [{"system": "http://x", "value": "2"}]},
    {"resourceType": "Patient", "id": "twin", "identifier": [{"system": "http://x", "value": "2"}]},
    {
        "resourceType": "Condition",
        "id": "live",
        "clinicalStatus": coded("active", CLINICAL),
        "code": {"text": "Asthma"},
        "subject": MINE,
        "encounter": {"reference": "Encounter/e"},
        "asserter": {"reference": "Practitioner/dora"},
        "onsetDateTime": "1840-01",
    },
    {
        "resourceType": "Condition",
        "id": "over",
        "clinicalStatus": coded("resolved", CLINICAL),
        "code": {"text": "Measles"},
        "subject": MINE,
        "abatementDateTime": "1830",
    },
    {
        "resourceType": "Condition",
        "id": "wrong",
        "verificationStatus": coded("refuted", "http://terminology.hl7.org/CodeSystem/condition-ver-status"),
        "code": {"text": "Nothing"},
        "subject": MINE,
    },
    {
        "resourceType": "AllergyIntolerance",
        "id": "nuts",
        "clinicalStatus": coded("active", "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"),
        "code": {"text": "Nuts"},
        "patient": MINE,
        "reaction": [{"manifestation": [{"text": "Rash"}]}],
    },
    {"resourceType": "Medication", "id": "aspirin", "code": {"text": "Aspirin"}},
    {
        "resourceType": "MedicationStatement",
        "id": "daily",
        "status": "active",
        "medicationReference": {"reference": "Medication/aspirin"},
        "subject": MINE,
        "dosage": [{"text": "1 a day"}],
    },
    {
        "resourceType": "MedicationRequest",
        "id": "proposed",
        "status": "active",
        "intent": "proposal",
        "medicationCodeableConcept": {"text": "X"},
        "subject": MINE,
    },
    {
        "resourceType": "Immunization",
        "id": "flu",
        "status": "completed",
        "vaccineCode": {"text": "Influenza"},
        "patient": MINE,
        "occurrenceDateTime": "1850-10-01",
    },
    observed("old", "718-7", "1850-01-01", "laboratory", valueQuantity={"value": 12.0, "unit": "g/dL"}),
    observed("new", "718-7", "1851-01-01", "laboratory", valueQuantity={"value": 13.0, "unit": "g/dL"}),
    observed(
        "pulse",
        "8867-4",
        "1851-02-01",
        "vital-signs",
        valueQuantity={"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    ),
    observed("smoker", "72166-2", "1851-02-01", valueCodeableConcept=coded("LA18978-9", text="Never")),
    observed("births", "11636-8", "1851-02-01", valueQuantity={"value": 3, "unit": "1"}),
    {
        "resourceType": "DiagnosticReport",
        "id": "report",
        "status": "final",
        "code": coded("58410-2", text="Blood count"),
        "subject": MINE,
        "performer": [{"reference": "Organization/elsewhere"}],
        "result": [{"reference": "Observation/old"}],
    },
    {"resourceType": "Procedure", "id": "op", "status": "completed", "code": {"text": "Operation"}, "subject": MINE},
    {"resourceType": "Device", "id": "pump", "deviceName": [{"name": "Pump", "type": "user-friendly-name"}]},
    {
        "resourceType": "DeviceUseStatement",
        "id": "use",
        "status": "active",
        "subject": MINE,
        "device": {"reference": f"{BASE}/Device/pump"},
    },
    {
        "resourceType": "Flag",
        "id": "flag",
        "status": "active",
        "code": {"text": "Allergic"},
        "subject": MINE,
    },
    {
        "resourceType": "CarePlan",
        "id": "plan",
        "status": "active",
        "intent": "plan",
        "title": "Rest",
        "subject": MINE,
        "period": {"start": "1851-01-01"},
    },
    {
        "resourceType": "ClinicalImpression",
        "id": "impression",
        "status": "completed",
        "description": "Walks well",
        "subject": MINE,
        "date": "1851",
    },
    {
        "resourceType": "Consent",
        "id": "will",
        "status": "active",
        "scope": coded("adr", "http://terminology.hl7.org/CodeSystem/consentscope"),
        "category": [coded("acd", "http://terminology.hl7.org/CodeSystem/consentcategorycodes")],
        "patient": MINE,
        "dateTime": "1851",
        "policyRule": {"text": "law"},
    },
]
EXPECTED = {
    "11450-4": ["Condition/live"],
    "48765-2": ["AllergyIntolerance/nuts"],
    "10160-0": ["MedicationStatement/daily"],
    "11369-6": ["Immunization/flu"],
    "30954-2": ["Observation/new", "DiagnosticReport/report"],
    "47519-4": ["Procedure/op"],
    "46264-8": ["DeviceUseStatement/use"],
    "42348-3": ["Consent/will"],
    "104605-1": ["Flag/flag"],
    "47420-5": ["ClinicalImpression/impression"],
    "11348-0": ["Condition/over"],
    "10162-6": ["Observation/births"],
    "18776-5": ["CarePlan/plan"],
    "29762-2": ["Observation/smoker"],
    "8716-3": ["Observation/pulse"],
}
REQUIRED = ["48765-2", "11450-4", "10160-0"]


@pytest.fixture
async def context(store: Store) -> Context:
    made = context_on(store)
    for resource in RESOURCES:
        answer = await ask(made, "PUT", f"{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status == 201, answer.body
    return made


async def summary(context: Context, url: str = "Patient/ada/$summary") -> Any:
    answer = await ask(context, "GET", url)
    assert answer.status == 200, answer.body
    return content(answer)


def sections(bundle: Any) -> dict[str, Any]:
    return {row["code"]["coding"][0]["code"]: row for row in bundle["entry"][0]["resource"]["section"]}


def entries(bundle: Any) -> dict[str, Any]:
    return {row["fullUrl"].removeprefix(f"{BASE}/"): row["resource"] for row in bundle["entry"]}


async def test_the_document(context: Context) -> None:
    """The Composition first, the patient next, every entry and all it needs once, this server as the author."""
    bundle = await summary(context)
    head = bundle["entry"][0]["resource"]
    assert (bundle["type"], head["resourceType"], head["type"]["coding"][0]["code"]) == (
        "document",
        "Composition",
        "60591-5",
    )
    found = entries(bundle)
    assert len(found) == len(bundle["entry"])
    assert bundle["entry"][1]["resource"]["id"] == "ada"
    assert found[head["author"][0]["reference"]]["resourceType"] == "Device"
    assert head["custodian"] == {"reference": f"{BASE}/Organization/clinic"}
    shown = {
        code: [e["reference"].removeprefix(f"{BASE}/") for e in row["entry"]] for code, row in sections(bundle).items()
    }
    assert shown == EXPECTED
    supporting = {"Medication/aspirin", "Observation/old", "Device/pump", "Practitioner/dora", "Organization/elsewhere"}
    assert supporting <= found.keys()
    assert not {"Condition/wrong", "MedicationRequest/proposed", "Patient/bare"} & found.keys()
    assert found["Condition/live"]["encounter"] == {"reference": f"{BASE}/Encounter/e"}


async def test_narratives(context: Context) -> None:
    """Each section has a table of its entries; text is escaped."""
    found = sections(await summary(context))
    assert all(row["text"]["status"] == "generated" for row in found.values())
    assert "<tr><td>Asthma</td><td>1840-01</td><td></td><td>active</td></tr>" in found["11450-4"]["text"]["div"]
    assert "<td>Aspirin</td><td></td><td>1 a day</td><td>active</td>" in found["10160-0"]["text"]["div"]
    assert "<td>Nuts</td><td></td><td>Rash</td>" in found["48765-2"]["text"]["div"]
    assert "<td>Test 718-7</td><td>1851-01-01</td><td>13.0 g/dL</td><td>final</td>" in found["30954-2"]["text"]["div"]
    assert "<td>Pump</td>" in found["46264-8"]["text"]["div"]
    head = (await summary(context))["entry"][0]["resource"]
    assert "Summary of Ada Lovelace &lt;Byron&gt;, born 1815-12-10" in head["text"]["div"]


async def test_what_is_not_known(context: Context) -> None:
    """Required sections are there with a reason; what the profiles need says why it is absent."""
    bundle = await summary(context, "Patient/bare/$summary")
    found = sections(bundle)
    assert list(found) == REQUIRED
    for row in found.values():
        assert row["emptyReason"]["coding"][0]["code"] == "unavailable"
        assert "No information is available." in row["text"]["div"]
    bare = entries(bundle)["Patient/bare"]
    assert bare["_birthDate"]["extension"][0]["valueCode"] == "unknown"
    full = entries(await summary(context))
    assert full["MedicationStatement/daily"]["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert full["Procedure/op"]["_performedDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert full["Observation/new"]["performer"][0]["extension"][0]["valueCode"] == "unknown"
    assert "_effectiveDateTime" not in full["Observation/new"]


@cache
def guide() -> Library:
    package = read_package(GUIDES[0].read_bytes())
    return Library(find=Shelf(member.resource for member in package.of() if member.url).find)


@pytest.mark.skipif(not GUIDES, reason="the package hl7.fhir.uv.ips is not at hand (FHIR_GUIDES)")
@pytest.mark.parametrize("patient", ["ada", "bare"])
async def test_it_fits_the_ips_profiles(context: Context, patient: str) -> None:
    """The full validator finds no error against Bundle-uv-ips, and so against every profile that it asks for."""
    bundle = await summary(context, f"Patient/{patient}/$summary")
    ips = "http://hl7.org/fhir/uv/ips/StructureDefinition"
    faults = [i for i in validate(bundle, guide(), profiles=[f"{ips}/Bundle-uv-ips"]) if i.severity == "error"]
    assert [(issue.expression, issue.text) for issue in faults] == []
    broken = validate({**bundle, "entry": [_without_texts(bundle["entry"][0]), *bundle["entry"][1:]]}, guide())
    assert any(issue.severity == "error" and "text" in str(issue.expression) + issue.text for issue in broken)
    for kind in (
        "Condition",
        "AllergyIntolerance",
        "MedicationStatement",
        "Immunization",
        "Procedure",
        "Patient",
        "DiagnosticReport",
        "DeviceUseStatement",
        "Medication",
        "Organization",
        "Practitioner",
    ):
        for resource in (row for row in entries(bundle).values() if row["resourceType"] == kind):
            own = validate(resource, guide(), profiles=[f"{ips}/{kind}-uv-ips"])
            assert [issue.text for issue in own if issue.severity == "error"] == [], resource["id"]


@pytest.mark.slow
@pytest.mark.skipif(not GUIDES, reason="the package hl7.fhir.uv.ips is not at hand (FHIR_GUIDES)")
async def test_summaries_of_the_hospital_fit(store: Store) -> None:
    """What the generator makes of whole lives becomes summaries without a fault."""
    made = context_on(store)
    await load_hospital(Direct(made), 2)
    for row in content(await ask(made, "GET", "Patient"))["entry"]:
        bundle = await summary(made, f"Patient/{row['resource']['id']}/$summary")
        assert len(bundle["entry"]) > 10
        assert [issue.text for issue in validate(bundle, guide()) if issue.severity == "error"] == []


def _without_texts(row: Any) -> Any:
    """The Composition without what only the profile asks for: the proof that the profile is looked at."""
    sections = [{key: value for key, value in each.items() if key != "text"} for each in row["resource"]["section"]]
    return {**row, "resource": {**row["resource"], "section": sections}}


async def test_forms_of_a_call(context: Context) -> None:
    """By instance or identifier, with the profile, by GET and POST."""
    token = quote("http://x|1")
    profile = "http://hl7.org/fhir/uv/ips/StructureDefinition/Composition-uv-ips"
    for url in (f"Patient/$summary?identifier={token}", f"Patient/ada/$summary?profile={profile}|2.0.0"):
        assert "Condition/live" in entries(await summary(context, url))
    rows = [{"name": "identifier", "valueString": "http://x|1"}, {"name": "profile", "valueCanonical": profile}]
    answer = await ask(context, "POST", "Patient/$summary", {"resourceType": "Parameters", "parameter": rows})
    assert "Condition/live" in entries(content(answer))


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("Patient/none/$summary", 404, "Patient/none is not known."),
        ("Patient/$summary", 400, "$summary needs an instance or the parameter identifier."),
        ("Patient/$summary?identifier=zz", 404, "No patient has the identifier zz."),
        (f"Patient/$summary?identifier={quote('http://x|2')}", 412, "Several patients have the identifier http://x|2."),
        ("Patient/ada/$summary?identifier=1", 400, "An instance goes without an identifier."),
        ("Patient/ada/$summary?profile=http://x/p", 400, "profile=http://x/p is not supported; supported is "),
        ("Patient/ada/$summary?shoes=1", 400, "$summary has no parameter shoes; it has identifier, profile."),
        ("Condition/live/$summary", 400, "$summary is not offered here"),
    ],
)
async def test_bad_calls(context: Context, url: str, status: int, told: str) -> None:
    """Each fault names what is wrong."""
    answer = await ask(context, "GET", url)
    assert (answer.status, text_of(answer)[: len(told)]) == (status, told)


async def test_the_gate(store: Store) -> None:
    """Types that are not granted are withheld, other patients' summaries do not exist, hidden elements are masked."""
    hospital = await open_hospital(store)
    app = hospital.app()
    assert (await hospital.ask(app, "GET", "Patient/P2/$summary")).status == 404
    mine: Any = parse((await hospital.ask(app, "GET", "Patient/P1/$summary")).body)
    assert not {"Patient/P2", "Observation/o2"} & entries(mine).keys()
    assert {"Observation/mix", "Condition/c1"} <= entries(mine).keys(), "o1 has the code of mix and is older"
    narrow = hospital.app("patient/Patient.rs patient/Condition.rs")
    found = sections(parse((await hospital.ask(narrow, "GET", "Patient/P1/$summary")).body))
    assert found["48765-2"]["emptyReason"]["coding"][0]["code"] == "withheld"
    assert found["11450-4"]["entry"] == [{"reference": f"{BASE}/Condition/c1"}]
    assert "30954-2" not in found
    assert (await hospital.ask(hospital.app("patient/Condition.rs"), "GET", "Patient/P1/$summary")).status == 403
    nurse: Any = parse((await hospital.ask(hospital.nurse, "GET", "Patient/P1/$summary")).body)
    assert "Observation/r1" not in entries(nurse)
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    answer = await hospital.ask(tech, "GET", "Patient/P1/$summary")
    assert answer.status == 200
    assert b"telecom" not in answer.body
