"""Consents in every way they can be written, on each access; what cannot be decided counts for the patient."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access import consents
from fhir_server.access.gate import Gate
from fhir_server.auth.wiring import directory_of
from tests.hospital import Hospital, condition, observation, reference, status
from tests.shell import BASE

pytestmark = pytest.mark.anyio
NORA = reference("Practitioner/N1")
NURSE = {"role": {"text": "nurse"}, "reference": NORA}
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
DIABETES = {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}


def consent(provision: Any = None, rule: str = "OPTIN", **more: Any) -> dict[str, Any]:
    made = {
        "resourceType": "Consent",
        "id": "k",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"text": "x"}],
        "patient": reference("Patient/P2"),
        "policyRule": {"coding": [{"code": rule}]},
        **more,
    }
    return made | ({"provision": provision} if provision else {})


async def sees(hospital: Hospital, caller: Any, name: str = "Condition/c2") -> bool:
    """Whether a read and a search agree that it is there."""
    read = (await hospital.ask(caller, "GET", name)).status
    kind, _, id = name.partition("/")
    found = await hospital.ids(caller, f"{kind}?_id={id}")
    assert (read == 200) is (found == {name})
    assert read in (200, 404)
    return read == 200


async def store(hospital: Hospital, *consents: dict[str, Any]) -> None:
    for each in consents:
        answer = await hospital.ask(hospital.admin, "PUT", f"Consent/{each['id']}", each)
        assert answer.status in (200, 201), answer.body
    await hospital.gate.refresh()


def deny(**more: Any) -> dict[str, Any]:
    return {"type": "deny", **more}


# Consent, and whether it keeps a nurse from Condition/c2 of P2.
CONSENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "deny all": (consent(deny()), True),
    "opt out": (consent(rule="OPTOUT"), True),
    "opt out, emergencies only": (consent(rule="EMRGONLY"), True),
    "opt in": (consent(), False),
    "a draft": (consent(deny(), status="draft"), False),
    "rejected": (consent(deny(), status="rejected"), False),
    "over": (consent(deny(period={"end": "2020-01-01"})), False),
    "not yet": (consent(deny(period={"start": "2099"})), False),
    "in force": (consent(deny(period={"start": "2020", "end": "2099-12-31T00:00:00+02:00"})), True),
    "for research": (consent(deny(), scope={"coding": [{"code": "research"}]}), False),
    "of another patient": (consent(deny(), patient=reference("Patient/P1")), False),
    "an absolute patient": (consent(deny(), patient=reference(f"{BASE}/Patient/P2")), True),
    "a version of the patient": (consent(deny(), patient=reference("Patient/P2/_history/1")), True),
    "for the nurse": (consent(deny(actor=[NURSE])), True),
    "for the nurse by an absolute address": (
        consent(deny(actor=[NURSE | {"reference": reference(f"{BASE}/Practitioner/N1")}])),
        True,
    ),
    "for the nurse, who is contained": (
        consent(
            deny(actor=[NURSE | {"reference": {"identifier": {"value": "n1"}}}]),
        ),
        True,
    ),
    "for another nurse": (consent(deny(actor=[NURSE | {"reference": reference("Practitioner/N2")}])), False),
    "for marketing": (consent(deny(purpose=[{"code": "HMARKT"}])), False),
    "for treatment": (consent(deny(purpose=[{"code": "TREAT"}])), True),
    "to correct": (consent(deny(action=[{"coding": [{"code": "correct"}]}])), False),
    "to access": (consent(deny(action=[{"coding": [{"code": "access"}]}])), True),
    "conditions": (consent(deny(**{"class": [{"system": RESOURCE_TYPES, "code": "Condition"}]})), True),
    "observations": (consent(deny(**{"class": [{"system": RESOURCE_TYPES, "code": "Observation"}]})), False),
    "a class nobody can tell": (consent(deny(**{"class": [{"system": "urn:x", "code": "y"}]})), True),
    "diabetes": (consent(deny(code=[DIABETES])), True),
    "asthma": (consent(deny(code=[{"coding": [{"system": "http://snomed.info/sct", "code": "195967001"}]}])), False),
    "a label": (consent(deny(securityLabel=[{"system": "http://x", "code": "blue"}])), True),
    "another label": (consent(deny(securityLabel=[{"system": "http://x", "code": "red"}])), False),
    "this resource": (consent(deny(data=[{"meaning": "instance", "reference": reference("Condition/c2")}])), True),
    "another resource": (consent(deny(data=[{"meaning": "instance", "reference": reference("Condition/c9")}])), False),
    "out, but conditions in": (
        consent(
            {"provision": [{"type": "permit", "class": [{"system": RESOURCE_TYPES, "code": "Condition"}]}]}, "OPTOUT"
        ),
        False,
    ),
    "out, but observations in": (
        consent(
            {"provision": [{"type": "permit", "class": [{"system": RESOURCE_TYPES, "code": "Observation"}]}]}, "OPTOUT"
        ),
        True,
    ),
    "out, and a permit at the root for the nurse": (consent({"type": "permit", "actor": [NURSE]}, "OPTOUT"), False),
    "out, and a permit at the root for another": (
        consent({"type": "permit", "actor": [NURSE | {"reference": reference("Practitioner/N2")}]}, "OPTOUT"),
        True,
    ),
    "out, and a permit for somebody unknown": (
        consent({"provision": [{"type": "permit", "actor": [NURSE | {"reference": {"display": "?"}}]}]}, "OPTOUT"),
        True,
    ),
    "in, but conditions out": (consent({"provision": [deny(code=[DIABETES])]}), True),
    "in, diabetes out, but for the nurse": (
        consent({"provision": [deny(code=[DIABETES], provision=[{"type": "permit", "actor": [NURSE]}])]}),
        False,
    ),
    "in, diabetes out, but for another": (
        consent(
            {
                "provision": [
                    deny(
                        code=[DIABETES],
                        provision=[{"type": "permit", "actor": [NURSE | {"reference": reference("Practitioner/N2")}]}],
                    )
                ]
            }
        ),
        True,
    ),
}


@pytest.mark.parametrize("name", CONSENTS)
async def test_what_a_consent_keeps_from_a_nurse(hospital: Hospital, name: str) -> None:
    """Read and search agree with the consent; P1, the patient and an emergency are as before."""
    body = condition("c2", "Patient/P2", code=DIABETES, meta={"security": [{"system": "http://x", "code": "blue"}]})
    await hospital.ask(hospital.admin, "PUT", "Condition/c2", body)
    given, denied = CONSENTS[name]
    await store(hospital, given)
    assert await sees(hospital, hospital.nurse) is not denied
    assert await sees(hospital, hospital.patient(patient="P2"))
    if given["patient"] != reference("Patient/P1"):
        assert await sees(hospital, hospital.nurse, "Condition/c1")


HIV = {"coding": [{"system": "http://snomed.info/sct", "code": "86406008"}]}
OTHER = {"coding": [{"system": "http://snomed.info/sct", "code": "999"}]}
WORDS = {"text": "HIV"}
IN_2020 = {"start": "2020-01-01", "end": "2020-12-31"}


def about(kind: str, **more: Any) -> dict[str, Any]:
    """A resource of P2 with id x."""
    return {"resourceType": kind, "id": "x", "subject": reference("Patient/P2"), **more}


def observed(**more: Any) -> dict[str, Any]:
    return observation("x", "Patient/P2", **more)


def prescribed(**more: Any) -> dict[str, Any]:
    return about("MedicationRequest", status="active", intent="order", medicationCodeableConcept=OTHER, **more)


def reported(**more: Any) -> dict[str, Any]:
    return about("DiagnosticReport", status="final", code=OTHER, **more)


def data(name: str, meaning: str) -> dict[str, Any]:
    return {"data": [{"meaning": meaning, "reference": reference(name)}]}


def but(**more: Any) -> dict[str, Any]:
    """A denial with an exception."""
    return {"provision": [{"type": "permit", **more}]}


AT_E2 = {"encounter": reference("Encounter/e2")}
# What is stored, what is denied, and whether that keeps a nurse from it.
DENIALS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "of 2020, without a date": (observed(), {"dataPeriod": IN_2020}, True),
    "of 2020": (observed(effectiveDateTime="2020-06-01"), {"dataPeriod": IN_2020}, True),
    "of 2021": (observed(effectiveDateTime="2021-06-01"), {"dataPeriod": IN_2020}, False),
    "of 2019": (observed(effectivePeriod={"start": "2018", "end": "2019"}), {"dataPeriod": IN_2020}, False),
    "of 2019 until some day": (observed(effectivePeriod={"start": "2019"}), {"dataPeriod": IN_2020}, True),
    "every day": (observed(effectiveTiming={"repeat": {"frequency": 1}}), {"dataPeriod": IN_2020}, True),
    "since 2020, in 2019": (observed(effectiveDateTime="2019-06-01"), {"dataPeriod": {"start": "2020"}}, False),
    "a procedure without a date": (about("Procedure", status="completed"), {"dataPeriod": IN_2020}, True),
    "prescribed in 2020": (prescribed(authoredOn="2020-06-01"), {"dataPeriod": IN_2020}, True),
    "prescribed in 2021": (prescribed(authoredOn="2021-06-01"), {"dataPeriod": IN_2020}, False),
    "prescribed some day": (prescribed(), {"dataPeriod": IN_2020}, True),
    "reported of 2020": (
        reported(effectiveDateTime="2020-06-01", issued="2021-01-01T00:00:00Z"),
        {"dataPeriod": IN_2020},
        True,
    ),
    "reported in 2020": (
        reported(effectiveDateTime="2019-12-31", issued="2020-01-02T00:00:00Z"),
        {"dataPeriod": IN_2020},
        True,
    ),
    "all, but of 2020": (observed(effectiveDateTime="2020-06-01"), but(dataPeriod=IN_2020), False),
    "all, but of 2020, and without a date": (observed(), but(dataPeriod=IN_2020), True),
    "what refers to it": (observed(**AT_E2), data("Encounter/e2", "dependents"), True),
    "what it refers to": (observed(), data("List/l2", "related"), True),
    "what somebody wrote": (observed(), data("Practitioner/D1", "authoredby"), True),
    "the visit alone": (observed(**AT_E2), data("Encounter/e2", "instance"), False),
    "something that has no address": (observed(), data("#inside", "instance"), True),
    "all, but what refers to it": (observed(**AT_E2), but(**data("Encounter/e2", "dependents")), True),
    "all, but it and what refers to it": (observed(), but(**data("Observation/x", "dependents")), False),
    "a code": (about("Condition", code=HIV), {"code": [HIV]}, True),
    "a code as a value": (observed(valueCodeableConcept=HIV), {"code": [HIV]}, True),
    "a code as a component's value": (
        observed(component=[{"code": OTHER, "valueCodeableConcept": HIV}]),
        {"code": [HIV]},
        True,
    ),
    "a code as a conclusion": (reported(conclusionCode=[HIV]), {"code": [HIV]}, True),
    "a code in a category": (about("Condition", category=[HIV]), {"code": [HIV]}, True),
    "a code that is not there": (reported(conclusionCode=[OTHER]), {"code": [HIV]}, False),
    "words": (observed(), {"code": [WORDS]}, True),
    "words or a code": (observed(), {"code": [WORDS, OTHER]}, True),
    "all, but words or a code": (about("Condition", code=OTHER), but(code=[WORDS, OTHER]), False),
    "all, but words or another code": (about("Condition", code=HIV), but(code=[WORDS, OTHER]), True),
    "a purpose in words": (observed(), {"purpose": [{"display": "Treatment"}]}, True),
    "an action in words": (observed(), {"action": [{"text": "read"}, {"coding": [{"code": "correct"}]}]}, True),
    "all, but an action in words": (observed(), but(action=[{"text": "read"}]), True),
    "somebody contained": (observed(), {"actor": [NURSE | {"reference": reference("#n")}]}, True),
    "conditions and something": (
        observed(),
        {"class": [{"system": RESOURCE_TYPES, "code": "Condition"}, {"system": RESOURCE_TYPES}]},
        True,
    ),
}


@pytest.mark.parametrize("name", DENIALS)
async def test_what_cannot_be_decided_counts_for_the_patient(hospital: Hospital, name: str) -> None:
    """A denial holds where nothing says that it does not, an exception only where it surely does."""
    given, provision, denied = DENIALS[name]
    found = f"{given['resourceType']}/x"
    assert (await hospital.ask(hospital.admin, "PUT", found, given)).status == 201
    assert await sees(hospital, hospital.nurse, found)
    inside = ({"resourceType": "Practitioner", "id": "n"}, {"resourceType": "Basic", "id": "inside", "code": WORDS})
    held = [each for each in inside if f"#{each['id']}" in str(provision)]
    await store(hospital, consent(deny(**provision), **({"contained": held} if held else {})))
    assert await sees(hospital, hospital.nurse, found) is not denied
    assert await sees(hospital, hospital.nurse, "Condition/c1")


async def test_one_denial_among_several_consents_holds(hospital: Hospital) -> None:
    """A second consent that permits takes no denial away; revoking the denial does."""
    no, yes = consent(deny(actor=[NURSE])), consent(rule="OPTIN") | {"id": "yes"}
    await store(hospital, no, yes)
    assert not await sees(hospital, hospital.nurse)
    await store(hospital, no | {"status": "inactive"})
    assert await sees(hospital, hospital.nurse)


MRN = {"system": "http://x.example/mrn", "value": "2|2"}


@pytest.mark.parametrize(
    ("identifier", "denied"), [(MRN, True), ({"value": "2|2"}, True), (MRN | {"value": "3"}, False)]
)
async def test_a_patient_who_is_named_by_identifier(
    hospital: Hospital, identifier: dict[str, Any], denied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logical reference means who has the identifier, given before or later, and nobody else."""
    monkeypatch.setattr(consents, "NAMED_FOR", 0.0)
    await store(hospital, consent(deny(), patient={"identifier": identifier}))
    assert await sees(hospital, hospital.nurse)
    for id, number in (("P1", "1"), ("P2", "2|2")):
        patient = {"resourceType": "Patient", "id": id, "identifier": [MRN | {"value": number}]}
        assert await status(hospital, hospital.doctor, "PUT", f"Patient/{id}", patient) == 200
    hospital.gate.stale()
    await hospital.gate.refresh()
    assert await sees(hospital, hospital.nurse) is not denied
    assert await sees(hospital, hospital.nurse, "Condition/c1")
    await store(hospital, consent(deny(), patient={"identifier": identifier}, status="inactive"))
    assert await sees(hospital, hospital.nurse)


