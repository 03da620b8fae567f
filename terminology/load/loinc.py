"""LOINC: the release as published (LoincTable/Loinc.csv, with answer lists and the component hierarchy if there)."""

from __future__ import annotations

from collections.abc import Iterator

from terminology.concepts import Json
from terminology.load.release import Files, Release, about, csv_rows, find, optional
from terminology.pack import INACTIVE, Row

URL = "http://loinc.org"
NOTICE = (
    "This material contains content from LOINC (http://loinc.org). LOINC is copyright (c) Regenstrief Institute, Inc. "
    "and the LOINC Committee and is available at no cost under the license at http://loinc.org/license."
)
_AXES = ("COMPONENT", "PROPERTY", "TIME_ASPCT", "SYSTEM", "SCALE_TYP", "METHOD_TYP", "CLASS", "STATUS")
_COLUMNS = ("LOINC_NUM", "LONG_COMMON_NAME", "SHORTNAME", *_AXES)


def read(files: Files, version: str | None) -> Release:
    """Terms, then answers, then the groups of the hierarchy."""
    table = find(files, r"Loinc\.csv", "The table of LOINC terms")
    properties = [{"code": axis, "type": "string"} for axis in _AXES]
    properties += [{"code": "LIST", "type": "code"}, {"code": "answer-list", "type": "code"}]
    head = about(
        URL,
        version or "unknown",
        "LOINC",
        "Logical Observation Identifiers, Names and Codes",
        caseSensitive=False,
        copyright=NOTICE,
        property=properties,
    )
    return Release(head, _rows(files, table))


def _rows(files: Files, table: str) -> Iterator[Row]:
    above, groups = _hierarchy(files)
    yield from groups
    for code, long, short, *axes in csv_rows(files, table, _COLUMNS):
        properties = [{"code": a, "valueString": v} for a, v in zip(_AXES, axes, strict=True) if v]
        extra: Json = {"property": properties}
        if short:
            extra["designation"] = [{"language": "en", "use": {"system": URL, "code": "SHORTNAME"}, "value": short}]
        retired = axes[-1] in ("DEPRECATED", "DISCOURAGED")
        names = (short, axes[0]) if short else (axes[0],)
        yield Row(code, long or axes[0], tuple(above.get(code, ())), extra, INACTIVE if retired else 0, names)
    yield from _answers(files)


def _hierarchy(files: Files) -> tuple[dict[str, list[str]], list[Row]]:
    """Code -> parents, and the rows of the groups (LP...)."""
    name = optional(files, r".*Hierarchy.*\.csv")
    above: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for parent, code, text in csv_rows(files, name, ("IMMEDIATE_PARENT", "CODE", "CODE_TEXT")) if name else ():
        if parent:
            above.setdefault(code, []).append(parent)
        if code.startswith("LP"):
            titles.setdefault(code, text)
    return above, [Row(code, text, tuple(dict.fromkeys(above.get(code, ())))) for code, text in titles.items()]


def _answers(files: Files) -> Iterator[Row]:
    """Answers with the lists they are in, and the lists."""
    name = optional(files, r"AnswerList\.csv")
    if name is None:
        return
    columns = ("AnswerListId", "AnswerListName", "AnswerStringId", "DisplayText")
    lists: dict[str, str] = {}
    answers: dict[str, tuple[str, list[str]]] = {}
    for list_id, list_name, answer, text in csv_rows(files, name, columns):
        lists[list_id] = list_name
        if answer:
            answers.setdefault(answer, (text, []))[1].append(list_id)
    yield from (Row(list_id, title) for list_id, title in lists.items())
    for answer, (text, within) in answers.items():
        yield Row(answer, text, (), {"property": [{"code": "LIST", "valueCode": one} for one in dict.fromkeys(within)]})
