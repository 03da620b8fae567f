"""Math (N1 section 5.7)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal, DecimalException
from typing import Any

from profiles.fhirpath import quantity
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Scope, decimal, integer, single, whole
from profiles.fhirpath.operators import exact, is_number, number
from profiles.fhirpath.quantity import MATH, Quantity
from profiles.fhirpath.values import kind, unwrap


def _argument(items: Collection, name: str) -> Any:
    node = single(items, f"{name}()")
    value = None if node is None else unwrap(node)
    if value is None or is_number(value) or isinstance(value, Quantity):
        return value
    raise FhirPathError(f"{name}() needs a number, not {kind(value) or 'a structure'}")


def _on_number(name: str, apply: Callable[..., Collection]) -> Callable[..., Collection]:
    """A function on the single input number and number arguments; empty when any of them is, or without a result."""

    def run(scope: Scope, items: Collection, *args: Collection) -> Collection:
        values = [_argument(part, name) for part in (items, *args)]
        if any(value is None for value in values):
            return []
        if any(isinstance(value, Quantity) for value in values):
            raise FhirPathError(f"{name}() needs a number, not a Quantity")
        scope.run.spend(10)
        try:
            return apply(*values)
        except DecimalException:
            return []

    return run


def _abs(scope: Scope, items: Collection) -> Collection:
    value = _argument(items, "abs")
    if value is None:
        return []
    if isinstance(value, Quantity):
        return [_amount_of(value, abs(value.value))]
    return number(abs(exact(value)), (value,))


def _amount_of(value: Quantity, amount: Decimal) -> Node:
    """The quantity with another amount."""
    return Node(Quantity(amount, value.unit, value.calendar, value.coded), "System.Quantity")


def _whole(name: str, rounding: str) -> Function:
    """To a whole number: an Integer, or a Quantity with the same unit."""

    def apply(scope: Scope, items: Collection) -> Collection:
        value = _argument(items, name)
        if value is None:
            return []
        found = exact(value.value if isinstance(value, Quantity) else value)
        if found.adjusted() >= 40:
            return []
        whole = found.to_integral_value(rounding=rounding)
        return [_amount_of(value, whole) if isinstance(value, Quantity) else integer(int(whole))]

    return Function(apply)


def _exp(value: Any) -> Collection:
    power = exact(value)
    return number(MATH.exp(power), ("",)) if abs(power) < 1000 else []


def _ln(value: Any) -> Collection:
    found = exact(value)
    return [decimal(MATH.ln(found))] if found > 0 else []


def _log(value: Any, base: Any) -> Collection:
    found, root = exact(value), exact(base)
    if root <= 0 or found <= 0:
        raise FhirPathError("log() needs a number and a base above 0")
    if root == 1:
        return []
    out = MATH.divide(MATH.ln(found), MATH.ln(root))
    # 16.log(2) is 4, not 4.000…01: the last digits of a quotient of logarithms are noise.
    near = round(out, 20)
    return [decimal(near.normalize() if near == near.to_integral_value() else out)]


def _power(value: Any, exponent: Any) -> Collection:
    base, power = exact(value), exact(exponent)
    if abs(power) > 10_000 or (base < 0 and power != power.to_integral_value()) or (not base and power < 0):
        return []
    found = MATH.power(base, power) if base or power else Decimal(1)
    # An Integer where it fits one; 2.power(31) is a Decimal.
    integral = isinstance(exponent, int) and exponent >= 0
    return (integral and number(found, (value, exponent))) or number(found, ("",))


def _round(scope: Scope, items: Collection, precision: Collection | None = None) -> Collection:
    value = _argument(items, "round")
    places = 0 if precision is None else whole(precision, "round()")
    if value is None or places is None:
        return []
    if places < 0:
        raise FhirPathError("round() needs a precision of 0 or more")
    found = exact(value.value if isinstance(value, Quantity) else value)
    rounded = quantity.round_half_up(found, places) if places < 40 else found
    return [_amount_of(value, rounded) if isinstance(value, Quantity) else decimal(rounded)]


def _sqrt(value: Any) -> Collection:
    found = exact(value)
    return [decimal(MATH.sqrt(found))] if found >= 0 else []


def _row(name: str, apply: Callable[..., Collection], args: int = 0) -> Function:
    return Function(_on_number(name, apply), "values" if args else "nothing", args, args)


FUNCTIONS = {
    "abs": Function(_abs),
    "ceiling": _whole("ceiling", ROUND_CEILING),
    "floor": _whole("floor", ROUND_FLOOR),
    "truncate": _whole("truncate", ROUND_DOWN),
    "exp": _row("exp", _exp),
    "ln": _row("ln", _ln),
    "log": _row("log", _log, 1),
    "power": _row("power", _power, 1),
    "round": Function(_round, "values", 0, 1),
    "sqrt": _row("sqrt", _sqrt),
}
