"""StructureDefinitions: the differential fits its base (http://hl7.org/fhir/R4/structuredefinition.html)."""

from __future__ import annotations

from typing import Any

from profiles.fhirpath import parse
from profiles.outcome import FhirError
from profiles.validate.definitions import choice
from profiles.validate.report import Report
from profiles.validate.snapshot import element_id, generate, snapshot
from profiles.validate.spots import Spot, members
from profiles.validate.values import same, shown

Json = dict[str, Any]


def check_expression(report: Report, spot: Spot) -> None:
    """An `expression` is FHIRPath that can be parsed."""
    text = spot.value.get("expression")
    if isinstance(text, str):
        try:
            parse(text)
        except FhirError as error:
            report.error("invalid", f"{spot.path}.expression", f"{shown(text)} is no FHIRPath: {error.text}")


def check_structure(report: Report, spot: Spot) -> None:
    """Every element of the differential has its place in the base, and narrows what it finds there."""
    structure = spot.value
    base_url = structure.get("baseDefinition")
    if structure.get("derivation") != "constraint" or "differential" not in structure or not base_url:
        return
    base = report.library.structure(base_url)
    if base is None:
        report.add("warning", "not-found", f"{spot.path}.baseDefinition", f"the base {base_url} is not known")
        return
    try:
        generate(structure, report.library.structure)
        known = {element_id(e): e for e in snapshot(base, report.library.structure)}
    except FhirError as error:
        report.error("invalid", spot, error.text)
        return
    for element in [e for d in members(spot, "differential") for e in members(d, "element")]:
        _check_narrows(report, element, known.get(element_id(element.value), {}))


def _check_narrows(report: Report, element: Spot, base: Json) -> None:
    fixed, before = choice(element.value, "fixed"), choice(base, "fixed")
    if fixed is not None and before is not None and not same(fixed, before):
        report.error("value", element, f"{shown(fixed)} is not what the base has fixed: {shown(before)}")
    if element.value.get("min", base.get("min", 0)) < base.get("min", 0) and "sliceName" not in element.value:
        report.error("value", element, f"min {element.value['min']} is less than {base['min']} in the base")
    most, limit = element.value.get("max", "*"), base.get("max", "*")
    if limit != "*" and "max" in element.value and (most == "*" or int(most) > int(limit)):
        report.error("value", element, f"max {most} is more than {limit} in the base")
