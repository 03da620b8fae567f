"""Precision, boundaries and components of dates, times and numbers (N1 section 5.9, trial use)."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Scope, decimal, integer, single, whole
from profiles.fhirpath.operators import exact, is_number
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.temporal import Temporal
from profiles.fhirpath.values import kind, unwrap

_WIDE = Context(prec=400)
# Digits shown -> number of parts; milliseconds make the second's part longer, not another part.
_DIGITS = {
    "Date": {4: 1, 6: 2, 8: 3},
    "DateTime": {4: 1, 6: 2, 8: 3, 10: 4, 12: 5, 14: 6, 17: 6},
    "Time": {2: 1, 4: 2, 6: 3, 9: 3},
}
_FINEST = {"Date": 8, "DateTime": 17, "Time": 9}
_DECIMAL_DIGITS = 8
_MOST_DECIMAL_DIGITS = 31
_ENDS: dict[int, tuple[int | Decimal, int | Decimal]] = {
    1: (0, 23),
    2: (0, 59),
    3: (Decimal("0.000"), Decimal("59.999")),
}


def _input(items: Collection, name: str) -> Any:
    node = single(items, f"{name}()")
    return None if node is None else unwrap(node)


def _boundary(name: str, high: bool) -> Function:
    def apply(scope: Scope, items: Collection, precision: Collection | None = None) -> Collection:
        value = _input(items, name)
        digits = whole(precision, f"{name}()") if precision is not None else None
        if value is None:
            return []
        if isinstance(value, Temporal):
            found = temporal_boundary(value, high, _FINEST[value.kind] if digits is None else digits)
            return [] if found is None else [Node(found, f"System.{found.kind}")]
        return _number_boundary(name, value, high, _DECIMAL_DIGITS if digits is None else digits)

    return Function(apply, "values", 0, 1)


def _number_boundary(name: str, value: Any, high: bool, places: int) -> Collection:
    if not 0 <= places <= _MOST_DECIMAL_DIGITS:
        return []
    if isinstance(value, Quantity):
        amount = decimal_boundary(value.value, high, places)
        return [Node(Quantity(amount, value.unit, value.calendar, value.coded), "System.Quantity")]
    if not is_number(value):
        raise FhirPathError(f"{name}() is not defined for {kind(value) or 'a structure'}")
    return [decimal(decimal_boundary(exact(value), high, places))]


def decimal_boundary(value: Decimal, high: bool, places: int) -> Decimal:
    """The value plus or minus half of its last digit, moved outwards to the decimal places.

    A bound of less than half a unit of the last place asked for is 0: 0.0034 to one place is 0.0 both ways.
    """
    half = Decimal((0, (5,), min(int(value.as_tuple().exponent), 0) - 1))
    bound = _WIDE.add(value, half if high else -half)
    unit = Decimal((0, (1,), -places))
    if abs(bound) * 2 < unit:
        return Decimal((int(bound.is_signed()), (0,), -places))
    return bound.quantize(unit, rounding=ROUND_CEILING if high else ROUND_FLOOR, context=_WIDE)


def temporal_boundary(value: Temporal, high: bool, digits: int) -> Temporal | None:
    """The earliest or latest moment of the value in the precision; without an offset the widest one is taken."""
    size = _DIGITS[value.kind].get(digits)
    if size is None:
        return None
    parts: list[int | Decimal] = list(value.parts)
    while len(parts) < size:
        parts.append(_end(value.kind, parts, high))
    if digits in (17, 9) and isinstance(parts[size - 1], Decimal):
        parts[size - 1] = _with_milliseconds(Decimal(parts[size - 1]), value, size, high)
    elif digits in (14, 6) and value.kind != "Date" and size in (6, 3):
        parts[size - 1] = Decimal(int(parts[size - 1]))
    zone = value.zone
    if zone is None and value.kind == "DateTime" and size > 3:
        zone = -720 if high else 840
    return Temporal(value.kind, tuple(parts[:size]), zone if size > 3 else None)


def _with_milliseconds(second: Decimal, value: Temporal, size: int, high: bool) -> Decimal:
    """Three decimals at least; a second given without them ends at .999."""
    if int(second.as_tuple().exponent) < 0:
        return second if int(second.as_tuple().exponent) <= -3 else second.quantize(Decimal("0.001"))
    return second + (Decimal("0.999") if high and len(value.parts) >= size else Decimal("0.000"))


def _end(kind_name: str, parts: list[int | Decimal], high: bool) -> int | Decimal:
    """The first or last value of the part after those given."""
    position = len(parts) + (0 if kind_name == "Time" else -3) + 1
    if position in _ENDS:
        low_end, high_end = _ENDS[position]
        return high_end if high else low_end
    if position == -1:
        return 12 if high else 1
    return monthrange(int(parts[0]), int(parts[1]))[1] if high else 1


def _precision(scope: Scope, items: Collection) -> Collection:
    value = _input(items, "precision")
    if value is None:
        return []
    if isinstance(value, Temporal):
        return [integer(_shown_digits(value))]
    number = value.value if isinstance(value, Quantity) else value
    if not is_number(number):
        raise FhirPathError(f"precision() is not defined for {kind(value) or 'a structure'}")
    return [integer(max(-int(exact(number).as_tuple().exponent), 0))]


def _shown_digits(value: Temporal) -> int:
    last = value.parts[-1]
    decimals = isinstance(last, Decimal) and int(last.as_tuple().exponent) < 0
    base = 2 * len(value.parts) + (0 if value.kind == "Time" else 2)
    return base + (3 if decimals else 0)


def _component(name: str, rank: int, kinds: tuple[str, ...]) -> Function:
    """The part of a rank (1 year ... 6 second), empty where the value does not show it."""

    def apply(scope: Scope, items: Collection) -> Collection:
        value = _temporal_input(items, name, kinds)
        if value is None or value.precision < rank:
            return []
        return [integer(int(value.parts[rank - 1 - (3 if value.kind == "Time" else 0)]))]

    return Function(apply)


def _temporal_input(items: Collection, name: str, kinds: tuple[str, ...]) -> Temporal | None:
    value = _input(items, name)
    return value if isinstance(value, Temporal) and value.kind in kinds else None


_ANY = ("Date", "DateTime", "Time")
_DATES = ("Date", "DateTime")


def _millisecond(scope: Scope, items: Collection) -> Collection:
    value = _temporal_input(items, "millisecondOf", _ANY)
    second = value.parts[-1] if value is not None and value.precision == 6 else None
    if not isinstance(second, Decimal) or int(second.as_tuple().exponent) == 0:
        return []
    return [integer(int(second % 1 * 1000))]


def _offset(scope: Scope, items: Collection) -> Collection:
    value = _temporal_input(items, "timezoneOffsetOf", ("DateTime",))
    if value is None or value.zone is None:
        return []
    return [decimal(Decimal(value.zone) / 60)]


def _date_of(scope: Scope, items: Collection) -> Collection:
    value = _temporal_input(items, "dateOf", _DATES)
    return [] if value is None else [Node(Temporal("Date", value.parts[:3]), "System.Date")]


def _time_of(scope: Scope, items: Collection) -> Collection:
    value = _temporal_input(items, "timeOf", ("DateTime",))
    if value is None or len(value.parts) < 4:
        return []
    return [Node(Temporal("Time", value.parts[3:]), "System.Time")]


_COMPONENTS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("year", 1, _DATES),
    ("month", 2, _DATES),
    ("day", 3, _DATES),
    ("hour", 4, _ANY),
    ("minute", 5, _ANY),
    ("second", 6, _ANY),
)
_parts: dict[str, Callable[[Scope, Collection], Collection]] = {
    "millisecond": _millisecond,
    "timezoneOffset": _offset,
    "date": _date_of,
    "time": _time_of,
}

FUNCTIONS = {
    "lowBoundary": _boundary("lowBoundary", False),
    "highBoundary": _boundary("highBoundary", True),
    "precision": Function(_precision),
    **{f"{name}Of": _component(f"{name}Of", rank, kinds) for name, rank, kinds in _COMPONENTS},
    **{f"{name}Of": Function(apply) for name, apply in _parts.items()},
}
