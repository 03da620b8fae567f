"""Quantity values: UCUM and calendar units, comparison and arithmetic (N1 sections Quantity, Math)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

from profiles import ucum
from profiles.fhirpath.errors import FhirPathError

MATH = Context(prec=34)

# Calendar words as definite UCUM units; years and months only for equivalence and for conversions among themselves.
DEFINITE = {
    "year": "a",
    "month": "mo",
    "week": "wk",
    "day": "d",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
}
_CALENDAR_OF = {code: word for word, code in DEFINITE.items()}
_MONTHS = {"year": 12, "month": 1}
_DAYS = {"year": 365, "month": 30}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a UCUM code, or with a calendar word when `calendar`; `coded` False: the unit is only a text."""

    value: Decimal
    unit: str
    calendar: bool = False
    coded: bool = True

    def __str__(self) -> str:
        """`4 days` or `4 'd'`: only the calendar's words stand without quotes (section toString)."""
        if self.calendar:
            return f"{self.value:f} {self.unit}{'' if self.value == 1 else 's'}"
        return f"{self.value:f} '{self.unit}'"

    def members(self) -> dict[str, Any]:
        """What `.value` and `.unit` give."""
        return {"value": self.value, "unit": self.unit}

    @property
    def code(self) -> str:
        """The UCUM code, calendar words as their definite units."""
        return DEFINITE[self.unit] if self.calendar else self.unit


def from_json(value: dict[str, Any]) -> Quantity | None:
    """The Quantity a FHIR Quantity stands for, or None without a value."""
    number = value.get("value")
    if number is None:
        return None
    amount = number if isinstance(number, Decimal) else Decimal(str(number))
    if amount.is_finite() and abs(amount.adjusted()) > 300:
        raise FhirPathError("A number is out of range", "too-costly")
    code = (
        value.get("code") if value.get("system", "http://unitsofmeasure.org") == "http://unitsofmeasure.org" else None
    )
    if code:
        return Quantity(amount, code)
    unit = value.get("unit") or value.get("code")
    return Quantity(amount, unit, coded=False) if unit else Quantity(amount, "1")


def to_json(value: Quantity) -> dict[str, Any]:
    """The plain JSON of a Quantity; a calendar unit has no code."""
    if value.calendar:
        return {"value": value.value, "unit": value.unit}
    return {"value": value.value, "unit": value.unit, "system": "http://unitsofmeasure.org", "code": value.unit}


def key(value: Quantity) -> tuple[Any, ...]:
    """A hashable form: equal quantities have equal keys."""
    if value.calendar and value.unit in _MONTHS:
        return ("calendar", value.value * _MONTHS[value.unit])
    found = ucum.exact(Fraction(value.value), value.code) if value.coded else None
    return found if found is not None else (value.value, value.unit)


def _ambiguous(a: Quantity, b: Quantity) -> bool:
    """Calendar years and months against anything definite: not comparable (section Quantity Equality)."""
    long_a, long_b = (q.calendar and q.unit in _MONTHS for q in (a, b))
    return long_a != long_b and not (a.calendar and b.calendar)


def magnitudes(a: Quantity, b: Quantity, *, equivalent: bool = False) -> tuple[Fraction, Fraction] | None:
    """Both values in one unit as exact fractions, or None when they cannot be compared."""
    if a.unit == b.unit and a.calendar == b.calendar:
        return Fraction(a.value), Fraction(b.value)
    if _ambiguous(a, b) and not equivalent:
        return None
    if a.calendar and b.calendar:
        return _calendar_magnitudes(a, b)
    if not (a.coded and b.coded):
        return None
    left, right = ucum.exact(Fraction(a.value), a.code), ucum.exact(Fraction(b.value), b.code)
    if left is None or right is None or left[1] != right[1]:
        return None
    return left[0], right[0]


def _calendar_magnitudes(a: Quantity, b: Quantity) -> tuple[Fraction, Fraction] | None:
    if a.unit in _MONTHS and b.unit in _MONTHS:
        return Fraction(a.value) * _MONTHS[a.unit], Fraction(b.value) * _MONTHS[b.unit]
    return _calendar_seconds(a), _calendar_seconds(b)


def _calendar_seconds(value: Quantity) -> Fraction:
    if value.unit in _DAYS:
        return Fraction(value.value) * _DAYS[value.unit] * 86400
    found = ucum.exact(Fraction(value.value), value.code)
    return found[0] if found else Fraction(0)


def compare(a: Quantity, b: Quantity) -> int | None:
    """-1, 0 or 1; None when the dimensions differ or a unit is unknown."""
    both = magnitudes(a, b)
    if both is None:
        return None
    return (both[0] > both[1]) - (both[0] < both[1])


