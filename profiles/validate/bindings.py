"""Required bindings of the base definitions (http://hl7.org/fhir/R4/terminologies.html#required)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiles.model import Element, required_codes
from profiles.outcome import Issue
from profiles.validate.formats import quoted

Systems = dict[str, frozenset[str]]
SHOWN = 12  # codes; a longer list is named by its value set only


def binding_faults(child: Element, type_name: str, value: Any, path: str) -> Iterator[Issue]:
    """The fault of a code, Coding or CodeableConcept outside its required value set; unknown code sets pass."""
    if not child.binding or child.binding.strength != "required" or type_name not in IN_SET:
        return
    url = child.binding.value_set.split("|")[0]
    systems = required_codes().get(url)
    if systems and not IN_SET[type_name](value, systems):
        yield Issue(
            "error", "code-invalid", f"{path}: {_said(type_name, value)} is not {_choices(systems, url)}", (path,)
        )


def _code(value: Any, systems: Systems) -> bool:
    return any(value in codes for codes in systems.values())


def _coding(value: Any, systems: Systems) -> bool:
    system, code = value.get("system"), value.get("code")
    return isinstance(system, str) and isinstance(code, str) and code in systems.get(system, ())


def _concept(value: Any, systems: Systems) -> bool:
    """One coding from the value set is enough; an extension may say why there is none."""
    codings = value.get("coding")
    if not isinstance(codings, list):
        return "extension" in value
    return any(isinstance(c, dict) and _coding(c, systems) for c in codings)


IN_SET = {"code": _code, "Coding": _coding, "CodeableConcept": _concept}


def _said(type_name: str, value: Any) -> str:
    if type_name == "code":
        return quoted(value)
    codings = value.get("coding", []) if type_name == "CodeableConcept" else [value]
    said = [f"{c.get('system', 'no system')}#{c.get('code')}" for c in codings if isinstance(c, dict)]
    return quoted(", ".join(said)) if said else "a concept without coding"


def _choices(systems: Systems, url: str) -> str:
    codes = sorted({c for found in systems.values() for c in found})
    return f"one of {', '.join(codes)} ({url})" if len(codes) <= SHOWN else f"in the value set {url}"
