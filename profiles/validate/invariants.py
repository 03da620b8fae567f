"""Invariants: FHIRPath rules of types, elements and profiles (http://hl7.org/fhir/R4/conformance-rules.html#constraints)."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import cache
from typing import Any, NamedTuple

import msgspec

from profiles import model
from profiles.fhirpath import Expression, compile
from profiles.fhirpath.settled import settled
from profiles.json import encode
from profiles.outcome import FhirError
from profiles.validate.definitions import Definition
from profiles.validate.report import Report
from profiles.validate.spots import Spot

Json = dict[str, Any]
# No answer fails too, but "not of nothing" is meant as true (bdl-8 on an entry without fullUrl).
NEGATED = ".not()"


class Rule(NamedTuple):
    """A rule of the base definitions; `holds` sees at once that it nearly always holds."""

    key: str
    invariant: model.Invariant
    holds: Callable[[Any], bool] | None


def _is_mentioned(resource: Json) -> bool:
    """Whether a plain Reference in the text leads to each contained resource; FHIRPath decides about the others."""
    text, held = encode(resource), resource["contained"]
    return all(isinstance(c, dict) and b'"reference":"#%s"' % str(c.get("id")).encode() in text for c in held)


# Rules that nearly always hold for a reason seen at once: 0.1 µs here instead of 20 µs of FHIRPath.
HOLDS: dict[str, Callable[[Any], bool]] = {
    "dom-3": lambda v: "contained" not in v or _is_mentioned(v),
    "eld-3": lambda v: v == "*" or (str(v).isascii() and str(v).isdigit()),
    "ref-1": lambda v: not str(v.get("reference", "")).startswith("#"),
}
# As later releases corrected a rule: a contained resource may refer to its container
# (http://hl7.org/fhir/R4/references.html#contained).
CORRECTED = {
    "ref-1": model.INVARIANTS["ref-1"].expression + " or (reference = '#' and %rootResource != %resource)",
}
# ele-1 is part of the structure; txt-1 and txt-2 are one look at the narrative, in `narrative`.
ELSEWHERE = {"ele-1", "txt-1", "txt-2"}


@cache
def base_rules(type_name: str, element: str) -> tuple[Rule, ...]:
    """The rules for a value of this type at this element."""
    parent, _, name = element.rpartition(".")
    child = model.element(parent, name.removesuffix("[x]")) if parent else None
    row = model.TYPES.get(type_name)
    keys = [*(row.rules if row and row.kind != "inner" else ()), *(child.rules if child else ())]
    if type_name == "Extension":
        keys.append("ext-1")
    return tuple(Rule(k, model.INVARIANTS[k], HOLDS.get(k)) for k in dict.fromkeys(keys) if k not in ELSEWHERE)


def open_rules(type_name: str, element: str, keys: Set[str]) -> tuple[Rule, ...]:
    """The rules that the keys of a valid object do not settle already."""
    return tuple(r for r in base_rules(type_name, element) if not _is_kept(r.invariant.expression, type_name, keys))


def _is_kept(expression: str, type_name: str, keys: Set[str]) -> bool:
    verdict = settled(expression, type_name, keys)
    return verdict is True or (verdict is None and expression.endswith(NEGATED))


def check_base_rules(report: Report, spot: Spot, rules: tuple[Rule, ...]) -> None:
    """Rules of the base definitions for one value."""
    for key, rule, holds in rules:
        if rule.best_practice and not report.options.best_practice:
            continue
        if holds is None or spot.value is None or not holds(spot.value):
            _check(report, spot, key.rpartition(":")[2], rule.severity, rule.text, CORRECTED.get(key, rule.expression))


def check_rules(report: Report, spot: Spot, wanted: Definition) -> None:
    """The rules a profile adds."""
    if wanted.rules and spot.parent is not None and spot.value is spot.resource and "." in wanted.id:
        # A rule on Bundle.entry.resource is the Bundle's: there %resource is the Bundle.
        spot = msgspec.structs.replace(spot, resource=spot.parent.resource, root=spot.parent.root)
    for rule in wanted.rules:
        _check(report, spot, *[rule.get(k, "") for k in ("key", "severity", "human", "expression")])


def _check(report: Report, spot: Spot, key: str, severity: str, text: str, expression: str) -> None:
    if not expression:
        return
    try:
        found = expression_for(expression, spot.type)(spot.node, report.environment(spot))
    except FhirError as error:
        report.add("warning", "processing", spot, f"the rule {key} could not be evaluated: {error.text}", f"rule {key}")
        return
    if not holds([n.value for n in found]) and (found or not expression.endswith(NEGATED)):
        report.add("error" if severity == "error" else "warning", "invariant", spot, f"{text} ({key})", f"rule {key}")


def holds(found: list[Any]) -> bool:
    """What is there and no Boolean counts as true (http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections)."""
    return found == [True] or any(type(value) is not bool for value in found)


@cache
def expression_for(text: str, type_name: str) -> Expression:
    return compile(text, type_name)
