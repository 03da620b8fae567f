"""Spots: the places of a resource, each with its value, its type, its FHIRPath and the resource it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from profiles.fhirpath import Node
from profiles.model import PRIMITIVES, choice_name, content_type, elements, fields

Json = dict[str, Any]


class Spot(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One value: `extra` is a primitive's `_x` object, `element` its definition's path, `resource` the nearest one."""

    value: Any
    extra: Any
    type: str
    path: str
    element: str
    resource: Json
    root: Json
    parent: Spot | None = None

    @property
    def node(self) -> Node:
        """The same place as FHIRPath sees it."""
        return Node(self.value, self.type, self.extra, self.element)


def whole(resource: Json, root: Json | None = None, path: str = "", parent: Spot | None = None) -> Spot:
    """The spot of a resource itself."""
    kind = resource["resourceType"]
    return Spot(resource, None, kind, path or kind, kind, resource, root or resource, parent)


@cache
def keys(type_name: str, name: str) -> tuple[tuple[str, str, str, bool], ...]:
    """(JSON key, type, path of the definition, repeats) of each form of an element."""
    child = elements(type_name).get(name)
    if child is None:
        return ()
    kinds = child.types or (child.ref or "",)
    return tuple(
        (choice_name(name, k) if child.is_choice else name, content_type(child, k), child.path, child.max != 1)
        for k in kinds
    )


def members(spot: Spot, name: str) -> list[Spot]:
    """The values of one element below a spot (`value`, not `valueQuantity`)."""
    holder, kind = (spot.value, spot.type) if isinstance(spot.value, dict) else (spot.extra, "Element")
    found: list[Spot] = []
    if holder:
        for key, type_name, path, repeats in keys(kind, name):
            if key in holder or "_" + key in holder:
                found += _values(spot, holder, key, type_name, f"{spot.path}.{name}", path, repeats)
    return found


def _values(spot: Spot, holder: Json, key: str, kind: str, path: str, element: str, repeats: bool) -> Iterator[Spot]:
    value = holder.get(key)
    extra = holder.get("_" + key) if kind in PRIMITIVES else None
    if not repeats:
        yield _one(spot, value, extra, kind, path, element)
        return
    values = value if isinstance(value, list) else []
    extras = extra if isinstance(extra, list) else []
    for index in range(max(len(values), len(extras))):
        item = values[index] if index < len(values) else None
        beside = extras[index] if index < len(extras) else None
        yield _one(spot, item, beside, kind, f"{path}[{index}]", element)


def _one(spot: Spot, value: Any, extra: Any, kind: str, path: str, element: str) -> Spot:
    if kind == "Resource" and isinstance(value, dict) and isinstance(value.get("resourceType"), str):
        # %rootResource is the container of contained resources, and the resource itself of bundle entries.
        root = spot.root if element.endswith(".contained") else value
        return Spot(value, None, value["resourceType"], path, element, value, root, spot)
    return Spot(value, extra, kind, path, element, spot.resource, spot.root, spot)


def children(spot: Spot) -> Iterator[Spot]:
    """All values directly below a spot."""
    holder, kind = (spot.value, spot.type) if isinstance(spot.value, dict) else (spot.extra, "Element")
    if not holder:
        return
    known = fields(kind)
    for key, value in holder.items():
        if key[0] == "_":
            if (key := key[1:]) in holder:
                continue
            value = holder["_" + key]
        field = known.get(key)
        if field is not None and value is not None:
            child = field.element
            path = f"{spot.path}.{child.name}"
            yield from _values(spot, holder, key, field.type, path, child.path, child.max != 1)


def everything(spot: Spot) -> Iterator[Spot]:
    """A spot and all that is below it, depth first."""
    yield spot
    for child in children(spot):
        yield from everything(child)
