"""Numbers (http://hl7.org/fhir/R4/search.html#number): a value is a point, the query's digits say how exact `eq` is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from search.clauses import Between, Body, Clause, OneOf, Resource, every, some
from search.params import Parameter
from search.texts import number, precision
from search.types.rows import Add, Emit
from search.values import Around, decimal, prefixed, unescape
from search.walks import values

# An interval's entry; numbers start with n, o or p.
INTERVAL = "="
LEAST, MOST = "n", "q"

Interval = tuple[Decimal | None, Decimal | None]
Bounds = tuple[str, str]


def emit_number(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        add(key + number(value))

    return emit


def emit_interval(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        add(key + INTERVAL)

    return emit


def next_text(text: str) -> str:
    """The text just above an entry that is exactly this number."""
    return text + " "  # above the separator that may follow a number, below every digit


def bounds(prefix: str, low: Decimal, value: Decimal, high: Decimal) -> tuple[Bounds, ...]:
    """The stretches of number texts that a prefix asks for; [low, high) is the value with its precision."""
    at = number(value)
    tenth = abs(value) / 10
    stretches: dict[str, Callable[[], tuple[Bounds, ...]]] = {
        "eq": lambda: ((number(low), number(high)),),
        "ne": lambda: ((LEAST, number(low)), (number(high), MOST)),
        "gt": lambda: ((next_text(at), MOST),),
        "sa": lambda: ((next_text(at), MOST),),
        "ge": lambda: ((at, MOST),),
        "lt": lambda: ((LEAST, at),),
        "eb": lambda: ((LEAST, at),),
        "le": lambda: ((LEAST, next_text(at)),),
        "ap": lambda: ((number(min(low, value - tenth)), next_text(number(max(high, value + tenth)))),),
    }
    return stretches[prefix]()


def asked(text: str) -> tuple[str, Decimal, Decimal, Decimal]:
    """(prefix, low, value, high) of a number in a query."""
    prefix, rest = prefixed(text)
    value = decimal(rest)
    half = precision(value)
    return prefix, value - half, value, value + half


def interval_holds(prefix: str, low: Decimal, value: Decimal, high: Decimal, found: Interval) -> bool:
    """The same prefixes on an interval, an open end being None (http://hl7.org/fhir/R4/search.html#prefix)."""
    first, last = found
    inside = first is not None and last is not None and low <= first and last < high
    above, below = last is None or last > value, first is None or first < value
    tenth = abs(value) / 10
    return {
        "eq": inside,
        "ne": not inside,
        "gt": above,
        "lt": below,
        "ge": above or inside or last == value,
        "le": below or inside or first == value,
        "sa": first is not None and first > value,
        "eb": last is not None and last < value,
        "ap": (last is None or last >= value - tenth) and (first is None or first <= value + tenth),
    }[prefix]


def matches_number(parameter: Parameter, value: str, around: Around) -> Clause:
    """A number, with a prefix or without."""
    question = asked(unescape(value))
    found: list[Clause] = [Between(k + a, k + b) for k in parameter.keys for a, b in bounds(*question)]
    if "Range" in parameter.value_types:
        found.append(every((OneOf(tuple(k + INTERVAL for k in parameter.keys)), _in_range(parameter, question))))
    return some(found)


def _in_range(parameter: Parameter, question: tuple[str, Decimal, Decimal, Decimal]) -> Body:
    def check(resource: Resource) -> bool:
        return any(interval_holds(*question, interval(v)) for kind, v in values(resource, parameter) if kind == "Range")

    return Body(check, f"{parameter.code} of a range")


def interval(value: dict[str, Any]) -> Interval:
    """The ends of a Range."""
    low, high = value.get("low", {}).get("value"), value.get("high", {}).get("value")
    return (None if low is None else Decimal(low)), (None if high is None else Decimal(high))


NUMBERS = ("decimal", "integer", "positiveInt", "unsignedInt")
EMIT = {**dict.fromkeys(NUMBERS, emit_number), "Range": emit_interval}
MATCH = {"": matches_number}
