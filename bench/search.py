"""`python -m bench.search [--sizes 10k,100k,1m]`: searches on the seed generator's mix, beside the same sent by hand.

Each search goes from the parameters to the bytes of the searchset, as a request does without HTTP. By hand is the same
filter, order and limit sent to MongoDB through the driver, the documents being decoded and left alone; a chain or an
include takes a find for each step.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.mix import REGISTRY, Sample, load, sampled
from bench.shapes import SHAPES, Shape
from fhir_server.answers.links import PAGE, Seal
from fhir_server.answers.respond import Response
from fhir_server.config import Config
from fhir_server.context import Context, Request
from fhir_server.ids import TimeOrdered
from fhir_server.routes import handle
from fhir_server.store import Embedded, Store, open_store
from fhir_server.store.find.includes import included
from fhir_server.store.find.links import Links
from fhir_server.store.find.search import Search, Terms, reads_of
from fhir_server.store.terms import terms_of
from profiles.json import parse as parse_json
from search.clauses import Clause, Has, walk
from search.filters import compile, widened
from search.page import order, stages
from search.query import Query, parse

# A search is repeated so often, or for so many seconds, at least five times.
TIMES, SECONDS, LEAST = 101, 4.0, 5
PAGE_SIZE = 20
PAGES = 50
HAND = 300_000  # milliseconds: a million resources sorted by hand take long
KNOWN: dict[tuple[str, str], list[tuple[str, str]]] = {}
HEAD = f"{'search':<22}{'found':>14}{'p50 ms':>9}{'p99 ms':>9}{'by hand':>9}{'ratio':>7}"


class Row(NamedTuple):
    """Seconds of one search at one size, and of the same by hand."""

    name: str
    selective: bool
    found: str
    engine: list[float]
    hand: list[float]

    @property
    def ratio(self) -> float:
        return middle(self.engine) / middle(self.hand)

    def __str__(self) -> str:
        took, hand = middle(self.engine) * 1e3, middle(self.hand) * 1e3
        last = sorted(self.engine)[int(len(self.engine) * 0.99)] * 1e3
        return f"{self.name:<22}{self.found:>14}{took:>9.2f}{last:>9.2f}{hand:>9.2f}{self.ratio:>7.1f}"


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def spent(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Seconds, and the result."""
    begun = time.perf_counter()
    found = await work()
    return time.perf_counter() - begun, found


# The same by hand


async def by_hand(store: Store, query: Query, after: str = "") -> None:
    """What somebody with a driver and the same entries would send."""
    reads = reads_of(store, None)
    search = Search(store, reads, query, REGISTRY, None, _codes(store), time.monotonic() + 60)
    links = Links(search, few=any(isinstance(part, Has) for part in walk(query.clauses)))
    clause = await links.resolved(query.clauses)
    rows = await _page(reads, query, clause, after)
    if links.few:
        await links.fitting(clause, rows)
    if query.total == "accurate":
        await reads.count(compile(widened(clause)))
    if query.includes:
        await included(search, rows)


def _codes(store: Store) -> Terms:
    """What terminology says, known beforehand."""

    async def codes(how: str, value: str) -> list[tuple[str, str]]:
        if (how, value) not in KNOWN:
            KNOWN[how, value] = await terms_of(store, REGISTRY).codes(how, value)
        return KNOWN[how, value]

    return codes


async def _page(reads: Any, query: Query, clause: Clause, after: str) -> Any:
    filter: dict[str, Any] = compile(widened(clause))
    if after:
        filter = {"$and": [filter, {"_id": {"$gt": after}}]}
    limit = PAGE_SIZE + 1
    if query.sort and query.sort[0].parameter is None:
        return await reads.find_documents(filter, sort={"at": -1, "_id": -1}, limit=limit)
    if query.sort:
        return await reads.aggregate(stages(filter, query.sort, None, limit, {}), max_time_ms=HAND)
    return await reads.find_documents(filter, sort=order(()), limit=limit)


# Measuring


async def timed(context: Context, shape: Shape, sample: Sample, times: int) -> Row:
    """One search with as many values, in turns with the same by hand."""
    engine: list[float] = []
    hand: list[float] = []
    until, found = time.perf_counter() + SECONDS, ""
    for n in range(times):
        pairs = shape.pairs(sample, n)
        query = parse(shape.type, pairs, REGISTRY, now=0)

        async def through(pairs: Any = pairs) -> Response:
            return await handle(Request("GET", (shape.type,), query=pairs), context)

        async def beside(query: Query = query) -> None:
            await by_hand(context.store, query)  # type: ignore[arg-type]

        patient = sum(hand) < SECONDS
        if n % 2 and patient:
            hand.append((await spent(beside))[0])
        took, answer = await spent(through)
        engine.append(took)
        if not n % 2 and patient:
            hand.append((await spent(beside))[0])
        found = counted(answer)
        if n + 1 >= LEAST and time.perf_counter() > until:
            break
    return Row(shape.name, shape.selective, found, engine, hand)


def counted(answer: Response) -> str:
    """How much was found, of how much in all where that was told."""
    bundle: Any = parse_json(answer.body)
    if answer.status != 200:
        return str(bundle["issue"][0]["code"])
    matches = sum(entry["search"]["mode"] == "match" for entry in bundle.get("entry", ()))
    return f"{matches} of {bundle.get('total', '?')}"


