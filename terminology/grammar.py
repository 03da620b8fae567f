"""Code systems whose codes are the sentences of a grammar: any well-formed code is one, only a few can be listed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache, cached_property
from importlib import resources

import msgspec
import zstandard

from terminology.concepts import Concept, Json
from terminology.wording import Words


@cache
def _tables() -> dict[str, dict[str, str]]:
    packed = resources.files("terminology").joinpath("data", "listed.json.zst").read_bytes()
    rows = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(packed), type=dict[str, list[tuple[str, str]]])
    return {name: dict(pairs) for name, pairs in rows.items()}


def listed(name: str) -> dict[str, str]:
    """Well-known codes of a grammar and their displays, from the value sets of R4."""
    return _tables()[name]


class Grammar(ABC):
    """What grammars share; one of them says what is well formed, and what to call it."""

    url = ""
    name = ""
    title = ""
    known_as = ""
    version: str | None = None

    @abstractmethod
    def normal(self, code: str) -> str | None:
        """The code in its right case, None where it is not well formed."""

    def display_of(self, code: str) -> str | None:
        """What to call a code."""
        return self.known().get(code)

    @cached_property
    def about(self) -> Json:
        """A CodeSystem resource without concepts."""
        return {
            "resourceType": "CodeSystem",
            "url": self.url,
            "name": self.name,
            "title": self.title,
            "status": "active",
            "language": "en",
            "caseSensitive": True,
            "compositional": True,
            "content": "complete",
        }

    def known(self) -> dict[str, str]:
        """The well-known codes and their displays."""
        return listed(self.known_as)

    @cached_property
    def _words(self) -> Words:
        return Words((code, [display, code]) for code, display in self.known().items())

    def locate(self, code: str) -> str | None:
        """Any well-formed code."""
        return self.normal(code)

    def concept(self, code: str) -> Concept:
        """The code and what to call it."""
        return Concept(code, self.display_of(code) or code, language="en")

    def codes(self) -> Iterable[str]:
        """The well-known codes."""
        return self.known()

    def total(self) -> int | None:
        """No one can count them."""
        return None

    def parents(self, code: str) -> Iterable[str]:
        """No hierarchy."""
        return ()

    def children(self, code: str) -> Iterable[str]:
        """No hierarchy."""
        return ()

    def subsumes(self, ancestor: str, code: str) -> bool:
        """No hierarchy."""
        return False

    def descendants(self, code: str) -> Iterable[str]:
        """No hierarchy."""
        return ()

    def inactive(self, code: str) -> bool:
        """Well formed is active."""
        return False

    def values(self, code: str, name: str) -> Iterable[str]:
        """Only what a code shows by itself."""
        return {"code": [code], "display": [self.display_of(code) or code]}.get(name, [])

    def search(self, text: str) -> Iterable[str] | None:
        """Among the well-known codes."""
        return self._words.find(text)

    def special_filter(self, name: str, operator: str, value: str) -> Iterable[str] | None:
        """None."""
        return None
