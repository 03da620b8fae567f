"""The definitions that come with the server: R4, HL7 terminology, ICD-10 and the grammars, each read when it is needed.

Only the index is held from the start (8,000 rows, 3 MB); code systems stay when they were used once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import msgspec
import zstandard

from profiles import model
from terminology.concepts import Json
from terminology.crate import uncrate
from terminology.mapped import PackedMap
from terminology.maps import Map, StoredMap
from terminology.special import SYSTEMS, behaviour
from terminology.stored import StoredSystem
from terminology.systems import System
from terminology.versions import latest

# Crates: file -> kind, url, version.
CRATES = {
    "icd-10-cm": ("CodeSystem", "http://hl7.org/fhir/sid/icd-10-cm", "2026"),
    "icd-10-pcs": ("CodeSystem", "http://www.cms.gov/Medicare/Coding/ICD10", "2024"),
    "loinc": ("CodeSystem", "http://loinc.org", "2.67-r4"),
    "cvx": ("CodeSystem", "http://hl7.org/fhir/sid/cvx", "4.0.1"),
    "iso4217": ("CodeSystem", "urn:iso:std:iso:4217", "4.0.1"),
    "iso3166": ("CodeSystem", "urn:iso:std:iso:3166", "4.0.1"),
    "timezones": ("CodeSystem", "https://www.iana.org/time-zones", "4.0.1"),
    "iheformatcode": ("CodeSystem", "http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem", "4.0.1"),
    "gem-icd10cm-icd9cm": ("ConceptMap", "http://hl7.org/fhir/sid/ConceptMap/GemIcd10CmToIcd9Cm", "2018"),
    "gem-icd9cm-icd10cm": ("ConceptMap", "http://hl7.org/fhir/sid/ConceptMap/GemIcd9CmToIcd10Cm", "2018"),
}
_FILES = resources.files("terminology").joinpath("data")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a definition is: `r4` by its id, `tho` by its place in the file, `crate` by its name, `grammar`."""

    origin: str
    key: Any = None
    size: int = 0


def _index() -> dict[str, dict[str, dict[str | None, _Place]]]:
    raw = zstandard.ZstdDecompressor().decompress(_FILES.joinpath("index.json.zst").read_bytes())
    places: dict[str, dict[str, dict[str | None, _Place]]] = {}
    for kind, url, version, origin, key, size in msgspec.json.decode(raw):
        places.setdefault(kind, {}).setdefault(url, {})[version] = _Place(origin, key, size)
    for name, (kind, url, version) in CRATES.items():
        places.setdefault(kind, {})[url] = {version: _Place("crate", name)}
    for url, row in SYSTEMS.items():
        if row.make:
            places["CodeSystem"][url] = {None: _Place("grammar")}
    return places


@cache
def _frames() -> tuple[bytes, zstandard.ZstdDecompressor]:
    trained = zstandard.ZstdCompressionDict(_FILES.joinpath("definitions.dict").read_bytes())
    return _FILES.joinpath("definitions.zst").read_bytes(), zstandard.ZstdDecompressor(dict_data=trained)


@lru_cache(maxsize=16)
def _crate(name: str) -> memoryview:
    return uncrate(_FILES.joinpath(f"{name}.crate").read_bytes())