async def deep(context: Context) -> Row:
    """Pages 2 to 50 of a long result, by their links."""
    code = ("code", "http://loinc.org|8867-4")
    query, pairs, after = parse("Observation", [code], REGISTRY, now=0), [code], ""
    engine, hand = [], []
    for _ in range(PAGES):

        async def through(pairs: Any = pairs) -> Response:
            return await handle(Request("GET", ("Observation",), query=pairs), context)

        async def beside(after: str = after) -> None:
            await by_hand(context.store, query, after)  # type: ignore[arg-type]

        took, answer = await spent(through)
        engine.append(took)
        hand.append((await spent(beside))[0])
        bundle: Any = parse_json(answer.body)
        link = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        if link is None:
            break
        last = bundle["entry"][-1]["resource"]
        pairs, after = [(PAGE, link.partition(f"{PAGE}=")[2])], f"Observation/{last['id']}"
    return Row("deep page", False, f"page {len(engine)}", engine[1:] or engine, hand[1:] or hand)


async def report(store: Store, size: int, times: int) -> tuple[list[Row], float]:
    """The table of one size, and the share of the index in the bodies."""
    begun = time.perf_counter()
    present = await store.driver.resources.estimated_document_count()
    await load(store, size, present)
    took = time.perf_counter() - begun
    if present < size:
        print(f"\n{size - present:,} resources written, {(size - present) / took:,.0f}/s", flush=True)
    share = await print_sizes(store)
    print(HEAD, flush=True)
    config = Config(auth="none", mongo="-")
    context = Context(config, store, REGISTRY, Seal(bytes(32)), lambda: datetime.now(UTC), TimeOrdered())
    sample, rows = await sampled(store), []
    for shape in SHAPES:
        rows.append(await timed(context, shape, sample, times))
        print(rows[-1], flush=True)
    rows.append(await deep(context))
    print(rows[-1], flush=True)
    return rows, share


async def print_sizes(store: Store) -> float:
    """The bytes of bodies, data on disk and indexes per resource; the share of the indexes in the bodies."""
    found = await store.sizes()
    summed = {"$group": {"_id": None, "bytes": {"$sum": {"$binarySize": {"$ifNull": ["$body", ""]}}}}}
    rows = await store.reads.aggregate([{"$match": {"s.0": {"$exists": True}}}, summed], max_time_ms=HAND)
    bodies = rows[0]["bytes"] / found["resources"]
    print(
        f"{found['resources']:,.0f} resources; bytes per resource: {bodies:,.0f} body, {found['data']:,.0f} data on "
        f"disk, {found['indexes']:,.0f} indexes"
    )
    return float(found["indexes"] / bodies)


def aims(found: dict[int, tuple[list[Row], float]]) -> None:
    """What was aimed for, and what misses it."""
    first, last = min(found), max(found)
    print("\naim                                                 missed by")
    for size, (rows, _) in found.items():
        slow = ", ".join(f"{row.name} {row.ratio:.1f}" for row in rows if row.ratio > 2)
        print(f"{f'p50 at most twice that by hand, {size:,}':<52}{slow or 'none'}")
    before = {row.name: middle(row.engine) for row in found[first][0]}
    growths = {row.name: middle(row.engine) / before[row.name] - 1 for row in found[last][0] if row.selective}
    if last > first:
        grown = ", ".join(f"{name} {growth:.0%}" for name, growth in growths.items() if growth > 0.3)
        print(f"{f'selective ones grow 30 % at most, {first:,} to {last:,}':<52}{grown or 'none'}")
    long = ", ".join(f"{row.name} {middle(row.engine):.1f} s" for row in found[last][0] if max(row.engine) > 1)
    print(f"{f'none over 1 s, {last:,}':<52}{long or 'none'}")
    large = f"{found[last][1]:.2f}"
    print(f"{'indexes at most 1.5 × the bodies':<52}{'none' if found[last][1] <= 1.5 else ''} ({large})")


@asynccontextmanager
async def opened(url: str, folder: str | None) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(prefix="fhir-bench-", dir=folder) as data:
        embedded = None if url else await Embedded.start(Path(data), cache_gb=4)
        store = await open_store(url or embedded.url, "bench_search")  # type: ignore[union-attr]
        try:
            yield store
        finally:
            await store.close()
            if embedded is not None:
                await embedded.stop()


def number(text: str) -> int:
    """`10k`, `1m` or a plain number."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower())
    return int(text[:-1]) * scale if scale else int(text)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--sizes", default="10k,100k,1m", help="how many resources, smallest first")
    parser.add_argument("--quick", action="store_true", help="only 10k, and fewer repetitions")
    parser.add_argument("--mongo", default="", help="a replica set to use instead of an embedded database")
    parser.add_argument("--folder", help="where the embedded database is put for the time: 1m takes 3 GB")
    asked = parser.parse_args()
    sizes = [10_000] if asked.quick else sorted(number(text) for text in asked.sizes.split(","))
    found = {}
    async with opened(asked.mongo, asked.folder) as store:
        for size in sizes:
            found[size] = await report(store, size, 11 if asked.quick else TIMES)
    aims(found)


if __name__ == "__main__":
    asyncio.run(main())
