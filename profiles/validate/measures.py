"""A MeasureReport against its Measure (http://hl7.org/fhir/R4/measurereport.html)."""

from __future__ import annotations

from typing import Any

from profiles.validate.report import Report
from profiles.validate.spots import Spot, members

Json = dict[str, Any]
PARTS = ("population", "stratifier")


def check_measure_report(report: Report, spot: Spot) -> None:
    """Groups, populations and stratifiers are those of the Measure; scores and subjects fit scoring and type."""
    groups = members(spot, "group")
    for population in [p for group in groups for p in members(group, "population")]:
        _check_subjects(report, population, spot.value.get("type"))
    url = spot.value.get("measure")
    found = report.library.definition("Measure", url) if isinstance(url, str) else None
    if found is None:
        return
    _check_parts(report, spot, "group", groups, found.get("group", []))
    scored = _codes(found.get("scoring", {}))
    for group, wanted in _pairs(groups, found.get("group", [])):
        _check_score(report, group, scored)
        for name in PARTS:
            _check_parts(report, group, name, members(group, name), wanted.get(name, []))


def _codes(concept: Any) -> set[tuple[Any, Any]]:
    codings = concept.get("coding", []) if isinstance(concept, dict) else []
    return {(c.get("system"), c.get("code")) for c in codings}


def _fits(one: Json, wanted: Json) -> bool:
    """The same code; or the same text, or none, where there are no codes."""
    codes = [_codes(part.get("code")) for part in (one, wanted)]
    if any(codes):
        return bool(codes[0] & codes[1])
    texts = [(part.get("code") or {}).get("text") for part in (one, wanted)]
    return texts[1] is None or texts[0] == texts[1]


def _pairs(found: list[Spot], wanted: list[Json]) -> list[tuple[Spot, Json]]:
    return [(one, other) for one in found for other in wanted if _fits(one.value, other)]


def _check_parts(report: Report, holder: Spot, name: str, found: list[Spot], wanted: list[Json]) -> None:
    """Each part of the report has its part in the Measure, and the other way round; single ones need no code."""
    known = [id(one.value) for one, _ in _pairs(found, wanted)]
    for one in found:
        # A part without a code is the only one of its kind.
        fits = id(one.value) in known if one.value.get("code") else len(wanted) == 1
        if not fits:
            report.error("business-rule", one, f"the {name} needs a code that the Measure has for a {name}")
    for other in wanted:
        if _codes(other.get("code")) and not any(_fits(one.value, other) for one in found):
            code = ", ".join(str(c) for _, c in _codes(other["code"]))
            report.error("business-rule", holder, f"the {name} '{code}' of the Measure is missing")


def _check_score(report: Report, group: Spot, scored: set[tuple[Any, Any]]) -> None:
    if any(code == "cohort" for _, code in scored) and "measureScore" in group.value:
        report.error("business-rule", f"{group.path}.measureScore", "a measure of a cohort has no score")


def _check_subjects(report: Report, population: Spot, kind: Any) -> None:
    """http://hl7.org/fhir/R4/valueset-measure-report-type.html: only a subject-list lists subjects."""
    if kind != "subject-list" and "subjectResults" in population.value:
        report.error("business-rule", population, f"a report of type {kind} lists no subjects")
