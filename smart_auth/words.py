"""Scopes in plain words, for the consent page (SMART 2.2, "Wildcard scopes": future kinds of data are meant too)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smart_auth.scopes import Scope, Scopes

# What people call a type; the rest is split at its capitals.
NAMES = {
    "Patient": "name, birth date, address and other personal details",
    "Observation": "lab results, vital signs and other measurements",
    "Condition": "diagnoses and health problems",
    "AllergyIntolerance": "allergies",
    "MedicationRequest": "prescriptions",
    "MedicationStatement": "medicines taken",
    "MedicationAdministration": "medicines given",
    "MedicationDispense": "medicines dispensed",
    "Immunization": "vaccinations",
    "Procedure": "operations and procedures",
    "Encounter": "visits and hospital stays",
    "DiagnosticReport": "lab and imaging reports",
    "DocumentReference": "documents and letters",
    "CarePlan": "care plans",
    "CareTeam": "care teams",
    "Goal": "treatment goals",
    "Appointment": "appointments",
    "Coverage": "insurance",
    "ExplanationOfBenefit": "insurance statements",
    "Claim": "bills",
    "Consent": "privacy decisions",
    "Device": "implants and devices",
    "Practitioner": "doctors and staff",
    "Organization": "hospitals and practices",
    "Location": "places of care",
    "QuestionnaireResponse": "answers to questionnaires",
    "ServiceRequest": "orders and referrals",
    "FamilyMemberHistory": "illnesses in the family",
}
WHOSE = {"patient": "about this patient", "user": "that you have access to", "system": "of everyone"}
PLAIN = {
    "openid": "Know who you are",
    "fhirUser": "Know your entry in the record",
    "profile": "Know your name",
    "launch": "Know what is open in the record",
    "launch/patient": "Know which patient is chosen",
    "launch/encounter": "Know which visit is chosen",
    "offline_access": "Keep access when you are not there, until you take it away",
    "online_access": "Keep access while you are logged in",
}
ACTIONS = (("rs", "see"), ("c", "add"), ("u", "change"), ("d", "delete"))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the consent page: the scope it stands for, its sentence, and whether it changes data."""

    scope: str
    text: str
    fixed: bool = False
    writes: bool = False


def lines(granted: Scopes, fixed: frozenset[str]) -> list[Line]:
    """The consent page's lines: identity first, then data."""
    plain = [Line(name, PLAIN[name], name in fixed) for name in granted.plain]
    return plain + [
        Line(scope.text, sentence(scope), False, bool(set(scope.verbs) & set("cud"))) for scope in granted.clinical
    ]


def sentence(scope: Scope) -> str:
    """A scope as a sentence: `See and add lab results ... about this patient, only where category is laboratory`."""
    actions = [word for verbs, word in ACTIONS if set(verbs) & set(scope.verbs)]
    done = " and ".join(filter(None, [", ".join(actions[:-1]), actions[-1]]))
    what = "all data, of kinds stored later too," if scope.type == "*" else name(scope.type)
    only = " and ".join(f"{code} is {value.rpartition('|')[2]}" for code, value in scope.clauses)
    return f"{done.capitalize()} {what} {WHOSE[scope.context]}" + (f", only where {only}" if only else "")


def name(kind: str) -> str:
    """A resource type in words."""
    return NAMES.get(kind) or re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower() + " entries"