async def test_an_erased_consent_holds_no_longer(hospital: Hospital) -> None:
    """On every worker, whether it was active or deleted before; others stay in force."""
    gate = Gate(hospital.gate.realm, hospital.context.store, hospital.gate.registry, BASE)  # of another worker
    other = consent(deny(actor=[NURSE]), patient=reference("Patient/P1")) | {"id": "other"}
    await store(hospital, consent(deny(actor=[NURSE])), other)
    for each in (hospital, Hospital(hospital.context, gate)):
        await each.gate.refresh()
        assert not await sees(each, each.nurse)
    erase = {"resourceType": "Parameters", "parameter": [{"name": "expungeEverything", "valueBoolean": True}]}
    assert await status(hospital, hospital.admin, "POST", "Consent/k/$expunge", erase) == 200
    gate.stale()
    for each in (hospital, Hospital(hospital.context, gate)):
        await each.gate.refresh()
        assert await sees(each, each.nurse)
        assert not await sees(each, each.nurse, "Condition/c1")


async def test_a_consent_holds_on_writes_and_joins(hospital: Hospital) -> None:
    """Under a denial an update, a patch, a delete, an include and a chain do not reach the record either."""
    await store(hospital, consent(deny(actor=[NURSE])))
    nurse = hospital.nurse
    assert (await hospital.ask(nurse, "PUT", "Encounter/e2", {"resourceType": "Encounter", "id": "e2"})).status != 200
    assert (await hospital.ask(nurse, "GET", "Patient/P2/$everything")).status == 404
    assert (await hospital.ask(nurse, "GET", "Condition/c2/_history/1")).status == 404
    assert await hospital.ids(nurse, "Observation?_id=mix&_include=*") == {"Observation/mix", "Patient/P1"}
    assert await hospital.ids(nurse, "Practitioner?_has:Observation:performer:code=b") == set()
    assert await hospital.ids(hospital.doctor, "Practitioner?_has:Observation:performer:code=b") == {"Practitioner/D1"}


