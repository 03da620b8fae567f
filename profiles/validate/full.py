"""Full validation: base definitions, invariants, profiles, extensions, references, bundles, questionnaires."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from profiles.model import RESOURCE_TYPES
from profiles.outcome import Issue
from profiles.validate.checks import all_checks, run, switches_of
from profiles.validate.explain import resource_faults
from profiles.validate.fast import surely_valid
from profiles.validate.library import Library
from profiles.validate.plans import check_all
from profiles.validate.profile import check_profile
from profiles.validate.report import Options, Report
from profiles.validate.spots import Spot, everything, whole

Json = dict[str, Any]


def validate(
    resource: Any, library: Library | None = None, *, profiles: Iterable[str] = (), options: Options | None = None
) -> list[Issue]:
    """Every issue of a resource: errors and warnings, in the order they were found; never raises for bad content."""
    report = Report(library or Library(), options or Options())
    report.conforms = partial(_conforms, report)
    if not surely_valid(resource):
        for issue in resource_faults(resource):
            report.error(issue.code, "" if issue.expression == ("Resource",) else issue.expression[0], _bare(issue))
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if isinstance(kind, str) and kind in RESOURCE_TYPES:
        broken = report.failed()
        (_check_broken if broken else check_all)(report, resource)
        for profile in profiles:
            run(report, (partial(_check_asked, url=profile),), whole(resource), broken)
    return report.issues


def _check_broken(report: Report, resource: Json) -> None:
    """Every check of everything, whatever its shape."""
    for spot in everything(whole(resource)):
        run(report, all_checks(spot.type, spot.element, switches_of(report.options)), spot, broken=True)


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
    return issue.text.removeprefix(f"{issue.expression[0]}: ")
