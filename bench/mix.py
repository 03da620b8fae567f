"""The seed generator's hospital as often as it takes, and values that are in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.store import New, Store
from profiles.json import encode, parse
from search.entries import compartment, entries
from search.params import Registry
from seed.generate import generate

REGISTRY = Registry.r4()
PATIENTS = 40  # generated; more are their copies under other ids, names and identifiers
MRN = "urn:bench:mrn"


@dataclass
class Sample:
    """Values that are in the database."""

    patients: list[str]
    families: list[str]
    mrns: list[str]

    def patient(self, n: int) -> str:
        return self.patients[n * 7919 % len(self.patients)]

    def family(self, n: int) -> str:
        return self.families[n * 7919 % len(self.families)]

    def mrn(self, n: int) -> str:
        return self.mrns[n * 7919 % len(self.mrns)]


def copies(size: int) -> Iterator[dict[str, Any]]:
    """The hospital, and patients as often as it takes."""
    groups = [list(group) for group in generate(PATIENTS)]
    made = 0
    for resource in groups[0]:
        made += 1
        yield resource
    number = 0
    while made < size:
        for group in groups[1:-1]:
            number += 1
            for resource in _renamed(group, number):
                made += 1
                yield resource
            if made >= size:
                return


def _renamed(group: list[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    names = {r["id"]: f"{r['id']}-{number:x}" for r in group}
    for resource in group:
        found = _with(resource, names)
        if found["resourceType"] == "Patient":
            letters = random.Random(number).choices("abcdefghilmnoprstu", k=7)
            found["name"][0]["family"] = "".join(letters).capitalize()
            place = group.index(resource)  # a newborn is in the group of its mother
            found["identifier"] = [{"system": MRN, "value": f"M{number:07d}.{place}"}]
        yield found


def _with(value: Any, names: dict[str, str]) -> Any:
    """The same content under other ids."""
    if isinstance(value, dict):
        found = {k: _with(v, names) for k, v in value.items()}
        if "resourceType" in found:
            found["id"] = names.get(found["id"], found["id"])
        if isinstance(found.get("reference"), str):
            kind, _, id_ = found["reference"].partition("/")
            found["reference"] = f"{kind}/{names.get(id_, id_)}"
        return found
    return [_with(v, names) for v in value] if isinstance(value, list) else value


async def load(store: Store, size: int, done: int) -> None:
    """Write what is missing, in the order in which a hospital would."""
    waiting: list[Any] = []
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for n, resource in enumerate(copies(size)):
        if n < done:
            continue
        written = entries(resource, REGISTRY)
        then = at + timedelta(milliseconds=n * 10)
        new = New(resource["resourceType"], resource["id"], 1, then, encode(resource), written, compartment(resource))
        waiting.append(asyncio.ensure_future(store.create(new)))
        if len(waiting) == 1024:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)


async def sampled(store: Store) -> Sample:
    rows = await store.reads.find_documents({"s": "Pt"}, limit=5_000)
    people = [parse(bytes(row["body"])) for row in rows]
    assert all(isinstance(person, dict) for person in people)
    mrns = [p["identifier"][0]["value"] for p in people if p["identifier"][0]["system"] == MRN]
    # The other names of a copy are those of the original, and shared by all its copies.
    families = [p["name"][0]["family"] for p in people]
    return Sample([r["_id"].partition("/")[2] for r in rows], [f for f in families if len(f) == 7], mrns)