async def test_an_actor_that_the_caller_belongs_to(hospital: Hospital) -> None:
    """A denial for an organization, a role, a team or a group holds for its people, and for nobody else."""
    root = hospital.admin
    role = {
        "resourceType": "PractitionerRole",
        "id": "r",
        "practitioner": NORA,
        "organization": reference("Organization/org"),
    }
    team = {"resourceType": "CareTeam", "id": "t", "participant": [{"member": NORA}]}
    group = {"resourceType": "Group", "id": "ng", "type": "practitioner", "actual": True, "member": [{"entity": NORA}]}
    for each in (role, team, group):
        assert (await hospital.ask(root, "PUT", f"{each['resourceType']}/{each['id']}", each)).status == 201
    for name in ("PractitionerRole/r", "Organization/org", "CareTeam/t", "Group/ng"):
        await store(hospital, consent(deny(actor=[NURSE | {"reference": reference(name)}])))
        assert not await sees(hospital, await hospital.gate.related(hospital.nurse)), name
        assert await sees(hospital, await hospital.gate.related(hospital.doctor)), name


async def test_the_picker_of_patients_keeps_consents(hospital: Hospital) -> None:
    """Whom a consent denies, by name or by the organization they work for, is not shown the patient at a login."""
    role = {"resourceType": "PractitionerRole", "id": "R", "practitioner": NORA}
    await store(hospital, consent(deny(actor=[NURSE | {"reference": reference("Organization/org")}])))
    answer = await hospital.ask(
        hospital.admin, "PUT", "PractitionerRole/R", role | {"organization": reference("Organization/org")}
    )
    assert answer.status == 201

    async def shown(caller: Any) -> set[str]:
        gate = Gate(hospital.gate.realm, hospital.context.store, hospital.gate.registry, BASE)  # of another worker
        rows = await directory_of(gate, hospital.context)(caller.principal, "patient", "", {})
        return {row.id for row in rows}

    assert await shown(hospital.nurse) == {"P1"}
    assert await shown(hospital.doctor) == {"P1", "P2"}
    await store(hospital, consent(deny(actor=[{"role": {"text": "x"}, "reference": reference("Practitioner/D1")}])))
    assert await shown(hospital.doctor) == {"P1"}
    assert await shown(hospital.nurse) == {"P1", "P2"}
