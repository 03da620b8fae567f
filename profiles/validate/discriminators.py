"""The discriminators of a slicing lead somewhere (http://hl7.org/fhir/R4/profiling.html#discriminator)."""

from __future__ import annotations

from typing import Any

from profiles import model
from profiles.validate.report import Report
from profiles.validate.slicing import steps
from profiles.validate.spots import Spot, keys, members

Json = dict[str, Any]
INNER = frozenset(("BackboneElement", "Element"))
# What a path may pass through without being known here.
ANY = frozenset(("*", "Resource", "DomainResource", "Element", "BackboneElement", ""))
REFERRING = frozenset(("Reference", "canonical", "CodeableReference"))


def check_discriminators(report: Report, element: Spot, whole: Json) -> None:
    """Report a discriminator whose path names what the sliced element does not have."""
    start = _types(whole)
    for slicing in members(element, "slicing"):
        for one in members(slicing, "discriminator"):
            path = one.value.get("path")
            if isinstance(path, str) and start and not _leads(start, path):
                kinds = " or ".join(sorted(start))
                report.error("value", one, f"the path '{path}' leads nowhere from {whole.get('path')} ({kinds})")


def _types(whole: Json) -> set[str]:
    """The types of an element as the model names them: inner ones by their path."""
    reference = whole.get("contentReference")
    if isinstance(reference, str):
        return {reference.partition("#")[2]}
    codes = {str(kind.get("code", "")).rpartition("/")[2] for kind in whole.get("type", ())}
    inner = whole.get("base", {}).get("path", whole.get("path", ""))
    return {inner if code in INNER and inner in model.TYPES else code for code in codes}


def _leads(kinds: set[str], path: str) -> bool:
    for name, argument in steps(path):
        if kinds & ANY or not kinds <= model.TYPES.keys():
            return True
        if name == "resolve":
            return bool(kinds & REFERRING)
        if name == "ofType":
            kinds = {argument}
        elif name == "extension" and argument:
            kinds = {"Extension"}
        elif name != "$this":
            kinds = {key[1] for kind in kinds for key in keys(kind, name)}
        if not kinds:
            return False
    return True
