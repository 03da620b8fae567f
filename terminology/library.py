"""Where definitions come from: layers of code systems, value sets and concept maps, the nearest first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from terminology.concepts import Json
from terminology.maps import Map, StoredMap
from terminology.special import implied_value_set
from terminology.stored import StoredSystem
from terminology.systems import Resolved, System
from terminology.versions import latest, matches, split_canonical

# So many things of one library are kept.
_KEPT = 500
_R4 = "4.0.1"
_WITHOUT_CODES = ("supplement", "not-present")


class Layer(Protocol):
    """Definitions of one origin: sent along with a request, stored, or shipped with the server."""

    def versions(self, kind: str, url: str) -> Sequence[str | None]:
        """The versions of a definition; empty where the url is unknown."""

    def newest(self, kind: str, url: str, versions: Sequence[str | None]) -> str | None:
        """The version among these that is meant where none is named."""

    def system(self, url: str, version: str | None) -> System | None:
        """A code system of exactly that version."""

    def resource(self, kind: str, url: str, version: str | None) -> Json | None:
        """A definition of exactly that version, in JSON."""

    def concept_map(self, url: str, version: str | None) -> Map | None:
        """A concept map of exactly that version."""

    def maps(self) -> Iterable[Map]:
        """All concept maps."""

    def urls(self, kind: str) -> Iterable[str]:
        """The urls of all definitions of a kind."""


class Loose:
    """A layer of resources held in memory, and of code systems that are already readable."""

    def __init__(self, resources: Iterable[Json], systems: Iterable[System] = ()) -> None:
        self._resources: dict[str, dict[str, dict[str | None, Json]]] = {}
        for resource in resources:
            of_kind = self._resources.setdefault(resource.get("resourceType", ""), {})
            of_kind.setdefault(resource.get("url", ""), {}).setdefault(resource.get("version"), resource)
        self._systems: dict[tuple[str, str | None], System] = {}
        for system in systems:
            self._systems[system.url, system.version] = system
            self._resources.setdefault("CodeSystem", {}).setdefault(system.url, {})[system.version] = system.about
        self._maps: dict[tuple[str, str | None], Map] = {}

    def versions(self, kind: str, url: str) -> Sequence[str | None]:
        """Versions in the order given."""
        return tuple(self._resources.get(kind, {}).get(url, ()))

    def newest(self, kind: str, url: str, versions: Sequence[str | None]) -> str | None:
        """The greatest version."""
        return latest(versions)

    def resource(self, kind: str, url: str, version: str | None) -> Json | None:
        """The resource itself."""
        return self._resources.get(kind, {}).get(url, {}).get(version)

    def system(self, url: str, version: str | None) -> System | None:
        """The code system, indexed once."""
        found = self._systems.get((url, version))
        resource = self.resource("CodeSystem", url, version)
        if found is None and resource is not None:
            found = self._systems[url, version] = StoredSystem(resource)
        return found

    def concept_map(self, url: str, version: str | None) -> Map | None:
        """The concept map, indexed once."""
        found = self._maps.get((url, version))
        resource = self.resource("ConceptMap", url, version)
        if found is None and resource is not None:
            found = self._maps[url, version] = StoredMap(resource)
        return found

    def maps(self) -> Iterator[Map]:
        """The concept maps in the order given."""
        for url, versions in self._resources.get("ConceptMap", {}).items():
            for version in versions:
                found = self.concept_map(url, version)
                if found is not None:
                    yield found

    def urls(self, kind: str) -> Iterable[str]:
        """All urls of the kind."""
        return self._resources.get(kind, {}).keys()


class Library:
    """Layers searched in order; without a version the latest of the first layer that knows the url is meant."""

    def __init__(self, layers: Sequence[Layer], *, lasting: bool = True) -> None:
        """`lasting`: other requests will be answered from it too."""
        self.layers = tuple(layers)
        self.lasting = lasting
        # What was worked out from these definitions: of a library that is used again a $validate-code costs half.
        self._worked_out: dict[Hashable, Any] = {}

    def known(self, key: Hashable) -> Any:
        """What was worked out before, None without it."""
        return self._worked_out.get(key)

    def keep(self, key: Hashable, made: Any) -> None:
        """Keep what was worked out for those who ask again."""
        if len(self._worked_out) >= _KEPT:
            self._worked_out.clear()
        self._worked_out[key] = made

    def under(self, resources: Sequence[Json]) -> Library:
        """This library below the resources that came with a request (`tx-resource`)."""
        return Library((Loose(resources), *self.layers), lasting=False) if resources else self

    def versions(self, kind: str, url: str) -> list[str]:
        """Every named version that is known."""
        return sorted({v for layer in self.layers for v in layer.versions(kind, url) if v is not None})

    def knows(self, kind: str, url: str) -> bool:
        """Whether any version is known."""
        return any(layer.versions(kind, url) for layer in self.layers)

    def urls(self, kind: str) -> list[str]:
        """The urls of all definitions of a kind."""
        return sorted({url for layer in self.layers for url in layer.urls(kind)})

    def _at(self, kind: str, url: str, wanted: str | None) -> tuple[Layer, str | None] | None:
        for layer in self.layers:
            versions = layer.versions(kind, url)
            fitting = versions if wanted is None else [v for v in versions if matches(wanted, v)]
            if fitting:
                return layer, wanted if wanted in fitting and wanted is not None else layer.newest(kind, url, fitting)
        return None

    def system(self, url: str, version: str | None = None) -> System | None:
        """A code system, supplements included."""
        at = self._at("CodeSystem", url, version)
        return at[0].system(url, at[1]) if at else None

    def code_system(self, url: str, version: str | None = None) -> System | None:
        """A code system whose codes can be used: no supplement, and no mere announcement of one."""
        known: System | None = self.known(("system", url, version))
        if known is not None:
            return known
        found = self.system(url, version)
        if found is None or found.about.get("content") in _WITHOUT_CODES:
            return None
        self.keep(("system", url, version), found)
        return found

    def value_set(self, url: str, version: str | None = None) -> Json | None:
        """A value set; `url` may carry its version."""
        known: Json | None = self.known(("value set", url, version))
        if known is None and (known := self._value_set(url, version)) is not None:
            self.keep(("value set", url, version), known)
        return known

    def _value_set(self, url: str, version: str | None) -> Json | None:
        plain, pinned = split_canonical(url)
        at = self._at("ValueSet", plain, version or pinned)
        if at is not None:
            return at[0].resource("ValueSet", plain, at[1])
        # R4 pins some value sets of HL7 terminology to its own version, which they do not bear.
        if pinned == _R4 and self.knows("ValueSet", plain):
            return self.value_set(plain)
        return implied_value_set(plain)

    def concept_map(self, url: str, version: str | None = None) -> Map | None:
        """A concept map; `url` may carry its version."""
        plain, pinned = split_canonical(url)
        at = self._at("ConceptMap", plain, version or pinned)
        return at[0].concept_map(plain, at[1]) if at else None

    def maps(self) -> Iterator[Map]:
        """All concept maps, the nearest layer's first."""
        for layer in self.layers:
            yield from layer.maps()

    def supplement(self, canonical: str, url: str) -> System | None:
        """The supplement of a code system that a canonical names."""
        found = self.system(*split_canonical(canonical))
        if found is None or found.about.get("content") != "supplement":
            return None
        return found if split_canonical(found.about.get("supplements", ""))[0] == url else None

    def resolved(self, system: System, wanted: Iterable[str] = ()) -> Resolved:
        """The system with those of the wanted supplements that are its own."""
        found = (self.supplement(canonical, system.url) for canonical in wanted)
        return Resolved(system, tuple(s for s in found if s is not None))
