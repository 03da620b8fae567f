"""What is written when a patient is first registered: the Patient, family, cover, consents and standing records."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from seed.chart import Chart, practitioner
from seed.codes import ALLERGIES, FAMILY_DISEASES, SYSTEMS
from seed.elements import HL7, ICD10, LOINC, Json, coding, concept, hl7, identifier, narrative, period
from seed.hospital import HOSPITAL, INSURERS
from seed.people import address, human_names, person, telecom
from seed.site import ZONE

MARITAL = (("M", "Married"), ("S", "Never Married"), ("D", "Divorced"), ("W", "Widowed"))
SEVERITY = {"high": "severe", "low": "mild"}


def register(chart: Chart, day: date) -> None:
    """Write the patient's registration on the day."""
    _patient(chart)
    _duplicate(chart)
    _relative(chart, day)
    _coverage(chart, day)
    _consent(chart, day)
    _allergies(chart, day)
    _family_history(chart, day)
    _team(chart, day)
    if chart.chronic and chart.age(day) > 60:
        _device(chart, day)


def _patient(chart: Chart) -> None:
    who, rng = chart.who, chart.rng
    maiden = rng.choice(who.culture.family)[0] if who.gender == "female" and chart.chance(0.2) else None
    birth_place = {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
        "valueAddress": {"country": "US"},
    }
    chart.add(
        "Patient",
        text=narrative(f"{who.display}, born {who.birth}"),
        extension=[birth_place] if chart.chance(0.3) else None,
        identifier=[
            identifier("mrn", str(10_000_000 + chart.number), "MR"),
            identifier("http://hl7.org/fhir/sid/us-ssn", f"999-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}", "SS"),
        ],
        active=True,
        name=human_names(who, maiden),
        telecom=telecom(rng, f"{chart.id}@mail.example.org"),
        gender=who.gender,
        birthDate=who.birth,
        deceasedDateTime=chart.died,
        address=[address(rng)] + ([{**address(rng), "use": "old"}] if chart.chance(0.15) else []),
        maritalStatus=_marital(chart),
        contact=_contact(chart),
        communication=_languages(chart),
        generalPractitioner=[practitioner(chart, chart.home)],
        managingOrganization=chart.site.ref("Organization", "hospital", HOSPITAL),
    )


def _marital(chart: Chart) -> Json | None:
    code, display = chart.rng.choice(MARITAL)
    adult = chart.age(chart.site.as_of.date()) >= 18
    return hl7("v3-MaritalStatus", code, display) if adult else None


def _contact(chart: Chart) -> list[Json]:
    kin = person(chart.rng, (1945, 1990), chart.who.family, chart.who.culture)
    relationship = [hl7("v2-0131", "N", "Next-of-Kin")]
    row = {"relationship": relationship, "name": human_names(kin)[0], "telecom": telecom(chart.rng)}
    return [row | {"gender": kin.gender}]


def _languages(chart: Chart) -> list[Json]:
    culture = chart.who.culture
    own = {"language": concept("urn:ietf:bcp:47", culture.language, culture.language_name), "preferred": True}
    english = {"language": concept("urn:ietf:bcp:47", "en", "English")}
    return [own] if culture.language == "en" else [own, english]


def _duplicate(chart: Chart) -> None:
    """One patient in twenty was registered twice: the second record is inactive and points at the first."""
    if chart.number % 20:
        return
    chart.resources.append(
        {
            "resourceType": "Patient",
            "id": f"{chart.id}-duplicate",
            "identifier": [identifier("mrn", str(90_000_000 + chart.number), "MR")],
            "active": False,
            "name": [human_names(chart.who)[0]],
            "gender": chart.who.gender,
            "birthDate": chart.who.birth,
            "link": [{"other": chart.patient, "type": "replaced-by"}],
        }
    )


def _relative(chart: Chart, day: date) -> None:
    child = chart.age(day) < 18
    kin = person(chart.rng, (1965, 1985), chart.who.family, chart.who.culture)
    role = ("MTH" if kin.gender == "female" else "FTH") if child else "SPS"
    if not child and chart.chance(0.4):
        return
    chart.known["relative"] = chart.add(
        "RelatedPerson",
        active=True,
        patient=chart.patient,
        relationship=[hl7("v3-RoleCode", role)],
        name=human_names(kin),
        telecom=telecom(chart.rng),
        gender=kin.gender,
        birthDate=kin.birth,
        period=period(day),
    )


