"""Invariants: FHIRPath rules of types, elements and profiles (http://hl7.org/fhir/R4/conformance-rules.html#constraints)."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import cache
from typing import Any, NamedTuple

import msgspec

from profiles import model
from profiles.fhirpath import Expression, compile
from profiles.fhirpath.conditions import condition
from profiles.fhirpath.settled import settled
from profiles.outcome import FhirError
from profiles.validate.definitions import Definition
from profiles.validate.holds import HOLDS, HOLDS_IN
from profiles.validate.report import Report
from profiles.validate.spots import Spot

Json = dict[str, Any]
# No answer fails too, but "not of nothing" is meant as true (bdl-8 on an entry without fullUrl).
NEGATED = ".not()"


class Rule(NamedTuple):
    """A rule of the base definitions.

    `holds`, or with the resource `holds_in`, is true where it surely holds; otherwise the general way decides.
    """

    key: str
    invariant: model.Invariant
    holds: Callable[[Any], bool | None] | None
    holds_in: Callable[[Any, Json], bool] | None

    def is_sure(self, spot: Spot) -> bool:
        """Whether the rule surely holds."""
        try:
            if self.holds is not None:
                return self.holds(spot.value) is True
            return self.holds_in is not None and self.holds_in(spot.value, spot.resource)
        except (AttributeError, FhirError, KeyError, TypeError, ValueError):
            return False


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
    wanted = [k for k in dict.fromkeys(keys) if k not in ELSEWHERE]
    return tuple(Rule(k, model.INVARIANTS[k], HOLDS.get(k), HOLDS_IN.get(k)) for k in wanted)


def open_rules(type_name: str, element: str, keys: Set[str]) -> tuple[Rule, ...]:
    """The rules that the keys of a valid object do not settle already, with their compiled conditions."""
    rules = [r for r in base_rules(type_name, element) if not _is_kept(r.invariant.expression, type_name, keys)]
    return tuple(with_condition(rule, type_name) for rule in rules)


def with_condition(rule: Rule, type_name: str) -> Rule:
    """The rule with its expression as a closure, where that is of the fast forms and nothing faster is known."""
    return (
        rule if rule.holds or rule.holds_in else rule._replace(holds=_condition(rule.invariant.expression, type_name))
    )


_condition = cache(condition)


def _is_kept(expression: str, type_name: str, keys: Set[str]) -> bool:
    verdict = settled(expression, type_name, keys)
    return verdict is True or (verdict is None and expression.endswith(NEGATED))


def check_base_rules(report: Report, spot: Spot, rules: tuple[Rule, ...]) -> None:
    """Rules of the base definitions for one value."""
    for one in rules:
        rule = one.invariant
        if (report.options.best_practice or not rule.best_practice) and not one.is_sure(spot):
            expression = CORRECTED.get(one.key, rule.expression)
            _check(report, spot, one.key.rpartition(":")[2], rule.severity, rule.text, expression)


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
