"""What a node means: its System value, keys for equality, equals, equivalent and order (N1, Equality, Comparison)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from profiles.fhirpath import quantity, temporal
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import Collection, Node
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.temporal import Temporal

_SPACE = re.compile(r"[ \t\r\n]")


def _number(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _temporal(kind: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        return (temporal.parse(kind, value) or value) if isinstance(value, str) else value

    return convert


def _quantity(value: Any) -> Any:
    return (quantity.from_json(value) or value) if isinstance(value, dict) else value


def _decimal(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else _number(value)


# FHIR type -> its System value (R4 fhirpath.html, «Using FHIR types in expressions»); others stay as they are.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "decimal": _decimal,
    "date": _temporal("Date"),
    "dateTime": _temporal("DateTime"),
    "instant": _temporal("DateTime"),
    "time": _temporal("Time"),
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity"), _quantity),
}


def unwrap(node: Node) -> Any:
    """The System value: bool, int, Decimal, str, Temporal, Quantity; a dict for what is complex, or None."""
    convert = _CONVERT.get(node.type)
    return convert(node.value) if convert is not None and node.value is not None else node.value


def converts(type_name: str) -> bool:
    """Whether values of the FHIR type are something else than what JSON holds: dates, decimals, quantities."""
    return type_name in _CONVERT


def kind(value: Any) -> str:
    """The System type of an unwrapped value; '' for complex ones."""
    if isinstance(value, Temporal):
        return value.kind
    return _KINDS.get(type(value), "")


_KINDS = {bool: "Boolean", int: "Integer", Decimal: "Decimal", str: "String", Quantity: "Quantity"}


def key(value: Any) -> Any:
    """A hashable form of an unwrapped value or of plain JSON: equal values have equal keys."""
    if isinstance(value, bool) or value is None:
        return ("b", value)
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)):
        return ("n", value)
    if isinstance(value, float):
        return ("n", Decimal(repr(value)))
    if isinstance(value, Temporal):
        return ("t", value.kind == "Time", temporal.utc(value), value.zone is None)
    if isinstance(value, Quantity):
        return ("q", quantity.key(value))
    if isinstance(value, dict):
        return ("o", frozenset((name, key(item)) for name, item in value.items()))
    return ("l", tuple(key(item) for item in value))


def keys(items: Collection) -> list[Any]:
    """The keys of the items, in their order."""
    return [key(unwrap(item)) for item in items]


def distinct(items: Collection) -> Collection:
    """The items without repetitions, the first of each kept."""
    if len(items) < 2:
        return items
    kept: dict[Any, Node] = {}
    for item in items:
        kept.setdefault(key(unwrap(item)), item)
    return list(kept.values())


def equal(a: Node, b: Node) -> bool | None:
    """Whether two items are equal; None where precision or units leave it unknown."""
    left, right = unwrap(a), unwrap(b)
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        if (left.kind == "Time") != (right.kind == "Time"):
            return False
        found = temporal.compare(left, right)
        return None if found is None else found == 0
    if isinstance(left, Quantity) != isinstance(right, Quantity):
        left, right = _as_quantities(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        if isinstance(a.value, dict) and isinstance(b.value, dict):
            return bool(key(a.value) == key(b.value))
        found = quantity.compare(left, right)
        return None if found is None else found == 0
    return bool(key(left) == key(right))


def _as_quantities(left: Any, right: Any) -> tuple[Any, Any]:
    """Numbers beside a quantity become quantities of unit 1 (section Conversion)."""
    return _as_quantity(left), _as_quantity(right)


def _as_quantity(value: Any) -> Any:
    return Quantity(Decimal(value), "1") if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else value


def equals(left: Collection, right: Collection) -> bool | None:
    """The `=` of two collections; None for empty."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for a, b in zip(left, right, strict=True):
        same = equal(a, b)
        if same is False:
            return False
        unknown = unknown or same is None
    return None if unknown else True


def equivalent(left: Collection, right: Collection) -> bool:
    """The `~` of two collections: in any order."""
    if len(left) != len(right):
        return False
    if len(left) == 1:
        return _alike(unwrap(left[0]), unwrap(right[0]))
    return _alike_in_any_order([unwrap(n) for n in left], [unwrap(n) for n in right])


def _alike_in_any_order(left: list[Any], right: list[Any]) -> bool:
    rest = list(right)
    for a in left:
        found = next((i for i, b in enumerate(rest) if _alike(a, b)), None)
        if found is None:
            return False
        rest.pop(found)
    return True


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) and isinstance(b, str):
        return a == b or _SPACE.sub(" ", a).casefold() == _SPACE.sub(" ", b).casefold()
    a, b = _number(a), _number(b)
    if isinstance(a, (int, Decimal)) and isinstance(b, (int, Decimal)):
        return _alike_numbers(Decimal(a), Decimal(b))
    if isinstance(a, Temporal) and isinstance(b, Temporal):
        return (a.kind == "Time") == (b.kind == "Time") and temporal.compare(a, b) == 0
    return _alike_structures(a, b)


def _alike_structures(a: Any, b: Any) -> bool:
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        a, b = _as_quantities(a, b)
        return isinstance(a, Quantity) and isinstance(b, Quantity) and quantity.equivalent(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and _alike_in_any_order(a, b)
    return a is None and b is None


def _alike_numbers(a: Decimal, b: Decimal) -> bool:
    """Equal after rounding to the less precise, trailing zeros not counted."""
    if a == b:
        return True
    if max(abs(a.adjusted()), abs(b.adjusted())) > 300:
        return False
    places = min(max(-int(n.normalize().as_tuple().exponent), 0) for n in (a, b))
    return quantity.round_half_up(a, places) == quantity.round_half_up(b, places)


def order(a: Node, b: Node) -> int | None:
    """-1, 0 or 1, None for unknown; raises where the types have no common order (section Comparison)."""
    left, right = unwrap(a), unwrap(b)
    if isinstance(left, Quantity) != isinstance(right, Quantity):
        left, right = _as_quantities(left, right)
    left, right = _number(left), _number(right)
    if isinstance(left, Temporal) and isinstance(right, Temporal) and (left.kind == "Time") == (right.kind == "Time"):
        return temporal.compare(left, right)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return quantity.compare(left, right)
    if _ordered_together(left, right):
        return int(left > right) - int(left < right)
    if left is None or right is None:
        return None
    raise FhirPathError(f"{_named(a)} and {_named(b)} cannot be compared")


def _ordered_together(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    both_numbers = isinstance(left, (int, Decimal)) and isinstance(right, (int, Decimal))
    return both_numbers or (isinstance(left, str) and isinstance(right, str))


def _named(node: Node) -> str:
    return node.type.removeprefix("System.")


def plain(node: Node) -> Any:
    """The value as plain JSON: dates as text, quantities as objects."""
    value = node.value
    if isinstance(value, Temporal):
        return str(value)
    return quantity.to_json(value) if isinstance(value, Quantity) else value
