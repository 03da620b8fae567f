"""Paths on plain JSON for conditions: members, filters and projections as nested closures that collect raw values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from profiles.fhirpath import schema
from profiles.fhirpath.parser import Binary, Call, Chain, Index, Literal, Name, Special, Tree, Union

Condition: TypeAlias = Callable[[Any], "bool | None"]
Items: TypeAlias = Callable[[Any], list[Any]]


class Path(NamedTuple):
    """The items a path has below a value, primitives without value as None, and the types they can have.

    `merged`: the items come from a union and may repeat, which matters to whoever counts them. `slot` is set where the
    path is one property of the value itself.
    """

    items: Items
    types: frozenset[str]
    merged: bool = False
    slot: schema.Slot | None = None

    def only_type(self) -> str:
        """The type of all items."""
        if len(self.types) != 1:
            raise Unsupported
        (name,) = self.types
        return name


class Unsupported(Exception):
    """The expression is not of a form that the fast way knows."""


def _start(value: Any) -> list[Any]:
    return [value]


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
    items = _several([path.items for path in paths])
    return Path(items, frozenset().union(*(path.types for path in paths)), merged=True)


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
        return _projected(path, bare(step.args[0]), criterion)
    raise Unsupported


def _projected(path: Path, tree: Tree, criterion: Callable[[Tree, str], Condition]) -> Path:
    """The results of a path, or of a condition, for all items."""
    if not (isinstance(tree, Binary) and tree.operator in _LOGIC):
        return _joined(path, path_of(tree, path.only_type(), criterion))
    items, test = path.items, criterion(tree, path.only_type())
    return Path(
        lambda value: [found for item in items(value) if (found := test(item)) is not None],
        frozenset(("System.Boolean",)),
    )


_LOGIC = frozenset(("and", "or", "xor", "implies"))


_CUTS = {Call("first", ()): slice(0, 1), Call("tail", ()): slice(1, None), Call("last", ()): slice(-1, None)}


def _cut(path: Path, part: slice) -> Path:
    if path.merged:
        raise Unsupported
    items = path.items
    return Path(lambda value: items(value)[part], path.types)


def _filtered(path: Path, test: Condition) -> Path:
    items = path.items
    return Path(lambda value: [item for item in items(value) if test(item)], path.types, path.merged)


def _joined(path: Path, inner: Path) -> Path:
    items, below = path.items, inner.items
    if inner.slot is not None:
        return Path(_column(items, inner.slot.key, below), inner.types, path.merged)

    def both(value: Any) -> list[Any]:
        out: list[Any] = []
        for item in items(value):
            out += below(item)
        return out

    return Path(both, inner.types, path.merged or inner.merged)


def _column(items: Items, name: str, below: Items) -> Items:
    """One property of all items, taken in place where it simply has a value."""

    def column(value: Any) -> list[Any]:
        out: list[Any] = []
        for item in items(value):
            got = item.get(name)
            if got is None or type(got) is list:
                out += below(item)
            else:
                out.append(got)
        return out

    return column


def _member(path: Path, name: str) -> Path:
    """The members of all items; below a resource of unknown type only what every resource has."""
    kind = path.only_type()
    slots = schema.slots("DomainResource" if kind == "Resource" else kind, name)
    if slots is None or kind in schema.PRIMITIVES:
        raise Unsupported
    member = _one_of(slots)
    return member if path.items is _start else _joined(path, member)


def _one_of(slots: tuple[schema.Slot, ...]) -> Path:
    """The member that stands in one of the slots."""
    every = [_slot_items(slot) for slot in slots]
    types = frozenset(slot.type for slot in slots)
    if len(every) == 1:
        return Path(every[0], types, slot=slots[0])
    keys = frozenset(key for slot in slots for key in (slot.key, f"_{slot.key}"))
    several = _several(every)
    # Mostly there is none of the fifty kinds of a default value.
    return Path(lambda value: [] if keys.isdisjoint(value) else several(value), types)


def _several(every: list[Items]) -> Items:
    return lambda value: [item for items in every for item in items(value)]


def _slot_items(slot: schema.Slot) -> Items:
    name = slot.key
    twin = f"_{name}" if slot.primitive else None

    def items(value: Any) -> list[Any]:
        got = value.get(name)
        if got is None:
            if twin is not None and twin in value:
                extra = value[twin]
                return [None] * sum(x is not None for x in extra) if type(extra) is list else [None]
            return []
        return got if type(got) is list else [got]

    return items
