"""What a code system can be asked, and the table of those with a behaviour of their own (http://hl7.org/fhir/R4/terminologies-systems.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from terminology.concepts import STANDARDS_STATUS, Concept, Designation, Json, extension_value
from terminology.versions import canonical


class System(Protocol):
    """One version of a code system. Codes are given and taken in the system's own case."""

    @property
    def url(self) -> str:
        """The system uri of its codings."""

    @property
    def version(self) -> str | None:
        """Its version, None where it has none."""

    @property
    def about(self) -> Json:
        """The CodeSystem resource without its concepts."""

    def locate(self, code: str) -> str | None:
        """The code in the system's own case, None where it has no such code."""

    def concept(self, code: str) -> Concept:
        """Everything known of a code that `locate` gave."""

    def codes(self) -> Iterable[str]:
        """All codes in the order of the system."""

    def total(self) -> int | None:
        """How many codes there are, None for a grammar."""

    def parents(self, code: str) -> Iterable[str]:
        """The codes directly above."""

    def children(self, code: str) -> Iterable[str]:
        """The codes directly below."""

    def subsumes(self, ancestor: str, code: str) -> bool:
        """Whether the second code is strictly below the first."""

    def descendants(self, code: str) -> Iterable[str]:
        """Every code strictly below, in the order of the system."""

    def inactive(self, code: str) -> bool:
        """Whether the code should not be used any more."""

    def values(self, code: str, name: str) -> Iterable[str]:
        """The values of a property as a filter compares them."""

    def search(self, text: str) -> Iterable[str] | None:
        """Codes whose names match, best first; None where the system has no index of its words."""

    def special_filter(self, name: str, operator: str, value: str) -> Iterable[str] | None:
        """The codes of a filter that only this system knows, None where it knows none."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A code system together with the supplements that apply to it."""

    system: System
    supplements: tuple[System, ...] = ()

    @property
    def url(self) -> str:
        """The system uri."""
        return self.system.url

    @property
    def version(self) -> str | None:
        """The version in use."""
        return self.system.version

    @property
    def canonical(self) -> str:
        """The system with its version."""
        return canonical(self.system.url, self.system.version)

    @property
    def content(self) -> str:
        """CodeSystem.content."""
        return str(self.system.about.get("content", "complete"))

    @property
    def language(self) -> str | None:
        """The language of its displays."""
        return self.system.about.get("language")

    def concept(self, code: str) -> Concept:
        """The concept with what supplements add to it."""
        found = self.system.concept(code)
        extra = [(s, s.concept(at)) for s in self.supplements if (at := s.locate(code)) is not None]
        return _supplemented(found, extra) if extra else found

    def properties(self) -> Iterator[Json]:
        """The declared properties, the supplements' too."""
        for system in (self.system, *self.supplements):
            yield from system.about.get("property", ())


def _supplemented(found: Concept, extra: list[tuple[System, Concept]]) -> Concept:
    designations = [*found.designations]
    for system, more in extra:
        source = canonical(system.url, system.version)
        names = [Designation(more.display, more.language), *more.designations] if more.display else more.designations
        designations += [Designation(d.value, d.language, d.use, d.extension, d.status, source) for d in names]
    return Concept(
        found.code,
        found.display,
        found.definition,
        tuple(designations),
        found.properties + tuple(p for _, more in extra for p in more.properties),
        found.extension + tuple(e for _, more in extra for e in more.extension),
        found.language,
        found.abstract,
        found.inactive,
        found.status,
    )


def standing(resource: Json) -> tuple[str | None, str | None, bool]:
    """Publication status, standards status, and whether a definition is experimental."""
    status = extension_value(resource.get("extension", ()), STANDARDS_STATUS)
    return resource.get("status"), status, bool(resource.get("experimental"))
