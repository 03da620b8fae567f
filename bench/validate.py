"""Validation: the check on every write, the full check with profiles, all official files.

python -m bench.validate [--quick] [--all FOLDER] [--package PACKAGE.tgz]

The folder is that of the unpacked official package (FHIR_EXAMPLES), the guide US Core 6.1.0 (below FHIR_SHARED);
what is absent is left out, and that is said.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.data import OBSERVATION, patient
from fhir_server.opening import quiet_collector
from profiles.json import encode, parse
from profiles.packages import read_package
from profiles.validate import Library, Shelf, check, validate, warm
from profiles.validate.fast import validator

EXAMPLES = Path(os.environ.get("FHIR_EXAMPLES", "examples-of-r4"))
GUIDE = Path(os.environ.get("FHIR_SHARED", "../shared")) / "igs" / "us_core_610.tgz"
PARTS = ("8867-4", "Heart rate", "Heart rate", "Patient/1", 20, 1, 1, 72, 5, "/min", "/min")


def rows(times: int) -> Iterator[tuple[str, float, str]]:
    """(what, value, unit) of the check against the base definitions."""

    def median(run: Callable[[], object]) -> float:
        return _median(run, times)

    person = parse(patient(1))
    bundle = _bundle(200)
    validator.cache_clear()
    yield "make what checks a Patient, in the background after start", _once(lambda: warm("Patient")) * 1e6, "µs"
    yield "check, first Patient after it", _once(lambda: check(person)) * 1e6, "µs"
    yield f"check a Patient of {len(encode(person)):,} bytes", median(lambda: check(person)) * 1e6, "µs"
    yield "check a Bundle of 200 resources", median(lambda: check(bundle)) * 1e3, "ms"
    yield "check and explain a Patient with one fault", median(lambda: check(person | {"gender": "x"})) * 1e6, "µs"
    library = Library()
    yield "full check of a Patient, no profile", median(lambda: validate(person, library)) * 1e6, "µs"
    yield (
        "full check of a Bundle of 200 resources",
        _median(lambda: validate(bundle, library), max(3, times // 20)) * 1e3,
        "ms",
    )


def _bundle(count: int) -> dict[str, Any]:
    """Observations and a Patient in every tenth entry."""
    made = [parse(patient(n) if n % 10 == 0 else (OBSERVATION % PARTS).encode()) for n in range(count)]
    entries = [{"fullUrl": f"urn:uuid:00000000-0000-4000-8000-{n:012}", "resource": r} for n, r in enumerate(made)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def guide_rows(package: Path) -> Iterator[tuple[str, float, str]]:
    """The examples of an implementation guide against their own profiles."""
    guide = read_package(package.read_bytes())
    library = Library(find=Shelf(m.resource for m in guide.of() if m.url).find)
    for member in guide.of("Patient", examples=True):
        if member.is_example:
            person = member.resource
            first = _once(lambda person=person: validate(person, library))  # type: ignore[misc]
            later = _median(lambda person=person: validate(person, library), 51)  # type: ignore[misc]
            yield f"{guide.name} {guide.version} Patient/{member.id}, first", first * 1e6, "µs"
            yield f"{guide.name} {guide.version} Patient/{member.id}, {len(member.body):,} bytes", later * 1e6, "µs"


def official_rows(folder: Path) -> Iterator[tuple[str, float, str]]:
    """Every official file once: base check and full check."""
    bodies = [p.read_bytes() for p in sorted(folder.glob("[A-Za-z]*.json")) if p.name != "package.json"]
    library = Library()
    quiet_collector()  # as a server has it
    for name, run in (("check", check), ("full check with invariants", lambda resource: validate(resource, library))):
        before, spent, inner = memory(), 0.0, 0
        for body in bodies:
            resource = parse(body)
            inner += max(1, len(resource.get("entry", ())))
            spent += _once(lambda run=run, resource=resource: run(resource))  # type: ignore[misc]
        yield f"{name}: {len(bodies):,} official files", spent, "s"
        yield f"{name}: resources a second ({inner:,} with those in Bundles)", inner / spent, "/s"
        yield f"{name}: memory it took", (memory() - before) / 2**20, "MB"


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _once(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _median(run: Callable[[], object], times: int) -> float:
    """CPU seconds of the median run; runs are grouped so that the clock's steps do not matter."""
    run()
    group = max(1, int(0.0005 / max(_once(run), 1e-7)))
    spans = sorted(_once(lambda: [run() for _ in range(group)]) / group for _ in range(times))
    return spans[times // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--all", type=Path, default=EXAMPLES, help="the unpacked official package")
    parser.add_argument("--package", type=Path, default=GUIDE, help="an implementation guide")
    options = parser.parse_args()
    sources = {
        "the base definitions": rows(21 if options.quick else 201),
        "the guide (FHIR_SHARED, --package)": guide_rows(options.package) if options.package.is_file() else None,
        "all official files (FHIR_EXAMPLES, --all)": official_rows(options.all) if options.all.is_dir() else None,
    }
    if options.quick:
        del sources["all official files (FHIR_EXAMPLES, --all)"]
    for name, source in sources.items():
        if source is None:
            print(f"left out: {name}", flush=True)
        for what, value, unit in source or ():
            print(f"{what:<64}{value:>12,.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
