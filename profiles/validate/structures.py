"""StructureDefinitions: the differential fits its base (http://hl7.org/fhir/R4/structuredefinition.html)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from profiles.fhirpath import parse
from profiles.model import is_a
from profiles.outcome import FhirError
from profiles.validate.definitions import choice
from profiles.validate.differentials import check_contexts, check_order, check_slice, check_snapshot, check_targets
from profiles.validate.discriminators import check_discriminators
from profiles.validate.report import Report
from profiles.validate.snapshot import element_id, generate, snapshot
from profiles.validate.spots import Spot, members
from profiles.validate.values import same, shown

Json = dict[str, Any]


def check_expression(report: Report, spot: Spot) -> None:
    """An `expression` is FHIRPath that can be parsed."""
    text = spot.value.get("expression")
    fault = _parse_fault(text) if isinstance(text, str) else None
    if fault is not None:
        report.error("invalid", f"{spot.path}.expression", f"{shown(text)} is no FHIRPath: {fault}")


@lru_cache(maxsize=1024)
def _parse_fault(text: str) -> str | None:
    """What is wrong with an expression; most elements repeat the same few."""
    try:
        parse(text)
    except FhirError as error:
        return error.text
    return None


def check_language(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/metadatatypes.html#Expression: an expression is one of its language."""
    if spot.value.get("language") == "text/fhirpath":
        check_expression(report, spot)


def check_structure(report: Report, spot: Spot) -> None:
    """Every element of the differential has its place in the base, and narrows what it finds there."""
    structure = spot.value
    check_contexts(report, spot)
    base_url = structure.get("baseDefinition")
    if structure.get("derivation") != "constraint" or "differential" not in structure or not base_url:
        return
    root = report.library.structure(base_url)
    if root is None:
        report.add("warning", "not-found", f"{spot.path}.baseDefinition", f"the base {base_url} is not known")
        return
    try:
        layered = {element_id(e): e for e in generate(structure, report.library.structure)}
        known = {element_id(e): e for e in snapshot(root, report.library.structure)}
    except FhirError as error:
        report.error("invalid", spot, error.text)
        return
    elements = [e for d in members(spot, "differential") for e in members(d, "element")]
    check_order(report, elements, layered)
    check_snapshot(report, spot, elements)
    for element in elements:
        base = known.get(element_id(element.value), {})
        _check_narrows(report, element, base)
        check_targets(report, element, base)
        check_slice(report, element, layered)
        whole = layered.get(element_id(element.value), {})
        _check_values(report, element, whole)
        check_discriminators(report, element, whole)


STRENGTHS = ("example", "preferred", "extensible", "required")
BINDABLE = frozenset(("code", "Coding", "CodeableConcept", "Quantity", "string", "uri", "Duration"))


def _check_values(report: Report, element: Spot, whole: Json) -> None:
    """http://hl7.org/fhir/R4/elementdefinition.html: values and bindings are of the types that the element has."""
    kinds = {kind.get("code", "").rpartition("/")[2] for kind in whole.get("type", ())}
    if not kinds or any("fhirpath" in kind.get("code", "") for kind in whole["type"]):
        return
    for prefix in ("fixed", "pattern", "minValue", "maxValue"):
        # The bounds of a date may be a length of time before or after today.
        extra = {"Quantity"} if "Value" in prefix and kinds & {"date", "dateTime", "instant"} else set()
        for value in members(element, prefix):
            if not any(is_a(value.type, kind) for kind in kinds | extra):
                report.error("value", element, f"{prefix}[x] is of type {value.type}, the element is {_or(kinds)}")
    if "binding" in element.value and not kinds & BINDABLE:
        report.error("business-rule", element, f"a binding needs a code, and the element is {_or(kinds)}")


def _or(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds))


def _check_types(report: Report, element: Spot, base: Json) -> None:
    """A type, a target and a strength of binding are those of the base, or narrower."""
    allowed = {kind.get("code", "") for kind in base.get("type", ())}
    is_open = not allowed or allowed & {"*", "Element", "Resource"} or any("fhirpath" in code for code in allowed)
    for kind in () if is_open else element.value.get("type", ()):
        code = kind.get("code", "")
        if not any(code == one or is_a(code, one) for one in allowed):
            report.error("value", element, f"the type {code} is not one of the base: {_or(allowed)}")
    held = [(holder.get("binding") or {}).get("strength") for holder in (element.value, base)]
    if all(strength in STRENGTHS for strength in held) and STRENGTHS.index(held[0]) < STRENGTHS.index(held[1]):
        report.add("warning", "value", element, f"the binding is {held[0]}, that of the base {held[1]}")


def _check_narrows(report: Report, element: Spot, base: Json) -> None:
    _check_types(report, element, base)
    fixed, before = choice(element.value, "fixed"), choice(base, "fixed")
    if fixed is not None and before is not None and not same(fixed, before):
        report.error("value", element, f"{shown(fixed)} is not what the base has fixed: {shown(before)}")
    if element.value.get("min", base.get("min", 0)) < base.get("min", 0) and "sliceName" not in element.value:
        report.error("value", element, f"min {element.value['min']} is less than {base['min']} in the base")
    most, limit = element.value.get("max", "*"), base.get("max", "*")
    if limit != "*" and "max" in element.value and (most == "*" or int(most) > int(limit)):
        report.error("value", element, f"max {most} is more than {limit} in the base")
