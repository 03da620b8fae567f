"""URIs that mean definitions: canonicals and the systems of codes (http://hl7.org/fhir/R4/references.html#canonical)."""

from __future__ import annotations

from functools import cache

from profiles import model
from profiles.validate.report import Report
from profiles.validate.spots import Spot

VALUE_SETS = ("http://hl7.org/fhir/ValueSet/", "http://terminology.hl7.org/ValueSet/")
KINDS = ("CodeSystem", "ConceptMap", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet")


def check_canonical(report: Report, spot: Spot) -> None:
    """Absolute, or a fragment that is contained; what is known of the specification's own is of the right kind."""
    text = spot.value
    if not isinstance(text, str) or not text:
        return
    if text.startswith("#"):
        held = spot.root.get("contained", ())
        if text != "#" and not any(isinstance(c, dict) and c.get("id") == text[1:] for c in held):
            report.error("not-found", spot, f"nothing contained has the id '{text[1:]}'")
    elif ":" not in text:
        # Sixty of R4's own examples write `Library/x`.
        report.add("warning", "value", spot, f"a canonical is an absolute URL, unlike '{text}'")
    else:
        found, allowed = official_kinds(text.partition("|")[0]), targets(spot.element)
        if found and allowed and not found & allowed:
            report.error(
                "value", spot, f"{text} is a {' or '.join(sorted(found))}, not a {' or '.join(sorted(allowed))}"
            )


def official_kinds(url: str) -> frozenset[str]:
    """What a canonical means in the specification."""
    return frozenset(kind for kind in KINDS if url in model.definition_urls(kind))


@cache
def targets(element: str) -> frozenset[str]:
    """What the canonicals of an element may point at; nothing where that is anything."""
    parent, _, name = element.rpartition(".")
    child = model.element(parent, name.removesuffix("[x]")) if parent else None
    found = frozenset(child.canonicals if child else ())
    return frozenset() if found & {"Resource", "CanonicalResource", "MetadataResource"} else found


@cache
def is_value_set(system: str) -> bool:
    """Whether the system of a code is a value set, which has no codes of its own."""
    return system.startswith(VALUE_SETS) or official_kinds(system) == {"ValueSet"}
