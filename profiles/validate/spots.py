"""Spots: the places of a resource, each with its value, its type, its FHIRPath and the resource it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import zip_longest
from typing import Any

import msgspec

from profiles.fhirpath import Node
from profiles.json import Literal
from profiles.model import PRIMITIVES, RESOURCE_TYPES, choice_name, content_type, elements, fields

Json = dict[str, Any]
SCALARS = (str, bool, int, Decimal, Literal, float)


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
            value, extra = holder.get(key), holder.get("_" + key)
            if value is not None or extra is not None:
                _add(found, spot, value, extra, type_name, f"{spot.path}.{name}", path, repeats)
    return found


def _add(
    found: list[Spot], spot: Spot, value: Any, extra: Any, kind: str, path: str, element: str, repeats: bool
) -> None:
    pairs, places = [(value, extra)], [path]
    if repeats:
        values = value if isinstance(value, list) else []
        pairs = list(zip_longest(values, extra if isinstance(extra, list) else ()))
        places = [f"{path}[{index}]" for index in range(len(pairs))]
    shape: tuple[type, ...] = SCALARS if kind in PRIMITIVES else (dict,)
    for (item, beside), place in zip(pairs, places, strict=True):
        # What has the wrong shape is reported elsewhere; it has no rules to keep.
        if type(item) in shape or (item is None and type(beside) is dict):
            found.append(_one(spot, item, beside if type(beside) is dict else None, kind, place, element))


def _one(spot: Spot, value: Any, extra: Any, kind: str, path: str, element: str) -> Spot:
    if kind == "Resource" and value.get("resourceType") in RESOURCE_TYPES:
        # %rootResource is the container of contained resources, and the resource itself of bundle entries.
        root = spot.root if element.endswith(".contained") else value
        return Spot(value, None, value["resourceType"], path, element, value, root, spot)
    return Spot(value, extra, kind, path, element, spot.resource, spot.root, spot)


def children(spot: Spot) -> list[Spot]:
    """All values directly below a spot."""
    holder, kind = (spot.value, spot.type) if isinstance(spot.value, dict) else (spot.extra, "Element")
    found: list[Spot] = []
    if not holder:
        return found
    known = fields(kind)
    for key, value in holder.items():
        if key.startswith("_"):
            if (key := key[1:]) in holder:
                continue
            value = None
        field = known.get(key)
        if field is not None:
            child = field.element
            path = f"{spot.path}.{child.name}"
            _add(found, spot, value, holder.get("_" + key), field.type, path, child.path, child.max != 1)
    return found


def everything(spot: Spot) -> Iterator[Spot]:
    """A spot and all that is below it, depth first."""
    waiting = [spot]
    while waiting:
        here = waiting.pop()
        yield here
        if here.extra is not None or type(here.value) is dict:
            waiting += reversed(children(here))
