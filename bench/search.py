"""`python -m bench.search [--sizes 10000,100000]`: twenty searches on the seed generator's mix, one table.

Each search runs through the engine (parse, plan, find, count) and, where it is one filter, as that filter sent by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.store import Embedded, New, Store, open_store
from fhir_server.store.find import find
from profiles.json import encode
from profiles.outcome import FhirError
from search.entries import compartment, entries
from search.filters import compile, is_seen
from search.params import Registry
from search.query import parse
from seed.generate import generate

REGISTRY = Registry.r4()
TIMES = 21
PATIENTS = 40  # generated; more are their copies under other ids, names and identifiers
MRN = "urn:bench:mrn"
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Shape:
    """One of the searches; `pairs` makes the query with the n-th values."""

    name: str
    type: str
    pairs: Callable[[Sample, int], Pairs]


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


CODES = ("8867-4", "8310-5", "29463-7", "8302-2")
SHAPES = (
    Shape("identifier", "Patient", lambda s, n: [("identifier", f"{MRN}|{s.mrn(n)}")]),
    Shape("name prefix", "Patient", lambda s, n: [("family", s.family(n)[:6])]),
    Shape("name :contains", "Patient", lambda s, n: [("family:contains", s.family(n)[2:8])]),
    Shape(
        "patient + code",
        "Observation",
        lambda s, n: [("patient", s.patient(n)), ("code", f"http://loinc.org|{CODES[n % 4]}")],
    ),
    Shape(
        "code + date range",
        "Observation",
        lambda s, n: [
            ("code", "http://loinc.org|8867-4"),
            ("date", f"ge202{3 + n % 3}-0{1 + n % 8}"),
            ("date", f"lt202{3 + n % 3}-0{2 + n % 8}"),
        ],
    ),
    Shape(
        "code + value range",
        "Observation",
        lambda s, n: [("code-value-quantity", f"http://loinc.org|8867-4$gt{90 + n % 9}")],
    ),
    Shape(
        "_has",
        "Patient",
        lambda s, n: [("_has:Observation:patient:code", "http://loinc.org|8867-4"), ("family", s.family(n)[:6])],
    ),
    Shape("two-step chain", "Observation", lambda s, n: [("encounter.patient.family", s.family(n))]),
    Shape(
        "_include",
        "Observation",
        lambda s, n: [
            ("patient", s.patient(n)),
            ("_include", "Observation:subject"),
            ("_include", "Observation:encounter"),
        ],
    ),
    Shape("sort, newest first", "Observation", lambda s, n: [("patient", s.patient(n)), ("_sort", "-date")]),
    Shape("sort, whole type", "Observation", lambda s, n: [("_sort", "-date"), ("_count", "10")]),
    Shape("_lastUpdated, newest", "Observation", lambda s, n: [("_sort", "-_lastUpdated"), ("_count", "10")]),
    Shape("token :below", "Condition", lambda s, n: [("code:below", "http://hl7.org/fhir/sid/icd-10-cm|E11")]),
    Shape("_text", "Condition", lambda s, n: [("_text", "diabetes")]),
    Shape("near", "Location", lambda s, n: [("near", "42.36|-71.06|10|km")]),
    Shape(
        "blood pressure",
        "Observation",
        lambda s, n: [
            ("component-code-value-quantity", f"8480-6$gt{150 + n % 9}"),
            ("component-code-value-quantity", "8462-4$gt90"),
        ],
    ),
    Shape("_total=accurate", "Observation", lambda s, n: [("code", "http://loinc.org|8867-4"), ("_total", "accurate")]),
    Shape("_filter", "Patient", lambda s, n: [("_filter", f'family sw "{s.family(n)[:5]}" and birthdate lt 1990')]),
    Shape(":missing", "Patient", lambda s, n: [("birthdate:missing", "true")]),
    Shape(
        "1,000 values",
        "Patient",
        lambda s, n: [("identifier", ",".join(f"{MRN}|{s.mrn(i * 31 + n)}" for i in range(1000)))],
    ),
    Shape("_content", "Condition", lambda s, n: [("_content", "hypertension")]),
)


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
            found["identifier"] = [{"system": MRN, "value": f"M{number:07d}"}]
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
        name = f"{resource['resourceType']}/{resource['id']}"
        written = entries(resource, REGISTRY)
        new = New(
            *name.split("/"), 1, at + timedelta(milliseconds=n * 10), encode(resource), written, compartment(resource)
        )
        waiting.append(asyncio.ensure_future(store.create(new)))
        if len(waiting) == 1024:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)


async def sampled(store: Store) -> Sample:
    rows = await store.reads.find_documents({"s": "Pt"}, limit=5_000)
    registry = REGISTRY
    mrn, family = registry.lookup("Patient", "identifier"), registry.lookup("Patient", "family")
    assert mrn is not None and family is not None
    mrns = [e[5:].partition("|")[0] for r in rows for e in r["s"] if e.startswith(mrn.key)]
    families = [e[5:] for r in rows for e in r["s"] if e.startswith(family.key)]
    return Sample([r["_id"].partition("/")[2] for r in rows], families, [m.upper() for m in mrns])


async def timed(store: Store, shape: Shape, sample: Sample) -> tuple[list[float], list[float], str]:
    """Milliseconds through the engine, and by hand."""
    engine, by_hand, note = [], [], ""
    for n in range(TIMES):
        pairs = shape.pairs(sample, n)
        begun = time.perf_counter()
        try:
            query = parse(shape.type, pairs, REGISTRY, now=0)
            found = await find(store, query, registry=REGISTRY)
            note = f"{len(found.matches)} of {'?' if found.total is None else found.total}"
        except FhirError as error:
            return engine, by_hand, error.code
        engine.append((time.perf_counter() - begun) * 1000)
        if is_seen(query.clauses) and not query.sort:
            begun = time.perf_counter()
            await store.reads.find_documents(compile(query.clauses), sort={"_id": 1}, limit=21)
            by_hand.append((time.perf_counter() - begun) * 1000)
    return engine, by_hand, note


async def deep_page(store: Store) -> tuple[list[float], str]:
    """Milliseconds of page 1 to 50 of a long result."""
    query = parse("Observation", [("code", "http://loinc.org|8867-4")], REGISTRY, now=0)
    took, cursor = [], None
    for _ in range(50):
        begun = time.perf_counter()
        found = await find(store, query, registry=REGISTRY, cursor=cursor)
        took.append((time.perf_counter() - begun) * 1000)
        cursor = found.next
        if cursor is None:
            break
    return took, f"page {len(took)}: {took[-1]:.1f} ms"


def row(name: str, took: list[float], by_hand: list[float], note: str) -> str:
    if not took:
        return f"{name:<22}{note:>40}"
    hand = f"{statistics.median(by_hand):>9.1f}" if by_hand else " " * 9
    p95 = sorted(took)[int(len(took) * 0.95) - 1] if len(took) > 2 else max(took)
    return f"{name:<22}{statistics.median(took):>9.1f}{p95:>9.1f}{hand}   {note}"


async def report(store: Store, size: int) -> None:
    begun = time.perf_counter()
    present = await store.driver.resources.estimated_document_count()
    await load(store, size, present)
    took = time.perf_counter() - begun
    print(f"\n{size:,} resources ({max(0, size - present) / took:,.0f}/s written)")
    print(await sizes(store))
    print(f"{'search':<22}{'p50 ms':>9}{'p95 ms':>9}{'by hand':>9}   found")
    sample = await sampled(store)
    for shape in SHAPES:
        print(row(shape.name, *await timed(store, shape, sample)), flush=True)
    pages, note = await deep_page(store)
    print(row("deep page", pages, [], note))


async def sizes(store: Store) -> str:
    stats = await store.driver.command({"collStats": "resources"})
    count = max(1, stats["count"])
    indexes = ", ".join(f"{name} {size / count:.0f}" for name, size in stats["indexSizes"].items())
    return (
        f"bytes a resource: document {stats['avgObjSize']}, on disk {stats['storageSize'] / count:.0f}, index {indexes}"
    )


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as folder:
        embedded = None if url else await Embedded.start(folder, cache_gb=2)
        store = await open_store(url or embedded.url, "bench_search")  # type: ignore[union-attr]
        try:
            yield store
        finally:
            await store.close()
            if embedded is not None:
                await embedded.stop()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--mongo", default="")
    asked = parser.parse_args()
    async with opened(asked.mongo) as store:
        for size in asked.sizes.split(","):
            await report(store, int(size))


if __name__ == "__main__":
    asyncio.run(main())
