"""From nodes to their children: members by name, all children, type filters (N1, Path selection, Tree navigation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from profiles.fhirpath import schema
from profiles.fhirpath.nodes import Collection, Node, Scope
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.schema import Slot

Step: TypeAlias = Callable[[Scope, Collection], Collection]

# A slot of a member as a step needs it: key, key of its primitive extras or None, type, path.
_Plan = tuple[tuple[str, str | None, str, str], ...]


def member(name: str) -> Step:
    """A step to the children called `name`; items whose type has no such child add nothing."""
    plans: dict[str, _Plan | None] = {}

    def step(scope: Scope, items: Collection) -> Collection:
        out: Collection = []
        for node in items:
            try:
                found = plans[node.type]
            except KeyError:
                found = plans[node.type] = _plan(node.type, name)
            if found is None:
                continue
            value = node.value
            if type(value) is not dict:
                value = value.members() if type(value) is Quantity else node.extra
                if value is None:
                    continue
            for key, extra_key, kind, path in found:
                got = value.get(key)
                # The common case in place: 80 ns less than a call of _take.
                if kind != "Resource" and (extra_key is None or extra_key not in value):
                    if got is None:
                        continue
                    if type(got) is list:
                        out.extend([Node(item, kind, None, path) for item in got if item is not None])
                    else:
                        out.append(Node(got, kind, None, path))
                else:
                    _take(value, key, extra_key, kind, path, out)
        return out

    return step


def _plan(type_name: str, name: str) -> _Plan | None:
    found = schema.slots(type_name, name)
    return (
        None if found is None else tuple((s.key, f"_{s.key}" if s.primitive else None, s.type, s.path) for s in found)
    )


def _take(value: dict[str, Any], key: str, extra_key: str | None, kind: str, path: str, out: Collection) -> None:
    got = value.get(key)
    extra = value.get(extra_key) if extra_key is not None else None
    if extra is not None:
        _take_with_extra(got, extra, kind, path, out)
    elif got is None:
        return
    elif kind == "Resource":
        out.extend(_resource(item, path) for item in (got if type(got) is list else (got,)) if item is not None)
    elif type(got) is list:
        out.extend([Node(item, kind, None, path) for item in got if item is not None])
    else:
        out.append(Node(got, kind, None, path))


def _take_with_extra(got: Any, extra: Any, kind: str, path: str, out: Collection) -> None:
    """Primitives beside their `_name` objects; a null in one list belongs to the entry of the other."""
    values = got if isinstance(got, list) else [got]
    extras = extra if isinstance(extra, list) else [extra]
    size = max(len(values), len(extras))
    values = values + [None] * (size - len(values))
    extras = extras + [None] * (size - len(extras))
    pairs = zip(values, extras, strict=True)
    out.extend(Node(v, kind, x, path) for v, x in pairs if v is not None or x is not None)


def is_resource_of(value: Any) -> str:
    """The type a resource says it is; `Resource` where it says nothing known."""
    kind = value.get("resourceType") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and schema.is_resource_type(kind) else "Resource"


def _resource(value: Any, path: str) -> Node:
    return Node(value, is_resource_of(value), None, path)


def children(items: Collection) -> Collection:
    """All children of all items, those of primitives (id, extension) too."""
    out: Collection = []
    for node in items:
        value = node.value if isinstance(node.value, dict) else node.extra
        if isinstance(value, dict):
            _children_of(value, node.type, out)
    return out


def _children_of(value: dict[str, Any], type_name: str, out: Collection) -> None:
    for key in value:
        plain = key.removeprefix("_")
        if key == "resourceType" or (plain != key and plain in value):
            continue
        slot = _slot_of(type_name, plain)
        if slot is not None:
            _take(value, slot.key, f"_{slot.key}" if slot.primitive else None, slot.type, slot.path, out)


def _slot_of(type_name: str, key: str) -> Slot | None:
    if type_name in schema.PRIMITIVES or type_name.startswith("System."):
        found = schema.slots(type_name, key)
        return found[0] if found else None
    member_and_slot = schema.member_of_key(type_name, key)
    return member_and_slot[1] if member_and_slot else None


def is_type(node: Node, type_name: str, strict: bool) -> bool:
    """`is`: the type or one derived from it; when not strict a System type also accepts the FHIR primitive like it."""
    if schema.is_a(node.type, type_name):
        return True
    return not strict and type_name.startswith("System.") and node.type == LIKE.get(type_name)


# R4's own invariants write `is Boolean` where the element is a FHIR boolean (que-7).
LIKE = {
    "System.Boolean": "boolean",
    "System.Integer": "integer",
    "System.Decimal": "decimal",
    "System.String": "string",
    "System.Date": "date",
    "System.DateTime": "dateTime",
    "System.Time": "time",
}


def casts_to(node: Node, type_name: str, strict: bool) -> bool:
    """`as` and `ofType`: as `is`, but a FHIR primitive must be exactly of the type (a code is no string)."""
    if node.type == type_name:
        return True
    return type_name not in schema.PRIMITIVES and is_type(node, type_name, strict)
