"""The languages a caller asks for and the name that suits them (http://hl7.org/fhir/R4/languages.html, RFC 4647)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from terminology.concepts import Concept, Designation

_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d*)?)")
_BEFORE_QUALITY = re.compile(r",\s*(?=[^,]*;)")


@dataclass(frozen=True, slots=True)
class Languages:
    """Languages in the order of preference; `any_other` is off where `*` was refused with q=0."""

    asked: tuple[str, ...] = ()
    any_other: bool = True
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.source)

    @property
    def text(self) -> str:
        """The list as an expansion reports it: an element with a quality is set off by a space."""
        return _BEFORE_QUALITY.sub(", ", self.source)

    def accept(self, language: str | None) -> bool:
        """Whether a name in the language answers the request; an unnamed language counts as English."""
        if not self.asked:
            return True
        return any(near(wanted, language or "en") for wanted in self.asked)


ANY = Languages()


def parse(text: str | None) -> Languages:
    """An Accept-Language text or a `displayLanguage` value: languages by quality, then by place."""
    if not text or not text.strip():
        return ANY
    weighed: list[tuple[float, int, str]] = []
    for place, element in enumerate(text.split(",")):
        found = _QUALITY.search(element)
        weighed.append((-float(found[1]) if found else -1.0, place, element.split(";")[0].strip()))
    weighed.sort()
    refused = any(tag == "*" and weight == 0 for weight, _, tag in weighed)
    asked = tuple(tag for weight, _, tag in weighed if tag and tag != "*" and weight < 0)
    return Languages(asked, not refused, text.strip())


def near(wanted: str, language: str) -> bool:
    """Whether one tag is the other or a refinement of it: `de` and `de-CH`."""
    a, b = wanted.casefold().split("-"), language.casefold().split("-")
    return a[: len(b)] == b[: len(a)]


def preferred(names: Iterable[Designation], base: str | None, languages: Languages) -> Designation | None:
    """The name to show: the first language asked for that has one, exactly before nearly; else the display itself."""
    known = list(names)
    display = known[0] if known and base is not None and known[0].value == base else None
    for wanted in languages.asked:
        for exact in (True, False):
            chosen = next(
                (n for n in known if n.is_display and not n.status and _speaks(n, wanted, exact, n is display)), None
            )
            if chosen is not None:
                return chosen
    return display if not languages.asked or languages.any_other else None


def _speaks(name: Designation, wanted: str, exact: bool, is_base: bool) -> bool:
    language = name.language or ("en" if is_base else "")
    if not language:
        return False
    return language.casefold() == wanted.casefold() if exact else near(wanted, language)


def display_of(concept: Concept, languages: Languages) -> str | None:
    """The text to show for a concept."""
    chosen = preferred(concept.names(), concept.display, languages)
    return chosen.value if chosen else None
