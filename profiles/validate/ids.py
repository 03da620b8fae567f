"""Ids within a resource (http://hl7.org/fhir/R4/element.html#id, references.html#contained)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiles.validate.report import Report
from profiles.validate.spots import Spot, members


def check_ids(report: Report, spot: Spot) -> None:
    """What is contained has an id that no other has; no two elements of a resource have the same."""
    seen: set[Any] = set()
    for place in members(spot, "contained") if "contained" in spot.value else ():
        found = place.value.get("id")
        if found is None:
            report.error("required", place, "a contained resource needs an id")
        elif found in seen:
            report.error("duplicate", place, f"another contained resource has the id '{found}'")
        seen.add(found)
    if spot.type == "StructureDefinition":  # snapshot and differential have elements of the same ids
        return
    ids = [id for name, value in spot.value.items() if name not in APART for id in _ids(value)]
    if len(set(ids)) < len(ids):
        for twice in sorted({id for id in ids if ids.count(id) > 1}):
            report.error("duplicate", spot, f"more than one element has the id '{twice}'")


APART = ("contained", "id")


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            if type(item) is dict or type(item) is list:
                yield from _ids(item)
    elif isinstance(value, dict) and "resourceType" not in value:
        if isinstance(value.get("id"), str):
            yield value["id"]
        for item in value.values():
            if type(item) is dict or type(item) is list:
                yield from _ids(item)