def equivalent(a: Quantity, b: Quantity) -> bool:
    """Equal after rounding to the less precise of the two, in that one's unit (section Quantity Equivalence)."""
    both = magnitudes(a, b, equivalent=True)
    if both is None:
        return False
    if both[0] == both[1]:
        return True
    return _rounded_equal(a, b, both) or _rounded_equal(b, a, (both[1], both[0]))


def _rounded_equal(coarse: Quantity, fine: Quantity, both: tuple[Fraction, Fraction]) -> bool:
    """Whether the finer value, in the coarser one's unit, rounds to it; false when it is the coarser after all."""
    if not coarse.value:
        return False
    scale = both[0] / Fraction(coarse.value)
    step = Fraction(10) ** min(_exponent(coarse.value), 0) * scale
    fine_step = Fraction(10) ** min(_exponent(fine.value), 0) * (
        both[1] / Fraction(fine.value) if fine.value else Fraction(1)
    )
    if fine_step > step:
        return False
    return (both[1] / step + Fraction(1, 2)).__floor__() == (both[0] / step).__floor__()


def _exponent(value: Decimal) -> int:
    return int(value.normalize().as_tuple().exponent)


def to_decimal(value: Fraction) -> Decimal:
    """The fraction as a decimal of at most 34 digits, without trailing zeros."""
    number = MATH.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(MATH)
    return number if int(number.as_tuple().exponent) <= 0 else number.quantize(Decimal(1), context=Context(prec=400))


def add(a: Quantity, b: Quantity, sign: int) -> Quantity | None:
    """The sum or difference in the finer of the two units; None when the dimensions differ."""
    if a.unit == b.unit and a.calendar == b.calendar:
        return Quantity(MATH.add(a.value, sign * b.value), a.unit, a.calendar, a.coded)
    both = magnitudes(a, b)
    unit_a, unit_b = (Quantity(Decimal(1), q.unit, q.calendar, q.coded) for q in (a, b))
    scale = magnitudes(unit_a, unit_b)
    if both is None or scale is None:
        return None
    finer = a if scale[0] <= scale[1] else b
    total = (both[0] + sign * both[1]) / min(scale)
    return Quantity(to_decimal(total), finer.unit, finer.calendar, finer.coded)


def multiply(a: Quantity, b: Quantity, power: int) -> Quantity | None:
    """The product (power 1) or quotient (power -1) with its unit.

    None for division by zero, unknown units and calendar units, which have no products.
    """
    if power < 0 and not b.value:
        return None
    value = MATH.multiply(a.value, b.value) if power > 0 else MATH.divide(a.value, b.value)
    if b.code == "1":
        return Quantity(value, a.unit, a.calendar, a.coded)
    if a.code == "1" and power > 0:
        return Quantity(value, b.unit, b.calendar, b.coded)
    left, right = ucum.exact(Fraction(1), a.code), ucum.exact(Fraction(1), b.code)
    if left is None or right is None or a.calendar or b.calendar:
        return None
    unit = ucum.combine(a.code, b.code, power)
    scale = left[0] * right[0] ** power
    known = ucum.exact(Fraction(1), unit)
    if known is None:
        return None
    return Quantity(to_decimal(Fraction(value) * scale / known[0]), unit)


def convert(value: Quantity, unit: str) -> Quantity | None:
    """The quantity in another unit (a UCUM code or a calendar word), or None.

    Between the calendar and UCUM the amount is worked out on the side it comes from: 1 year is 1 'a', 365 days too.
    """
    word = unit if unit in DEFINITE else unit.removesuffix("s")
    target = Quantity(Decimal(1), word, calendar=True) if word in DEFINITE else Quantity(Decimal(1), unit)
    both = magnitudes(value, _on_side_of(value, target))
    if both is None:
        return None
    return Quantity(to_decimal(both[0] / both[1]), target.unit, target.calendar)


def _on_side_of(value: Quantity, target: Quantity) -> Quantity:
    """The target unit in the system of the value, calendar or UCUM, where it has a name there."""
    if value.calendar and not target.calendar and target.unit in _CALENDAR_OF:
        return Quantity(target.value, _CALENDAR_OF[target.unit], calendar=True)
    return target if value.calendar or not target.calendar else Quantity(target.value, target.code)


def calendar_unit(value: Quantity) -> str:
    """The calendar word a time-valued quantity moves a date by; raises for 'a', 'mo' and what is not a time."""
    if value.calendar:
        return value.unit
    word = _CALENDAR_OF.get(value.unit)
    if word is None:
        raise FhirPathError(f"A date cannot be moved by '{value.unit}'")
    if word in _MONTHS:
        raise FhirPathError(f"A date cannot be moved by the definite duration '{value.unit}'; use {word}s")
    return word


def round_half_up(value: Decimal, places: int) -> Decimal:
    """The value rounded to decimal places, halves up in magnitude."""
    return value.quantize(Decimal((0, (1,), -places)), rounding=ROUND_HALF_UP, context=Context(prec=400))
