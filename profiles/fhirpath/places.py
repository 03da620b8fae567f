"""Where in the JSON the elements stand that a path selects: what a patch changes (http://hl7.org/fhir/R4/fhirpatch.html)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiles.fhirpath import schema
from profiles.fhirpath.compiler import compile_step
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import Collection, Environment, Node, Run, Scope
from profiles.fhirpath.parser import Call, Chain, Name, Tree, TypeTest, parse
from profiles.fhirpath.steps import is_resource_of


@dataclass(frozen=True, slots=True)
class Place:
    """An element: its node, the object it is in, the JSON key, its index in a list; the root has no holder."""

    node: Node
    holder: dict[str, Any] | None = None
    key: str = ""
    index: int | None = None
    parent: Place | None = None


def path_steps(expression: str) -> list[Tree]:
    """The steps of a path: members, filters, indexes, casts; raises for any other expression."""
    return _flat(parse(expression))


def _flat(tree: Tree) -> list[Tree]:
    if isinstance(tree, Name):
        return [tree]
    if isinstance(tree, Chain):
        return [*_flat(tree.first), *tree.steps]
    if isinstance(tree, TypeTest) and tree.operator == "as":
        return [*_flat(tree.operand), Call("ofType", (Name(tree.type),))]
    raise FhirPathError("A path to an element is needed, not a value that is worked out")


def locate(resource: dict[str, Any], steps: list[Tree], budget: int) -> list[Place]:
    """The places of the elements the steps select in the resource, in order.

    Filters hand on the very nodes they were given, so a node tells its place; a step that makes other nodes is refused.
    """
    root = Node(resource, is_resource_of(resource))
    run = Run(Environment(steps=budget), [root], [root], [root])
    scope = Scope(run, [root], {})
    places = {id(root): Place(root)}
    items: Collection = [root]
    for depth, step in enumerate(steps):
        if depth == 0 and isinstance(step, Name) and _is_root_type(step.name, root.type):
            continue
        if isinstance(step, Name):
            places = _members(places, items, step.name)
            items = [place.node for place in places.values()]
        else:
            places, items = _filtered(scope, places, items, step)
        run.spend(1 + len(items))
    return [places[id(node)] for node in items]


def _is_root_type(name: str, root_type: str) -> bool:
    return name[0].isupper() and schema.is_a(root_type, name)


def _filtered(
    scope: Scope, places: dict[int, Place], items: Collection, step: Tree
) -> tuple[dict[int, Place], Collection]:
    if isinstance(step, Call) and step.name == "extension":
        places = _members(places, items, "extension")
        wanted = {id(node.value) for node in compile_step(step)(scope, items)}
        return places, [place.node for place in places.values() if id(place.node.value) in wanted]
    found = compile_step(step)(scope, items)
    if any(id(node) not in places for node in found):
        raise FhirPathError("A path may only hold members, indexes and filters")
    return places, found


def _members(places: dict[int, Place], items: Collection, name: str) -> dict[int, Place]:
    out: dict[int, Place] = {}
    for node in items:
        parent = places[id(node)]
        found = schema.slots(node.type, name)
        if found is None:
            raise FhirPathError(f"{schema.public_name(node.type)} has no element {name}")
        for slot in found:
            for place in slot_places(parent, slot):
                out[id(place.node)] = place
    return out


def slot_places(parent: Place, slot: schema.Slot) -> list[Place]:
    """The places of one JSON property of an element; of a primitive's `_name` object for its id and extensions."""
    node = parent.node
    holder = node.value if isinstance(node.value, dict) else node.extra
    if not isinstance(holder, dict):
        return []
    value = holder.get(slot.key)
    extra = holder.get(f"_{slot.key}") if slot.primitive else None
    if not isinstance(value, list) and not isinstance(extra, list):
        return [] if value is None and extra is None else [_place(parent, holder, slot, None, value, extra)]
    values, extras = value or [], extra or []
    pairs = [_pair(values, extras, i) for i in range(max(len(values), len(extras)))]
    return [_place(parent, holder, slot, i, v, x) for i, (v, x) in enumerate(pairs)]


def _pair(values: list[Any], extras: list[Any], index: int) -> tuple[Any, Any]:
    return (values[index] if index < len(values) else None, extras[index] if index < len(extras) else None)


def _place(
    parent: Place, holder: dict[str, Any], slot: schema.Slot, index: int | None, value: Any, extra: Any
) -> Place:
    kind = is_resource_of(value) if slot.type == "Resource" else slot.type
    return Place(Node(value, kind, extra, slot.path), holder, slot.key, index, parent)
