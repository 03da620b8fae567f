"""The fast way for straight paths, with choices, casts and reference targets: nested closures on plain JSON.

Seven of eight search expressions are such paths: 0.3 to 0.6 µs each, against 1.5 to 3 µs through the general compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from profiles.fhirpath import schema
from profiles.fhirpath.compiler import known_type, specifier
from profiles.fhirpath.functions.fhir import reference_type
from profiles.fhirpath.nodes import Collection, Node
from profiles.fhirpath.parser import Call, Chain, Name, Tree, TypeTest, Union
from profiles.fhirpath.steps import is_resource_of
from profiles.fhirpath.values import distinct

Collector: TypeAlias = Callable[[dict[str, Any], Collection], None]
Path: TypeAlias = Callable[[dict[str, Any]], Collection]


class Cast(NamedTuple):
    """`as T` and `ofType(T)`."""

    type: str


class Target(NamedTuple):
    """`where(resolve() is T)`."""

    type: str


_Step: TypeAlias = "str | Cast | Target"
NOTHING: Path = lambda value: []  # noqa: E731


def fast_path(tree: Tree, root_type: str) -> Path | None:
    """The closure of an expression that is a path, or several in a union, for one root type; None for any other."""
    parts = tree.parts if isinstance(tree, Union) else (tree,)
    if len(parts) == 1 and (leaf := _lone_leaf(tree, root_type)) is not None:
        return leaf
    collectors: list[Collector] = []
    for part in parts:
        row = _steps_of(part)
        if row is None:
            return None
        if not _starts(row, root_type):
            continue
        collector = _collector(row[1:] if _is_type_name(row[0]) else row, root_type)
        if collector is None:
            return None
        collectors.append(collector)
    return _together(collectors)


def _lone_leaf(tree: Tree, root_type: str) -> Path | None:
    """A single property of the resource itself needs no collector: a third of the time of the general form."""
    row = _steps_of(tree)
    if row is None or not _starts(row, root_type) or len(row) < 2 or not _is_type_name(row[0]):
        return None
    slots = schema.slots(root_type, str(row[1])) if isinstance(row[1], str) else None
    casts = [step.type for step in row[2:] if isinstance(step, Cast)]
    if slots is None or len(casts) != len(row) - 2:
        return None
    slots = tuple(slot for slot in slots if all(_fits(slot.type, cast) for cast in casts))
    if len(slots) != 1 or slots[0].type == "Resource":
        return None
    key, kind, _, path = slots[0]

    def leaf(value: dict[str, Any]) -> Collection:
        got = value.get(key)
        if got is None:
            return []
        if type(got) is list:
            return [Node(item, kind, None, path) for item in got if item is not None]
        return [Node(got, kind, None, path)]

    return leaf


def _together(collectors: list[Collector]) -> Path:
    if not collectors:
        return NOTHING
    if len(collectors) == 1:
        only = collectors[0]

        def run(value: dict[str, Any]) -> Collection:
            out: Collection = []
            only(value, out)
            return out

        return run

    def run_all(value: dict[str, Any]) -> Collection:
        out: Collection = []
        for collector in collectors:
            collector(value, out)
        return distinct(out)

    return run_all


def _steps_of(tree: Tree) -> list[_Step] | None:
    """The path a tree is, or None."""
    if isinstance(tree, Name):
        return [tree.name]
    if isinstance(tree, TypeTest) and tree.operator == "as":
        inner = _steps_of(tree.operand)
        return None if inner is None else [*inner, Cast(known_type(tree.type))]
    if not isinstance(tree, Chain):
        return None
    row = _steps_of(tree.first)
    for part in tree.steps:
        step = _step_of(part)
        if row is None or step is None:
            return None
        row.append(step)
    return row


def _step_of(tree: Tree) -> _Step | None:
    if isinstance(tree, Name):
        return tree.name
    if not isinstance(tree, Call) or len(tree.args) != 1:
        return None
    if tree.name in ("as", "ofType"):
        return Cast(known_type(specifier(tree.args[0])))
    test = tree.args[0]
    if tree.name == "where" and isinstance(test, TypeTest) and test.operator == "is" and test.operand == _RESOLVE:
        return Target(known_type(test.type))
    return None


_RESOLVE = Call("resolve", ())


def _is_type_name(step: _Step) -> bool:
    return isinstance(step, str) and step[0].isupper() and schema.resolve_type(step) is not None


def _starts(row: list[_Step], root_type: str) -> bool:
    """Whether the path begins at the root type: by name, or as a member of it."""
    first = row[0]
    if not _is_type_name(first):
        return True
    return schema.is_a(root_type, str(first))


def _collector(row: list[_Step], type_name: str) -> Collector | None:
    """The closure that adds what the path finds below a value of the type; None for what the fast way cannot do."""
    if not row or not isinstance(row[0], str):
        return None
    slots = schema.slots(type_name, row[0])
    rest = row[1:]
    found: list[Collector] = []
    for slot in slots or ():
        collector = _slot_collector(slot, rest)
        if collector is not None:
            found.append(collector)
    if len(found) == 1:
        return found[0]
    return _any_of(found)


def _any_of(found: list[Collector]) -> Collector:
    row = tuple(found)

    def collect(value: dict[str, Any], out: Collection) -> None:
        for one in row:
            one(value, out)

    return collect


def _slot_collector(slot: schema.Slot, rest: list[_Step]) -> Collector | None:
    while rest and isinstance(rest[0], Cast):
        if slot.type == "Resource":
            return _through_resource(slot, rest)
        if not _fits(slot.type, rest[0].type):
            return None
        rest = rest[1:]
    if slot.type == "Resource":
        return _through_resource(slot, rest)
    if not rest:
        return _leaf(slot.key, slot.type, slot.path)
    if isinstance(rest[0], Target):
        return _targets(slot, rest[0].type) if len(rest) == 1 else None
    return _inner(slot.key, _collector(rest, slot.type))


def _fits(type_name: str, cast: str) -> bool:
    return type_name == cast or (cast not in schema.PRIMITIVES and schema.is_a(type_name, cast))


def _leaf(key: str, kind: str, path: str) -> Collector:
    def collect(value: dict[str, Any], out: Collection) -> None:
        got = value.get(key)
        if got is None:
            return
        if type(got) is list:
            for item in got:
                if item is not None:
                    out.append(Node(item, kind, None, path))
        else:
            out.append(Node(got, kind, None, path))

    return collect


def _inner(key: str, follow: Collector | None) -> Collector | None:
    if follow is None:
        return None
    after = follow

    def collect(value: dict[str, Any], out: Collection) -> None:
        got = value.get(key)
        if got is None:
            return
        if type(got) is list:
            for item in got:
                after(item, out)
        else:
            after(got, out)

    return collect


def _targets(slot: schema.Slot, wanted: str) -> Collector:
    """References whose own text names the wanted type."""
    key, kind, path = slot.key, slot.type, slot.path

    def collect(value: dict[str, Any], out: Collection) -> None:
        got = value.get(key)
        if got is None:
            return
        for item in got if type(got) is list else (got,):
            if reference_type(item) == wanted:
                out.append(Node(item, kind, None, path))

    return collect


def _through_resource(slot: schema.Slot, rest: list[_Step]) -> Collector:
    """Below a contained or bundled resource the path depends on what it is; each type's closure is made once."""
    key, path = slot.key, slot.path
    casts = [step.type for step in rest if isinstance(step, Cast)]
    row: list[_Step] = [step for step in rest if not isinstance(step, Cast)]
    known: dict[str, Collector | None] = {}

    def collect(value: dict[str, Any], out: Collection) -> None:
        got = value.get(key)
        for item in got if type(got) is list else () if got is None else (got,):
            kind = is_resource_of(item)
            if kind not in known:
                known[kind] = _below(row, casts, kind, path)
            follow = known[kind]
            if follow is not None:
                follow(item, out)

    return collect


def _below(row: list[_Step], casts: list[str], kind: str, path: str) -> Collector | None:
    if not all(schema.is_a(kind, cast) for cast in casts):
        return None
    if row:
        return _collector(row, kind)

    def collect(value: dict[str, Any], out: Collection) -> None:
        out.append(Node(value, kind, None, path))

    return collect
