"""Code systems, value sets and concept maps, beyond their invariants (http://hl7.org/fhir/R4/terminology-module.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import re2

from profiles.validate.canonicals import is_value_set
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members


def check_code_system(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/codesystem.html: what is said of the content is true of the concepts."""
    concepts, content = spot.value.get("concept", []), spot.value.get("content")
    if content == "supplement" and "supplements" not in spot.value:
        report.error("required", spot, "a supplement tells what code system it supplements")
    if content == "not-present" and concepts:
        report.error("business-rule", spot, "the content is not present, yet there are concepts")
    count = spot.value.get("count")
    if content == "complete" and isinstance(count, int) and concepts and _size(concepts) != count:
        report.error("business-rule", spot, f"the count is {count}, but there are {_size(concepts)} concepts")

    _check_declared(report, spot)
    kinds = {p.get("code"): p.get("type") for p in spot.value.get("property", ()) if isinstance(p, dict)}
    for place in _concepts(spot):
        for one in members(place, "property"):
            _check_property(report, one, kinds)


# Properties that the specification defines (http://hl7.org/fhir/R4/codesystem-concept-properties.html).
DEFINED = {
    "inactive": "boolean",
    "deprecated": "dateTime",
    "notSelectable": "boolean",
    "parent": "code",
    "child": "code",
}
DEFINED_BY = "http://hl7.org/fhir/concept-properties#"


def _check_declared(report: Report, spot: Spot) -> None:
    """Each property is declared once, one of the specification's with its type."""
    seen: set[tuple[str, Any]] = set()
    for one in members(spot, "property"):
        for name in ("code", "uri"):
            mark = (name, one.value.get(name))
            if mark in seen and mark[1] is not None:
                report.error("duplicate", one, f"another property has the {name} '{mark[1]}'")
            seen.add(mark)
        wanted = DEFINED.get(str(one.value.get("uri", "")).removeprefix(DEFINED_BY))
        if str(one.value.get("uri", "")).startswith(DEFINED_BY) and wanted and one.value.get("type") != wanted:
            report.error("value", one, f"{one.value['uri']} is of type {wanted}, not {one.value.get('type')}")


def _concepts(holder: Spot) -> Iterator[Spot]:
    for place in members(holder, "concept"):
        yield place
        yield from _concepts(place)


def _check_property(report: Report, one: Spot, kinds: dict[Any, Any]) -> None:
    """A property has the type that the code system declares for it."""
    wanted = kinds.get(one.value.get("code"))
    for value in members(one, "value") if wanted else ():
        if value.type != wanted:
            report.error("value", value, f"the property {one.value['code']} is of type {wanted}, not {value.type}")


def _size(concepts: list[Any]) -> int:
    return sum(1 + _size(c.get("concept", [])) for c in concepts if isinstance(c, dict))


def check_value_set(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/valueset.html: systems are absolute and of codes, filters have values of their kind."""
    for compose in members(spot, "compose"):
        for place in [*members(compose, "include"), *members(compose, "exclude")]:
            _check_system(report, place, "system")
            for one in members(place, "filter"):
                _check_filter(report, one)


def _check_system(report: Report, place: Spot, name: str) -> None:
    system = place.value.get(name)
    if not isinstance(system, str):
        return
    if ":" not in system:
        report.error("value", place, f"the system '{system}' must be an absolute URI")
    elif is_value_set(system):
        report.error("value", place, f"'{system}' is a value set, not a code system")


def _check_filter(report: Report, one: Spot) -> None:
    """http://hl7.org/fhir/R4/valueset-filter-operator.html"""
    operator, value = one.value.get("op"), one.value.get("value")
    if operator == "exists" and value not in ("true", "false"):
        report.error("value", one, f"whether a property exists is true or false, not '{value}'")
    if operator == "regex" and isinstance(value, str) and not _is_regex(value):
        report.error("value", one, f"'{value}' is no regular expression")


def _is_regex(text: str) -> bool:
    """RE2 has no look-around and no references back: what it does not know may still be one."""
    try:
        re2.compile(text, _QUIET)
    except re2.error:
        return "(?" in text or "\\" in text
    return True


def check_concept_map(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/conceptmap.html: systems are absolute; a code that its system lacks maps nothing."""
    for group in members(spot, "group"):
        for name in ("source", "target"):
            _check_system(report, group, name)
        for element in members(group, "element"):
            _check_code(report, element, group.value.get("source"))
            for target in members(element, "target"):
                _check_code(report, target, group.value.get("target"))


def _check_code(report: Report, place: Spot, system: Any) -> None:
    code = place.value.get("code")
    fault = report.library.code_fault({"system": system, "code": code}) if system and code else None
    if fault is not None:
        report.add("warning", "code-invalid", place, fault[1])


_QUIET = re2.Options()
_QUIET.log_errors = False
