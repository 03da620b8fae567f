"""Concept maps as tables of links that can be read from both ends (http://hl7.org/fhir/R4/conceptmap.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from terminology.concepts import Json
from terminology.versions import canonical

# R5 relationship -> R4 equivalence; the target is said to be wider where the source is narrower.
EQUIVALENCE = {
    "related-to": "relatedto",
    "equivalent": "equivalent",
    "source-is-narrower-than-target": "wider",
    "source-is-broader-than-target": "narrower",
    "not-related-to": "disjoint",
}
RELATIONSHIP = {e: r for r, e in EQUIVALENCE.items()} | {
    "equal": "equivalent",
    "subsumes": "source-is-narrower-than-target",
    "specializes": "source-is-broader-than-target",
    "inexact": "related-to",
    "unmatched": "not-related-to",
}
REVERSED = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
NO_MATCH = frozenset(("unmatched", "disjoint"))


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link."""

    system: str | None
    version: str | None
    code: str | None
    display: str | None = None

    def coding(self) -> Json:
        """The end as a Coding."""
        row = {"system": self.system, "version": self.version, "code": self.code, "display": self.display}
        return {name: value for name, value in row.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Link:
    """One mapping of a map, with the circumstances in which it holds and what else it produces."""

    source: End
    target: End
    equivalence: str
    depends_on: tuple[Json, ...] = ()
    product: tuple[Json, ...] = ()
    comment: str | None = None
    map: str = ""

    def reversed(self) -> Link:
        """The link read from its target."""
        turned = REVERSED.get(self.equivalence, self.equivalence)
        return replace(self, source=self.target, target=self.source, equivalence=turned)


@dataclass(frozen=True, slots=True)
class Unmapped:
    """What a group says of codes that it does not list."""

    source: str | None
    target: str | None
    mode: str
    code: str | None
    display: str | None
    other: str | None
    equivalence: str


class Map(Protocol):
    """A concept map that is asked by code."""

    @property
    def about(self) -> Json:
        """The ConceptMap resource without its groups."""

    @property
    def ends(self) -> Sequence[tuple[str | None, str | None]]:
        """Source and target system of each group."""

    def forward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links from a source code."""

    def backward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links to a target code, as they are written."""

    def unmapped(self, system: str | None) -> Iterable[Unmapped]:
        """The rules for codes of a source system that are not listed."""


class StoredMap:
    """A ConceptMap resource, of R4 or in the words of R5."""

    def __init__(self, resource: Json) -> None:
        self.resource = resource
        self.name = canonical(resource.get("url"), resource.get("version"))

    @cached_property
    def about(self) -> Json:
        """The resource without its groups."""
        return {k: v for k, v in self.resource.items() if k != "group"}

    @property
    def ends(self) -> Sequence[tuple[str | None, str | None]]:
        """Source and target system of each group."""
        return [(_plain(g.get("source")), _plain(g.get("target"))) for g in self.resource.get("group", ())]

    @cached_property
    def _links(self) -> list[Link]:
        return [
            self._link(group, element, target)
            for group in self.resource.get("group", ())
            for element in group.get("element", ())
            for target in element.get("target") or ({"equivalence": "unmatched"},)
        ]

    def _link(self, group: Json, element: Json, target: Json) -> Link:
        source, to = group.get("source"), group.get("target")
        return Link(
            End(
                _plain(source),
                group.get("sourceVersion") or _pinned(source),
                element.get("code"),
                element.get("display"),
            ),
            End(_plain(to), group.get("targetVersion") or _pinned(to), target.get("code"), target.get("display")),
            _equivalence(target),
            tuple(target.get("dependsOn", ())),
            tuple(target.get("product", ())),
            target.get("comment"),
            self.name,
        )

    @cached_property
    def _by_source(self) -> dict[str | None, list[Link]]:
        return _group(self._links, lambda link: link.source.code)

    @cached_property
    def _by_target(self) -> dict[str | None, list[Link]]:
        return _group(self._links, lambda link: link.target.code)

    def forward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links from a source code."""
        return [x for x in self._by_source.get(code, ()) if system is None or x.source.system in (system, None)]

    def backward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links to a target code."""
        return [x for x in self._by_target.get(code, ()) if system is None or x.target.system in (system, None)]

    def unmapped(self, system: str | None) -> Iterable[Unmapped]:
        """The rules of the groups of a source system."""
        for group in self.resource.get("group", ()):
            rule = group.get("unmapped")
            if rule and (system is None or _plain(group.get("source")) in (system, None)):
                yield Unmapped(
                    _plain(group.get("source")),
                    _plain(group.get("target")),
                    _MODES.get(rule.get("mode", ""), rule.get("mode", "")),
                    rule.get("code"),
                    rule.get("display"),
                    rule.get("url") or rule.get("otherMap"),
                    _equivalence(rule) if "relationship" in rule or "equivalence" in rule else "relatedto",
                )


_MODES = {"use-source-code": "provided"}


def _group(links: Iterable[Link], key: Callable[[Link], str | None]) -> dict[str | None, list[Link]]:
    grouped: dict[str | None, list[Link]] = {}
    for link in links:
        grouped.setdefault(key(link), []).append(link)
    return grouped


def _plain(reference: str | None) -> str | None:
    return reference.partition("|")[0] if reference else None


def _pinned(reference: str | None) -> str | None:
    return (reference or "").partition("|")[2] or None


def _equivalence(target: Json) -> str:
    if "relationship" in target:
        return EQUIVALENCE.get(target["relationship"], "relatedto")
    return str(target.get("equivalence", "relatedto"))
