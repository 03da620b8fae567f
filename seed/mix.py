"""The generator's mix of resources at benchmark speed: a few charts are built, the rest are stamped from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice
from random import Random
from typing import Any

import msgspec

from seed.elements import Json
from seed.generate import AS_OF, DEFAULT_SEED, generate, tag
from seed.people import address, human_names, person

TEMPLATES = 32
_DAY = re.compile(rb"(?<=\")20\d\d-\d\d-\d\d(?=[\"T])")
_VALUE = re.compile(rb"(?<=\"valueQuantity\":\{\"value\":)[\d.]*\d(?=,)")
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_DECODE = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Template:
    """One validated chart as JSON text: `patient` and `mrn` are the texts that a stamped copy has its own of."""

    text: bytes
    patient: bytes
    mrn: bytes


def mix(count: int, random_seed: int = DEFAULT_SEED) -> Iterator[Json]:
    """So many resources in the mix of `generate`: the hospital, then whole charts until the count is reached.

    Every resource is one that the models accepted, with its own ids, names, dates (moved by whole weeks) and
    last digits of measured values. References lead backwards only; ids grow, so they arrive in index order.
    Appointments of stamped charts may overlap.
    """
    return islice(_endless(random_seed), count)


def _endless(random_seed: int) -> Iterator[Json]:
    first, *charts, _ = generate(TEMPLATES, random_seed)
    yield from first
    templates = [_template(resources) for resources in charts]
    rng = Random(f"{random_seed}/mix")  # noqa: S311 - made-up people, no secrets
    number = 0
    while True:
        number += 1
        yield from _stamp(templates[number % TEMPLATES], number, rng, tag(random_seed))


def _template(resources: list[Json]) -> Template:
    patient = resources[0]
    return Template(_ENCODE(resources), patient["id"].encode(), patient["identifier"][0]["value"].encode())


def _stamp(template: Template, number: int, rng: Random, prefix: str) -> list[Json]:
    """A copy of the template for the patient `number`, somebody else at another time."""
    days = _moved(7 * rng.randint(0, 100))
    digits = iter(rng.choices(b"0123456789", k=len(template.text) // 100))
    text = template.text.replace(template.patient, f"{prefix}p{number:07d}".encode())
    text = text.replace(template.mrn, str(10_000_000 + number).encode())
    text = _DAY.sub(lambda found: days[found[0]], text)
    text = _VALUE.sub(lambda found: found[0][:-1] + bytes((next(digits),)), text)
    resources = _DECODE(text)
    who = person(rng, (AS_OF.year - 92, AS_OF.year - 5))
    resources[0] |= {"name": human_names(who), "gender": who.gender, "address": [address(rng)]}
    return resources


class _Days(dict[bytes, bytes]):
    """Days as ISO text to the day so many days before, each computed once."""

    def __init__(self, days: int) -> None:
        self.shift = timedelta(days=days)

    def __missing__(self, day: bytes) -> bytes:
        moved = (date.fromisoformat(day.decode()) - self.shift).isoformat().encode()
        self[day] = moved
        return moved


_SHIFTS: dict[int, _Days] = {}


def _moved(days: int) -> _Days:
    return _SHIFTS.setdefault(days, _Days(days))
