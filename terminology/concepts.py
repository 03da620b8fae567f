"""A concept and its designations, as every code system gives them (http://hl7.org/fhir/R4/codesystem.html#concepts)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

EXTENSION = "http://hl7.org/fhir/StructureDefinition/"
STANDARDS_STATUS = EXTENSION + "structuredefinition-standards-status"
CONCEPT_PROPERTIES = "http://hl7.org/fhir/concept-properties#"
PREFERRED = {
    "system": "http://terminology.hl7.org/CodeSystem/hl7TermMaintInfra",
    "code": "preferredForLanguage",
    "display": "Preferred For Language",
}


@dataclass(frozen=True, slots=True)
class Designation:
    """One name of a concept; `status` is set where it should not be used any more, `source` names a supplement."""

    value: str
    language: str | None = None
    use: Json | None = None
    extension: tuple[Json, ...] = ()
    status: str | None = None
    source: str | None = None

    @property
    def is_display(self) -> bool:
        """Whether the name is one to show, not a synonym of some other use."""
        return self.use is None or self.use.get("code") in ("display", "preferredForLanguage")

    def resource(self) -> Json:
        """The designation as ValueSet.expansion.contains.designation and $lookup write it."""
        row: Json = {"extension": list(self.extension)} if self.extension else {}
        if self.language:
            row["language"] = self.language
        if self.use:
            row["use"] = self.use
        return row | {"value": self.value}


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept; properties are in the JSON form of CodeSystem.concept.property."""

    code: str
    display: str | None = None
    definition: str | None = None
    designations: tuple[Designation, ...] = ()
    properties: tuple[Json, ...] = ()
    extension: tuple[Json, ...] = ()
    language: str | None = None
    abstract: bool = False
    inactive: bool = False
    status: str | None = None

    def names(self) -> Iterator[Designation]:
        """The display, as the preferred name of its language, and the other names."""
        if self.display:
            yield Designation(self.display, self.language, PREFERRED)
        yield from self.designations


def value_of(element: Json) -> tuple[str | None, Any]:
    """The `value[x]` of a property, extension or parameter: its JSON name and its value."""
    return next(((k, v) for k, v in element.items() if k.startswith("value")), (None, None))


def text_of(value: Any) -> str:
    """A property value as a filter compares it: the code of a Coding, `true`, the digits of a number."""
    if isinstance(value, dict):
        return str(value.get("code", ""))
    return str(value).lower() if isinstance(value, bool) else str(value)


def extension_value(extensions: Iterable[Json], url: str) -> Any:
    """The value of the first extension of that url, None where there is none."""
    return next((value_of(e)[1] for e in extensions if e.get("url") == url), None)


def designation(row: Json, source: str | None = None) -> Designation:
    """A designation from its JSON."""
    extensions = tuple(row.get("extension", ()))
    status = extension_value(extensions, STANDARDS_STATUS)
    return Designation(
        row.get("value", ""),
        row.get("language"),
        row.get("use"),
        extensions,
        "deprecated" if status in ("withdrawn", "deprecated") else None,
        source,
    )
