"""Bindings of all strengths, with the terminology that was passed in (http://hl7.org/fhir/R4/terminologies.html)."""

from __future__ import annotations

from functools import cache
from typing import Any

from profiles import model
from profiles.model import expansions, required_codes
from profiles.validate.bindings import IN_SET
from profiles.validate.report import Report
from profiles.validate.spots import Spot
from profiles.validate.values import extension, extensions, shown

Json = dict[str, Any]
MAX_VALUE_SET = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
ADDITIONAL = (
    "http://hl7.org/fhir/tools/StructureDefinition/additional-binding",
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-ElementDefinition.binding.additional",
)
CODED = ("code", "Coding", "CodeableConcept", "Quantity", "string", "uri")
WORD = {"required": "error", "extensible": "warning"}


def check_binding(report: Report, spot: Spot, binding: Json | None, profile: str) -> None:
    """A required binding is an error, an extensible one a warning; its maximum value set is an error again."""
    if not binding or spot.type not in CODED or not binding.get("valueSet"):
        return
    severity = WORD.get(binding.get("strength", ""))
    if severity == "error" or (severity and report.options.warnings and not _is_text(spot.value)):
        _report(report, spot, binding["valueSet"], severity, profile)
    for most in extensions(binding, MAX_VALUE_SET):
        _report(report, spot, most, "error", profile)
    for parts in (x for x in binding.get("extension", ()) if x.get("url") in ADDITIONAL):
        if extension(parts, "purpose") == "required":
            _report(report, spot, extension(parts, "valueSet"), "error", profile)


def check_base_binding(report: Report, spot: Spot) -> None:
    """What the base definition binds an element to, beyond the code lists that every check looks at."""
    if spot.type not in CODED or spot.value is None:
        return
    binding = base_binding(spot.element)
    if binding is None:
        return
    if binding.strength == "required":
        _report(report, spot, binding.value_set, "error", "")
    elif binding.strength == "extensible" and report.options.warnings and not _is_text(spot.value):
        _report(report, spot, binding.value_set, "warning", "")
    if binding.most:
        _report(report, spot, binding.most, "error", "")


@cache
def base_binding(element: str) -> model.Binding | None:
    """The binding of an element that the full check looks at; the base check knows the code lists of required ones."""
    parent, _, name = element.rpartition(".")
    child = model.element(parent, name.removesuffix("[x]")) if parent else None
    binding = child.binding if child else None
    if binding is None or (binding.strength == "required" and binding.value_set.split("|")[0] in required_codes()):
        return None
    return binding if binding.strength in WORD or binding.most else None


def _is_text(value: Any) -> bool:
    """A concept in words only: an extensible binding lets it pass."""
    return isinstance(value, dict) and "text" in value and not value.get("coding")


def _report(report: Report, spot: Spot, value_set: str, severity: str, profile: str) -> None:
    if in_value_set(report, spot, value_set) is False:
        what = shown(spot.value if not isinstance(spot.value, dict) else _short(spot.value))
        report.add(
            severity, "code-invalid", spot, f"{what} is not in the value set {value_set}", f"binding {value_set}"
        )


def in_value_set(report: Report, spot: Spot, value_set: str) -> bool | None:
    """What the code sets of the base definitions or the terminology say; None when neither can tell."""
    known = required_codes().get(value_set.split("|")[0])
    if known and spot.type in IN_SET:
        return IN_SET[spot.type](spot.value, known)
    if spot.type == "CodeableConcept" and not spot.value.get("coding"):
        return None if "extension" in spot.value else False
    said = report.library.member_of(spot.value, spot.type, value_set)
    return _published(spot, value_set) if said is None else said


def _published(spot: Spot, value_set: str) -> bool | None:
    """What the published expansion says, where it is complete."""
    complete, systems = expansions().get(value_set.split("|")[0], (False, {}))
    if not complete or spot.type not in IN_SET:
        return None
    return IN_SET[spot.type](spot.value, _codes(value_set.split("|")[0])) if systems else None


@cache
def _codes(value_set: str) -> dict[str, frozenset[str]]:
    return {system: frozenset(code for code, _ in rows) for system, rows in expansions()[value_set][1].items()}


def _short(value: Json) -> Any:
    codings = value.get("coding", [value])
    return [f"{c.get('system', '')}#{c.get('code', '')}" for c in codings if isinstance(c, dict)]
