"""Compile the official FHIR R4 package into the tables of profiles/data (`hl7.fhir.r4.examples` 4.0.1, CC0).

    python scripts/build_definitions.py hl7.fhir.r4.examples-4.0.1.tgz     (checksum verified)
    python scripts/build_definitions.py folder-with-the-unpacked-package

The same package always gives the same bytes. Generated narratives and the SNOMED CT codes of expansions (licence)
are left out; everything else of a definition is kept as published.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

PACKAGE = "hl7.fhir.r4.examples#4.0.1"
SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"
DATA = Path(__file__).resolve().parent.parent / "profiles" / "data"
BLOCK = 4_000_000  # raw bytes of originals per compressed block: 4 MB reads in 6 ms; 1 MB blocks cost 30 % more disk
ORIGINALS = (
    "StructureDefinition",
    "SearchParameter",
    "OperationDefinition",
    "CompartmentDefinition",
    "ValueSet",
    "CodeSystem",
    "ConceptMap",
)
# The published bundles that say which files of a kind are definitions and which are mere examples.
LISTS = {
    "SearchParameter": "Bundle-searchParams.json",
    "OperationDefinition": "Bundle-resources.json",
    "CompartmentDefinition": "Bundle-resources.json",
}
GENERIC = {"Element", "BackboneElement", "Resource", "DomainResource"}
TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = TYPE_URL + "structuredefinition-fhir-type"
BEST_PRACTICE = TYPE_URL + "elementdefinition-bestpractice"
# Keys that different resources use for different rules.
SHARED_KEYS = {"inv-1"}
SNOMED = "http://snomed.info/sct"

Json = dict[str, Any]
Read = Callable[[str], Json]


def package(source: Path) -> tuple[list[str], Read]:
    """The names of the package's files, and a function that reads one."""
    if source.is_dir():
        return sorted(p.name for p in source.iterdir()), lambda name: json.loads((source / name).read_bytes())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{source} is not {PACKAGE}: its sha256 is {digest}")
    with tarfile.open(source) as tar:
        files = {Path(m.name).name: tar.extractfile(m) for m in tar if m.isfile()}
        texts = {name: file.read() for name, file in files.items() if file}
    return sorted(texts), lambda name: json.loads(texts[name])


def is_type(definition: Json) -> bool:
    return definition["kind"] != "logical" and definition.get("derivation", "specialization") == "specialization"


