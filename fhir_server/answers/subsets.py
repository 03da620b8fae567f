"""_summary and _elements: parts of a resource, marked SUBSETTED (http://hl7.org/fhir/R4/search.html#summary)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fhir_server.context import Pairs, Request, Resource
from fhir_server.http.headers import first
from profiles.json import decode, encode
from profiles.model import RESOURCE_TYPES, Element, fields
from profiles.outcome import FhirError
from search.controls import SUMMARIES

SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
ALWAYS = frozenset(("resourceType", "id", "meta"))


@dataclass(frozen=True, slots=True)
class Subset:
    """What a client asked for: one of the summaries, or elements (with or without the type before the dot)."""

    summary: str = ""
    elements: tuple[str, ...] = ()


def subset_asked(request: Request) -> Subset | None:
    """The subset that the query asks for; None is the whole resource."""
    return subset_in(request.query)


def subset_in(pairs: Pairs) -> Subset | None:
    """The subset that these pairs of a query ask for."""
    summary, elements = first(pairs, "_summary"), first(pairs, "_elements")
    return subset(summary, elements.split(",") if elements else ())


def subset(summary: str | None, elements: Iterable[str]) -> Subset | None:
    """The subset of a `_summary` value and `_elements` names; FhirError where there is no such summary."""
    if summary and summary not in SUMMARIES:
        raise FhirError("value", f"_summary={summary} is not one of {', '.join(SUMMARIES)}.", "_summary", status=400)
    names = tuple(name.strip() for name in elements if name.strip())
    if summary in ("true", "text", "data"):
        return Subset(summary)
    return Subset(elements=names) if names else None


def subset_body(body: bytes, asked: Subset) -> bytes:
    """The subset of an encoded resource."""
    return encode(subset_of(decode(body), asked))


def subset_of(resource: Resource, asked: Subset) -> Resource:
    """The subset of a resource; what is mandatory stays, and the tag SUBSETTED says that this is not all."""
    type = resource["resourceType"]
    if asked.summary == "true":
        kept = _summarized(resource, type)
    else:
        wanted = _wanted(asked, type)
        kept = {name: value for name, value in resource.items() if name == "resourceType" or wanted(name)}
    return _tagged(kept)


def _wanted(asked: Subset, type: str) -> Any:
    rows = fields(type)

    def wanted(name: str) -> bool:
        row = rows.get(name.lstrip("_"))
        if row is None or name in ALWAYS:
            return name in ALWAYS
        element = row.element
        if asked.summary == "data":
            return element.name != "text"
        if element.min > 0 or (element.is_modifier and not asked.summary):
            return True
        if asked.summary == "text":
            return element.name == "text"
        return element.name in _names(asked.elements, type)

    return wanted


def _names(elements: tuple[str, ...], type: str) -> set[str]:
    """The names that speak of this type: `name` of `name.family`, and `value` or `valueQuantity` alike."""
    paths = (name.removeprefix(f"{type}.").split(".") for name in elements)
    own = {path[0] for path in paths if len(path) == 1 or path[0] not in RESOURCE_TYPES}
    rows = fields(type)
    return own | {rows[name].element.name for name in own if name in rows}


def _summarized(value: dict[str, Any], type: str) -> dict[str, Any]:
    """The elements marked as summary, at every depth."""
    rows = fields(type)
    kept: dict[str, Any] = {}
    for name, content in value.items():
        row = rows.get(name.lstrip("_"))
        if name in ("resourceType", "id"):
            kept[name] = content
        elif row is not None and _in_summary(row.element):
            kept[name] = content if name.startswith("_") else _inner(content, row.type)
    return kept


def _in_summary(element: Element) -> bool:
    return element.is_summary or (element.min > 0 and element.is_modifier)


def _inner(content: Any, type: str) -> Any:
    """Inner elements of the resource are summarized in turn; data types come whole."""
    if "." not in type:
        return content
    if isinstance(content, list):
        return [_inner(item, type) for item in content]
    return _summarized(content, type) if isinstance(content, dict) else content


def _tagged(resource: Resource) -> Resource:
    meta = dict(resource.get("meta") or {})
    tags = [tag for tag in meta.get("tag", ()) if tag.get("code") != "SUBSETTED"]
    meta["tag"] = [*tags, SUBSETTED]
    head = {name: resource[name] for name in ("resourceType", "id") if name in resource}
    return head | {"meta": meta} | {name: value for name, value in resource.items() if name not in (*head, "meta")}
