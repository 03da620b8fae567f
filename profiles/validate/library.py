"""Where a validation finds definitions, codes and other resources: everything beyond the base is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from profiles import model
from profiles.outcome import FhirError
from profiles.validate.definitions import Definition, tree

Json = dict[str, Any]
TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"


def _nothing(kind: str, url: str) -> Json | None:
    return None


def _unknown(value: Any, type_name: str, value_set: str) -> bool | None:
    return None


def _no_fault(coding: Json) -> tuple[str, str] | None:
    return None


def _nowhere(reference: str) -> Json | None:
    return None


@dataclass(slots=True)
class Library:
    """Definitions and their compiled trees, kept between validations.

    `find(kind, canonical)` gives a conformance resource beyond the base definitions, `member_of(value, type, value
    set)` says whether a code, Coding, CodeableConcept, Quantity, string or uri is in a value set (None: cannot tell),
    `resolve(reference)` gives a stored resource, `code_fault(coding)` gives severity and text of what is wrong with the
    code or the display of a Coding or a Quantity's unit, `subsumes(a, b)` whether one Coding or CodeableConcept is the
    other or above it.
    """

    find: Callable[[str, str], Json | None] = _nothing
    member_of: Callable[[Any, str, str], bool | None] = _unknown
    resolve: Callable[[str], Json | None] = _nowhere
    code_fault: Callable[[Json], tuple[str, str] | None] = _no_fault
    trees: dict[str, Definition | None] = field(default_factory=dict)
    subsumes: Callable[[Any, Any], bool | None] | None = None
    # Reading an official definition takes 14 ms, and an IPS document asks for vital signs some forty times.
    official: dict[tuple[str, str], Json | None] = field(default_factory=dict)

    def definition(self, kind: str, url: str) -> Json | None:
        """A definition by canonical url, with or without a version (http://hl7.org/fhir/R4/references.html#canonical)."""
        found = self.find(kind, url)
        return self._official(kind, url) if found is None else found

    def _official(self, kind: str, url: str) -> Json | None:
        if (kind, url) not in self.official:
            read = model.definition(kind, url)
            self.official[kind, url] = read if read is not None and _fits(read, url) else None
        return self.official[kind, url]

    def structure(self, url: str) -> Json | None:
        if ":" not in url:
            url = TYPE_URL + url
        return self.definition("StructureDefinition", url)

    def profile(self, url: str) -> Definition | None:
        """The tree of a profile; None when it is not known or cannot be built."""
        if url not in self.trees:
            structure = self.structure(url)
            try:
                self.trees[url] = tree(structure, self.structure) if structure else None
            except FhirError:
                self.trees[url] = None
        return self.trees[url]


def _fits(definition: Json, url: str) -> bool:
    wanted, _, version = url.partition("|")
    return definition.get("url") == wanted and is_version(version, definition.get("version", ""))


def is_version(wanted: str, version: str) -> bool:
    """Whether a version is the wanted one, or one of its line: 4.0.1 is a 4.0; "" wants any."""
    return wanted in ("", version) or version.startswith(wanted + ".")


class Shelf:
    """Definitions held in memory, found by canonical; of several versions the last one put there."""

    def __init__(self, resources: Iterable[Json] = ()) -> None:
        self._held: dict[tuple[str, str], list[Json]] = {}
        for resource in resources:
            self.put(resource)

    def put(self, resource: Json) -> None:
        key = (resource.get("resourceType", ""), resource.get("url", ""))
        self._held.setdefault(key, []).append(resource)

    def find(self, kind: str, canonical: str) -> Json | None:
        url, _, version = canonical.partition("|")
        found = self._held.get((kind, url), ())
        return next((r for r in reversed(found) if is_version(version, r.get("version", ""))), None)
