"""Rules that the specification states in words, by type: one row each."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from profiles import model
from profiles.validate.answers import check_response
from profiles.validate.bundles import check_bundle
from profiles.validate.canonicals import check_canonical, is_value_set
from profiles.validate.measures import check_measure_report
from profiles.validate.narrative import check_narrative
from profiles.validate.questionnaires import check_questionnaire
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members
from profiles.validate.structures import check_expression, check_language, check_structure
from profiles.validate.vocabulary import check_code_system, check_concept_map, check_value_set

Json = dict[str, Any]
CODED = ("system", "version", "code", "display")
UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*[^<>]*>?")
SIMPLE = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
URIS = "urn:ietf:rfc:3986"
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
SCHEMES = ("urn:", "oid:", "uuid:")
OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")


def check_uri(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#uri: UUIDs and OIDs as URIs must be such."""
    if not isinstance(spot.value, str) or not spot.value.startswith(SCHEMES):
        return
    if not spot.value.startswith("urn:"):
        report.error("value", spot, f"'{spot.value}' must begin with urn:")
    text = re.split("[#|]", spot.value)[0]
    if text.startswith("urn:uuid:") and not UUID.fullmatch(text):
        report.error("value", spot, f"'{text}': a UUID is 36 characters in lower case")
    elif text.startswith("urn:oid:") and not OID.fullmatch(text):
        report.error("value", spot, f"'{text}' is no OID")


def check_attachment(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#attachment: size is that of the data."""
    value = spot.value if isinstance(spot.value, dict) else {}
    data, size = value.get("data"), value.get("size")
    if isinstance(data, str) and isinstance(size, int):
        dense = "".join(data.split())
        real = len(dense) * 3 // 4 - dense[-2:].count("=")
        if real != size:
            report.error("value", spot, f"the size is said to be {size}, the data has {real} bytes")


def check_search_parameter(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/searchparameter.html"""
    kind, parts = spot.value.get("type"), spot.value.get("component", [])
    if kind == "composite" and len(parts) < 2:
        report.error("business-rule", spot, "a composite search parameter has two components at least")


def check_capabilities(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/capabilitystatement.html: parameters are of the type that their definition says."""
    for rest in members(spot, "rest"):
        for place in [p for resource in members(rest, "resource") for p in members(resource, "searchParam")]:
            url, said = place.value.get("definition"), place.value.get("type")
            found = report.library.definition("SearchParameter", url) if url else None
            if found and found.get("type") != said:
                report.error("value", place, f"{url} is a parameter of type {found.get('type')}, not {said}")


def check_coding(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#Coding: the code is one of its system, as far as that is known."""
    _check_system(report, spot)
    _check_coded(report, spot)
    if spot.value.get("system") and spot.value.get("code"):
        fault = report.library.code_fault({k: v for k, v in spot.value.items() if k in CODED})
        if fault is not None:
            report.add(fault[0], "code-invalid", spot, fault[1])


def _check_system(report: Report, spot: Spot) -> None:
    system = spot.value.get("system")
    if isinstance(system, str) and ":" not in system:
        report.error("value", f"{spot.path}.system", f"the system '{system}' must be an absolute URI")


def _check_coded(report: Report, spot: Spot) -> None:
    system = spot.value.get("system")
    if isinstance(system, str) and is_value_set(system):
        report.error("value", f"{spot.path}.system", f"'{system}' is a value set, not a code system")


def check_identifier(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#Identifier: the system is absolute; that of URIs has URIs."""
    _check_system(report, spot)
    value = spot.value.get("value")
    if spot.value.get("system") == URIS and isinstance(value, str) and not ABSOLUTE.match(value):
        report.error("value", f"{spot.path}.value", f"'{value}' is no URI, as the system {URIS} says")


def check_unit(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#Quantity: the unit is a code of its system."""
    if isinstance(spot.value, dict):
        check_coding(report, spot)


def check_simple(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/datatypes.html#SimpleQuantity"""
    if isinstance(spot.value, dict) and "comparator" in spot.value and _is_simple(spot.element):
        report.error("invariant", spot, "The comparator is not used on a SimpleQuantity (sqty-1)")


@cache
def _is_simple(element: str) -> bool:
    parent, _, name = element.rpartition(".")
    child = model.element(parent, name.removesuffix("[x]")) if parent else None
    return child is not None and SIMPLE in child.profiles


def check_text(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/security.html#narrative: markup hides in plain text; markdown may have some."""
    forbidden = report.options.forbid_html
    if (forbidden or spot.type == "string") and isinstance(spot.value, str) and (found := TAG.search(spot.value)):
        report.add("error" if forbidden else "warning", "security", spot, f"'{found[0]}' looks like an HTML tag")


SPECIAL: dict[str, tuple[Callable[[Report, Spot], None], ...]] = {
    "Attachment": (check_attachment,),
    "Bundle": (check_bundle,),
    "CapabilityStatement": (check_capabilities,),
    "CodeSystem": (check_code_system,),
    "Coding": (check_coding,),
    "ConceptMap": (check_concept_map,),
    "Expression": (check_language,),
    "Quantity": (check_unit, check_simple),
    "ElementDefinition.constraint": (check_expression,),
    "Identifier": (check_identifier,),
    "MeasureReport": (check_measure_report,),
    "Narrative": (check_narrative,),
    "Questionnaire": (check_questionnaire,),
    "QuestionnaireResponse": (check_response,),
    "SearchParameter": (check_search_parameter, check_expression),
    "StructureDefinition": (check_structure,),
    "ValueSet": (check_value_set,),
    "markdown": (check_text,),
    "string": (check_text,),
    "uri": (check_uri,),
    "url": (check_uri,),
    "canonical": (check_uri, check_canonical),
}
