"""References: their targets' types and profiles (http://hl7.org/fhir/R4/references.html)."""

from __future__ import annotations

import re
from collections.abc import Callable

from profiles import model
from profiles.validate.definitions import Kind
from profiles.validate.library import TYPE_URL
from profiles.validate.report import Report, find_target, in_bundle
from profiles.validate.spots import Json, Spot, whole

CheckAgainst = Callable[[Report, Spot, str], None]
ANY = "Resource"
LITERAL = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?$")


def target_type(report: Report, spot: Spot) -> str | None:
    """The type a reference points at: by what it finds, by its `type`, or by its url; None when nobody can tell."""
    reference = spot.value.get("reference")
    if isinstance(reference, str):
        found = find_target(report.library, spot, reference)
        if found:
            kind: str | None = found.get("resourceType")
            return kind
        literal = LITERAL.search(reference)
        if literal and literal[1] in model.RESOURCE_TYPES:
            return literal[1]
    said = spot.value.get("type")
    return said if isinstance(said, str) and said in model.RESOURCE_TYPES else None


def check_base_target(report: Report, spot: Spot) -> None:
    """The types the base definition allows a reference to point at, the form of its text, and the type it tells."""
    _check_form(report, spot)
    parent, _, name = spot.element.rpartition(".")
    child = model.element(parent, name.removesuffix("[x]"))
    if child is None or not child.targets or ANY in child.targets:
        return
    kind = target_type(report, spot)
    if kind and kind not in child.targets:
        report.error(
            "structure", spot, f"the target is of type {kind}, allowed are {', '.join(child.targets)}", "target"
        )


def _check_form(report: Report, spot: Spot) -> None:
    """http://hl7.org/fhir/R4/references.html#literal: a relative reference is Type/id; `type` says the same."""
    text, said = spot.value.get("reference"), spot.value.get("type")
    if not isinstance(text, str) or text.startswith("#"):
        return
    literal = LITERAL.search(text)
    is_type = literal is not None and literal[1] in model.RESOURCE_TYPES
    if ":" not in text and "?" not in text and not is_type:
        # In a Bundle a reference must lead to an entry, or tell what it is of elsewhere.
        severity, place = "error" if _in_bundle(spot) else "warning", f"{spot.path}.reference"
        report.add(severity, "value", place, f"'{text}' is no reference: [type]/[id] or an absolute URL")
    elif literal and is_type and isinstance(said, str) and said in model.RESOURCE_TYPES and said != literal[1]:
        report.error("value", f"{spot.path}.type", f"the type is {said}, but the reference is to a {literal[1]}")


def _in_bundle(spot: Spot) -> bool:
    above: Spot | None = spot
    while above is not None and above.type != "Bundle":
        above = above.parent
    return above is not None


def check_target(report: Report, spot: Spot, kind: Kind, check: CheckAgainst) -> None:
    """The profiles of a target: its type when it cannot be found, all of one profile when it can."""
    if spot.type != "Reference" or not isinstance(spot.value, dict):
        return
    types = {p: type_of(report, p) for p in kind.targets}
    found = target_type(report, spot)
    if found and not any(t in (found, ANY) for t in types.values() if t):
        if all(types.values()):
            names = ", ".join(sorted({t for t in types.values() if t}))
            report.error("structure", spot, f"the target is of type {found}, allowed are {names}", "target")
        return
    reference = spot.value.get("reference")
    target = find_target(report.library, spot, reference) if isinstance(reference, str) else None
    fitting = [p for p, t in types.items() if t == found and not p.endswith(f"/StructureDefinition/{t}")]
    if target and fitting and len(fitting) == len([t for t in types.values() if t in (found, ANY)]):
        _check_profiles(report, spot, target, fitting, check)


def check_way(report: Report, spot: Spot, kind: Kind) -> None:
    """http://hl7.org/fhir/R4/valueset-resource-aggregation-mode.html, and valueset-reference-version-rules.html."""
    text = spot.value.get("reference") if isinstance(spot.value, dict) else None
    if not isinstance(text, str):
        return
    ways = {"contained"} if text.startswith("#") else {"referenced"}
    if ways == {"referenced"} and in_bundle(spot, text):
        ways.add("bundled")
    if kind.aggregation and not ways & set(kind.aggregation):
        report.error("structure", spot, f"the target must be {' or '.join(kind.aggregation)}")
    if kind.versioning == "specific" and "/_history/" not in text:
        report.error("structure", spot, "the reference must name a version of its target")
    if kind.versioning == "independent" and "/_history/" in text:
        report.error("structure", spot, "the reference must not name a version of its target")


def _check_profiles(report: Report, spot: Spot, target: Json, profiles: list[str], check: CheckAgainst) -> None:
    place = whole(target, None, spot.path + ".resolve()", spot)
    for profile in profiles:
        trial = report.trial()
        with report.once(place, profile) as fresh:
            if fresh:
                trial.busy.discard((id(target), profile))
                check(trial, place, profile)
        if not trial.failed():
            return
    report.error("structure", spot, f"the target does not fit {' or '.join(profiles)}")


def type_of(report: Report, profile: str) -> str | None:
    base = profile.removeprefix(TYPE_URL)
    if base in model.RESOURCE_TYPES:  # half of the time that an IPS document takes, when it is read every time
        return base
    structure = report.library.structure(profile)
    return structure.get("type") if structure else None
