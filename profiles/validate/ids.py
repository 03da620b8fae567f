"""Ids within a resource (http://hl7.org/fhir/R4/element.html#id, references.html#contained)."""

from __future__ import annotations

from typing import Any

from profiles.validate.report import Report
from profiles.validate.spots import Spot, members


def check_contained(report: Report, spot: Spot) -> None:
    """What is contained has an id that no other has."""
    seen: set[Any] = set()
    for place in members(spot, "contained") if "contained" in spot.value else ():
        found = place.value.get("id")
        if found is None:
            report.error("required", place, "a contained resource needs an id")
        elif found in seen:
            report.error("duplicate", place, f"another contained resource has the id '{found}'")
        seen.add(found)


def check_id(report: Report, spot: Spot) -> None:
    """No two elements of a resource have the same id; snapshot and differential are apart in this."""
    holder = spot.value if type(spot.value) is dict else spot.extra
    if holder and "id" in holder and spot.value is not spot.resource:
        if spot.resource.get("resourceType") == "StructureDefinition":
            return
        seen = report.ids.setdefault(id(spot.resource), set())
        if holder["id"] in seen:
            report.error("duplicate", spot, f"another element has the id '{holder['id']}'")
        seen.add(holder["id"])
