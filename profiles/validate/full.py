"""Full validation: base definitions, invariants, profiles, extensions, references, bundles, questionnaires."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

from profiles.model import RESOURCE_TYPES
from profiles.outcome import Issue
from profiles.validate.codes import check_base_binding
from profiles.validate.explain import resource_faults
from profiles.validate.extensions import check_extension
from profiles.validate.fast import surely_valid
from profiles.validate.ids import check_contained, check_id
from profiles.validate.invariants import check_base_rules
from profiles.validate.library import Library
from profiles.validate.profile import check_profile
from profiles.validate.references import check_base_target
from profiles.validate.report import Options, Report
from profiles.validate.special import SPECIAL
from profiles.validate.spots import Spot, everything, whole

Json = dict[str, Any]
Check = Callable[[Report, Spot], None]


def validate(
    resource: Any, library: Library | None = None, *, profiles: Iterable[str] = (), options: Options | None = None
) -> list[Issue]:
    """Every issue of a resource: errors and warnings, in the order they were found; never raises for bad content."""
    report = Report(library or Library(), options or Options())
    report.conforms = partial(_conforms, report)
    if not surely_valid(resource):
        for issue in resource_faults(resource):
            report.error(issue.code, issue.expression[0] if issue.expression else "", _bare(issue))
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if isinstance(kind, str) and kind in RESOURCE_TYPES:
        root = whole(resource)
        checks: Iterable[tuple[Check, Spot]] = chain(
            ((_check_spot, spot) for spot in everything(root)),
            ((partial(_check_asked, url=profile), root) for profile in profiles),
        )
        broken = report.failed()
        for check, spot in checks:
            _run(report, check, spot, broken)
    return report.issues


def _run(report: Report, check: Check, spot: Spot, broken: bool) -> None:
    """Rules may stumble over values of the wrong shape, reported already, or over a definition that is malformed."""
    try:
        check(report, spot)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        if not broken:
            report.add("warning", "processing", spot, "not every rule could be checked: a definition is malformed")


def _conforms(report: Report, value: Any, url: str) -> bool | None:
    """What `conformsTo(url)` says of a resource; None where the profile is not known."""
    if (
        not isinstance(value, dict)
        or value.get("resourceType") not in RESOURCE_TYPES
        or not report.library.profile(url)
    ):
        return None
    trial = report.trial()
    check_profile(trial, whole(value), url)
    return not trial.failed()


def _check_asked(report: Report, spot: Spot, url: str) -> None:
    """A profile that was asked for is known, or else the question has no answer."""
    check_profile(report, spot, url, unknown="error")


def _bare(issue: Issue) -> str:
    return issue.text.removeprefix(f"{issue.expression[0]}: ") if issue.expression else issue.text


def _check_spot(report: Report, spot: Spot) -> None:
    check_base_rules(report, spot)
    check_base_binding(report, spot)
    check_id(report, spot)
    if spot.type == "Extension":
        check_extension(report, spot)
    elif spot.type == "Reference":
        check_base_target(report, spot)
    elif spot.type in RESOURCE_TYPES:
        check_contained(report, spot)
        for profile in claimed(spot.value):
            check_profile(report, spot, profile)
    for check in SPECIAL.get(spot.type, ()):
        check(report, spot)


def claimed(resource: Json) -> list[str]:
    """The profiles a resource says it fits."""
    found = resource.get("meta", {}).get("profile", []) if isinstance(resource.get("meta"), dict) else []
    return [p for p in found if isinstance(p, str)] if isinstance(found, list) else []
