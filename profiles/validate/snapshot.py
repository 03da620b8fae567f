"""Snapshots: a profile's differential laid over its base (http://hl7.org/fhir/R4/profiling.html#snapshot)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from profiles.outcome import FhirError

Json = dict[str, Any]
Structures = Callable[[str], Json | None]

TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
MAX_LEVELS = 20  # profiles upon profiles
ADDED = ("constraint", "mapping", "condition", "extension")  # lists a differential adds to instead of replacing
APART = {"id", "path", "sliceName", *ADDED}


def snapshot(structure: Json, structures: Structures, level: int = 0) -> list[Json]:
    """The elements of the snapshot, generated unless the structure has one; FhirError when a base is not known."""
    if "snapshot" in structure:
        return list(structure["snapshot"]["element"])
    return generate(structure, structures, level)


def generate(structure: Json, structures: Structures, level: int = 0) -> list[Json]:
    base_url = structure.get("baseDefinition")
    base = structures(base_url) if base_url else None
    if base is None or level > MAX_LEVELS:
        raise FhirError("not-found", f"The base {base_url} of {structure.get('url')} is not known")
    layered = _Layers(copy.deepcopy(snapshot(base, structures, level + 1)), structures, level)
    for element in structure.get("differential", {}).get("element", ()):
        layered.lay(element)
    return layered.elements


def element_id(element: Json) -> str:
    """The id, or what it would be: the path with the slice name at its end."""
    made = element["path"] + (f":{element['sliceName']}" if "sliceName" in element else "")
    return str(element.get("id") or made)


class _Layers:
    """The elements of a snapshot in the making, found by id."""

    def __init__(self, elements: list[Json], structures: Structures, level: int) -> None:
        self.elements = elements
        self.structures = structures
        self.level = level
        self.slice_of: dict[str, str] = {}  # path -> id of the slice that later elements without ids belong to

    def lay(self, change: Json) -> None:
        """Merge one element of a differential, making its place first when it has none yet."""
        found = self._place_of(self._wanted(change))
        place = self._at(found)
        if place is None:
            raise FhirError("not-found", f"The differential names {found}, which its base does not have")
        merge(self.elements[place], change, found)

    def _place_of(self, wanted: str) -> str:
        """The id under which an element stands, made on the way; `valueQuantity` is a slice of `value[x]`."""
        found, *rest = wanted.split(".")
        for segment in rest:
            plain = f"{found}.{segment.partition(':')[0]}"
            if self._at(plain) is None:
                self._unfold(found)
            if self._at(plain) is None:
                plain = self._choice(found, segment) or plain
            found = plain if ":" not in segment else self._slice(plain, f"{found}.{segment}")
        return self._slice(found.partition(":")[0], found) if "." not in wanted and ":" in wanted else found

    def _wanted(self, change: Json) -> str:
        if "id" in change:
            return str(change["id"])
        path = change["path"]
        parent = path.rpartition(".")[0]
        start = self.slice_of.get(parent, parent)
        wanted = f"{start}.{path.rpartition('.')[2]}" if parent else path
        if "sliceName" in change:
            wanted += ":" + change["sliceName"]
        self.slice_of = {p: i for p, i in self.slice_of.items() if p == path or not p.startswith(path)}
        self.slice_of[path] = wanted
        return wanted

    def _at(self, wanted: str) -> int | None:
        return next((i for i, e in enumerate(self.elements) if element_id(e) == wanted), None)

    def _slice(self, plain: str, wanted: str) -> str:
        """A new slice starts as a copy of what it slices, after the slices that are there."""
        place = self._at(plain)
        if place is None or self._at(wanted) is not None:
            return wanted
        made = [copy.deepcopy(e) for e in self.elements if (element_id(e) + ".").startswith(plain + ".")]
        for element in made:
            element["id"] = wanted + element_id(element)[len(plain) :]
        made[0].pop("slicing", None)
        made[0] |= {"min": 0, "sliceName": wanted.rpartition(":")[2]}
        inside = [i for i, e in enumerate(self.elements) if element_id(e).startswith((plain + ".", plain + ":"))]
        end = max([place, *inside]) + 1
        self.elements[end:end] = made
        return wanted

    def _choice(self, parent: str, segment: str) -> str | None:
        name = segment.partition(":")[0]
        for element in self.elements:
            found = element_id(element)
            stem = found.removesuffix("[x]")
            if stem == found or found.rpartition(".")[0] != parent or not f"{parent}.{name}".startswith(stem):
                continue
            form = f"{parent}.{name}"[len(stem) :]
            kinds = [t for t in element.get("type", ()) if t["code"][0].upper() + t["code"][1:] == form]
            if kinds:
                made = self._slice(found, f"{found}:{name}")
                self.elements[self._at(made) or 0]["type"] = copy.deepcopy(kinds)
                return made
        return None

    def _unfold(self, parent: str) -> None:
        """Put the elements of its type (or of what it refers to) below an element."""
        place = self._at(parent)
        if place is None or any(element_id(e).startswith(parent + ".") for e in self.elements):
            return
        holder = self.elements[place]
        start, inner = self._content(holder)
        made = copy.deepcopy(inner)
        for element in made:
            element["id"] = parent + element_id(element)[len(start) :]
            element["path"] = holder["path"] + element["path"][len(start) :]
        self.elements[place + 1 : place + 1] = made

    def _content(self, holder: Json) -> tuple[str, list[Json]]:
        if "contentReference" in holder:
            start = holder["contentReference"].rpartition("#")[2]
            return start, [e for e in self.elements if element_id(e).startswith(start + ".")]
        kinds = holder.get("type", [])
        profiles = kinds[0].get("profile", ()) if len(kinds) == 1 else ()
        code = kinds[0]["code"] if len(kinds) == 1 else "Element"
        found = next((s for p in profiles if (s := self.structures(p))), None) or self.structures(TYPE_URL + code)
        if found is None:
            return "", []
        inner = snapshot(found, self.structures, self.level + 1)
        return element_id(inner[0]), inner[1:]


def merge(target: Json, change: Json, wanted: str) -> None:
    """What the differential says replaces what the base says; constraints and mappings are added."""
    for key, value in change.items():
        if key not in APART and not (key.startswith("_") and key[1:] in APART):
            target[key] = copy.deepcopy(value)
    for key in ADDED:
        known = target.get(key, [])
        added = [copy.deepcopy(v) for v in change.get(key, ()) if v not in known]
        if key == "constraint":
            redefined = {c.get("key") for c in added}
            known = [c for c in known if c.get("key") not in redefined]
        if known or added:
            target[key] = [*known, *added]
    if "sliceName" in change:
        target["sliceName"] = change["sliceName"]
    target["id"] = wanted
