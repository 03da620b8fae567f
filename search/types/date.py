"""Dates: every value is a stretch of time [low, high), and the prefixes compare stretches.

http://hl7.org/fhir/R4/search.html#date, #prefix: eq is containment; gt and lt look at the part of the value that lies
beyond the query; sa and eb want all of it there; ge and le are eq or that.

A point in time is one entry: its low end (a day, and a second and a millisecond where it has them), then a character
for its precision. At one instant coarser values come first, so eq is one range: coarser ones lie before it. A value
that begins before an instant and ends after it can only be the year, month, day or second around the instant, so those
few are named. A Period is two entries, by its low and by its high end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

from search.clauses import Between, Clause, OneOf, some
from search.params import Parameter
from search.texts import DAY, EPOCH, LAST, MAX, MIN, bound, day_text, instant, second_text
from search.types.rows import Add, Emit
from search.values import Around, Span, day_number, milliseconds, offset, prefixed, span, unescape

YEAR, MONTH, WHOLE_DAY, SECOND, MILLISECOND = "!", '"', "#", "$", "%"
BY_LENGTH = {4: YEAR, 7: MONTH, 10: WHOLE_DAY}
CLASS = {"year": YEAR, "month": MONTH, "day": WHOLE_DAY, "minute": SECOND, "second": SECOND}
LOW, HIGH = "(", ")"  # a Period's entries: by its low end, by its high end
OPEN_LOW, OPEN_HIGH = MIN * 9, MAX * 9

Stretch = tuple[str, str]


def point(text: str) -> str:
    """The entry text of a date, dateTime or instant."""
    if len(text) <= 10:
        return day_text(day_number(text)) + BY_LENGTH[len(text)]
    day = day_number(text[:10])
    second = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    zone = text[-6:] if text[-6] in "+-" else "Z"
    if zone != "Z":
        second -= offset(zone) // 1000
        day, second = (day + second // 86_400, second % 86_400) if day * 86_400 + second >= 0 else (0, 0)
    if second >= 86_400:  # a leap second
        day, second = day + 1, second - 86_400
    if text[19] != ".":
        return day_text(day) + second_text(second) + SECOND
    fraction = milliseconds(text[20:].rstrip("Z").partition("+")[0].partition("-")[0])
    return instant(day * DAY - EPOCH + second * 1000 + fraction) + MILLISECOND


def emit_point(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        try:
            add(key + point(value))
        except (ValueError, IndexError):  # 30 February: nothing can ask for it
            add(key)

    return emit


def emit_period(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        _add_period(key, value.get("start"), value.get("end"), add)

    return emit


def _add_period(key: str, start: str | None, end: str | None, add: Add) -> None:
    if not start and not end:
        add(key)
        return
    _add_limits(key, *_limits(start, end), add)


def _limits(start: str | None, end: str | None) -> Stretch:
    low = instant(span(start).low) if start else OPEN_LOW
    return low, instant(span(end).high) if end else OPEN_HIGH


def _add_limits(key: str, low: str, high: str, add: Add) -> None:
    add(f"{key}{LOW}{low}{high}")
    add(f"{key}{HIGH}{high}{low}")


def emit_timing(key: str) -> Emit:
    """Only the outer limits count: of the events and of the bounding period."""

    def emit(value: Any, add: Add, base: str) -> None:
        limits = [_limits(event, event) for event in value.get("event", ()) if event]
        bounds = value.get("repeat", {}).get("boundsPeriod", {})
        if "start" in bounds or "end" in bounds:
            limits.append(_limits(bounds.get("start"), bounds.get("end")))
        if not limits:
            add(key)
            return
        _add_limits(key, min(low for low, _ in limits), max(high for _, high in limits), add)

    return emit


def surrounding(at: int) -> list[str]:
    """The year, month, day and second that an instant lies inside of, not at the beginning, as entry texts."""
    if not -EPOCH < at < LAST:
        return []
    days, rest = divmod(at + EPOCH, DAY)
    found = []
    if rest % 1000:
        found.append(instant(at)[:7] + SECOND)
    if rest:
        found.append(day_text(days) + WHOLE_DAY)
    day = date.min + timedelta(days)
    if rest or day.day > 1:
        found.append(day_text(days - day.day + 1) + MONTH)
    if rest or day.day > 1 or day.month > 1:
        found.append(day_text(date(day.year, 1, 1).toordinal() - 1) + YEAR)
    return found


def next_text(text: str) -> str:
    """The text just above an entry, or above a part of a composite entry."""
    return text + " "


def exactly(texts: Iterable[str]) -> list[Stretch]:
    return [(text, next_text(text)) for text in texts]


def except_for(low: str, high: str, holes: Iterable[str]) -> list[Stretch]:
    """The stretch without some texts."""
    found = []
    for hole in sorted(h for h in holes if low <= h < high):
        found.append((low, hole))
        low = next_text(hole)
    return [*found, (low, high)]


def first_inside(asked: Span) -> str:
    """The first text of values that begin with the query's stretch and are no coarser than it."""
    if asked.precision == "millisecond":
        return instant(asked.low)
    if asked.precision in ("year", "month", "day"):
        return instant(asked.low)[:4] + CLASS[asked.precision]
    return instant(asked.low)[:7]


