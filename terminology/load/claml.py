"""WHO ICD-10 in ClaML, the operator's own file (it may not be passed on): chapters, blocks, categories, modifiers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.load.release import Files, Release, about, find
from terminology.pack import ABSTRACT, Row

URL = "http://hl7.org/fhir/sid/icd-10"
_KINDS = {"inclusion": "includes", "exclusion": "excludes1", "note": "note", "text": "note", "coding-hint": "note"}


def read(files: Files, version: str | None) -> Release:
    """The classes of the file with their preferred rubrics."""
    name = find(files, r".*\.(xml|claml)", "The ClaML file of ICD-10")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    with files[name]() as raw:
        try:
            root: Any = etree.fromstring(raw.read(), parser)
        except etree.XMLSyntaxError as error:
            raise FhirError("invalid", f"{name} is not XML: {error}") from None
    if root.tag != "ClaML":
        raise FhirError("invalid", f"{name} is no ClaML file: it begins with <{root.tag}>")
    title = root.find("Title")
    named = version or (title.get("version") if title is not None else None) or "unknown"
    properties = [{"code": code, "type": "string"} for code in ("includes", "excludes1", "note")]
    properties += [{"code": code, "type": "code"} for code in ("chapter", "block")]
    head = about(URL, named, "ICD10", "ICD-10", caseSensitive=False, property=properties, valueSet=f"{URL}?fhir_vs")
    return Release(head, _rows(root))


def _rows(root: Any) -> Iterator[Row]:
    modifiers: dict[str, list[tuple[str, str]]] = {}
    for row in root.iter("ModifierClass"):
        modifiers.setdefault(row.get("modifier"), []).append((row.get("code"), _preferred(row)))
    classes = {row.get("code"): row for row in root.iter("Class")}
    below: dict[str | None, list[str]] = {}
    for code, row in classes.items():
        above = row.find("SuperClass")
        below.setdefault(above.get("code") if above is not None else None, []).append(code)
    stack: list[tuple[str, str | None]] = [(code, None) for code in reversed(below.get(None, ()))]
    while stack:
        code, parent = stack.pop()
        yield _row(classes[code], code, parent)
        yield from _modified(classes[code], code, modifiers)
        stack += [(child, code) for child in reversed(below.get(code, ()))]


def _row(element: Any, code: str, parent: str | None) -> Row:
    told = [
        {"code": _KINDS[rubric.get("kind")], "valueString": _text(rubric)}
        for rubric in element.findall("Rubric")
        if rubric.get("kind") in _KINDS
    ]
    extra: Json | None = {"property": told} if told else None
    flags = ABSTRACT if element.get("kind") in ("chapter", "block") else 0
    terms = tuple(p["valueString"] for p in told if p["code"] == "includes")
    return Row(code, _preferred(element), (parent,) if parent else (), extra, flags, terms)


def _modified(element: Any, code: str, modifiers: dict[str, list[tuple[str, str]]]) -> Iterator[Row]:
    for modified in element.findall("ModifiedBy"):
        for ending, meaning in modifiers.get(modified.get("code"), ()):
            whole = code + ending if "." in code or ending.startswith(".") else f"{code}.{ending}"
            yield Row(whole, f"{_preferred(element)}, {meaning}", (code,))


def _preferred(element: Any) -> str:
    found = next((r for r in element.findall("Rubric") if r.get("kind") == "preferred"), None)
    return _text(found) if found is not None else ""


def _text(rubric: Any) -> str:
    return " ".join("".join(label_text for label in rubric.findall("Label") for label_text in label.itertext()).split())
