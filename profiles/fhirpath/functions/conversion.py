"""Conversion (N1 section 5.5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from profiles.fhirpath import quantity, temporal
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Program, Scope, boolean, single, string
from profiles.fhirpath.parser import CALENDAR
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.temporal import Temporal
from profiles.fhirpath.values import kind, unwrap

_INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d{1,300}(?:\.\d{1,300})?)\s*(?:'([^']+)'|([a-zA-Z]+))?", re.ASCII)
_TRUE = frozenset(("true", "t", "yes", "y", "1", "1.0"))
_FALSE = frozenset(("false", "f", "no", "n", "0", "0.0"))


def _iif(
    scope: Scope, items: Collection, criterion: Program, true: Program, otherwise: Program | None = None
) -> Collection:
    single(items, "iif()")
    inner = scope.inner()
    inner.this = items
    found = single(criterion(inner), "The criterion of iif()")
    if found is not None and not isinstance(found.value, bool):
        raise FhirPathError("The criterion of iif() must be a Boolean")
    chosen = true if found is not None and found.value else otherwise
    if chosen is None:
        return []
    inner.variables = scope.variables
    return chosen(inner)


def to_boolean(value: Any) -> bool | None:
    """By the table of toBoolean()."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if isinstance(value, (int, Decimal)):
        return bool(value) if value in (0, 1) else None
    return None


def _to_whole(low: int, high: int) -> Callable[[Any], int | None]:
    def convert(value: Any) -> int | None:
        if not isinstance(value, (bool, int)) and not (isinstance(value, str) and _INTEGER.fullmatch(value)):
            return None
        found = int(value)
        return found if low <= found <= high else None

    return convert


def to_decimal(value: Any) -> Decimal | None:
    """A Decimal from a number, a Boolean or a text."""
    if isinstance(value, (bool, int)):
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def to_string(value: Any) -> str | None:
    """The text of a System value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) < 300 else str(value)
    return str(value) if isinstance(value, (str, int, Temporal, Quantity)) else None


def _to_date(value: Any) -> Temporal | None:
    if isinstance(value, str):
        return temporal.parse("Date", value)
    if isinstance(value, Temporal) and value.kind != "Time":
        return Temporal("Date", value.parts[:3])
    return None


def _to_date_time(value: Any) -> Temporal | None:
    if isinstance(value, str):
        return temporal.parse("DateTime", value)
    if isinstance(value, Temporal) and value.kind != "Time":
        return Temporal("DateTime", value.parts, value.zone)
    return None


def _to_time(value: Any) -> Temporal | None:
    if isinstance(value, str):
        return temporal.parse("Time", value)
    return value if isinstance(value, Temporal) and value.kind == "Time" else None


def to_quantity(value: Any) -> Quantity | None:
    """A Quantity from a number, a Boolean, a quantity or a text such as `4 days` or `10 'mg'`."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, (bool, int, Decimal)):
        return Quantity(Decimal(value), "1")
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    amount, unit, word = match.groups()
    if word:
        return Quantity(Decimal(amount), CALENDAR[word], calendar=True) if word in CALENDAR else None
    return Quantity(Decimal(amount), unit or "1")


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": to_boolean,
    "Integer": _to_whole(-(2**31), 2**31 - 1),
    "Long": _to_whole(-(2**63), 2**63 - 1),
    "Decimal": to_decimal,
    "String": to_string,
    "Date": _to_date,
    "DateTime": _to_date_time,
    "Time": _to_time,
}


def _converter(name: str) -> Function:
    convert = _CONVERSIONS[name]

    def apply(scope: Scope, items: Collection) -> Collection:
        node = single(items, f"to{name}()")
        found = None if node is None else convert(unwrap(node))
        return [] if found is None else [Node(found, f"System.{name}")]

    return Function(apply)


def _tester(name: str) -> Function:
    convert = _CONVERSIONS[name]

    def apply(scope: Scope, items: Collection) -> Collection:
        node = single(items, f"convertsTo{name}()")
        return [] if node is None else boolean(convert(unwrap(node)) is not None)

    return Function(apply)


def _quantity_of(items: Collection, unit: Collection | None, what: str) -> Quantity | None:
    node = single(items, what)
    found = None if node is None else to_quantity(unwrap(node))
    target = single(unit, what) if unit is not None else None
    if found is None or target is None:
        return found
    return quantity.convert(found, str(target.value))


def _to_quantity(scope: Scope, items: Collection, unit: Collection | None = None) -> Collection:
    found = _quantity_of(items, unit, "toQuantity()")
    return [] if found is None else [Node(found, "System.Quantity")]


def _converts_to_quantity(scope: Scope, items: Collection, unit: Collection | None = None) -> Collection:
    return boolean(_quantity_of(items, unit, "convertsToQuantity()") is not None) if items else []


def text(items: Collection, what: str) -> str | None:
    """The single String of a collection, None when empty; raises for anything else."""
    node = single(items, what)
    if node is None:
        return None
    value = unwrap(node)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Temporal) and isinstance(node.value, str):
        return node.value
    raise FhirPathError(f"{what} needs a String, not {kind(value) or 'a structure'}")


def texts(values: list[str]) -> Collection:
    """Strings as nodes."""
    return [string(value) for value in values]


FUNCTIONS = {
    "iif": Function(_iif, "programs", 2, 3),
    **{f"to{name}": _converter(name) for name in _CONVERSIONS},
    **{f"convertsTo{name}": _tester(name) for name in _CONVERSIONS},
    "toQuantity": Function(_to_quantity, "values", 0, 1),
    "convertsToQuantity": Function(_converts_to_quantity, "values", 0, 1),
}
