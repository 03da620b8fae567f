"""Which checks there are for a value of a type at an element, and which of them certain keys call for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

from profiles.model import RESOURCE_TYPES
from profiles.validate.codes import CODED, base_binding, check_base_binding
from profiles.validate.extensions import check_extension
from profiles.validate.ids import check_contained, check_id
from profiles.validate.invariants import Rule, base_rules, check_base_rules, open_rules
from profiles.validate.profile import check_profile
from profiles.validate.references import check_base_target
from profiles.validate.report import Options, Report
from profiles.validate.special import (
    SCHEMES,
    SPECIAL,
    check_attachment,
    check_coding,
    check_identifier,
    check_simple,
    check_text,
    check_unit,
    check_uri,
)
from profiles.validate.spots import Spot
from profiles.validate.structures import check_language

Json = dict[str, Any]
Check: TypeAlias = Callable[[Report, Spot], None]


class Switches(NamedTuple):
    """The options that decide which checks there are."""

    best_practice: bool
    forbid_html: bool


def switches_of(options: Options) -> Switches:
    return Switches(options.best_practice, options.forbid_html)


def check_claims(report: Report, spot: Spot) -> None:
    """A resource against the profiles it says it fits."""
    for profile in claimed(spot.value):
        check_profile(report, spot, profile)


def claimed(resource: Json) -> list[str]:
    """The profiles a resource says it fits."""
    found = resource.get("meta", {}).get("profile", []) if isinstance(resource.get("meta"), dict) else []
    return [p for p in found if isinstance(p, str)] if isinstance(found, list) else []


BY_TYPE: dict[str, tuple[Check, ...]] = {
    **dict.fromkeys(RESOURCE_TYPES, (check_contained, check_claims)),
    "Extension": (check_extension,),
    "Reference": (check_base_target,),
}
# Checks that have nothing to say of an object without these keys.
NEEDS: dict[Check, frozenset[str]] = {
    check_attachment: frozenset(("data", "size")),
    check_claims: frozenset(("meta",)),
    check_coding: frozenset(("system",)),
    check_contained: frozenset(("contained",)),
    check_extension: frozenset(("url",)),
    check_id: frozenset(("id",)),
    check_identifier: frozenset(("system",)),
    check_language: frozenset(("language", "expression")),
    check_simple: frozenset(("comparator",)),
    check_unit: frozenset(("system",)),
}
# What tells values that a check has nothing to say of.
PASSES: dict[Check, Callable[[Any], bool | None]] = {
    check_text: lambda v: "<" not in str(v),
    check_uri: lambda v: not str(v).startswith(SCHEMES),
}


def passes(check: Check) -> Callable[[Any], bool | None] | None:
    """The test that makes a check needless; None where only the check itself can tell."""
    if isinstance(check, partial):
        rules: tuple[Rule, ...] = check.keywords["rules"]
        return rules[0].holds if len(rules) == 1 else None
    return PASSES.get(check)


@cache
def all_checks(type_name: str, element: str, switches: Switches) -> tuple[Check, ...]:
    """Every check for a value of the type at the element, whatever its keys."""
    return tuple(_checks(type_name, element, base_rules(type_name, element), switches))


def checks_of(type_name: str, element: str, keys: Set[str], switches: Switches) -> tuple[Check, ...]:
    """The checks for a valid value with these keys (those beside it, of a primitive)."""
    found = _checks(type_name, element, open_rules(type_name, element, keys), switches)
    return tuple(check for check in found if NEEDS.get(check, frozenset()) <= keys)


def _checks(type_name: str, element: str, rules: Iterable[Rule], switches: Switches) -> Iterator[Check]:
    wanted = tuple(r for r in rules if switches.best_practice or not r.invariant.best_practice)
    if wanted:
        yield partial(check_base_rules, rules=wanted)
    if type_name in CODED and base_binding(element):
        yield check_base_binding
    yield check_id
    yield from BY_TYPE.get(type_name, ())
    is_plain = switches.forbid_html or type_name == "string"  # markdown may have some markup
    yield from (c for c in SPECIAL.get(type_name, ()) if c is not check_text or is_plain)


def run(report: Report, checks: Iterable[Check], spot: Spot, broken: bool = False) -> None:
    """Checks may stumble over values of the wrong shape, reported already, or over a definition that is malformed."""
    try:
        for check in checks:
            check(report, spot)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        if not broken:
            report.add("warning", "processing", spot, "not every rule could be checked: a definition is malformed")
