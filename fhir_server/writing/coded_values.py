"""What validation asks of the terminology: is a value in a value set, is a coding right."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from fhir_server.answers.respond import EPOCH
from fhir_server.context import Resource
from profiles.json import encode
from profiles.model import expansions
from profiles.outcome import FhirError
from terminology.codes import subsumes as is_above
from terminology.expand import Clock
from terminology.library import Library
from terminology.operations import Asking, run
from terminology.request import Parameters

# The type of a value -> the parameter of $validate-code that takes it.
CODED = {"Coding": ("coding", "valueCoding"), "CodeableConcept": ("codeableConcept", "valueCodeableConcept")}
NO_CLOCK = Clock(EPOCH, "")
# Code systems of HL7's own; of others, as ISO 3166 or CVX, the copy that came with R4 is partial and has grown old.
OWN = re.compile(r"http://hl7\.org/fhir/(?!sid/)|http://terminology\.hl7\.org/")
R4 = "4.0.1"
# Value sets of a grammar: what has no list of codes has one system at least.
SYSTEMS = {
    "http://hl7.org/fhir/ValueSet/mimetypes": "urn:ietf:bcp:13",
    "http://hl7.org/fhir/ValueSet/all-languages": "urn:ietf:bcp:47",
    "http://hl7.org/fhir/ValueSet/ucum-units": "http://unitsofmeasure.org",
}


def membership(terminology: Library) -> Callable[[Any, str, str], bool | None]:
    """Whether a value is in a value set, None where the terminology cannot tell; each answer is asked for once."""
    known: dict[bytes, bool | None] = {}
    lists: dict[str, Listed] = {}

    def member_of(value: Any, type: str, value_set: str) -> bool | None:
        if value_set not in lists:
            url, _, version = value_set.partition("|")
            lists[value_set] = _listed(terminology.value_set(url, version or None))
        listed = lists[value_set]
        if _is_listed(value, listed):
            return True
        key = encode([value, type, value_set])
        if key not in known:
            known[key] = _member_of(terminology, value, type, value_set, listed)
        return known[key]

    return member_of


def subsumption(terminology: Library) -> Callable[[Any, Any], bool | None]:
    """Whether the first Coding or CodeableConcept is the second or above it, by any pair of codes of one system."""

    def subsumes(first: Any, second: Any) -> bool | None:
        pairs = [(a, b) for a in _codings(first) for b in _codings(second) if a.get("system") == b.get("system")]
        said = [
            is_above(terminology, a["system"], a.get("code", ""), b.get("code", "")) for a, b in pairs if "system" in a
        ]
        return True if True in said else None if not said or None in said else False

    return subsumes


def _codings(value: Any) -> list[Resource]:
    return list(value.get("coding", [value])) if isinstance(value, dict) else []


@dataclass(frozen=True, slots=True)
class Listed:
    """The codes that a value set lists one by one, by system; whether it has no others."""

    codes: dict[str, frozenset[str]]
    alone: bool


def _listed(value_set: Resource | None) -> Listed:
    """A listed code is in the value set even where only a part of its code system is at hand, as of LOINC."""
    compose = (value_set or {}).get("compose", {})
    includes = compose.get("include", [])
    if "exclude" in compose:
        return Listed({}, False)
    codes: dict[str, frozenset[str]] = {}
    for row in includes:
        if "valueSet" not in row:
            held = frozenset(concept["code"] for concept in row.get("concept", ()))
            codes[row.get("system", "")] = codes.get(row.get("system", ""), frozenset()) | held
    return Listed(codes, bool(includes) and all("concept" in row and "valueSet" not in row for row in includes))


def _is_listed(value: Any, listed: Listed) -> bool:
    if isinstance(value, str):
        return any(value in codes for codes in listed.codes.values())
    if not isinstance(value, dict):
        return False
    if "coding" in value:
        return any(_is_listed(coding, listed) for coding in value["coding"])
    return value.get("code") in listed.codes.get(value.get("system", ""), ())


def _member_of(terminology: Library, value: Any, type: str, value_set: str, listed: Listed) -> bool | None:
    url, _, version = value_set.partition("|")
    rows: list[Resource] = [{"name": "url", "valueUri": url}]
    rows += [{"name": "valueSetVersion", "valueString": version}] if version else []
    if type in CODED or type == "Quantity":
        name, key = CODED.get(type, CODED["Coding"])
        rows.append({"name": name, key: _bare(value)})
    elif url in SYSTEMS:
        rows += [{"name": "code", "valueCode": value}, {"name": "system", "valueUri": SYSTEMS[url]}]
    else:
        rows += [{"name": "code", "valueCode": value}, {"name": "inferSystem", "valueBoolean": True}]
    try:
        answer = run("ValueSet", "validate-code", Asking(terminology, Parameters(rows), NO_CLOCK))
    except FhirError:
        return None
    said = _verdict(answer)
    if said is False and not listed.alone and any(_is_part(terminology, system) for system in listed.codes):
        return None
    return said


def _bare(value: Resource) -> Resource:
    """A coding or concept without displays: a wrong one does not put its code outside the value set."""
    if "coding" in value:
        return {"coding": [_bare(coding) for coding in value["coding"]]}
    return {key: value[key] for key in ("system", "version", "code") if key in value}


def _is_part(terminology: Library, system: str) -> bool:
    """Whether only a part of a code system is at hand, which may lack codes, and what the others are like."""
    found = terminology.system(system) if system else None
    return found is not None and found.about.get("content") == "fragment"


def _verdict(answer: Resource) -> bool | None:
    """The result; False only where the code is wrong, not where its code system or the value set is unknown."""
    named = {row["name"]: row for row in answer.get("parameter", ())}
    if named.get("result", {}).get("valueBoolean"):
        return True
    unknown = {"x-caused-by-unknown-system", "x-unknown-system"} & set(named)
    return None if unknown or any(issue.get("code") == "not-found" for issue in _issues(named)) else False


def _issues(named: dict[str, Resource]) -> list[Resource]:
    found: list[Resource] = named.get("issues", {}).get("resource", {}).get("issue", [])
    return found


def code_faults(terminology: Library) -> Callable[[Resource], tuple[str, str] | None]:
    """Severity and text of what is wrong with a coding: an unknown code is an error, a wrong display a warning."""
    known: dict[bytes, tuple[str, str] | None] = {}

    def code_fault(coding: Resource) -> tuple[str, str] | None:
        key = encode(coding)
        if key not in known:
            known[key] = _code_fault(terminology, coding)
        return known[key]

    return code_fault


@cache
def r4_codes() -> dict[str, frozenset[str]]:
    """The codes that R4 published, by system: later versions of HL7's terminology have dropped some."""
    found: dict[str, set[str]] = {}
    for _, systems in expansions().values():
        for system, rows in systems.items():
            found.setdefault(system, set()).update(code for code, _ in rows)
    return {system: frozenset(codes) for system, codes in found.items()}


def _code_fault(terminology: Library, coding: Resource) -> tuple[str, str] | None:
    rows: list[Resource] = [{"name": "url", "valueUri": coding["system"]}, {"name": "coding", "valueCoding": coding}]
    try:
        answer = run("CodeSystem", "validate-code", Asking(terminology, Parameters(rows), NO_CLOCK))
    except FhirError:
        return None
    named = {row["name"]: row for row in answer.get("parameter", ())}
    partial = not OWN.match(coding["system"]) and named.get("version", {}).get("valueString") == R4
    for issue in _issues(named):
        if issue["severity"] == "error" and issue["code"] in ("code-invalid", "invalid"):
            is_display = "invalid-display" in [row["code"] for row in issue["details"].get("coding", ())]
            if not is_display and coding["code"] in r4_codes().get(coding["system"], ()):
                continue
            return "warning" if is_display or partial else "error", issue["details"]["text"]
    return None