def _coverage(chart: Chart, day: date) -> None:
    insurer = chart.rng.choice(list(INSURERS))
    chart.known["insurer"] = chart.site.ref("Organization", insurer, INSURERS[insurer])
    chart.known["coverage"] = chart.add(
        "Coverage",
        identifier=[identifier("members", f"M{10_000_000 + chart.number}", "MB")],
        status="active",
        type=hl7("v3-ActCode", "EHCPOL", "extended healthcare"),
        subscriberId=f"M{10_000_000 + chart.number}",
        beneficiary=chart.patient,
        relationship=hl7("subscriber-relationship", "self", "Self"),
        period=period(date(day.year, 1, 1), date(chart.site.as_of.year, 12, 31)),
        payor=[chart.known["insurer"]],
        class_=[{"type": hl7("coverage-class", "plan", "Plan"), "value": "PPO", "name": "Preferred provider"}],
    )


def _consent(chart: Chart, day: date) -> None:
    chart.add(
        "Consent",
        status="active",
        scope=hl7("consentscope", "patient-privacy", "Privacy Consent"),
        category=[concept(LOINC, "59284-0", "Consent Document")],
        patient=chart.patient,
        dateTime=datetime.combine(day, time(9), ZONE),
        performer=[chart.known.get("relative", chart.patient)],
        organization=[chart.site.ref("Organization", "hospital", HOSPITAL)],
        policyRule=hl7("v3-ActCode", "OPTIN", "opt-in"),
        provision={"type": "permit", "purpose": [coding(HL7 + "v3-ActReason", "TREAT", "treatment")]},
    )


def _allergies(chart: Chart, day: date) -> None:
    for what, code, category, criticality, reaction in chart.rng.sample(ALLERGIES, chart.rng.choice((0, 0, 1, 1, 2))):
        chart.add(
            "AllergyIntolerance",
            clinicalStatus=hl7("allergyintolerance-clinical", "active", "Active"),
            verificationStatus=hl7("allergyintolerance-verification", "confirmed", "Confirmed"),
            type="allergy",
            category=[category],
            criticality=criticality,
            code=concept(SYSTEMS[code[0]], code[1], what) if code else {"text": what},
            patient=chart.patient,
            recordedDate=datetime.combine(day, time(9, 5), ZONE),
            recorder=practitioner(chart, chart.home),
            reaction=[{"manifestation": [{"text": reaction}], "severity": SEVERITY[criticality]}],
        )


def _family_history(chart: Chart, day: date) -> None:
    if not chart.chance(0.5):
        return
    code, display = chart.rng.choice(FAMILY_DISEASES)
    chart.add(
        "FamilyMemberHistory",
        status="completed",
        patient=chart.patient,
        date=day,
        relationship=hl7("v3-RoleCode", "MTH", "mother"),
        sex=concept("http://hl7.org/fhir/administrative-gender", "female", "Female"),
        condition=[{"code": concept(ICD10, code, display), "onsetAge": _years(chart.rng.randint(40, 70))}],
    )


def _years(value: int) -> Json:
    return {"value": value, "unit": "years", "system": "http://unitsofmeasure.org", "code": "a"}


def _team(chart: Chart, day: date) -> None:
    chart.known["team"] = chart.add(
        "CareTeam",
        status="active",
        name=f"Care team of {chart.id}",
        subject=chart.patient,
        period=period(day),
        participant=[
            {"role": [{"text": "General practitioner"}], "member": practitioner(chart, chart.home)},
            {"role": [{"text": "Patient"}], "member": chart.patient},
        ],
        managingOrganization=[chart.site.ref("Organization", "hospital", HOSPITAL)],
    )


def _device(chart: Chart, day: date) -> None:
    serial = f"SN-{chart.number:06d}"
    chart.known["device"] = chart.add(
        "Device",
        identifier=[identifier("devices", serial, "SNO")],
        status="active",
        manufacturer="Example Medical Devices",
        manufactureDate=day - timedelta(days=200),
        serialNumber=serial,
        deviceName=[{"name": "Upper arm blood pressure monitor", "type": "user-friendly-name"}],
        type={"text": "Blood pressure monitor"},
        patient=chart.patient,
        owner=chart.site.ref("Organization", "hospital", HOSPITAL),
    )
