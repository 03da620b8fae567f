"""Extensions: known, allowed where they stand, and as defined (http://hl7.org/fhir/R4/extensibility.html)."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

from profiles import model
from profiles.fhirpath import compile
from profiles.outcome import FhirError
from profiles.validate.invariants import holds
from profiles.validate.profile import check_profile
from profiles.validate.report import Report
from profiles.validate.spots import Spot

Json = dict[str, Any]


# Names reserved for examples, whose definitions nobody can look up.
EXAMPLES = ("://example.org/", "://acme.com/", "://nema.org/")
SD = "http://hl7.org/fhir/StructureDefinition/"
TOOLS = "http://hl7.org/fhir/tools/StructureDefinition/"
# An element of another release as an extension (http://hl7.org/fhir/R4/versions.html#extensions).
OTHER_RELEASE = re.compile(r"http://hl7\.org/fhir/[1-9]\.[0-9]/StructureDefinition/extension-[A-Z]\w*(\.\w+)+(\[x])?")
# Where extensions are used beyond the contexts R4 published for them: by the specification itself, and as the later
# extension pack allows. A trailing dot means everything below.
ALSO_ON: dict[str, tuple[str, ...]] = {
    SD + "capabilitystatement-expectation": ("CapabilityStatement.", "SearchParameter."),
    SD + "regex": ("ElementDefinition.type",),
    SD + "structuredefinition-fhir-type": ("ElementDefinition.type",),
    SD + "structuredefinition-normative-version": (
        "CodeSystem",
        "ElementDefinition",
        "OperationDefinition",
        "ValueSet",
    ),
    SD + "translation": ("ValueSet.expansion.contains",),
    SD + "valueset-concept-comments": ("CodeSystem.concept",),
}


def check_extension(report: Report, spot: Spot) -> None:
    """One extension; those inside a complex one are told apart by the parent's definition."""
    url = spot.value.get("url")
    if not isinstance(url, str):
        return
    parent = spot.parent
    if parent is not None and parent.type == "Extension" and ":" not in url:
        _check_part(report, spot, parent, url)
        return
    if ":" not in url:
        report.error("extension", spot, f"the url of an extension is absolute, unlike '{url}'")
        return
    if "|" in url:
        report.error("extension", spot, f"the url of an extension has no version: {url}")
        url = url.partition("|")[0]
    structure = report.library.structure(url)
    if structure is None or structure.get("type") != "Extension":
        severity = report.options.unknown_extensions
        if severity:
            report.add(_softened(severity, url), "extension", spot, f"the extension {url} is not known")
        return
    _check_modifier(report, spot, structure)
    if structure.get("context") and not _is_allowed(spot, url, structure["context"]):
        places = ", ".join(str(c.get("expression")) for c in structure["context"])
        report.error("extension", spot, f"the extension {url} is not allowed here, but on {places}")
    for rule in structure.get("contextInvariant", ()):
        _check_rule(report, spot, url, rule)
    check_profile(report, spot, url)


def _check_rule(report: Report, spot: Spot, url: str, rule: str) -> None:
    """A rule about the element that holds the extension, which the rule knows as %extension."""
    holder = spot.parent
    try:
        if holder is None:
            return
        asked = replace(report.environment(spot), variables={"extension": spot.node})
        found = compile(rule, holder.type)(holder.node, asked)
    except FhirError as error:
        report.add("warning", "processing", spot, f"the rule {rule} could not be evaluated: {error.text}")
        return
    if not holds([node.value for node in found]):
        report.error("invariant", spot, f"the extension {url} is not allowed here: {rule} does not hold")


def _softened(severity: str, url: str) -> str:
    """HL7 publishes extensions for R4 to this day: one of its own that is not known here may be right."""
    if any(name in url for name in EXAMPLES):
        return "information"
    return "warning" if url.startswith((SD, TOOLS)) or OTHER_RELEASE.fullmatch(url) else severity


def _check_part(report: Report, spot: Spot, parent: Spot, url: str) -> None:
    """A part of a complex extension must be one its definition names."""
    root = report.library.profile(parent.value.get("url", "")) if ":" in str(parent.value.get("url")) else None
    held = root.children.get("extension") if root else None
    if held is None or not held.slices:
        return
    names = {s.children["url"].fixed for s in held.slices if "url" in s.children}
    if names and None not in names and url not in names:
        report.error("extension", spot, f"{url} is no part of the extension {parent.value.get('url')}")


def _check_modifier(report: Report, spot: Spot, structure: Json) -> None:
    root = (structure.get("snapshot") or structure.get("differential") or {}).get("element", [{}])[0]
    modifier = bool(root.get("isModifier"))
    used = spot.element.endswith(".modifierExtension")
    if modifier != used:
        right = "modifierExtension" if modifier else "extension"
        report.error("extension", spot, f"the extension {structure.get('url')} must be used as {right}")


def _is_allowed(spot: Spot, url: str, contexts: list[Json]) -> bool:
    names = places(spot.parent) if spot.parent else set()
    if any(_in_context(spot, names, c) for c in contexts):
        return True
    also = ALSO_ON.get(url, ())
    return any(n in also or (a.endswith(".") and n.startswith(a)) for n in names for a in also)


def _in_context(spot: Spot, names: set[str], context: Json) -> bool:
    """http://hl7.org/fhir/R4/defining-extensions.html#context"""
    parent, wanted = spot.parent, context.get("expression", "")
    if parent is None:
        return True
    if context.get("type") == "element":
        return wanted in names or re.sub(r":[^.]*", "", wanted.rpartition("#")[2]) in names
    if context.get("type") == "extension":
        return parent.type == "Extension" and parent.value.get("url") == wanted
    return _in_expression(parent, wanted)


def places(parent: Spot) -> set[str]:
    """All names of the place an extension stands on: its path, its type, and what these specialize."""
    names = {parent.element, parent.element.removesuffix("[x]"), *model.ancestors(parent.type)}
    if "." not in parent.element or parent.type in model.TYPES:
        names.add("Element")
    if parent.type in model.RESOURCE_TYPES:
        names.add("Resource")
        names |= _interfaces(parent.type)
    owner, _, name = parent.element.partition(".")
    above = parent.parent
    while above is not None and above.type != owner and "." in above.element:
        above = above.parent
    if name:
        names |= {
            f"{ancestor}.{name}" for ancestor in model.ancestors(parent.resource["resourceType"]) if ancestor == owner
        }
        names |= _typed(parent)
    return names


@cache
def _interfaces(type: str) -> set[str]:
    """What later releases call the resources that have a url: the extensions of HL7 for R4 stand on these."""
    is_canonical = all(model.element(type, name) is not None for name in ("url", "version", "status"))
    return {"CanonicalResource", "MetadataResource"} if is_canonical else set()


def _typed(parent: Spot) -> set[str]:
    """The path through the types it passes: `Patient.name` for the given name's parent is `HumanName` alone."""
    above = parent.parent
    last = parent.element.rpartition(".")[2]
    return {f"{a}.{last}" for a in model.ancestors(above.type)} | {_long(parent)} if above is not None else set()


def _long(spot: Spot) -> str:
    """The path from the resource down, without indexes: `Patient.contact.name.given`."""
    parts = []
    here: Spot | None = spot
    while here is not None and here.type not in model.RESOURCE_TYPES:
        parts.append(here.element.rpartition(".")[2])
        here = here.parent
    return ".".join([here.type if here else "", *reversed(parts)])


def _in_expression(parent: Spot, wanted: str) -> bool:
    try:
        found = compile(wanted)(parent.resource)
    except FhirError:
        return True
    return any(n.value is parent.value for n in found)
