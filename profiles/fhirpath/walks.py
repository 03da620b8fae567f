"""Paths on plain JSON for conditions: members, filters and projections as nested closures that collect raw values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from profiles.fhirpath import schema
from profiles.fhirpath.parser import Call, Chain, Index, Literal, Name, Special, Tree, Union

Condition: TypeAlias = Callable[[Any], "bool | None"]
Walk: TypeAlias = Callable[[Any, list[Any]], None]


class Path(NamedTuple):
    """The items a path has below a value, primitives without value as None, and the types they can have.

    `merged`: the items come from a union and may repeat, which matters to whoever counts them.
    """

    walk: Walk
    types: frozenset[str]
    merged: bool = False

    def items(self, value: Any) -> list[Any]:
        """All items."""
        out: list[Any] = []
        self.walk(value, out)
        return out

    def only_type(self) -> str:
        """The type of all items."""
        if len(self.types) != 1:
            raise Unsupported
        (name,) = self.types
        return name


class Unsupported(Exception):
    """The expression is not of a form that the fast way knows."""


def _start(value: Any, out: list[Any]) -> None:
    out.append(value)


def this(kind: str) -> Path:
    """The value itself."""
    return Path(_start, frozenset((kind,)))


def path_of(tree: Tree, kind: str, criterion: Callable[[Tree, str], Condition]) -> Path:
    """The path a tree is, from a value of the type; `criterion` makes the closure of a filter."""
    if tree == Special("$this"):
        return this(kind)
    if isinstance(tree, Name):
        return _start_of(tree.name, kind)
    if isinstance(tree, Call):
        return _step(this(kind), tree, criterion)
    if isinstance(tree, Union):
        return _merged([path_of(part, kind, criterion) for part in tree.parts])
    if not isinstance(tree, Chain):
        raise Unsupported
    first = bare(tree.first)
    if isinstance(first, Union) and tree.steps:
        return _merged([path_of(Chain(part, tree.steps), kind, criterion) for part in first.parts])
    return _chain(path_of(first, kind, criterion), tree.steps, criterion)


def bare(tree: Tree) -> Tree:
    """What stands inside parentheses."""
    while isinstance(tree, Chain) and not tree.steps:
        tree = tree.first
    return tree


def _chain(path: Path, steps: tuple[Tree, ...], criterion: Callable[[Tree, str], Condition]) -> Path:
    for step in steps:
        path = _step(path, step, criterion)
    return path


def _start_of(name: str, kind: str) -> Path:
    if not name[0].isupper() or schema.resolve_type(name) is None:
        return _member(this(kind), name)
    if not schema.is_a(kind, name):
        raise Unsupported
    return this(kind)


def _merged(paths: list[Path]) -> Path:
    walk = _several([path.walk for path in paths])
    return Path(walk, frozenset().union(*(path.types for path in paths)), merged=True)


def _step(path: Path, step: Tree, criterion: Callable[[Tree, str], Condition]) -> Path:
    if isinstance(step, Name):
        return _member(path, step.name)
    if isinstance(step, Index) and isinstance(step.index, Literal) and step.index.kind == "Integer":
        return _cut(path, slice(step.index.value, step.index.value + 1))
    if not isinstance(step, Call):
        raise Unsupported
    if step.name == "trace":
        # A trace is only seen by who asked for it, and then nothing runs the fast way.
        return path
    if step in _CUTS:
        return _cut(path, _CUTS[step])
    if step.name == "where" and len(step.args) == 1:
        return _filtered(path, criterion(step.args[0], path.only_type()))
    if step.name == "select" and len(step.args) == 1:
        return _joined(path, path_of(step.args[0], path.only_type(), criterion))
    raise Unsupported


_CUTS = {Call("first", ()): slice(0, 1), Call("tail", ()): slice(1, None), Call("last", ()): slice(-1, None)}


def _cut(path: Path, part: slice) -> Path:
    if path.merged:
        raise Unsupported
    items = path.items
    return Path(lambda value, out: out.extend(items(value)[part]), path.types)


def _filtered(path: Path, test: Condition) -> Path:
    items = path.items
    return Path(lambda value, out: out.extend(item for item in items(value) if test(item)), path.types, path.merged)


def _joined(path: Path, inner: Path) -> Path:
    items, walk = path.items, inner.walk

    def both(value: Any, out: list[Any]) -> None:
        for item in items(value):
            walk(item, out)

    return Path(both, inner.types, path.merged or inner.merged)


def _member(path: Path, name: str) -> Path:
    """The members of all items; below a resource of unknown type only what every resource has."""
    kind = path.only_type()
    slots = schema.slots("DomainResource" if kind == "Resource" else kind, name)
    if slots is None or kind in schema.PRIMITIVES:
        raise Unsupported
    walks = [_slot_walk(slot) for slot in slots]
    types = frozenset(slot.type for slot in slots)
    walk = walks[0] if len(walks) == 1 else _several(walks)
    return Path(walk, types) if path.walk is _start else _joined(path, Path(walk, types))


def _several(walks: list[Walk]) -> Walk:
    def walk(value: Any, out: list[Any]) -> None:
        for one in walks:
            one(value, out)

    return walk


def _slot_walk(slot: schema.Slot) -> Walk:
    name = slot.key
    twin = f"_{name}" if slot.primitive else None

    def walk(value: Any, out: list[Any]) -> None:
        got = value.get(name)
        if got is None:
            if twin is not None and twin in value:
                extra = value[twin]
                out.extend([None] * sum(x is not None for x in extra) if type(extra) is list else (None,))
        elif type(got) is list:
            out.extend(got)
        else:
            out.append(got)

    return walk
