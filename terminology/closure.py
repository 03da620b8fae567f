"""$closure: a client's own table of what subsumes what (http://hl7.org/fhir/R4/conceptmap-operation-closure.html).

The table is a value that the caller keeps: its codings in the order they came, each entry with its version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from profiles.outcome import FhirError
from terminology.codes import above
from terminology.concepts import Json
from terminology.library import Library
from terminology.request import Parameters
from terminology.systems import System

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Closure:
    """The codings of a table and the version of the table in which each came."""

    name: str
    version: int = 0
    codings: tuple[tuple[str, str, int], ...] = ()

    def record(self) -> Json:
        """The table as plain data."""
        return {"name": self.name, "version": self.version, "codings": [list(c) for c in self.codings]}


def of_record(record: Json) -> Closure:
    """A table that was kept as plain data."""
    return Closure(record["name"], record["version"], tuple((s, c, v) for s, c, v in record["codings"]))


def name_of(parameters: Parameters) -> str:
    """The name of the table asked for."""
    name = parameters.text("name") or ""
    if not _NAME.fullmatch(name):
        raise FhirError("invalid", "The name of a closure table is 1 to 64 letters, digits, '.', '_' or '-'", "name")
    return name


def closure(library: Library, parameters: Parameters, table: Closure | None) -> tuple[Closure, Json]:
    """The table after the call, and the answer: a ConceptMap of what is new, or of all since a version."""
    name, concepts, since = name_of(parameters), parameters.all("concept"), parameters.text("version")
    if not concepts and since is None:
        made = Closure(name)
        return made, _answer(made, [])
    if table is None:
        raise FhirError(
            "not-found", f"The closure table '{name}' is not known: call $closure with its name alone first"
        )
    if since is not None:
        return table, _answer(table, _since(library, table, since))
    return _extended(library, table, concepts)


def _since(library: Library, table: Closure, since: str) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    if not since.isascii() or not since.isdigit():
        raise FhirError("invalid", f"The version of a closure table is a number, not '{since[:40]}'", "version")
    later = [(s, c) for s, c, version in table.codings if version > int(since)]
    return _relations(library, [(s, c) for s, c, _ in table.codings], set(later))


def _extended(library: Library, table: Closure, concepts: list[Json]) -> tuple[Closure, Json]:
    known = {(s, c) for s, c, _ in table.codings}
    given = dict.fromkeys((str(c.get("system", "")), str(c.get("code", ""))) for c in concepts if isinstance(c, dict))
    new = [pair for pair in given if pair not in known]
    if len(known) + len(new) > _MOST:
        raise FhirError("too-costly", f"A closure table holds at most {_MOST} codes")
    for system, code in new:
        _check(library, system, code)
    version = table.version + 1 if new else table.version
    made = Closure(table.name, version, (*table.codings, *((s, c, version) for s, c in new)))
    return made, _answer(made, _relations(library, [*known, *new], set(new)))


def _check(library: Library, url: str, code: str) -> None:
    system = library.code_system(url)
    if system is None:
        raise FhirError("not-found", f"A definition for CodeSystem '{url}' could not be found", "concept", status=422)
    if system.locate(code) is None:
        raise FhirError("code-invalid", f"Unknown code '{code}' in the CodeSystem '{url}'", "concept")


def _relations(
    library: Library, codings: list[tuple[str, str]], new: set[tuple[str, str]]
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs (below, above) of one system of which at least one is new."""
    by_system: dict[str, list[str]] = {}
    for url, code in codings:
        by_system.setdefault(url, []).append(code)
    found: list[tuple[tuple[str, str], tuple[str, str]]] = []
    for url, codes in by_system.items():
        system = library.code_system(url)
        for code in codes if system else ():
            higher = _higher(system, code, set(codes))
            pairs = [((url, code), (url, other)) for other in higher]
            found += [pair for pair in pairs if pair[0] in new or pair[1] in new]
    return found


def _higher(system: System | None, code: str, known: set[str]) -> list[str]:
    """Those of the codes that lie above one."""
    return [c for c in above(system, code) if c != code and c in known] if system else []


def _answer(table: Closure, relations: list[tuple[tuple[str, str], tuple[str, str]]]) -> Json:
    groups: dict[str, dict[str, list[Json]]] = {}
    for (url, below), (_, higher) in relations:
        row = {"code": higher, "equivalence": "subsumes"}
        groups.setdefault(url, {}).setdefault(below, []).append(row)
    made: Json = {
        "resourceType": "ConceptMap",
        "version": str(table.version),
        "name": table.name,
        "status": "active",
        "experimental": True,
    }
    if groups:
        made["group"] = [
            {"source": url, "target": url, "element": [{"code": c, "target": t} for c, t in elements.items()]}
            for url, elements in groups.items()
        ]
    return made