class Shipped:
    """The layer of everything that comes with the server."""

    def __init__(self) -> None:
        self._places = _index()
        self._systems: dict[tuple[str, str | None], System] = {}
        self._maps: dict[tuple[str, str | None], Map] = {}

    def versions(self, kind: str, url: str) -> Sequence[str | None]:
        """The versions that are there."""
        return tuple(self._places.get(kind, {}).get(url, ()))

    def newest(self, kind: str, url: str, versions: Sequence[str | None]) -> str | None:
        """Of code systems HL7 terminology's own, newer than R4's copy of 2019 though it is numbered from 1.0.0.

        Its value sets name versions of code systems that it does not hold, R4's do not.
        """
        places = self._places[kind][url]
        own = [v for v in versions if kind == "CodeSystem" and len(versions) > 1 and places[v].origin == "tho"]
        return latest(own or versions)

    def is_r4(self, kind: str, url: str, version: str | None) -> bool:
        """Whether a definition is R4's own, kept by `profiles`."""
        return self._places[kind][url][version].origin == "r4"

    def id_of(self, kind: str, url: str, version: str | None) -> str:
        """The id of a definition as a resource."""
        place = self._places[kind][url][version]
        if place.origin in ("r4", "crate"):
            return str(place.key)
        return SYSTEMS[url].id if place.origin == "grammar" else url.rpartition("/")[2]

    def shown(self, kind: str, url: str, version: str | None) -> Json | None:
        """A definition as a client reads it: large tables and grammars are told without their content."""
        place = self._places[kind][url][version]
        if place.origin not in ("crate", "grammar"):
            return _read(kind, place)
        if kind == "ConceptMap":
            known = self.concept_map(url, version)
            return known.about if known else None
        system = self.system(url, version)
        count = system.total() if system else None
        about = (system.about if system else {}) | {"content": "not-present"}
        return about | ({} if count is None else {"count": count})

    def resource(self, kind: str, url: str, version: str | None) -> Json | None:
        """A definition in JSON; a packed one without its concepts."""
        place = self._places.get(kind, {}).get(url, {}).get(version)
        if place is None:
            return None
        if place.origin in ("crate", "grammar"):
            found = self.system(url, version) if kind == "CodeSystem" else None
            return found.about if found else None
        return _read(kind, place)

    def system(self, url: str, version: str | None) -> System | None:
        """A code system, kept once it was read."""
        key = (url, version)
        place = self._places["CodeSystem"].get(url, {}).get(version)
        if key not in self._systems and place is not None:
            self._systems[key] = self._made(url, place)
        return self._systems.get(key)

    def _made(self, url: str, place: _Place) -> System:
        row = behaviour(url)
        if place.origin == "grammar" and row.make:
            return row.make()
        if place.origin == "crate":
            return row.read(_crate(place.key))
        return StoredSystem(_read("CodeSystem", place) or {})

    def concept_map(self, url: str, version: str | None) -> Map | None:
        """A concept map, kept once it was read."""
        key = (url, version)
        place = self._places["ConceptMap"].get(url, {}).get(version)
        if key not in self._maps and place is not None:
            packed = place.origin == "crate"
            self._maps[key] = PackedMap(_crate(place.key)) if packed else StoredMap(_read("ConceptMap", place) or {})
        return self._maps.get(key)

    def maps(self) -> Iterator[Map]:
        """All concept maps."""
        for url, versions in self._places["ConceptMap"].items():
            for version in versions:
                found = self.concept_map(url, version)
                if found is not None:
                    yield found

    def urls(self, kind: str) -> Iterable[str]:
        """All urls of a kind."""
        return self._places.get(kind, {}).keys()


def _read(kind: str, place: _Place) -> Json | None:
    if place.origin == "r4":
        return _r4(kind, place.key)
    return _tho(place.key, place.size)


@lru_cache(maxsize=512)
def _r4(kind: str, key: str) -> Json | None:
    return model.definition(kind, key)


@lru_cache(maxsize=512)
def _tho(at: int, size: int) -> Json:
    frames, reader = _frames()
    found: Json = msgspec.json.decode(reader.decompress(frames[at : at + size]))
    return found


@cache
def shipped() -> Shipped:
    """The layer, made once in each process."""
    return Shipped()


@cache
def by_id(kind: str) -> dict[str, tuple[str, str | None]]:
    """Id -> url and version of the newest definition with that id."""
    layer = shipped()
    return {
        layer.id_of(kind, url, version): (url, version)
        for url in layer.urls(kind)
        for version in [layer.newest(kind, url, layer.versions(kind, url))]
    }
