"""ICD-10-CM: the yearly tabular list of NCHS (icd10cm-tabular-YYYY.xml), with the list of valid codes beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from profiles.outcome import FhirError
from terminology.concepts import CONCEPT_PROPERTIES, Json
from terminology.pack import ABSTRACT, Row

URL = "http://hl7.org/fhir/sid/icd-10-cm"
SYNONYM = {"system": "http://snomed.info/sct", "code": "900000000000013009"}
# Element of the tabular list -> property of the concept.
NOTES = {
    "includes": "includes",
    "excludes1": "excludes1",
    "excludes2": "excludes2",
    "codeFirst": "codeFirst",
    "useAdditionalCode": "useAdditionalCode",
    "codeAlso": "codeAlso",
    "notes": "note",
    "sevenChrNote": "sevenChrNote",
}
_PROPERTIES = {
    "billable": ("boolean", "Whether the code is valid for claims: it has no subdivision"),
    "chapter": ("code", "The chapter"),
    "block": ("code", "The block of categories"),
    "includes": ("string", "Includes note"),
    "excludes1": ("string", "Excludes1 note: not coded here"),
    "excludes2": ("string", "Excludes2 note: not included here"),
    "codeFirst": ("string", "Code first note"),
    "useAdditionalCode": ("string", "Use additional code note"),
    "codeAlso": ("string", "Code also note"),
    "note": ("string", "Note"),
    "sevenChrNote": ("string", "Seventh character note"),
    "sevenChrDef": ("string", "A seventh character and its meaning, such as `A: initial encounter`"),
}


def about_cm(version: str) -> Json:
    """The CodeSystem resource without its concepts."""
    return {
        "resourceType": "CodeSystem",
        "id": "icd-10-cm",
        "url": URL,
        "version": version,
        "name": "ICD10CM",
        "title": "International Classification of Diseases, 10th Revision, Clinical Modification",
        "status": "active",
        "language": "en",
        "publisher": "National Center for Health Statistics",
        "caseSensitive": False,
        "valueSet": f"{URL}?fhir_vs",
        "hierarchyMeaning": "is-a",
        "compositional": False,
        "versionNeeded": False,
        "content": "complete",
        "property": [
            *({"code": code, "type": kind, "description": text} for code, (kind, text) in _PROPERTIES.items()),
            {"code": "notSelectable", "uri": f"{CONCEPT_PROPERTIES}notSelectable", "type": "boolean"},
        ],
    }


def version_of(tabular: bytes) -> str:
    """The year in the file."""
    return (_root(tabular).findtext("version") or "").strip()


def read_tabular(tabular: bytes, valid: frozenset[str] = frozenset()) -> Iterator[Row]:
    """Chapters, blocks, categories and codes in the order of the file.

    A code that needs a 7th character is followed by its codes with one; `valid` (codes without the dot) keeps those
    that exist, all where it is empty.
    """
    chapters = _root(tabular).findall("chapter")
    if not chapters:
        raise FhirError("invalid", "The file is no ICD-10-CM tabular list: it has no <chapter>")
    for chapter in chapters:
        name = _text(chapter, "name")
        yield _row(chapter, name, (), ABSTRACT)
        for section in chapter.findall("section"):
            yield from _section(section, name, valid)


def _root(tabular: bytes) -> Any:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=True
    )
    try:
        root: Any = etree.fromstring(tabular, parser)
    except etree.XMLSyntaxError as error:
        raise FhirError("invalid", f"The file is not XML: {error}") from None
    if root.tag != "ICD10CM.tabular":
        raise FhirError("invalid", f"The file is no ICD-10-CM tabular list: it begins with <{root.tag}>")
    return root


def _section(section: Any, chapter: str, valid: frozenset[str]) -> Iterator[Row]:
    block = section.get("id")
    # A block of one category bears the category's name in the file.
    name = block if "-" in block else f"{block}-{block}"
    yield _row(section, name, (chapter,), ABSTRACT)
    for diagnosis in section.findall("diag"):
        yield from _diagnosis(diagnosis, name, {}, valid)


def _diagnosis(diagnosis: Any, parent: str, sevenths: dict[str, str], valid: frozenset[str]) -> Iterator[Row]:
    code, below = _text(diagnosis, "name"), diagnosis.findall("diag")
    sevenths = _sevenths(diagnosis) or sevenths
    yield _row(diagnosis, code, (parent,), 0)
    for inner in below:
        yield from _diagnosis(inner, code, sevenths, valid)
    if not below and sevenths and len(code) < 8:
        stem = (code if "." in code else code + ".").ljust(7, "X")
        for character, meaning in sevenths.items():
            if not valid or (stem + character).replace(".", "") in valid:
                yield Row(stem + character, f"{_text(diagnosis, 'desc')}, {meaning}", (code,))


def _sevenths(diagnosis: Any) -> dict[str, str]:
    return {e.get("char"): (e.text or "").strip() for e in diagnosis.findall("sevenChrDef/extension") if e.get("char")}


def _text(element: Any, name: str) -> str:
    return " ".join((element.findtext(name) or "").split())


def _row(element: Any, code: str, parents: tuple[str, ...], flags: int) -> Row:
    terms = [_flat(note) for note in element.findall("inclusionTerm/note")]
    properties = [
        {"code": code_, "valueString": _flat(note)}
        for name, code_ in NOTES.items()
        for note in element.findall(f"{name}/note")
    ]
    properties += [{"code": "sevenChrDef", "valueString": f"{c}: {m}"} for c, m in _sevenths(element).items()]
    extra: Json = {"designation": [{"use": SYNONYM, "value": term} for term in terms]} if terms else {}
    if properties:
        extra["property"] = properties
    return Row(code, _text(element, "desc"), parents, extra or None, flags, tuple(terms))


def _flat(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())
