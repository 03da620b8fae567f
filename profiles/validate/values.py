"""What a definition demands of one value: fixed, pattern, length, bounds (http://hl7.org/fhir/R4/elementdefinition.html)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from profiles.fhirpath import Environment, Node, compile
from profiles.json import encode
from profiles.outcome import FhirError
from profiles.validate.definitions import Definition, Limits
from profiles.validate.report import Report
from profiles.validate.spots import Spot


def extensions(holder: dict[str, Any], url: str) -> list[Any]:
    """The values of all extensions of this url."""
    found = [x for x in holder.get("extension", ()) if x.get("url") == url]
    return [next((v for k, v in x.items() if k.startswith("value")), None) for x in found]


def extension(holder: dict[str, Any], *urls: str) -> Any:
    """The value of the first extension of these urls."""
    return next((v for url in urls for v in extensions(holder, url)), None)


def same(value: Any, wanted: Any) -> bool:
    """Equal in every detail, decimals by value and digits alike."""
    if isinstance(wanted, dict):
        return (
            isinstance(value, dict) and value.keys() == wanted.keys() and all(same(value[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(same, value, wanted))
    return bool(type(value) is type(wanted) or _numbers(value, wanted)) and bool(value == wanted)


def _numbers(value: Any, wanted: Any) -> bool:
    return all(isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) for v in (value, wanted))


def fits(value: Any, pattern: Any) -> bool:
    """Has at least what the pattern has: each item of a pattern's list matches some item."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(k in value and fits(value[k], v) for k, v in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(fits(v, p) for v in value) for p in pattern)
    return same(value, pattern)


def check_value(report: Report, spot: Spot, wanted: Definition) -> None:
    """Report what is wrong with a value by itself."""
    fixed, pattern = wanted.fixed, wanted.pattern
    if fixed is not None and not same(spot.value, fixed):
        report.error("value", spot, f"the value must be {shown(fixed)}{by(wanted)}", f"fixed {shown(fixed)}")
    if pattern is not None and not fits(spot.value, pattern):
        report.error("value", spot, f"the value must match {shown(pattern)}{by(wanted)}", f"pattern {shown(pattern)}")
    if wanted.limits is not None:
        _check_limits(report, spot, wanted, wanted.limits)


def _check_limits(report: Report, spot: Spot, wanted: Definition, limits: Limits) -> None:
    size = len(spot.value) if isinstance(spot.value, str) else None
    if size is not None and limits.longest is not None and size > limits.longest:
        report.error("too-long", spot, f"{size} characters are more than the {limits.longest} allowed{by(wanted)}")
    if size is not None and limits.shortest is not None and size < limits.shortest:
        report.error("value", spot, f"{size} characters are less than the {limits.shortest} required{by(wanted)}")
    for bound, operator, word in (
        (limits.least, "<", "less than the minimum"),
        (limits.most, ">", "more than the maximum"),
    ):
        if bound is not None and beyond(spot, operator, bound):
            report.error("value", spot, f"{shown(spot.value)} is {word} {shown(bound)}{by(wanted)}")


def beyond(spot: Spot, operator: str, bound: Any) -> bool:
    """Whether a value is beyond a bound; FHIRPath knows dates and quantities. Unknown counts as no."""
    try:
        found = compile(f"$this {operator} %bound")(spot.node, _with(bound, spot.type))
    except FhirError:
        return False
    return bool(found) and found[0].value is True


def _with(bound: Any, kind: str) -> Environment:
    return Environment(variables={"bound": Node(bound, kind)})


def shown(value: Any) -> str:
    """A value for people, not too long."""
    text = f"'{value}'" if isinstance(value, str) else encode(value).decode()
    return text if len(text) <= 200 else text[:197] + "..."


def by(wanted: Definition) -> str:
    return f" ({wanted.profile})" if wanted.profile else ""
