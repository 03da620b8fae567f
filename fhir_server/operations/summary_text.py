"""The narrative of a summary: a table a section, made from the elements that all such resources have. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, TypeAlias

Resource: TypeAlias = dict[str, Any]

# Characters that XML does not know.
UNWRITABLE = dict.fromkeys(number for number in range(32) if chr(number) not in "\t\n\r")
WHAT = (
    "code",
    "vaccineCode",
    "medicationCodeableConcept",
    "medicationReference",
    "device",
    "title",
    "description",
    "summary",
    "category",
    "type",
    "scope",
    "recommendation",
)
WHEN = (
    "onset",
    "effective",
    "performed",
    "occurrence",
    "timing",
    "authoredOn",
    "recordedDate",
    "dateTime",
    "date",
    "period",
    "created",
)
MORE = (
    "value",
    "component",
    "dosage",
    "dosageInstruction",
    "reaction",
    "conclusion",
    "severity",
    "criticality",
    "note",
)
KINDS = ("DateTime", "Period", "Age", "Range", "String", "Date")


def div(*parts: str) -> dict[str, str]:
    """A generated narrative."""
    inner = "".join(parts)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'}


def paragraph(text: str) -> str:
    """Text as a paragraph."""
    return f"<p>{_safe(text)}</p>"


def table(rows: Iterable[Resource], around: Mapping[str, Resource]) -> str:
    """What, when, more and the status of each resource; `around` are the resources they may refer to."""
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in _cells(row, around))}</tr>" for row in rows)
    head = "".join(f"<th>{name}</th>" for name in ("What", "When", "Details", "Status"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _safe(text: str) -> str:
    return escape(text.translate(UNWRITABLE), quote=False)


def _cells(row: Resource, around: Mapping[str, Resource]) -> tuple[str, str, str, str]:
    what = next((text for name in WHAT if (text := words(row.get(name), around))), row["resourceType"])
    more = [_valued(row), *(words(row.get(name), around) for name in MORE)]
    state = words(row.get("clinicalStatus"), around) or str(row.get("status", ""))
    return what, when(row), ", ".join(text for text in more if text), state


def when(row: Resource) -> str:
    """The date of a resource that matters, as it is written."""
    for name in WHEN:
        for key in (name, *(name + kind for kind in KINDS)):
            if text := words(row.get(key), {}):
                return text
    return ""


def _valued(row: Resource) -> str:
    return next((words(value, {}) for key, value in row.items() if key.startswith("value")), "")


def words(value: Any, around: Mapping[str, Resource]) -> str:
    """Any of FHIR's data types in words, empty where there are none."""
    if isinstance(value, list):
        return "; ".join(text for item in value if (text := words(item, around)))
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    for name, write in WORDS:
        if name in value and (text := write(value, around)):
            return text
    return ""


Write: TypeAlias = Callable[[Resource, Mapping[str, Resource]], str]


def _first(name: str) -> Write:
    return lambda value, around: words(value[name], around)


def _reference(value: Resource, around: Mapping[str, Resource]) -> str:
    found = around.get(str(value["reference"]), {})
    named = (words(found.get(name), {}) for name in ("code", "type", "deviceName", "name"))
    return next((text for text in named if text), str(value.get("display", "")))


def _observed(value: Resource, around: Mapping[str, Resource]) -> str:
    return f"{words(value['code'], around)} {_valued(value)}".strip()


def _period(value: Resource, around: Mapping[str, Resource]) -> str:
    return f"{value.get('start', '')} – {value.get('end', '')}".strip()


def _quantity(value: Resource, around: Mapping[str, Resource]) -> str:
    return f"{value.get('comparator', '')}{value['value']} {value.get('unit') or value.get('code') or ''}".strip()


def _ratio(value: Resource, around: Mapping[str, Resource]) -> str:
    return f"{words(value['numerator'], around)} / {words(value.get('denominator'), around)}"


def _range(value: Resource, around: Mapping[str, Resource]) -> str:
    return f"{words(value.get('low'), around)} – {words(value.get('high'), around)}".strip()


# The property that tells a data type, and how it is written; the first that gives words counts.
WORDS: tuple[tuple[str, Write], ...] = (
    ("text", _first("text")),
    ("coding", lambda value, around: next((text for each in value["coding"] if (text := words(each, around))), "")),
    ("reference", _reference),
    ("manifestation", _first("manifestation")),
    ("vaccineCode", _first("vaccineCode")),
    ("display", _first("display")),
    ("value", _quantity),
    ("code", _observed),
    ("start", _period),
    ("end", _period),
    ("numerator", _ratio),
    ("low", _range),
    ("high", _range),
    ("family", lambda value, around: " ".join([*value.get("given", ()), str(value["family"])])),
    ("name", _first("name")),
)
