"""Constructors of FHIR datatypes as plain JSON values (http://hl7.org/fhir/R4/datatypes.html)."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ATC = "http://www.whocc.no/atc"
CURRENCY = "USD"
CVX = "http://hl7.org/fhir/sid/cvx"
HL7 = "http://terminology.hl7.org/CodeSystem/"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
ICD10PCS = "http://www.cms.gov/Medicare/Coding/ICD10"
LOINC = "http://loinc.org"
NUCC = "http://nucc.org/provider-taxonomy"
SITE = "http://hospital.example.org/"
UCUM = "http://unitsofmeasure.org"


def coding(system: str, code: str, display: str | None = None) -> Json:
    """A Coding."""
    return present({"system": system, "code": code, "display": display})


def concept(system: str, code: str, display: str | None = None) -> Json:
    """A CodeableConcept of one Coding whose text is its display."""
    return present({"coding": [coding(system, code, display)], "text": display})


def hl7(table: str, code: str, display: str | None = None) -> Json:
    """A CodeableConcept from one of HL7's own code systems, such as `condition-clinical`."""
    return {"coding": [coding(HL7 + table, code, display)]}


def identifier(system: str, value: str, type_code: str | None = None) -> Json:
    """An Identifier in one of the hospital's own systems, or in the absolute system given."""
    kind = hl7("v2-0203", type_code) if type_code else None
    return present({"use": "official", "type": kind, "system": absolute(system), "value": value})


def absolute(system: str) -> str:
    """The system itself when it is a URL, else a system of the hospital."""
    return system if ":" in system else SITE + system


def quantity(value: Decimal | int, code: str, unit: str | None = None) -> Json:
    """A Quantity in UCUM."""
    return {"value": value, "unit": unit or code, "system": UCUM, "code": code}


def money(value: Decimal) -> Json:
    """A Money amount."""
    return {"value": value, "currency": CURRENCY}


def period(start: date | datetime, end: date | datetime | None = None) -> Json:
    """A Period; open without an end."""
    return present({"start": start, "end": end})


def ref(target: str, display: str | None = None) -> Json:
    """A Reference to `Type/id`."""
    return present({"reference": target, "display": display})


def narrative(text: str) -> Json:
    """A generated Narrative of one paragraph."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escaped}</p></div>'}


def decimal(value: float, digits: int) -> Decimal:
    """The number with so many digits after the point, trailing zeros kept."""
    return Decimal(f"{value:.{digits}f}")


def present(row: Json) -> Json:
    """The row without its empty values: FHIR JSON has neither null nor empty arrays."""
    return {key: value for key, value in row.items() if value is not None and value != [] and value != {}}


def plain(value: Any) -> Any:
    """The value with dates and instants as FHIR writes them."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value.isoformat() if isinstance(value, date) else value
