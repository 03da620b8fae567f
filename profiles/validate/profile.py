"""A value against a profile: cardinality, types, slices, fixed values, bindings, invariants, targets.

http://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from profiles import model
from profiles.validate.codes import check_binding
from profiles.validate.definitions import Definition, Kind
from profiles.validate.invariants import check_rules
from profiles.validate.references import check_target, check_way
from profiles.validate.report import Report
from profiles.validate.slicing import belongs
from profiles.validate.spots import Spot, members
from profiles.validate.values import by, check_value


def check_profile(report: Report, spot: Spot, url: str, unknown: str | None = None) -> None:
    """Report where a resource or a value of a data type does not fit a profile; `unknown` as in Options."""
    root = report.library.profile(url)
    if root is None:
        severity = report.options.unknown_profiles if unknown is None else unknown
        if severity and not _is_type(url):
            report.add(severity, "not-found", spot, f"the profile {url} is not known")
        return
    kind = root.id.split(":")[0]
    if not model.is_a(spot.type, kind):
        report.error("structure", spot, f"{url} is a profile on {kind}, and this is {spot.type}")
        return
    with report.once(spot, url) as fresh:
        if fresh:
            check_element(report, spot, root)


def _is_type(url: str) -> bool:
    return url.rpartition("/")[2] in model.TYPES


def check_element(report: Report, spot: Spot, wanted: Definition) -> None:
    """One value against one definition, and everything below it."""
    if spot.value is not None:
        check_value(report, spot, wanted)
        if wanted.binding:
            check_binding(report, spot, wanted.binding, wanted.profile)
    if wanted.rules:
        check_rules(report, spot, wanted)
    for child in wanted.children.values():
        _check_child(report, spot, child)


def _check_child(report: Report, parent: Spot, wanted: Definition) -> None:
    found = members(parent, wanted.name)
    place = f"{parent.path}.{wanted.name}"
    _check_count(report, place, len(found), wanted)
    for spot in found:
        _check_type(report, spot, wanted)
        check_element(report, spot, wanted)
    if wanted.slices:
        _check_slices(report, place, found, wanted)


def _check_count(report: Report, place: str, count: int, wanted: Definition) -> None:
    name = wanted.id.rpartition(".")[2]
    if count < wanted.min:
        report.error(
            "required", place, f"{name}: at least {wanted.min} required, {count} found{by(wanted)}", f"min {name}"
        )
    if wanted.max is not None and count > wanted.max:
        report.error(
            "structure", place, f"{name}: at most {wanted.max} allowed, {count} found{by(wanted)}", f"max {name}"
        )


def _check_type(report: Report, spot: Spot, wanted: Definition) -> None:
    """The type must be one of those left, and fit one of its profiles if it has any."""
    kinds = [k for k in wanted.kinds if _is_kind(spot, k)]
    if wanted.kinds and not kinds:
        names = ", ".join(dict.fromkeys(k.code for k in wanted.kinds))
        report.error("structure", spot, f"the type {spot.type} is not allowed here, only {names}{by(wanted)}")
        return
    for kind in kinds:
        _check_profiles(report, spot, kind, wanted)
        if kind.code == "Reference":
            check_way(report, spot, kind)
        if kind.targets:
            check_target(report, spot, kind, check_profile)


def _is_kind(spot: Spot, kind: Kind) -> bool:
    return kind.code in ("Element", "BackboneElement", "*", "") or model.is_a(spot.type, kind.code)


def _check_profiles(report: Report, spot: Spot, kind: Kind, wanted: Definition) -> None:
    """Extensions are checked against their own definition anyway; of several profiles one is enough."""
    if not kind.profiles or (kind.code == "Extension" and len(kind.profiles) == 1):
        return
    if len(kind.profiles) == 1:
        check_profile(report, spot, kind.profiles[0])
        return
    for profile in kind.profiles:
        trial = report.trial()
        check_profile(trial, spot, profile)
        if not trial.failed():
            return
    report.error("structure", spot, f"fits none of the profiles {', '.join(kind.profiles)}{by(wanted)}")


def _check_slices(report: Report, place: str, found: list[Spot], sliced: Definition) -> None:
    """http://hl7.org/fhir/R4/profiling.html#slicing: items in their slices, in order, as often as these allow."""
    held: dict[int, list[Spot]] = {number: [] for number in range(len(sliced.slices))}
    order, rules, ended = -1, sliced.slicing.get("rules"), False
    for spot in found:
        number = _slice_of(report, spot, sliced)
        if number is None:
            ended = rules == "openAtEnd"
            if rules == "closed":
                report.error("structure", spot, f"fits none of the slices, and others are not allowed{by(sliced)}")
            continue
        slice_ = sliced.slices[number]
        held[number].append(spot)
        if ended or (sliced.slicing.get("ordered") and number < order):
            report.error("structure", spot, f"stands out of order: {slice_.source.get('sliceName')}{by(sliced)}")
        order = max(order, number)
        _check_type(report, spot, slice_)
        check_element(report, spot, slice_)
    for number, slice_ in enumerate(sliced.slices):
        _check_count(report, place, len(held[number]), slice_)
        if slice_.slices and held[number]:
            _check_slices(report, place, held[number], slice_)


def _slice_of(report: Report, spot: Spot, sliced: Definition) -> int | None:
    default = None
    for number, slice_ in enumerate(sliced.slices):
        if slice_.source.get("sliceName") == "@default":
            default = number
        elif _extension_slice(spot, slice_) or belongs(report, spot, sliced, slice_, check_profile):
            return number
    return default


def _extension_slice(spot: Spot, slice_: Definition) -> bool:
    """Extensions are told apart by url, which the profile of the slice names."""
    return spot.type == "Extension" and any(spot.value.get("url") in k.profiles for k in slice_.kinds)
