"""`python -m bench.terminology [--quick] [--big N]`: a server with one worker over HTTP, then terminology by itself."""

from __future__ import annotations

import argparse
import gc
import random
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.coded import CODED
from bench.lines import HEAD, measure, told
from bench.processes import fhir_server, load_generator, mongod_pid, plain_server
from bench.processes import memory as held
from profiles.json import encode
from terminology.codes import below
from terminology.content import shipped
from terminology.expand import Clock
from terminology.library import Library
from terminology.operations import Asking, run
from terminology.pack import Row, pack
from terminology.packed import PackedSystem
from terminology.request import of_query

ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
GENDER = "http://hl7.org/fhir/administrative-gender"
CONNECTIONS = 16
CLOCK = Clock(datetime.now(UTC), "00000000-0000-4000-8000-000000000000")
ASKED: dict[str, tuple[str, str, dict[str, str]]] = {
    "$lookup ICD-10-CM": ("CodeSystem", "lookup", {"system": ICD10, "code": "E11.65"}),
    "$lookup R4": ("CodeSystem", "lookup", {"system": GENDER, "code": "male"}),
    "$validate-code R4": (
        "ValueSet",
        "validate-code",
        {"url": "http://hl7.org/fhir/ValueSet/administrative-gender", "system": GENDER, "code": "male"},
    ),
    "$validate-code branch": (
        "ValueSet",
        "validate-code",
        {"url": f"{ICD10}?fhir_vs=isa/E11", "system": ICD10, "code": "E11.65"},
    ),
    "$subsumes": ("CodeSystem", "subsumes", {"system": ICD10, "codeA": "E11", "codeB": "E11.65"}),
    "$translate GEM": (
        "ConceptMap",
        "translate",
        {"system": ICD10, "code": "E11.65", "url": "http://hl7.org/fhir/sid/ConceptMap/GemIcd10CmToIcd9Cm"},
    ),
    **{
        f"$expand filter={text!r}": ("ValueSet", "expand", {"url": f"{ICD10}?fhir_vs", "filter": text, "count": "20"})
        for text in ("dia", "diabetes retin", "fracture radius", "encounter", "hypertensoin")
    },
    "$expand page of 1,000": (
        "ValueSet",
        "expand",
        {"url": f"{ICD10}?fhir_vs", "offset": "50000", "count": "1000"},
    ),
}


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(prog="python -m bench.terminology", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the repetitions, no generated system")
    arguments.add_argument("--big", type=int, default=500_000, help="concepts of a generated system; 0 for none")
    asked = arguments.parse_args()
    _served(1.0 if asked.quick else 3.0)
    print("\nby itself, without HTTP and database")
    times = 20 if asked.quick else 200
    before = _memory()
    started = time.perf_counter()
    library = Library([shipped()])
    print(f"index read in {(time.perf_counter() - started) * 1000:.0f} ms")
    started = time.perf_counter()
    for url in (ICD10, "http://www.cms.gov/Medicare/Coding/ICD10", "http://loinc.org", GENDER):
        library.code_system(url)
    print(f"ICD-10-CM, ICD-10-PCS and LOINC unpacked in {(time.perf_counter() - started) * 1000:.0f} ms")
    print(f"{'operation':<32}{'p50 ms':>9}{'p99 ms':>9}{'a second':>11}")
    for name, (kind, operation, query) in ASKED.items():
        asking = Asking(library, of_query(query.items()), CLOCK)
        _row(name, lambda k=kind, o=operation, a=asking: encode(run(k, o, a)), times)  # type: ignore[misc]
    print(f"memory: {_memory() - before:.0f} MB more than before")
    if asked.big and not asked.quick:
        _big(asked.big)


def _served(seconds: float) -> None:
    """Requests to a running server, each for some seconds: many callers at once, those that expand one by one."""
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as data, load_generator() as client:
        server, plain = fhir_server(Path(data)), plain_server()
        try:
            print(f"server answers {server.start_seconds:.1f} s after its start, {held(server.pid) / 1e6:,.0f} MB")
            first = client.run(operation="$lookup", port=server.port, connections=1, requests=1)
            print(f"first question about ICD-10-CM, which unpacks it: {first['p50'] * 1e3:,.0f} ms")
            for name in CODED:
                client.run(operation=name, port=server.port, connections=1, requests=5)
            print(HEAD)
            database = mongod_pid(Path(data))
            told(measure(client, plain, "plain answer", CONNECTIONS, 0, seconds=seconds))
            for name in CODED:
                connections = 1 if name.startswith("$expand") else CONNECTIONS
                told(measure(client, server, name, connections, 0, seconds=seconds, mongod=database))
            print(f"{held(server.pid) / 1e6:,.0f} MB now")
        finally:
            plain.stop()
            server.stop()


def _row(name: str, work: Callable[[], object], times: int) -> None:
    work()
    taken = sorted(_timed(work) for _ in range(times))
    middle = taken[times // 2]
    print(f"{name:<32}{middle * 1e3:>9.3f}{taken[int(times * 0.99)] * 1e3:>9.3f}{1 / middle:>11,.0f}")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _memory() -> float:
    """Megabytes that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _big(size: int) -> None:
    """A system of the size of SNOMED CT: 1.2 parents, two attributes and one synonym a concept, ten levels deep."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(4, 10))) for _ in range(30_000)]
    rows = [_concept(number, size, words, chance) for number in range(size)]
    gc.disable()  # as the loader does
    started = time.perf_counter()
    table = pack({"url": "http://example.org/big"}, rows)
    taken = time.perf_counter() - started
    gc.enable()
    print(f"packed {size:,} concepts in {taken:.1f} s, {size / taken:,.0f} a second, {len(table) / 1e6:.0f} MB")
    system = PackedSystem(table)
    sizes = {code: len(system.descendants(code)) for code in (str(10**8 + n) for n in range(0, 5000, 7))}
    for most in (100, 1_000, 10_000):
        code = max((c for c, n in sizes.items() if n <= most), key=sizes.__getitem__)
        _row(f":below with {sizes[code]:,} codes", lambda c=code: set(below(system, c)), 20)  # type: ignore[misc]


def _concept(number: int, size: int, words: list[str], chance: random.Random) -> Row:
    """Children of number n are around 4n: a tree of fan-out four with some second parents."""
    parents = {number // 4} if number else set()
    if number > 8 and chance.random() < 0.2:
        parents.add(max(0, number // 4 - chance.randint(1, 3)))
    synonym = " ".join(chance.choices(words, k=5))
    extra = {
        "designation": [{"language": "en", "value": synonym}],
        "property": [{"code": "x", "valueCode": str(10**8 + chance.randrange(size))} for _ in range(2)],
    }
    above = tuple(str(10**8 + n) for n in sorted(parents) if n != number)
    return Row(str(10**8 + number), " ".join(chance.choices(words, k=4)), above, extra, 0, (synonym,))


if __name__ == "__main__":
    main()
