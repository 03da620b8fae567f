"""The differential of a profile and what stands around it (http://hl7.org/fhir/R4/profiling.html#snapshot)."""

from __future__ import annotations

from typing import Any

from profiles import model
from profiles.fhirpath import parse
from profiles.outcome import FhirError
from profiles.validate.references import type_of
from profiles.validate.report import Report
from profiles.validate.snapshot import element_id
from profiles.validate.spots import Spot, members

Json = dict[str, Any]
LATER = ("CanonicalResource", "MetadataResource", "Base", "DataType", "PrimitiveType", "BackboneType")


def check_order(report: Report, elements: list[Spot], layered: dict[str, Json]) -> None:
    """The elements below one another stand in the order of the base; slices of one element as they like."""
    places = {name: number for number, name in enumerate(layered)}
    last: dict[str, int] = {}
    for element in elements:
        name = element_id(element.value)
        parent, _, own = name.rpartition(".")
        place = places.get(f"{parent}.{own.partition(':')[0]}")
        if place is None:
            continue
        if place < last.get(parent, -1):
            report.error("structure", element, f"{name} stands out of the order of the base")
        last[parent] = max(place, last.get(parent, -1))


def check_slice(report: Report, element: Spot, layered: dict[str, Json]) -> None:
    """A slice is one of an element that is sliced; extensions and choices are by nature."""
    name = element_id(element.value)
    whole = name.rpartition(".")[0] + "." + name.rpartition(".")[2].partition(":")[0]
    sliced = layered.get(whole, {})
    # R4's own profiles give names to elements that come once.
    is_free = (
        sliced.get("max") in ("0", "1")
        or whole.endswith(("[x]", "xtension"))
        or "/" in str(element.value.get("sliceName"))
    )
    if "sliceName" in element.value and ":" in name and sliced and not is_free and "slicing" not in sliced:
        report.error("structure", element, f"{whole} is not sliced, so it has no slice {element.value['sliceName']}")


def check_targets(report: Report, element: Spot, base: Json) -> None:
    """What a reference may point at is something that the base lets it point at."""
    allowed = [t for kind in base.get("type", ()) for t in kind.get("targetProfile", ())]
    kinds = {type_of(report, target) for target in allowed}
    if not allowed or None in kinds or "Resource" in kinds:
        return
    for kind in element.value.get("type", ()):
        for target in kind.get("targetProfile", ()):
            found = type_of(report, target)
            if found is not None and found not in kinds:
                names = ", ".join(sorted(str(k) for k in kinds))
                report.error("value", element, f"the target {target} is a {found}, those of the base are {names}")


def check_snapshot(report: Report, spot: Spot, elements: list[Spot]) -> None:
    """What the differential names is in the snapshot, where there is one."""
    held = [e for part in members(spot, "snapshot") for e in members(part, "element")]
    known = {element_id(e.value) for e in held} | {str(e.value.get("path")) for e in held}
    for element in elements if held else ():
        path, name = str(element.value.get("path")), element_id(element.value)
        choice = any(k.endswith("[x]") and path.startswith(k[:-3]) for k in known)
        if name not in known and path not in known and not choice:
            report.error("structure", element, f"{name} is not in the snapshot")


def check_contexts(report: Report, spot: Spot) -> None:
    """An extension says of its url what it is, stands where something is, under rules that can be read."""
    if spot.value.get("type") != "Extension":
        return
    for part in [*members(spot, "differential"), *members(spot, "snapshot")]:
        for element in members(part, "element"):
            said, url = element.value.get("fixedUri"), spot.value.get("url")
            if element_id(element.value) == "Extension.url" and said not in (None, url):
                report.error("value", element, f"the url is fixed to {said}, and the extension is {url}")
    for context in members(spot, "context"):
        _check_context(report, context)
    for rule in members(spot, "contextInvariant"):
        _check_path(report, rule, rule.value)


def _check_context(report: Report, context: Spot) -> None:
    kind, text = context.value.get("type"), context.value.get("expression")
    if kind == "fhirpath":
        _check_path(report, context, text)
    elif kind == "element" and isinstance(text, str) and ":" not in text and not _is_element(text):
        report.error("value", context, f"there is no element {text}")


def _check_path(report: Report, place: Spot, text: Any) -> None:
    try:
        parse(str(text))
    except FhirError as error:
        report.error("invalid", place, f"'{text}' is no FHIRPath: {error.text}")


def _is_element(path: str) -> bool:
    """Whether a path leads through the types: `Patient.contact.name.given`, `Observation.value[x]`."""
    kind, *names = path.split(".")
    kinds = {kind}
    for name in names:
        found = [model.element(k, name.removesuffix("[x]")) for k in kinds]
        kinds = {t for child in found if child for t in (child.types or (child.ref or "",))}
        kinds |= {child.path for child in found if child and child.path in model.TYPES}
    return bool(kinds & model.TYPES.keys()) or kind in LATER or path in ("Element", "Resource")
