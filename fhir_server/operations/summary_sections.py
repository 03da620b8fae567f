"""The sections of an International Patient Summary, a row each (http://hl7.org/fhir/uv/ips). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Resource: TypeAlias = dict[str, Any]
Keep: TypeAlias = Callable[[Resource], bool]
Pairs: TypeAlias = tuple[tuple[str, str], ...]

LIVE = frozenset(("active", "recurrence", "relapse"))
OVER = frozenset(("inactive", "remission", "resolved"))
WRONG = frozenset(("entered-in-error", "refuted"))
RESULT = frozenset(("registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "unknown"))
TAKEN = frozenset(("active", "intended", "on-hold", "unknown"))
EDD = ("11778-8", "11779-6", "11780-4")
BIRTHS = ("11636-8", "11637-6", "11638-4", "11639-2", "11640-0", "11612-9", "11613-7", "11614-5", "33065-4")


@dataclass(frozen=True, slots=True)
class Source:
    """Resources of a type that belong in a section; `latest` takes the newest of each code."""

    type: str
    keep: Keep
    pairs: Pairs = ()
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A section by its LOINC code; a required one is there even when it is empty."""

    code: str
    display: str
    title: str
    sources: tuple[Source, ...]
    required: bool = False


def codes(resource: Resource, name: str) -> frozenset[str]:
    """The codes of a CodeableConcept."""
    return frozenset(str(each.get("code")) for each in resource.get(name, {}).get("coding", ()))


def status(*allowed: str) -> Keep:
    """Whether the status is one of these."""
    return lambda resource: resource.get("status") in allowed


def _right(resource: Resource) -> bool:
    return WRONG.isdisjoint(codes(resource, "verificationStatus"))


def _live(resource: Resource) -> bool:
    """Active; what does not say is taken as active."""
    found = codes(resource, "clinicalStatus")
    return _right(resource) and (not found or not found.isdisjoint(LIVE))


def _over(resource: Resource) -> bool:
    return _right(resource) and not codes(resource, "clinicalStatus").isdisjoint(OVER)


def _ordered(resource: Resource) -> bool:
    planned = resource.get("intent") in ("proposal", "plan", "option") or resource.get("doNotPerform")
    return resource.get("status") in TAKEN and not planned


def _result(resource: Resource) -> bool:
    return resource.get("status") in RESULT


def _directive(resource: Resource) -> bool:
    return resource.get("status") == "active" and "adr" in codes(resource, "scope")


def _always(resource: Resource) -> bool:
    return True


def _observed(*loinc: str, latest: bool = False) -> Source:
    pairs = (("code", ",".join(f"http://loinc.org|{code}" for code in loinc)),)
    return Source("Observation", _result, pairs, latest)


def _of(category: str) -> Pairs:
    return (("category", category),)


SECTIONS: tuple[Section, ...] = (
    Section(
        "48765-2",
        "Allergies and adverse reactions Document",
        "Allergies and Intolerances",
        (Source("AllergyIntolerance", _live),),
        required=True,
    ),
    Section("11450-4", "Problem list - Reported", "Problem List", (Source("Condition", _live),), required=True),
    Section(
        "10160-0",
        "History of Medication use Narrative",
        "Medication Summary",
        (Source("MedicationStatement", status(*TAKEN)), Source("MedicationRequest", _ordered)),
        required=True,
    ),
    Section(
        "11369-6",
        "History of Immunization note",
        "Immunizations",
        (Source("Immunization", status("completed")),),
    ),
    Section(
        "30954-2",
        "Relevant diagnostic tests/laboratory data note",
        "Diagnostic Results",
        (
            Source("DiagnosticReport", _result, latest=True),
            Source("Observation", _result, _of("laboratory,imaging"), latest=True),
        ),
    ),
    Section(
        "47519-4",
        "History of Procedures Document",
        "History of Procedures",
        (Source("Procedure", status("completed", "in-progress", "unknown")),),
    ),
    Section(
        "46264-8",
        "History of medical device use",
        "Medical Devices",
        (Source("DeviceUseStatement", status("active", "completed", "intended", "on-hold")),),
    ),
    Section("42348-3", "Advance healthcare directives", "Advance Directives", (Source("Consent", _directive),)),
    Section("104605-1", "Alert", "Alerts", (Source("Flag", status("active")),)),
    Section(
        "47420-5",
        "Functional status assessment note",
        "Functional Status",
        (Source("ClinicalImpression", status("completed")),),
    ),
    Section("11348-0", "History of Past illness note", "History of Past Problems", (Source("Condition", _over),)),
    Section(
        "10162-6",
        "History of pregnancies Narrative",
        "History of Pregnancy",
        (_observed("82810-3", *EDD, *BIRTHS, latest=True),),
    ),
    Section(
        "18776-5",
        "Plan of care note",
        "Plan of Care",
        (Source("CarePlan", status("active", "on-hold", "unknown")), Source("ImmunizationRecommendation", _always)),
    ),
    Section(
        "29762-2",
        "Social history note",
        "Social History",
        (_observed("72166-2", "74013-4", latest=True),),
    ),
    Section(
        "8716-3",
        "Vital signs note",
        "Vital Signs",
        (Source("Observation", _result, _of("vital-signs"), latest=True),),
    ),
)
