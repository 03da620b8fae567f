"""BCP 47 language tags as a code system (http://hl7.org/fhir/R4/valueset-languages.html, RFC 5646)."""

from __future__ import annotations

import re

from terminology.grammar import Grammar

_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?P<extended>(?:-[a-z]{3}){0,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|\d{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|\d[a-z0-9]{3}))*)(?P<extensions>(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*)"
    r"(?:-x(?:-[a-z0-9]{1,8})+)?|x(?:-[a-z0-9]{1,8})+",
    re.ASCII | re.IGNORECASE,
)
_LONGEST = 100


class LanguageTags(Grammar):
    """Well-formed tags; a language of two letters must be one of ISO 639-1."""

    url = "urn:ietf:bcp:47"
    name = "Tags"
    title = "Tags for the identification of languages"
    known_as = "languages"

    def normal(self, code: str) -> str | None:
        """The tag as it was given; tags are compared without regard to case, but FHIR shows them as registered."""
        found = _TAG.fullmatch(code) if len(code) <= _LONGEST else None
        if found is None:
            return None
        language = (found["language"] or "").lower()
        if len(language) == 2 and language not in self.known():
            return None
        return _cased(code)

    def display_of(self, code: str) -> str | None:
        """The listed name, or that of the language with the rest in brackets: `German (Region=CH)`."""
        known = self.known().get(code)
        found = _TAG.fullmatch(code)
        if known or found is None or not found["language"]:
            return known
        parts = [f"{n.title()}={found[n]}" for n in ("script", "region") if found[n]]
        base = self.known().get(found["language"])
        return f"{base} ({', '.join(parts)})" if base and parts else base


def _cased(tag: str) -> str:
    """RFC 5646, 2.1.1: languages in lower case, scripts in title case, regions in upper case."""
    first, *rest = tag.split("-")
    if first.lower() == "x":
        return tag.lower()
    private = next((i for i, part in enumerate(rest) if len(part) == 1), len(rest))
    return "-".join([first.lower(), *(_part(p) if i < private else p.lower() for i, p in enumerate(rest))])


def _part(part: str) -> str:
    if len(part) == 2:
        return part.upper()
    return part.title() if len(part) == 4 and part.isalpha() else part.lower()
