"""Rules that nearly always hold for a reason seen at once; FHIRPath decides where it is not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from profiles.json import encode

Json = dict[str, Any]
# http://hl7.org/fhir/R4/structuredefinition.html#StructureDefinition, sdf-9: not on the root of a structure.
INNER_ONLY = frozenset(("label", "_label", "code", "requirements", "_requirements"))
ANSWERED = {
    "bdl-3": ("request", frozenset(("batch", "transaction", "history"))),
    "bdl-4": ("response", frozenset(("batch-response", "transaction-response", "history"))),
}


def _is_mentioned(resource: Json) -> bool:
    """Whether a plain Reference in the text leads to each contained resource."""
    text, held = encode(resource), resource["contained"]
    return all(isinstance(c, dict) and b'"reference":"#%s"' % str(c.get("id")).encode() in text for c in held)


def _has_parts(rule: str) -> Callable[[Json], bool]:
    """Whether all or no entries have the part, as the type of the Bundle wants it."""
    name, kinds = ANSWERED[rule]

    def test(bundle: Json) -> bool:
        wanted = bundle["type"] in kinds
        return all((name in entry) is wanted for entry in bundle.get("entry", ()))

    return test


def _versions_differ(bundle: Json) -> bool:
    """Whether no version of a resource comes twice."""
    entries = [e for e in bundle.get("entry", ()) if "fullUrl" in e]
    marks = [e["fullUrl"] + e.get("resource", {}).get("meta", {}).get("versionId", "") for e in entries]
    return len(set(marks)) == len(marks)


def _codes(concepts: list[Json]) -> Iterator[Any]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", []))


def _codes_differ(system: Json) -> bool:
    codes = list(_codes(system.get("concept", [])))
    return "contained" not in system and len(set(codes)) == len(codes)


def _roots_are_bare(structure: Json) -> bool:
    parts = [structure.get(name, {}).get("element", ()) for name in ("snapshot", "differential")]
    return not any("." not in e["path"] and not INNER_ONLY.isdisjoint(e) for part in parts for e in part)


def _is_small_enough(element: Json) -> bool:
    most = element["max"]
    return bool(most == "*" or (most.isascii() and most.isdigit() and element["min"] <= int(most)))


def _is_number(text: Any) -> bool:
    return bool(text == "*" or (text.isascii() and text.isdigit()))


HOLDS: dict[str, Callable[[Any], bool]] = {
    "bdl-3": _has_parts("bdl-3"),
    "bdl-4": _has_parts("bdl-4"),
    "bdl-7": _versions_differ,
    "csd-1": _codes_differ,
    "dom-3": lambda v: "contained" not in v or _is_mentioned(v),
    "eld-2": _is_small_enough,
    "eld-3": _is_number,
    "ref-1": lambda v: not str(v.get("reference", "")).startswith("#"),
    "sdf-9": _roots_are_bare,
}


def _is_below(elements: list[Json], first: str) -> bool:
    """Whether the first element has the path, and all others are below it."""
    return elements[0]["path"] == first and all(e["path"].startswith(first + ".") for e in elements[1:])


# The same for rules that ask `%resource`, which is given as well.
HOLDS_IN: dict[str, Callable[[Any, Json], bool]] = {
    "sdf-8": lambda v, r: v is r["snapshot"] and _is_below(v["element"], r["type"]),
    "sdf-8a": lambda v, r: v is r["differential"] and _is_below(v["element"], r["type"]),
}