def last(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def type_code(entry: Json, path: str) -> str:
    """The FHIR type of an element type; System types carry it in an extension, which says `string` for Resource.id."""
    if path == "Resource.id":
        return "id"
    hidden = next((x.get("valueUrl") for x in entry.get("extension", ()) if x["url"] == FHIR_TYPE), None)
    return str(hidden or entry["code"])


def targets(types: list[Json], code: str) -> list[str]:
    return sorted({last(url) for t in types if t["code"] == code for url in t.get("targetProfile", ())})


def rule_key(rule: Json, path: str) -> str:
    return f"{path.split('.')[0]}:{rule['key']}" if rule["key"] in SHARED_KEYS else str(rule["key"])


def binding_row(element: Json) -> list[str] | None:
    binding = element.get("binding")
    if not binding or "valueSet" not in binding:
        return None
    most = next((x["valueCanonical"] for x in binding.get("extension", ()) if x["url"].endswith("-maxValueSet")), "")
    return [binding["strength"], binding["valueSet"], most]


def element_row(element: Json) -> list[Any]:
    """The columns of `profiles.model.Element`, in its order."""
    path = element["path"]
    base = element.get("base", {}).get("path", path)
    types = element.get("type", [])
    return [
        last(path.replace(".", "/")).removesuffix("[x]"),
        path,
        element["min"],
        None if element["max"] == "*" else int(element["max"]),
        [type_code(t, base) for t in types],
        targets(types, "Reference"),
        targets(types, "canonical"),
        sorted({p for t in types for p in t.get("profile", ())}),
        binding_row(element),
        element.get("contentReference", "#")[1:] or None,
        path.endswith("[x]"),
        element.get("isModifier", False),
        element.get("isSummary", False),
        "xmlAttr" in element.get("representation", ()),
        [rule_key(c, path) for c in element.get("constraint", ()) if not c["key"].startswith(("ele-", "ext-"))],
        element.get("maxLength"),
    ]


def own_elements(definition: Json) -> Iterator[tuple[str, Json]]:
    """(type that owns it, element): inner elements belong to a type named by their path, such as `Patient.contact`."""
    name = definition["id"]
    for element in definition["snapshot"]["element"][1:]:
        path = element["path"]
        inherited = element["base"]["path"].split(".")[0] in GENERIC - {name}
        if not inherited and not (definition["kind"] == "primitive-type" and path.endswith(".value")):
            yield path.rpartition(".")[0], element


def type_rows(definition: Json) -> dict[str, list[Any]]:
    """Rows (kind, base, abstract, invariant keys, elements) of a type and of its inner elements."""
    name = definition["id"]
    root = definition["snapshot"]["element"][0]
    keys = [rule_key(c, name) for c in root.get("constraint", ())]
    base = last(definition.get("baseDefinition", "")) or None
    rows: dict[str, list[Any]] = {name: [definition["kind"], base, definition["abstract"], keys, []]}
    for owner, element in own_elements(definition):
        if owner not in rows:
            inner = next(e for e in definition["snapshot"]["element"] if e["path"] == owner)
            rows[owner] = ["inner", inner["type"][0]["code"], False, [], []]
        rows[owner][4].append(element_row(element))
    return rows


def rule_row(rule: Json) -> list[Any]:
    best = any(x["url"] == BEST_PRACTICE and x.get("valueBoolean") for x in rule.get("extension", ()))
    return [rule["severity"], rule["human"], rule.get("expression", ""), best]


def invariants(definitions: list[Json]) -> dict[str, list[Any]]:
    """Key -> [severity, text, expression, best practice]; the few keys with several meanings read `Task:inv-1`."""
    found: dict[str, list[Any]] = {}
    for definition in definitions:
        for element in definition["snapshot"]["element"]:
            for rule in element.get("constraint", ()):
                key, row = rule_key(rule, element["path"]), rule_row(rule)
                if found.setdefault(key, row) != row:
                    sys.exit(f"invariant {key} has two meanings")
    return found


def search_rows(parameters: list[Json]) -> list[list[Any]]:
    """The columns of `profiles.model.SearchParameter`, in its order."""
    return [
        [
            p["url"],
            p["id"],
            p["code"],
            p["type"],
            sorted(p["base"]),
            p.get("expression", ""),
            sorted(p.get("target", ())),
            [[c["definition"], c["expression"]] for c in p.get("component", ())],
        ]
        for p in parameters
    ]


def compartments(definitions: list[Json]) -> dict[str, dict[str, list[str]]]:
    return {d["code"]: {r["code"]: r["param"] for r in d["resource"] if "param" in r} for d in definitions}


def contained_codes(expansion: Json) -> dict[str, list[list[str]]]:
    """System -> [[code, display], ...] of a flat expansion."""
    systems: dict[str, list[list[str]]] = {}
    for row in expansion.get("contains", ()):
        if "code" in row:
            systems.setdefault(row.get("system", ""), []).append([row["code"], row.get("display", "")])
    return systems


def expansion_rows(read: Read) -> dict[str, list[Any]]:
    """ValueSet url -> [complete, {system: [[code, display], ...]}]; incomplete ones were cut or held SNOMED CT."""
    rows = {}
    for entry in read("Bundle-valueset-expansions.json")["entry"]:
        expansion = entry["resource"]["expansion"]
        systems = contained_codes(expansion)
        total = sum(map(len, systems.values()))
        complete = SNOMED not in systems and expansion.get("total", total) <= total
        rows[entry["resource"]["url"]] = [complete, {k: v for k, v in systems.items() if k != SNOMED}]
    return rows


def required_codes(types: dict[str, list[Any]], expansions: dict[str, list[Any]]) -> dict[str, dict[str, list[str]]]:
    """The code sets of required bindings: ValueSet url -> {system: codes}; grammars and cut expansions stay out."""
    bound = {e[8][1].split("|")[0] for row in types.values() for e in row[4] if e[8] and e[8][0] == "required"}
    known = {url: expansions[url] for url in sorted(bound) if url in expansions and not url.endswith("/mimetypes")}
    return {
        url: {system: sorted(c[0] for c in codes) for system, codes in systems.items()}
        for url, (complete, systems) in known.items()
        if complete
    }


def originals(names: list[str], read: Read) -> Iterator[tuple[str, Json]]:
    for kind in ORIGINALS:
        listed = {e["fullUrl"] for e in read(LISTS[kind])["entry"]} if kind in LISTS else None
        for name in names:
            if not re.match(kind + "-.*json$", name):
                continue
            definition = read(name)
            if (
                listed is None
                or definition["url"] in listed
                or f"http://hl7.org/fhir/{kind}/{definition['id']}" in listed
            ):
                definition.pop("text", None)
                yield kind, definition


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def squeeze(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(raw)


def write(name: str, value: Any) -> None:
    raw = dump(value)
    (DATA / name).write_bytes(squeeze(raw))
    print(f"{name:28}{len(raw):>12,}{(DATA / name).stat().st_size:>12,}")


def write_originals(definitions: list[tuple[str, Json]]) -> None:
    """definitions.zst is a row of blocks; the index says kind -> id -> [url, block, offset, length]."""
    index: dict[str, dict[str, list[Any]]] = {}
    blocks: list[bytes] = [b""]
    kinds = [""]
    for kind, definition in definitions:
        if len(blocks[-1]) > BLOCK or kinds[-1] not in ("", kind):
            blocks.append(b"")
            kinds.append(kind)
        kinds[-1] = kind
        raw = dump(definition)
        index.setdefault(kind, {})[definition["id"]] = [definition["url"], len(blocks) - 1, len(blocks[-1]), len(raw)]
        blocks[-1] += raw
    squeezed = [squeeze(block) for block in blocks]
    (DATA / "definitions.zst").write_bytes(b"".join(squeezed))
    print(f"{'definitions.zst':28}{sum(map(len, blocks)):>12,}{sum(map(len, squeezed)):>12,}")
    write("index.json.zst", {"blocks": [len(block) for block in squeezed], "kinds": index})


def main(source: Path) -> None:
    names, read = package(source)
    definitions = list(originals(names, read))
    by_kind = {kind: [d for k, d in definitions if k == kind] for kind in ORIGINALS}
    concrete = [d for d in by_kind["StructureDefinition"] if is_type(d)]
    rules = invariants(concrete)
    types = {name: row for d in concrete for name, row in type_rows(d).items()}
    expansions = expansion_rows(read)
    write("types.json.zst", {"types": types, "invariants": rules})
    write("search.json.zst", search_rows(by_kind["SearchParameter"]))
    write("compartments.json.zst", compartments(by_kind["CompartmentDefinition"]))
    write("codes.json.zst", required_codes(types, expansions))
    write("expansions.json.zst", expansions)
    write_originals(definitions)
    (DATA / "SOURCE.txt").write_text(f"{PACKAGE} (CC0-1.0)\nsha256 {SHA256}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
