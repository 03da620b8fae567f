"""Special parameters: `near` (http://hl7.org/fhir/R4/location.html#search) and words for the sound of a name.

A position is an entry of interleaved bits of latitude and longitude, so that a square is a few stretches of texts;
the true distance is then worked out from the body.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from search.clauses import Between, Body, Clause, OneOf, Resource, every, some
from search.params import Parameter
from search.texts import fold
from search.types.rows import Add, Emit
from search.values import Around, decimal, invalid, split, unescape
from search.walks import values

EARTH = 6_371.0088  # km, the mean radius
DEPTH = 24  # bits for each of latitude and longitude: 1 to 2 m
KILOMETRES = {
    "km": 1.0,
    "m": 0.001,
    "[mi_us]": 1.609347,
    "[mi_i]": 1.609344,
    "mi": 1.609344,
    "[ft_i]": 0.0003048,
    "[nmi_i]": 1.852,
}

Box = tuple[float, float, float, float]  # south, west, north, east


def cell(latitude: float, longitude: float) -> str:
    """The position as base-4 digits, the greatest square first."""
    south, west, north, east = -90.0, -180.0, 90.0, 180.0
    digits = []
    for _ in range(DEPTH):
        middle, centre = (south + north) / 2, (west + east) / 2
        up, right = latitude >= middle, longitude >= centre
        south, north = (middle, north) if up else (south, middle)
        west, east = (centre, east) if right else (west, centre)
        digits.append("0123"[up * 2 + right])
    return "".join(digits)


def cover(box: Box, most: int = 40) -> list[str]:
    """Prefixes of cells that together hold the box; few and rather too large than many."""
    cells: list[tuple[str, Box]] = [("", (-90.0, -180.0, 90.0, 180.0))]
    while len(cells[0][0]) < DEPTH:
        finer = [c for cell_ in cells for c in _quarters(*cell_) if _overlap(c[1], box)]
        if len(finer) > most:
            break
        cells = finer
    return [prefix for prefix, _ in cells]


def _quarters(prefix: str, box: Box) -> Iterable[tuple[str, Box]]:
    south, west, north, east = box
    middle, centre = (south + north) / 2, (west + east) / 2
    for digit in range(4):
        low, high = (middle, north) if digit & 2 else (south, middle)
        left, right = (centre, east) if digit & 1 else (west, centre)
        yield prefix + str(digit), (low, left, high, right)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Kilometres along the great circle."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, p)) for p in (a, b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH * math.asin(min(1.0, math.sqrt(h)))


def around_point(latitude: float, longitude: float, kilometres: float) -> list[Box]:
    """The boxes that hold the circle; two where it crosses the date line."""
    up = math.degrees(kilometres / EARTH) + 1e-6
    south, north = max(-90.0, latitude - up), min(90.0, latitude + up)
    widest = min(90.0, max(abs(south), abs(north)))
    ratio = math.sin(min(math.pi / 2, kilometres / EARTH)) / max(1e-12, math.cos(math.radians(widest)))
    across = 180.0 if widest >= 90 or ratio >= 1 else math.degrees(math.asin(ratio)) + 1e-6
    west, east = longitude - across, longitude + across
    boxes = [(south, max(-180.0, west), north, min(180.0, east))]
    if west < -180 and across < 180:
        boxes.append((south, west + 360, north, 180.0))
    if east > 180 and across < 180:
        boxes.append((south, -180.0, north, east - 360))
    return boxes


def emit_position(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        if "latitude" in value and "longitude" in value:
            add(key + cell(float(value["latitude"]), float(value["longitude"])))
        else:
            add(key)

    return emit


def near(parameter: Parameter, value: str, around: Around) -> Clause:
    """`latitude|longitude|distance|units`; 25 km where no distance is given."""
    at, kilometres = _asked_position(value)

    def check(resource: Resource) -> bool:
        positions = (v for _, v in values(resource, parameter) if "latitude" in v and "longitude" in v)
        return any(distance(at, (float(v["latitude"]), float(v["longitude"]))) <= kilometres for v in positions)

    cells = [c for box in around_point(*at, kilometres) for c in cover(box)]
    found = some(Between(key + c, key + c + "~") for key in parameter.keys for c in cells)
    return every((found, Body(check, f"within {kilometres:g} km of {at[0]:g}, {at[1]:g}")))


def _asked_position(value: str) -> tuple[tuple[float, float], float]:
    parts = [unescape(p) for p in split(value, "|")]
    if not 2 <= len(parts) <= 4:
        raise invalid(f"{value!r} is not latitude|longitude|distance|units")
    latitude, longitude = decimal(parts[0]), decimal(parts[1])
    length = decimal(parts[2]) if len(parts) > 2 and parts[2] else Decimal(25)
    unit = parts[3] if len(parts) > 3 and parts[3] else "km"
    if abs(latitude) > 90 or abs(longitude) > 180 or not 0 <= length <= 10**9:
        raise invalid(f"{value!r}: latitude is -90 to 90, longitude -180 to 180, the distance not negative")
    if unit not in KILOMETRES:
        raise invalid(f"Unknown unit of length {unit!r}; one of {', '.join(KILOMETRES)}")
    return (float(latitude), float(longitude)), float(length) * KILOMETRES[unit]


_SOUNDS = {
    c: d for d, cs in (("1", "bfpv"), ("2", "cgjkqsxz"), ("3", "dt"), ("4", "l"), ("5", "mn"), ("6", "r")) for c in cs
}


def sound(word: str) -> str:
    """American Soundex of a word: `robert` and `rupert` are r163."""
    letters = [c for c in fold(word) if c.isalpha()]
    if not letters:
        return ""
    found, last = letters[0], _SOUNDS.get(letters[0], "")
    for letter in letters[1:]:
        digit = _SOUNDS.get(letter, "")
        if digit and digit != last:
            found += digit
        if letter not in "hw":
            last = digit
    return (found + "000")[:4]


def emit_sound(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        for word in value.split():
            add(key + sound(word))

    return emit


def sounds_like(parameter: Parameter, value: str, around: Around) -> Clause:
    """Every word of the value sounds like a word of the name."""
    words = [sound(w) for w in unescape(value).split()]
    if not any(words):
        raise invalid("A name to search by its sound must have letters")
    return every(OneOf(tuple(key + w for key in parameter.keys)) for w in words if w)


EMIT = {"Location.position": emit_position}
MATCH = {"": near}
SOUND_EMIT = {"string": emit_sound}
SOUND_MATCH = {"": sounds_like}
