"""Date, DateTime and Time values with their precision: parsing, comparison, arithmetic (N1 sections Date/Time ...)."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache

from profiles.fhirpath.errors import FhirPathError

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?", re.ASCII)
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII)

# Units from coarse to fine; a unit's rank is the precision that shows it.
RANK = {"year": 1, "month": 2, "day": 3, "hour": 4, "minute": 5, "second": 6}


@dataclass(frozen=True, slots=True)
class Temporal:
    """A partial date or time: `parts` are year, month, day, hour, minute, second (a Time starts at the hour).

    `zone` is the offset in minutes, None where none was given.
    """

    kind: str
    parts: tuple[int | Decimal, ...]
    zone: int | None = None

    def __str__(self) -> str:
        """The text in the precision of the value."""
        if self.kind == "Time":
            return _clock(self.parts)
        date = "-".join(f"{part:0{width}d}" for part, width in zip(self.parts[:3], (4, 2, 2), strict=False))
        if len(self.parts) < 4:
            return date
        return f"{date}T{_clock(self.parts[3:])}{_zone_text(self.zone)}"

    @property
    def precision(self) -> int:
        """The finest unit given, as a rank: 1 year ... 6 second."""
        return len(self.parts) + (3 if self.kind == "Time" else 0)


def _clock(parts: tuple[int | Decimal, ...]) -> str:
    return ":".join(_two(part) for part in parts)


def _two(part: int | Decimal) -> str:
    if isinstance(part, int):
        return f"{part:02d}"
    whole, dot, rest = format(part, "f").partition(".")
    return whole.zfill(2) + dot + rest


def _zone_text(zone: int | None) -> str:
    if zone is None:
        return ""
    if zone == 0:
        return "Z"
    return f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02d}:{abs(zone) % 60:02d}"


@lru_cache(maxsize=4096)
def parse(kind: str, text: str) -> Temporal | None:
    """The value the text writes, or None where it is not one of that kind ('Date', 'DateTime' or 'Time')."""
    if kind == "Time":
        clock = _times(text)
        return Temporal("Time", clock) if clock else None
    date_text, mark, rest = text.partition("T")
    date = _dates(date_text)
    if date is None or (mark and kind == "Date"):
        return None
    if not rest:
        return Temporal(kind, date)
    zone = _ZONE.search(rest)
    clock = _times(rest[: zone.start()] if zone else rest)
    if clock is None or len(date) < 3 or (zone and zone.end() != len(rest)):
        return None
    minutes = _minutes(zone.group()) if zone else None
    return Temporal(kind, date + clock, minutes)


def _minutes(zone: str) -> int:
    if zone == "Z":
        return 0
    return (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 60 + int(zone[4:6]))


def _dates(text: str) -> tuple[int | Decimal, ...] | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    parts = tuple(int(part) for part in match.groups() if part)
    year, month, day = (*parts, 1, 1)[:3] if len(parts) < 3 else parts
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= monthrange(year, month)[1]:
        return None
    return parts


def _times(text: str) -> tuple[int | Decimal, ...] | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = match.groups()
    parts: tuple[int | Decimal, ...] = (int(hour),)
    if minute is not None:
        parts = (*parts, int(minute))
    if second is not None:
        parts = (*parts, Decimal(second))
    fine = int(hour) < 24 and int(minute or 0) < 60 and Decimal(second or 0) < 61
    return parts if fine else None


def compare(a: Temporal, b: Temporal) -> int | None:
    """-1, 0 or 1, and None where precisions or a missing offset leave it unknown; both dates or both times."""
    if a.zone == b.zone or a.precision < 4 or b.precision < 4:
        return _compare_parts(a.parts, b.parts)
    if a.zone is None or b.zone is None:
        return _compare_unzoned(a, b)
    return _compare_parts(utc(a), utc(b))


def _compare_unzoned(a: Temporal, b: Temporal) -> int | None:
    """Without an offset a time may lie in any zone from -12:00 to +14:00: decided only when all of them agree."""
    bare, other = (a, b) if a.zone is None else (b, a)
    ends = {_compare_parts(utc(Temporal(bare.kind, bare.parts, z)), utc(other)) for z in (-720, 840)}
    if len(ends) != 1 or ends == {0}:
        return None
    found = ends.pop()
    return found if found is None or bare is a else -found


def _compare_parts(a: tuple[int | Decimal, ...], b: tuple[int | Decimal, ...]) -> int | None:
    for left, right in zip(a, b, strict=False):
        if left != right:
            return -1 if left < right else 1
    return 0 if len(a) == len(b) else None


def utc(value: Temporal) -> tuple[int | Decimal, ...]:
    """The parts at offset zero, in the same precision; a date or a value without an offset stays as it is."""
    if not value.zone or value.precision < 4:
        return value.parts
    year, month, day, hour, *rest = value.parts
    minute = int(rest[0]) if rest else 0
    try:
        moved = datetime(int(year), int(month), int(day), int(hour), minute) - timedelta(minutes=value.zone)
    except OverflowError:
        return value.parts
    whole = (moved.year, moved.month, moved.day, moved.hour, moved.minute)
    return whole[: len(value.parts)] + tuple(rest[1:])


def add(value: Temporal, amount: Decimal, unit: str) -> Temporal:
    """The value moved by an amount of a calendar unit (section Date/Time Arithmetic)."""
    if unit == "millisecond":
        amount, unit = amount / 1000, "second"
    if unit == "week":
        amount, unit = Decimal(int(amount) * 7), "day"
    if abs(amount) > 10**12:
        raise FhirPathError("The result of the date arithmetic is out of range")
    if value.kind == "Time":
        return _add_time(value, amount, unit)
    if unit in ("year", "month"):
        return _add_months(value, int(amount) * (12 if unit == "year" else 1))
    return _add_seconds(value, amount, unit)


_SECONDS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def _add_time(value: Temporal, amount: Decimal, unit: str) -> Temporal:
    if unit not in ("hour", "minute", "second"):
        raise FhirPathError(f"A Time cannot be moved by a {unit}")
    step = _SECONDS[("hour", "minute", "second")[len(value.parts) - 1]]
    _, moved = _days_and_seconds(_seconds_of(value.parts) + _whole(amount, unit, step))
    return Temporal("Time", _clock_of(moved, value.parts))


def _days_and_seconds(seconds: Decimal) -> tuple[int, Decimal]:
    """Whole days and the seconds of the day left, which are never negative: -1 ms is 23:59:59.999 of the day before."""
    days = int((seconds / 86400).to_integral_value(ROUND_FLOOR))
    return days, seconds - days * 86400


def _whole(amount: Decimal, unit: str, step: int) -> Decimal:
    """The seconds of an amount, cut to whole steps of the value's precision; only seconds keep their decimals."""
    seconds = (amount if unit == "second" else Decimal(int(amount))) * _SECONDS[unit]
    return seconds if step == 1 else Decimal(int(seconds / step)) * step


