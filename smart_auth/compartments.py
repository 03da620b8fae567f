"""Whose data a resource is: the Patient compartment as access formulas, stricter than for searching.

The R4 CompartmentDefinition puts a resource in the compartment of everyone it mentions: the mother who performed an
observation on her child, each member of a group. For access the *subject* owns it; the other parameters count only
where there is no subject. http://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from smart_auth.audit import SEVERAL
from smart_auth.formulas import EVERYTHING, NOTHING, Formula, either, every, negate, where

Codes = Callable[[str], Iterable[str]]

# Types with no data of any patient: readable, never writable, within a patient's context.
SHARED = frozenset(
    [
        "ActivityDefinition",
        "CapabilityStatement",
        "ChargeItemDefinition",
        "CodeSystem",
        "CompartmentDefinition",
        "ConceptMap",
        "DeviceDefinition",
        "Endpoint",
        "EventDefinition",
        "GraphDefinition",
        "HealthcareService",
        "ImplementationGuide",
        "InsurancePlan",
        "Library",
        "Location",
        "Measure",
        "Medication",
        "MedicationKnowledge",
        "MessageDefinition",
        "NamingSystem",
        "ObservationDefinition",
        "OperationDefinition",
        "Organization",
        "OrganizationAffiliation",
        "PlanDefinition",
        "Practitioner",
        "PractitionerRole",
        "Questionnaire",
        "Schedule",
        "SearchParameter",
        "Slot",
        "SpecimenDefinition",
        "StructureDefinition",
        "StructureMap",
        "Substance",
        "TerminologyCapabilities",
        "ValueSet",
    ]
)
# In no compartment of R4, or in one that shows other patients; a parameter that names the owner, or None: never.
OWNER: Mapping[str, str | None] = {
    "Patient": "_id",
    "Device": "patient",
    "Task": "patient",
    "Coverage": "beneficiary",
    "Group": None,
}
# Subject-like parameters, the first that a type's compartment has is the owner.
SUBJECTS = ("patient", "subject")
# The types among those whose owner is mandatory (min 1), so that no other parameter can ever count.
ALWAYS_OWNED = frozenset(
    [
        "AllergyIntolerance",
        "CarePlan",
        "Claim",
        "Condition",
        "ClinicalImpression",
        "DeviceRequest",
        "ExplanationOfBenefit",
        "Immunization",
        "MedicationAdministration",
        "MedicationRequest",
        "MedicationStatement",
        "Procedure",
        "ServiceRequest",
    ]
)


def patient_formula(kind: str, patients: Iterable[str], codes: Codes, *, write: bool = False) -> Formula:
    """What of a type belongs to these patients (ids); `codes(type)` are the type's compartment parameters."""
    ids = tuple(patients)
    if not ids:
        return NOTHING
    if kind in SHARED:
        return NOTHING if write else EVERYTHING
    named = OWNER.get(kind, "")
    if named is None:
        return NOTHING
    value = ",".join(ids if named == "_id" else (f"Patient/{one}" for one in ids))
    if named:
        return where((named, value))
    return _owned(kind, tuple(codes(kind)), value)


def _owned(kind: str, codes: tuple[str, ...], value: str) -> Formula:
    owner = next((name for name in SUBJECTS if name in codes), None)
    if owner is None:
        return either(where((code, value)) for code in codes)
    if kind == "AuditEvent":
        return every([where((owner, value)), negate(where(("_tag", f"{SEVERAL['system']}|{SEVERAL['code']}")))])
    if kind in ALWAYS_OWNED:
        return where((owner, value))
    rest = (where((f"{owner}:missing", "true"), (code, value)) for code in codes if code not in SUBJECTS)
    return either([where((owner, value)), *rest])


# What somebody may read as a reference to a Patient, and the ways to write one whose id is known.
_MENTIONED = re.compile(r"(?:^|[/:\s])patient(?![A-Za-z])", re.ASCII | re.IGNORECASE)
_PATIENT = re.compile(r"(?:[^?#]*/)?Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?(?:[?#|].*)?", re.ASCII)


def foreign_patient(resource: Any, patients: Iterable[str]) -> str | None:
    """The first reference in the resource to a patient other than these, or None.

    A writer bound to one patient may not mention another: a reference that cannot be resolved to one of these ids
    (by identifier, conditional) counts as foreign.
    """
    own = frozenset(patients)
    return next((text for text in _patient_references(resource) if _id_of(text) not in own), None)


def _id_of(reference: str) -> str | None:
    found = _PATIENT.fullmatch(unquote(reference))
    return found[1] if found and "?" not in reference else None


def _is_of_patient(type: Any) -> bool:
    """Whether `Reference.type` says Patient, as a name or as the address of its definition."""
    return isinstance(type, str) and type.rpartition("/")[2] == "Patient"


def _patient_references(node: Any) -> Iterator[str]:
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, list):
            stack.extend(here)
        elif isinstance(here, dict):
            text = here.get("reference")
            if isinstance(text, str) and _MENTIONED.search(unquote(text)):
                yield text
            elif _is_of_patient(here.get("type")) and isinstance(here.get("identifier"), dict) and text is None:
                yield "Patient?identifier"
            stack.extend(here.values())
