"""What the keys of an object alone say of a condition: `system.exists()` is false where there is no `system`.

For structurally valid objects only, in which every key that is there has a value. Nearly all of R4's invariants are
settled for nearly all objects, so that none of their values is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from profiles import model
from profiles.fhirpath import schema
from profiles.fhirpath.parser import Binary, Call, Chain, Index, Literal, Name, Tree, Union, Variable, parse
from profiles.fhirpath.variables import CONSTANTS


class Open(Enum):
    """Not settled: the values decide; or, when risky, looking at them might be an error, which comes first."""

    VALUES = "values"
    RISKY = "risky"


Verdict: TypeAlias = "bool | Open | None"
VALUES, RISKY = Open.VALUES, Open.RISKY


class Found(NamedTuple):
    """What is known of a path: whether it is surely empty, surely has an item, has at most one."""

    empty: bool
    some: bool = False
    single: bool = False


NOTHING = Found(True)


class _Keys(NamedTuple):
    type: str
    held: Set[str]


def settled(expression: str, type_name: str, keys: Set[str]) -> Verdict:
    """The verdict on a valid object of the type with these keys; None is the empty collection."""
    return _verdict(_tree(expression), _Keys(type_name, keys))


_tree = lru_cache(maxsize=1024)(parse)


def _verdict(tree: Tree, keys: _Keys) -> Verdict:
    if isinstance(tree, Literal):
        return bool(tree.value) if tree.kind == "Boolean" else RISKY
    if isinstance(tree, Binary):
        logic = _LOGIC.get(tree.operator)
        if logic is not None:
            return logic(_verdict(tree.left, keys), _verdict(tree.right, keys))
        return _compared(tree, keys)
    if isinstance(tree, Chain) and not tree.steps:
        return _verdict(tree.first, keys)
    if isinstance(tree, Call):
        return RISKY
    if isinstance(tree, Chain) and isinstance(tree.steps[-1], Call):
        base = Chain(tree.first, tree.steps[:-1]) if len(tree.steps) > 1 else tree.first
        return _called(tree.steps[-1], base, keys)
    found = _found(tree, keys)
    return RISKY if found is None else None if found.empty else VALUES if found.single else RISKY


def _compared(tree: Binary, keys: _Keys) -> Verdict:
    """A comparison with nothing is empty; one for equality with a constant, or of conditions, is never an error."""
    if _is_condition(tree.left) and _is_condition(tree.right) and tree.operator in _EQUAL:
        unequal = _xor(_verdict(tree.left, keys), _verdict(tree.right, keys))
        return unequal if tree.operator == "!=" else _negated(unequal)
    found = _found(tree.left, keys)
    if found is None or tree.operator not in _COMPARED:
        return RISKY
    if found.empty:
        return None
    is_safe = _is_constant(tree.right) if tree.operator in _EQUAL else tree.operator == "in" and found.single
    return VALUES if is_safe else RISKY


_EQUAL = frozenset(("=", "!="))
_COMPARED = _EQUAL | {"<", "<=", ">", ">=", "in"}


def _is_constant(tree: Tree) -> bool:
    return isinstance(tree, Literal) or (isinstance(tree, Variable) and tree.name in CONSTANTS)


def _is_condition(tree: Tree) -> bool:
    return isinstance(tree, Chain) and bool(tree.steps) and tree.steps[-1] in _EXISTENCE


_EXISTENCE = (Call("exists", ()), Call("empty", ()))


def _negated(verdict: Verdict) -> Verdict:
    return not verdict if isinstance(verdict, bool) else verdict


def _called(call: Call, base: Tree, keys: _Keys) -> Verdict:
    if call.name == "not":
        return _negated(_verdict(base, keys))
    found, ask = _found(base, keys), _CALLS.get((call.name, len(call.args)))
    return RISKY if found is None or ask is None else ask(found)


def _on_nothing(answer: Verdict, other: Open) -> Callable[[Found], Verdict]:
    return lambda found: answer if found.empty else other


_CALLS: dict[tuple[str, int], Callable[[Found], Verdict]] = {
    ("exists", 0): lambda found: False if found.empty else True if found.some else VALUES,
    ("empty", 0): lambda found: True if found.empty else False if found.some else VALUES,
    ("exists", 1): _on_nothing(False, RISKY),
    ("all", 1): _on_nothing(True, RISKY),
    ("isDistinct", 0): _on_nothing(True, VALUES),
    ("hasValue", 0): _on_nothing(False, VALUES),
    ("matches", 1): _on_nothing(None, RISKY),
    ("startsWith", 1): _on_nothing(None, RISKY),
    ("endsWith", 1): _on_nothing(None, RISKY),
    ("contains", 1): _on_nothing(None, RISKY),
}
# Steps that make nothing of nothing, and may be an error otherwise or lose items.
_PASSING = frozenset(("where", "select", "first", "last", "tail", "ofType", "as", "trace", "descendants", "children"))


def _found(tree: Tree, keys: _Keys) -> Found | None:
    """What is known of a path; None where that is not even a path, or looking at it may be an error."""
    if isinstance(tree, Name):
        return _member(tree.name, keys)
    if isinstance(tree, Union):
        parts = [_found(part, keys) for part in tree.parts]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Found(all(p.empty for p in known), any(p.some for p in known))
    if not isinstance(tree, Chain):
        return None
    found = _found(tree.first, keys)
    for step in tree.steps:
        found = None if found is None else _stepped(found, step)
    return found


def _stepped(found: Found, step: Tree) -> Found | None:
    if isinstance(step, Call) and step.name not in _PASSING:
        return None
    if found.empty:
        return NOTHING if isinstance(step, (Name, Index, Call)) else None
    return Found(False) if isinstance(step, Name) else None


def _member(name: str, keys: _Keys) -> Found | None:
    slots = schema.slots(keys.type, name)
    if slots is None or (name[0].isupper() and schema.resolve_type(name)):
        return None
    here = [s for s in slots if s.key in keys.held or (s.primitive and f"_{s.key}" in keys.held)]
    element = model.element(keys.type, name)
    return Found(False, True, element is not None and element.max == 1) if here else NOTHING


def _and(a: Verdict, b: Verdict) -> Verdict:
    if a is False or a is RISKY:
        return a
    if b is False or b is RISKY:
        return b
    if a is VALUES or b is VALUES:
        return VALUES
    return True if a and b else None


def _or(a: Verdict, b: Verdict) -> Verdict:
    if a is True or a is RISKY:
        return a
    if b is True or b is RISKY:
        return b
    if a is VALUES or b is VALUES:
        return VALUES
    return False if a is False and b is False else None


def _implies(a: Verdict, b: Verdict) -> Verdict:
    if a is False:
        return True
    if a is RISKY:
        return RISKY
    if b is True or b is RISKY:
        return b
    if a is VALUES or b is VALUES:
        return VALUES
    return b if a else None


def _xor(a: Verdict, b: Verdict) -> Verdict:
    if a is RISKY or b is RISKY:
        return RISKY
    if a is VALUES or b is VALUES:
        return VALUES
    return None if a is None or b is None else a is not b


_LOGIC: dict[str, Callable[[Verdict, Verdict], Verdict]] = {
    "and": _and,
    "or": _or,
    "implies": _implies,
    "xor": _xor,
}
