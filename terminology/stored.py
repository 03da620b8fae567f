"""A code system that is a CodeSystem resource, concepts and all (http://hl7.org/fhir/R4/codesystem.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from terminology.concepts import (
    CONCEPT_PROPERTIES,
    STANDARDS_STATUS,
    Concept,
    Json,
    designation,
    extension_value,
    text_of,
    value_of,
)
from terminology.wording import Words

_RETIRED = frozenset(("retired", "inactive"))
# Property names that mean the standard one whatever uri they were declared with.
_STANDARD = ("notSelectable", "inactive", "status", "parent", "child", "deprecated", "deprecationDate")


class StoredSystem:
    """Indexes the concepts of a CodeSystem resource when first asked for them."""

    def __init__(self, resource: Json) -> None:
        self.resource = resource
        self.url: str = resource.get("url", "")
        self.version: str | None = resource.get("version")

    @cached_property
    def about(self) -> Json:
        """The resource without its concepts."""
        return {k: v for k, v in self.resource.items() if k != "concept"}

    @cached_property
    def _names(self) -> dict[str, str]:
        """Standard property name -> the name this system uses for it, found by the uri of the declaration."""
        declared = {
            p["uri"].removeprefix(CONCEPT_PROPERTIES): p["code"]
            for p in self.resource.get("property", ())
            if p.get("uri", "").startswith(CONCEPT_PROPERTIES) and "code" in p
        }
        return {name: declared.get(name, name) for name in _STANDARD}

    @cached_property
    def _nodes(self) -> dict[str, tuple[Json, str | None]]:
        """Code -> its JSON and the code it is nested in, in the order of the resource."""
        nodes: dict[str, tuple[Json, str | None]] = {}
        stack = [(concept, None) for concept in reversed(self.resource.get("concept", ()))]
        while stack:
            concept, parent = stack.pop()
            code = concept.get("code", "")
            nodes.setdefault(code, (concept, parent))
            stack += [(child, code) for child in reversed(concept.get("concept", ()))]
        return nodes

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {} if self.resource.get("caseSensitive", True) else {code.casefold(): code for code in self._nodes}

    @cached_property
    def _above(self) -> dict[str, list[str]]:
        """Code -> direct parents: where it is nested, `parent` properties, and those that name it as a child."""
        above: dict[str, list[str]] = {code: [p] if p is not None else [] for code, (_, p) in self._nodes.items()}
        for code, (concept, _) in self._nodes.items():
            above[code] += _property_codes(concept, self._names["parent"])
            for child in _property_codes(concept, self._names["child"]):
                above.setdefault(child, []).append(code)
        return {code: [p for p in dict.fromkeys(parents) if p in self._nodes] for code, parents in above.items()}

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        below: dict[str, list[str]] = {}
        for code in self._nodes:
            for parent in self._above[code]:
                below.setdefault(parent, []).append(code)
        return below

    @cached_property
    def _words(self) -> Words:
        return Words((code, _texts(concept)) for code, (concept, _) in self._nodes.items())

    def locate(self, code: str) -> str | None:
        """The code, in the system's case where case does not matter."""
        return code if code in self._nodes else self._folded.get(code.casefold())

    def codes(self) -> Iterable[str]:
        """All codes as the resource lists them."""
        return self._nodes

    def total(self) -> int | None:
        """The number of concepts."""
        return len(self._nodes)

    def parents(self, code: str) -> Iterable[str]:
        """Direct parents."""
        return self._above.get(code, ())

    def children(self, code: str) -> Iterable[str]:
        """Direct children."""
        return self._below.get(code, ())

    def subsumes(self, ancestor: str, code: str) -> bool:
        """Walks up; a cycle ends the walk."""
        return ancestor != code and ancestor in _walk(code, self._above)

    def descendants(self, code: str) -> Iterable[str]:
        """Everything below in the order of the resource, without the code itself."""
        found = _walk(code, self._below)
        return (other for other in self._nodes if other in found and other != code)

    def inactive(self, code: str) -> bool:
        """By the properties `inactive` and `status`."""
        concept = self._nodes[code][0]
        if any(v == "true" for v in _values(concept, self._names["inactive"])):
            return True
        return self._status(concept) in _RETIRED

    def _status(self, concept: Json) -> str | None:
        given = extension_value(concept.get("extension", ()), STANDARDS_STATUS)
        return next(iter(_values(concept, self._names["status"])), given)

    def _any_status(self, concept: Json, inactive: bool) -> str | None:
        status = self._status(concept)
        if status:
            return status
        if any(v != "false" for v in _values(concept, self._names["deprecated"])):
            return "deprecated"
        return "inactive" if inactive else None

    def concept(self, code: str) -> Concept:
        """The concept with its names and properties."""
        node = self._nodes[code][0]
        inactive = self.inactive(code)
        return Concept(
            code,
            node.get("display"),
            node.get("definition"),
            tuple(designation(d) for d in node.get("designation", ())),
            tuple(node.get("property", ())),
            tuple(node.get("extension", ())),
            self.resource.get("language"),
            "true" in _values(node, self._names["notSelectable"]),
            inactive,
            self._any_status(node, inactive),
        )

    def values(self, code: str, name: str) -> Iterable[str]:
        """Property values; a standard name finds the property that was declared with its uri."""
        node = self._nodes[code][0]
        return [*_values(node, self._names.get(name, name)), *_BUILT_IN.get(name, _nothing)(node)]

    def search(self, text: str) -> Iterable[str] | None:
        """Codes by the words of their names."""
        return self._words.find(text)

    def special_filter(self, name: str, operator: str, value: str) -> Iterable[str] | None:
        """A plain resource has no filters of its own."""
        return None


def _nothing(_: Json) -> Iterator[str]:
    return iter(())


_BUILT_IN: dict[str, Callable[[Json], Iterator[str]]] = {
    "code": lambda node: iter([node.get("code", "")]),
    "display": lambda node: iter([node["display"]] if "display" in node else []),
    "definition": lambda node: iter([node["definition"]] if "definition" in node else []),
    "designation": lambda node: (d.get("value", "") for d in node.get("designation", ())),
}


def _values(concept: Json, name: str) -> list[str]:
    return [text_of(value_of(p)[1]) for p in concept.get("property", ()) if p.get("code") == name]


def _property_codes(concept: Json, name: str) -> list[str]:
    return _values(concept, name) if "property" in concept else []


def _texts(concept: Json) -> list[str]:
    return [
        *filter(None, (concept.get("display"), concept.get("code"))),
        *(d.get("value", "") for d in concept.get("designation", ())),
    ]


def _walk(start: str, edges: dict[str, list[str]]) -> set[str]:
    """Every node that can be reached, the start only where a cycle leads back to it."""
    seen: set[str] = set()
    stack = list(edges.get(start, ()))
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += edges.get(node, ())
    return seen
