"""Changing one element in JSON: primitives with their `_name` twins, lists, choices; for FHIRPath Patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiles import model
from profiles.fhirpath.places import Place


@dataclass(frozen=True, slots=True)
class Content:
    """What an element is to hold: its value, a primitive's `_name` object, and the type."""

    value: Any
    extra: Any
    type: str

    @property
    def is_primitive(self) -> bool:
        """Whether the value stands beside a `_name` twin."""
        return self.type in model.PRIMITIVES


def put(holder: dict[str, Any], key: str, content: Content) -> None:
    """Set a property that is no list."""
    _set(holder, key, content.value)
    _set(holder, f"_{key}", content.extra if content.is_primitive else None)


def _set(holder: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        holder.pop(key, None)
    else:
        holder[key] = value


def _lists(holder: dict[str, Any], key: str) -> tuple[list[Any], list[Any]]:
    """The list of values and that of their extras, filled up to one length."""
    values, extras = list(holder.get(key) or ()), list(holder.get(f"_{key}") or ())
    size = max(len(values), len(extras))
    return values + [None] * (size - len(values)), extras + [None] * (size - len(extras))


def _store(holder: dict[str, Any], key: str, values: list[Any], extras: list[Any]) -> None:
    """Write both lists back; a list without content goes away (JSON has no empty lists)."""
    _set(holder, key, values if any(v is not None for v in values) else None)
    _set(holder, f"_{key}", extras if any(x is not None for x in extras) else None)


def length(holder: dict[str, Any], key: str) -> int:
    """How many items the list has."""
    return len(_lists(holder, key)[0])


def insert(holder: dict[str, Any], key: str, index: int, content: Content) -> None:
    """Put an item into a list."""
    values, extras = _lists(holder, key)
    values.insert(index, content.value)
    extras.insert(index, content.extra)
    _store(holder, key, values, extras)


def move(holder: dict[str, Any], key: str, source: int, destination: int) -> None:
    """Take an item out of a list and put it in again elsewhere."""
    values, extras = _lists(holder, key)
    values.insert(destination, values.pop(source))
    extras.insert(destination, extras.pop(source))
    _store(holder, key, values, extras)


def replace(place: Place, key: str, content: Content) -> None:
    """Put other content where the element stands; `key` differs for a choice of another type."""
    holder = place.holder
    if holder is None:
        raise ValueError("the root has no place")
    if place.index is None:
        holder.pop(place.key, None)
        holder.pop(f"_{place.key}", None)
        put(holder, key, content)
        return
    values, extras = _lists(holder, place.key)
    values[place.index], extras[place.index] = content.value, content.extra
    _store(holder, place.key, values, extras)


def remove(place: Place) -> None:
    """Take the element out, and every element around it that is left empty."""
    holder = place.holder
    if holder is None:
        raise ValueError("the root has no place")
    if place.index is None:
        holder.pop(place.key, None)
        holder.pop(f"_{place.key}", None)
    else:
        values, extras = _lists(holder, place.key)
        values.pop(place.index)
        extras.pop(place.index)
        _store(holder, place.key, values, extras)
    parent = place.parent
    if not holder and parent is not None and parent.holder is not None:
        _remove_empty(parent)


def _remove_empty(place: Place) -> None:
    """An element whose object became empty; a primitive with a value only loses its twin."""
    if isinstance(place.node.value, dict) or place.node.value is None:
        remove(place)
    elif place.holder is not None and place.index is None:
        place.holder.pop(f"_{place.key}", None)
    elif place.holder is not None and place.index is not None:
        values, extras = _lists(place.holder, place.key)
        extras[place.index] = None
        _store(place.holder, place.key, values, extras)
