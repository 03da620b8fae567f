"""The hospital itself: organizations, places, staff, services, schedules, formulary, forms and the quality measure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from seed.codes import DRUGS, SPECIALTIES
from seed.elements import ATC, HL7, NUCC, SITE, Json, coding, concept, hl7, identifier
from seed.people import address, human_names, telecom
from seed.site import BEDS_PER_ROOM, CLOSES, OPENS, WARDS, Doctor, Site

INSURERS = {"insurer-1": "Prairie Health Plan", "insurer-2": "Great Lakes Mutual", "insurer-3": "Badger Care Fund"}
DEPARTMENTS = {"laboratory": "Clinical Laboratory", "pharmacy": "Hospital Pharmacy", "billing": "Patient Accounts"}
HOSPITAL = "Lakeside General Hospital"
OPEN_DAYS = 14


def hospital(rng: Random, site: Site) -> list[Json]:
    """Every resource that does not belong to one patient, in dependency order."""
    parts = (
        _organizations(rng, site),
        _locations(rng, site),
        _services(site),
        (row for doctor in site.doctors for row in _staff(rng, site, doctor)),
        _formulary(site),
        _forms(site),
    )
    return [row for part in parts for row in part]


def _organizations(rng: Random, site: Site) -> Iterator[Json]:
    yield _organization(rng, site, "hospital", HOSPITAL, "prov", None)
    for key, name in DEPARTMENTS.items():
        yield _organization(rng, site, key, name, "dept", "hospital")
    for key, name in INSURERS.items():
        yield _organization(rng, site, key, name, "ins", None)


def _organization(rng: Random, site: Site, key: str, name: str, kind: str, parent: str | None) -> Json:
    row = {
        "resourceType": "Organization",
        "id": site.tag + key,
        "identifier": [identifier("organizations", key.upper())],
        "active": True,
        "type": [hl7("organization-type", kind)],
        "name": name,
        "telecom": telecom(rng, f"{key}@hospital.example.org", "work"),
        "address": [{**address(rng), "use": "work"}],
    }
    return row | ({"partOf": site.ref("Organization", parent)} if parent else {})


def _locations(rng: Random, site: Site) -> Iterator[Json]:
    yield _location(site, "building", "Main building", "bu", "BU", None) | {
        "position": {"longitude": Decimal("-89.4012"), "latitude": Decimal("43.0731"), "altitude": Decimal("263.5")},
        "address": {**address(rng), "use": "work"},
        "telecom": telecom(rng, None, "work"),
    }
    for key, name, rooms in WARDS:
        yield _location(site, key, name, "wa", "HU", "building")
        for room in range(1, rooms + 1):
            yield from _room(site, key, room)
    for key, (_, _, name) in SPECIALTIES.items():
        yield _location(site, f"{key}-clinic", f"{name} clinic", "ro", "OF", "building")


def _room(site: Site, ward: str, room: int) -> Iterator[Json]:
    yield _location(site, f"{ward}-room-{room}", f"Room {room}", "ro", "HOSP", ward)
    for bed in range(1, BEDS_PER_ROOM + 1):
        row = _location(site, f"{ward}-bed-{room}-{bed}", f"Bed {room}.{bed}", "bd", "HOSP", f"{ward}-room-{room}")
        yield row | {"operationalStatus": coding(HL7 + "v2-0116", "U", "Unoccupied")}


def _location(site: Site, key: str, name: str, form: str, kind: str, parent: str | None) -> Json:
    row = {
        "resourceType": "Location",
        "id": site.tag + key,
        "identifier": [identifier("locations", key.upper())],
        "status": "active",
        "name": name,
        "mode": "instance",
        "type": [hl7("v3-RoleCode", kind)],
        "physicalType": hl7("location-physical-type", form),
        "managingOrganization": site.ref("Organization", "hospital", HOSPITAL),
    }
    return row | ({"partOf": site.ref("Location", parent)} if parent else {})


def _services(site: Site) -> Iterator[Json]:
    for key, (code, display, name) in SPECIALTIES.items():
        yield {
            "resourceType": "HealthcareService",
            "id": f"{site.tag}service-{key}",
            "active": True,
            "providedBy": site.ref("Organization", "hospital", HOSPITAL),
            "specialty": [concept(NUCC, code, display)],
            "location": [site.ref("Location", f"{key}-clinic")],
            "name": name,
            "appointmentRequired": key != "emergency",
            "availableTime": [_hours()],
        }


def _hours() -> Json:
    return {
        "daysOfWeek": ["mon", "tue", "wed", "thu", "fri"],
        "availableStartTime": OPENS.isoformat(),
        "availableEndTime": CLOSES.isoformat(),
    }


def _staff(rng: Random, site: Site, doctor: Doctor) -> Iterator[Json]:
    code, display, name = SPECIALTIES[doctor.specialty]
    practitioner = site.ref("Practitioner", doctor.key, doctor.who.display)
    clinic = site.ref("Location", f"{doctor.specialty}-clinic")
    yield _practitioner(rng, site, doctor)
    yield {
        "resourceType": "PractitionerRole",
        "id": f"{site.tag}role-{doctor.key}",
        "active": True,
        "practitioner": practitioner,
        "organization": site.ref("Organization", "hospital", HOSPITAL),
        "code": [hl7("practitioner-role", "doctor")],
        "specialty": [concept(NUCC, code, display)],
        "location": [clinic],
        "healthcareService": [site.ref("HealthcareService", f"service-{doctor.specialty}")],
        "availableTime": [_hours()],
    }
    yield {
        "resourceType": "Schedule",
        "id": f"{site.tag}schedule-{doctor.key}",
        "active": True,
        "serviceType": [{"text": name}],
        "specialty": [concept(NUCC, code, display)],
        "actor": [practitioner, clinic],
        "planningHorizon": {"start": site.as_of, "end": site.as_of + timedelta(days=OPEN_DAYS)},
    }


def _practitioner(rng: Random, site: Site, doctor: Doctor) -> Json:
    who = doctor.who
    names = human_names(who)
    names[0]["prefix"] = ["Dr."]
    return {
        "resourceType": "Practitioner",
        "id": site.tag + doctor.key,
        "identifier": [identifier("staff", doctor.key.upper(), "EI")],
        "active": True,
        "name": names,
        "telecom": telecom(rng, f"{doctor.key}@hospital.example.org", "work"),
        "gender": who.gender,
        "birthDate": who.birth,
        "qualification": [{"code": hl7("v2-0360", "MD", "Doctor of Medicine")}],
        "communication": [concept("urn:ietf:bcp:47", who.culture.language, who.culture.language_name)],
    }


def _formulary(site: Site) -> Iterator[Json]:
    for key, drug in DRUGS.items():
        yield {
            "resourceType": "Medication",
            "id": f"{site.tag}drug-{key}",
            "code": concept(ATC, drug.code, drug.display),
            "status": "active",
            "form": {"text": drug.form},
        }


def _forms(site: Site) -> Iterator[Json]:
    yield {
        "resourceType": "Questionnaire",
        "id": site.tag + "intake",
        "url": f"{SITE}Questionnaire/{site.tag}intake",
        "name": "Intake",
        "title": "Before your visit",
        "status": "active",
        "subjectType": ["Patient"],
        "date": date(2020, 1, 1),
        "item": [
            {"linkId": "1", "text": "Do you smoke?", "type": "boolean", "required": True},
            {"linkId": "2", "text": "How would you rate your pain from 0 to 10?", "type": "integer"},
            {"linkId": "3", "text": "What brings you here?", "type": "text"},
        ],
    }
    yield {
        "resourceType": "Library",
        "id": site.tag + "pressure-library",
        "url": f"{SITE}Library/{site.tag}pressure",
        "name": "Pressure",
        "status": "active",
        "type": hl7("library-type", "logic-library"),
    }
    yield _measure(site)


def _measure(site: Site) -> Json:
    criteria = {"language": "text/fhirpath"}
    population = [
        ("initial-population", "Patients with hypertension", "Condition.where(code.coding.code = 'I10').exists()"),
        ("denominator", "Of these, with a blood pressure", "Observation.where(code.coding.code = '85354-9').exists()"),
        ("numerator", "Of these, below 140 mm[Hg] systolic", "component.value.value < 140"),
    ]
    return {
        "resourceType": "Measure",
        "id": site.tag + "pressure-control",
        "url": f"{SITE}Measure/{site.tag}pressure-control",
        "name": "PressureControl",
        "title": "Controlled blood pressure in hypertension",
        "status": "active",
        "date": date(2020, 1, 1),
        "library": [f"{SITE}Library/{site.tag}pressure"],
        "scoring": hl7("measure-scoring", "proportion"),
        "improvementNotation": hl7("measure-improvement-notation", "increase"),
        "group": [
            {
                "population": [
                    {
                        "code": hl7("measure-population", code),
                        "description": text,
                        "criteria": {**criteria, "expression": expression},
                    }
                    for code, text, expression in population
                ]
            }
        ],
    }
