"""Choose the official examples that travel with the tests: small ones, every resource type that has one (CC0).

python scripts/select_examples.py folder-with-the-unpacked-package
"""

from __future__ import annotations

import sys
from pathlib import Path

import zstandard

from profiles.json import encode, parse
from profiles.validate import check

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "examples.ndjson.zst"
FEW = {"StructureDefinition", "SearchParameter", "ValueSet", "CodeSystem", "ConceptMap", "OperationDefinition"}
MORE = ("Patient", "Observation", "Bundle", "Parameters", "Questionnaire", "QuestionnaireResponse", "Medication")
LARGEST = 60_000  # bytes


def chosen(folder: Path) -> list[bytes]:
    """The two smallest but one of each type (the very smallest are often empty), more of the types that differ most."""
    by_type: dict[str, list[bytes]] = {}
    for path in sorted(folder.glob("[A-Z]*.json")):
        resource = parse(path.read_bytes())
        if not check(resource):
            by_type.setdefault(resource["resourceType"], []).append(encode(resource))
    picked: list[bytes] = []
    for kind, bodies in sorted(by_type.items()):
        bodies.sort(key=len)
        number = 6 if kind in MORE else 1
        picked += [b for b in bodies[len(bodies) // 3 :][:number] if len(b) <= LARGEST or kind not in FEW]
    return picked


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    lines = chosen(Path(sys.argv[1]))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(zstandard.ZstdCompressor(level=19).compress(b"\n".join(lines)))
    print(len(lines), "examples,", TARGET.stat().st_size, "bytes")