def _seconds_of(clock: tuple[int | Decimal, ...]) -> Decimal:
    hour, minute, second = (*clock, 0, 0)[:3] if len(clock) < 3 else clock
    return Decimal(hour) * 3600 + Decimal(minute) * 60 + Decimal(second)


def _clock_of(seconds: Decimal, like: tuple[int | Decimal, ...]) -> tuple[int | Decimal, ...]:
    """Hour, minute and second in the precision of `like`; at least the decimals it had."""
    whole = int(seconds)
    second = seconds - whole + whole % 60
    if len(like) == 3 and isinstance(like[2], Decimal):
        places = int(like[2].as_tuple().exponent)
        second = second.normalize() if second else Decimal(0)
        if int(second.as_tuple().exponent) > places:
            second = second.quantize(Decimal((0, (1,), places)))
    return (whole // 3600, whole // 60 % 60, second)[: len(like)]


def _add_months(value: Temporal, months: int) -> Temporal:
    if len(value.parts) == 1:
        months = int(months / 12) * 12
    total = int(value.parts[0]) * 12 + (int(value.parts[1]) - 1 if len(value.parts) > 1 else 0) + months
    year, month = total // 12, total % 12 + 1
    if not 1 <= year <= 9999:
        raise FhirPathError("The result of the date arithmetic is out of range")
    parts: tuple[int | Decimal, ...] = (year, month)[: len(value.parts)]
    if len(value.parts) > 2:
        parts = (*parts, min(int(value.parts[2]), monthrange(year, month)[1]), *value.parts[3:])
    return Temporal(value.kind, parts, value.zone)


def _add_seconds(value: Temporal, amount: Decimal, unit: str) -> Temporal:
    rank = value.precision
    if rank < 3:
        # A partial date moves by whole units of its own precision: 365 days are a year, 30 days a month.
        days = (
            int(_whole(amount, unit, 86400)) // 86400 if amount >= 0 else -(int(-_whole(amount, unit, 86400)) // 86400)
        )
        return _add_months(value, int(days / 365) * 12 if rank == 1 else int(days / 30))
    step = (86400, 3600, 60, 1)[rank - 3]
    clock = value.parts[3:]
    days, left = _days_and_seconds((_seconds_of(clock) if clock else Decimal(0)) + _whole(amount, unit, step))
    try:
        date = datetime(int(value.parts[0]), int(value.parts[1]), int(value.parts[2])) + timedelta(days=days)
    except OverflowError as error:
        raise FhirPathError("The result of the date arithmetic is out of range") from error
    return Temporal(value.kind, (date.year, date.month, date.day, *_clock_of(left, clock)[: len(clock)]), value.zone)