def points(prefix: str, asked: Span, fuzz: int) -> list[Stretch]:
    """Where the entries of points lie that match."""
    low, high, inside = bound(asked.low), bound(asked.high), first_inside(asked)
    stretches: dict[str, Callable[[], list[Stretch]]] = {
        "eq": lambda: [(inside, high)],
        "ne": lambda: [(MIN, inside), (high, MAX)],
        "gt": lambda: [(high, MAX), *exactly(surrounding(asked.high))],
        "lt": lambda: [(MIN, low)],
        "ge": lambda: [(inside, MAX), *exactly(surrounding(asked.high))],
        "le": lambda: [(MIN, low), (inside, high)],
        "sa": lambda: [(high, MAX)],
        "eb": lambda: except_for(MIN, low, surrounding(asked.low)),
        "ap": lambda: [(bound(asked.low - fuzz), bound(asked.high + fuzz)), *exactly(surrounding(asked.low - fuzz))],
    }
    return stretches[prefix]()


Bounds = tuple[str, str, str, tuple[int, str, str] | None]


def periods(prefix: str, asked: Span, fuzz: int, start: int) -> list[Bounds]:
    """Where the entries of Periods lie that match: marker, bounds, and the bounds of the other end from `start` on."""
    low, high = instant(asked.low), instant(asked.high)
    begins, ends = next_text(instant(asked.low - fuzz)), instant(asked.high + fuzz)
    inside: Bounds = (LOW, low, MAX, (start, MIN, next_text(high)))
    after: Bounds = (HIGH, high + MAX, MAX * 10, None)
    before: Bounds = (LOW, MIN, low, None)
    table: dict[str, list[Bounds]] = {
        "eq": [inside],
        "ne": [before, after],
        "gt": [after],
        "lt": [before],
        "ge": [after, inside],
        "le": [before, inside],
        "sa": [(LOW, high, MAX * 10, None)],
        "eb": [(HIGH, MIN, low + MAX, None)],
        "ap": [(LOW, MIN, ends, (start, begins, MAX * 10))],
    }
    return table[prefix]


def fuzziness(asked: Span, now: int | None) -> int:
    """A tenth of the time between now and the date (http://hl7.org/fhir/R4/search.html#prefix, ap)."""
    return 0 if now is None else max(0, max(asked.low - now, now - asked.high)) // 10


def matches_date(parameter: Parameter, value: str, around: Around) -> Clause:
    """A date with a prefix or without."""
    prefix, text = prefixed(unescape(value))
    asked = span(text)
    fuzz = fuzziness(asked, around.now) if prefix == "ap" else 0
    found: list[Clause] = []
    with_periods = bool(parameter.value_types & {"Period", "Timing"})
    for key in parameter.keys:
        found += [_stretch(key, low, high) for low, high in points(prefix, asked, fuzz) if low < high]
        for mark, low, high, within in periods(prefix, asked, fuzz, len(key) + 10) if with_periods else ():
            found.append(Between(key + mark + low, key + mark + high, within=within))
    return some(found)


def _stretch(key: str, low: str, high: str) -> Clause:
    return OneOf((key + low,)) if high == next_text(low) else Between(key + low, key + high)


def matches_updated(prefix: str, asked: Span, fuzz: int) -> list[tuple[int, int]]:
    """The same for `_lastUpdated`, which is always an instant: low <= at < high."""
    first, last = -EPOCH, 1 << 62
    return {
        "eq": [(asked.low, asked.high)],
        "ne": [(first, asked.low), (asked.high, last)],
        "gt": [(asked.high, last)],
        "sa": [(asked.high, last)],
        "ge": [(asked.low, last)],
        "lt": [(first, asked.low)],
        "eb": [(first, asked.low)],
        "le": [(first, asked.high)],
        "ap": [(asked.low - fuzz, asked.high + fuzz)],
    }[prefix]


POINTS = ("date", "dateTime", "instant")
EMIT = {**dict.fromkeys(POINTS, emit_point), "Period": emit_period, "Timing": emit_timing}
MATCH = {"": matches_date}
