"""SNOMED CT: the Snapshot files of an RF2 release (concepts, descriptions, relationships, language reference set)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.load.release import Files, Release, about, find, optional, tab_rows
from terminology.pack import INACTIVE, Row

URL = "http://snomed.info/sct"
IS_A, FSN, SYNONYM = "116680003", "900000000000003001", "900000000000013009"
PREFERRED, PRIMITIVE = "900000000000548007", "900000000000074008"
_CORE = "900000000000207008"
_DATE = re.compile(r"(\d{8})")


def read(files: Files, version: str | None) -> Release:
    """One edition; its version is the uri of module and date, taken from the file where none is given."""
    concepts = find(files, r"x?sct2_Concept_Snapshot_.*\.txt", "The concept file of an RF2 snapshot")
    find(files, r"x?sct2_Description_Snapshot.*\.txt", "The description file of an RF2 snapshot")
    find(files, r"x?sct2_Relationship_Snapshot_.*\.txt", "The relationship file of an RF2 snapshot")
    known = {i: (active == "1", definition) for i, active, definition in _concepts(files, concepts)}
    if not known:
        raise FhirError("invalid", f"{concepts} holds no concepts")
    date = _DATE.search(concepts)
    named = version or f"{URL}/{_CORE}/version/{date.group(1) if date else 'unknown'}"
    head = about(URL, named, "SNOMED_CT", "SNOMED CT", publisher="SNOMED International", valueSet=f"{URL}?fhir_vs")
    return Release(head, _rows(known, _names(files), *_relations(files)))


def _concepts(files: Files, name: str) -> Iterator[tuple[str, ...]]:
    return tab_rows(files, name, ("id", "active", "definitionStatusId"))


def _preferred(files: Files) -> frozenset[str]:
    name = optional(files, r"x?der2_cRefset_Language.*Snapshot.*\.txt")
    if name is None:
        return frozenset()
    rows = tab_rows(files, name, ("active", "referencedComponentId", "acceptabilityId"))
    return frozenset(component for active, component, how in rows if active == "1" and how == PREFERRED)


def _names(files: Files) -> dict[str, list[tuple[bool, str, str]]]:
    """Concept -> (preferred synonym, type, term) of its active descriptions."""
    preferred, found = _preferred(files), dict[str, list[tuple[bool, str, str]]]()
    columns = ("id", "active", "conceptId", "typeId", "term")
    for name in sorted(n for n in files if re.search(r"sct2_Description_Snapshot", n, re.I)):
        for id_, active, concept, kind, term in tab_rows(files, name, columns):
            if active == "1":
                found.setdefault(concept, []).append((kind == SYNONYM and id_ in preferred, kind, term))
    return found


def _relations(files: Files) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, str]]]]:
    """Concept -> parents, and concept -> (attribute, value)."""
    parents: dict[str, list[str]] = {}
    others: dict[str, list[tuple[str, str]]] = {}
    name = find(files, r"x?sct2_Relationship_Snapshot_.*\.txt", "The relationship file of an RF2 snapshot")
    for active, source, target, kind in tab_rows(files, name, ("active", "sourceId", "destinationId", "typeId")):
        if active == "1" and kind == IS_A:
            parents.setdefault(source, []).append(target)
        elif active == "1":
            others.setdefault(source, []).append((kind, target))
    return parents, others


def _rows(
    known: dict[str, tuple[bool, str]],
    names: dict[str, list[tuple[bool, str, str]]],
    parents: dict[str, list[str]],
    others: dict[str, list[tuple[str, str]]],
) -> Iterator[Row]:
    for code, (active, definition) in known.items():
        terms = names.get(code, [])
        shown = _display(code, terms)
        synonyms = tuple(term for _, _, term in terms if term != shown)
        extra: Json = {"property": [{"code": "sufficientlyDefined", "valueBoolean": definition != PRIMITIVE}]}
        extra["property"] += [{"code": kind, "valueCode": value} for kind, value in others.get(code, ())]
        if synonyms:
            extra["designation"] = [
                {"language": "en", "use": {"system": URL, "code": kind}, "value": term}
                for _, kind, term in terms
                if term != shown
            ]
        yield Row(code, shown, tuple(parents.get(code, ())), extra, 0 if active else INACTIVE, synonyms)


def _display(code: str, terms: list[tuple[bool, str, str]]) -> str:
    """The preferred synonym, else any synonym, else the fully specified name."""
    ranked = sorted(terms, key=lambda t: (not t[0], t[1] != SYNONYM))
    return ranked[0][2] if ranked else code
