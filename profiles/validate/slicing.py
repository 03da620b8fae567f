"""Slicing: which items of a list belong to which slice (http://hl7.org/fhir/R4/profiling.html#slicing)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from profiles.validate.definitions import Definition, Kind
from profiles.validate.references import target_type
from profiles.validate.report import Report, find_target
from profiles.validate.spots import Spot, members, whole
from profiles.validate.values import fits, same

Json = dict[str, Any]
CheckAgainst = Callable[[Report, Spot, str], None]

STEP = re.compile(r"(extension|ofType)\('?([^')]+)'?\)|(resolve)\(\)|([A-Za-z_$]+)(?:\[x\])?")
CHOICE = {"type": "type", "path": "$this"}


@cache
def steps(path: str) -> list[tuple[str, str]]:
    """A discriminator path in parts: (name, argument); it is a simple path (http://hl7.org/fhir/R4/fhirpath.html#simple)."""
    return [(m[1] or m[3] or m[4], m[2] or "") for m in STEP.finditer(path)]


def discriminators(sliced: Definition) -> list[Json]:
    found: list[Json] = sliced.slicing.get("discriminator", [])
    return found or ([CHOICE] if sliced.id.endswith("[x]") and sliced.slices else [])


def belongs(report: Report, spot: Spot, sliced: Definition, slice_: Definition, check: CheckAgainst) -> bool:
    """Whether an item is of a slice: every discriminator says so."""
    found = [_matches(report, spot, slice_, d, check) for d in discriminators(sliced)]
    return True in found and False not in found


def _matches(report: Report, spot: Spot, slice_: Definition, discriminator: Json, check: CheckAgainst) -> bool | None:
    """None where the slice demands nothing of this discriminator."""
    path = steps(discriminator.get("path", "$this"))
    places = list(follow(report, [spot], path))
    wanted = list(define(report, slice_, path))
    if not wanted:
        return None
    kind = discriminator.get("type", "value")
    if kind == "type" and not places and path and path[-1][0] == "resolve":
        return _tells_type(report, follow(report, [spot], path[:-1]), wanted, path)
    return _BY[kind](report, places, wanted, check, path)


def follow(report: Report, spots: list[Spot], path: list[tuple[str, str]]) -> list[Spot]:
    """The values a discriminator path leads to."""
    for name, argument in path:
        spots = [s for spot in spots for s in _step(report, spot, name, argument)]
    return spots


def _step(report: Report, spot: Spot, name: str, argument: str) -> list[Spot]:
    if name == "$this":
        return [spot]
    if name == "extension" and argument:
        return [s for s in members(spot, "extension") if s.value.get("url") == argument]
    if name == "ofType":
        return [spot] if spot.type == argument else []
    if name == "resolve":
        reference = spot.value.get("reference") if isinstance(spot.value, dict) else spot.value
        found = find_target(report.library, spot, reference) if isinstance(reference, str) else None
        return [whole(found, spot.root, spot.path, spot)] if found and "resourceType" in found else []
    return members(spot, name)


def define(report: Report, start: Definition, path: list[tuple[str, str]]) -> Iterator[Definition]:
    """The definitions a discriminator path leads to, through the profiles of types where the slice says no more."""
    if not path:
        yield start
        return
    (name, argument), rest = path[0], path[1:]
    for found in _define_step(report, start, name, argument, rest):
        yield from define(report, found, rest)


def _define_step(report: Report, start: Definition, name: str, argument: str, rest: list[Any]) -> Iterator[Definition]:
    if name in ("$this", "ofType"):
        yield start
    elif name == "resolve":
        if rest:
            yield from _roots(report, [t for kind in start.kinds for t in kind.targets])
        else:
            yield start
    elif name == "extension" and argument:
        yield from _extension(start, argument)
    elif name in start.children:
        child = start.children[name]
        yield child
        yield from (s for s in child.slices if s.min)
    else:
        profiles = [p for kind in start.kinds for p in (kind.profiles or (kind.code,))]
        yield from (found for root in _roots(report, profiles) if (found := root.children.get(name)))


def _extension(start: Definition, url: str) -> Iterator[Definition]:
    held = start.children.get("extension")
    for found in held.slices if held else ():
        if any(url in kind.profiles for kind in found.kinds):
            yield found


def _roots(report: Report, profiles: list[str]) -> Iterator[Definition]:
    for profile in profiles:
        found = report.library.profile(profile)
        if found is not None:
            yield found


def _value(report: Report, places: list[Spot], wanted: list[Definition], check: CheckAgainst, path: Any) -> bool | None:
    decisive = [w for w in wanted if w.demanding]
    return any(agrees(report, p, decisive[0]) for p in places) if decisive else None


def agrees(report: Report, spot: Spot, wanted: Definition) -> bool:
    """Whether a value has what the definition pins down."""
    fixed, pattern = wanted.fixed, wanted.pattern
    if fixed is not None and not same(spot.value, fixed):
        return False
    if pattern is not None and not fits(spot.value, pattern):
        return False
    binding = wanted.binding or {}
    is_bound = binding.get("strength") == "required" and "valueSet" in binding and fixed is None and pattern is None
    if is_bound and report.library.member_of(spot.value, spot.type, binding["valueSet"]) is False:
        return False
    return all(
        _has(report, spot, c) for child in wanted.children.values() for c in (child, *child.slices) if c.demanding
    )


def _has(report: Report, spot: Spot, wanted: Definition) -> bool:
    found = members(spot, wanted.name)
    return (not found and wanted.min == 0) or any(agrees(report, f, wanted) for f in found)


def _exists(report: Report, places: list[Spot], wanted: list[Definition], check: CheckAgainst, path: Any) -> bool:
    return bool(places) if any(w.min for w in wanted) else not places if any(w.max == 0 for w in wanted) else True


def _tells_type(report: Report, references: list[Spot], wanted: list[Definition], path: Any) -> bool:
    """A target that is out of reach has the type that its reference tells."""
    codes = {code for w in wanted for kind in w.kinds for code in _codes(report, kind, path)}
    told = [target_type(report, spot) for spot in references if isinstance(spot.value, dict)]
    return bool(told) and all(type in codes or (type and "Resource" in codes) for type in told)


def _type(report: Report, places: list[Spot], wanted: list[Definition], check: CheckAgainst, path: Any) -> bool:
    codes = {code for w in wanted for kind in w.kinds for code in _codes(report, kind, path)}
    return bool(places) and all(p.type in codes or "Resource" in codes for p in places)


def _codes(report: Report, kind: Kind, path: list[tuple[str, str]]) -> Iterator[str]:
    """The type itself, or after resolve() the types of the targets."""
    if not (path and path[-1][0] == "resolve"):
        yield kind.code
        return
    for target in kind.targets:
        structure = report.library.structure(target)
        yield structure["type"] if structure else target.rpartition("/")[2]


def _profile(report: Report, places: list[Spot], wanted: list[Definition], check: CheckAgainst, path: Any) -> bool:
    resolved = bool(path) and path[-1][0] == "resolve"
    profiles = [p for w in wanted for kind in w.kinds for p in (kind.targets if resolved else kind.profiles)]
    if not profiles:
        return _type(report, places, wanted, check, path)
    return bool(places) and any(_fits_profile(report, place, p, check) for place in places for p in profiles)


def _fits_profile(report: Report, place: Spot, profile: str, check: CheckAgainst) -> bool:
    trial = report.trial()
    check(trial, place, profile)
    return not trial.failed()


_BY: dict[str, Callable[[Report, list[Spot], list[Definition], CheckAgainst, Any], bool | None]] = {
    "value": _value,
    "pattern": _value,
    "exists": _exists,
    "type": _type,
    "profile": _profile,
}
