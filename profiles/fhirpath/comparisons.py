"""What conditions compare: a path beside constants, counts and other paths; string functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from profiles.fhirpath import schema
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import Node
from profiles.fhirpath.parser import Binary, Call, Chain, Literal, Tree, Union
from profiles.fhirpath.values import converts, order
from profiles.fhirpath.walks import Condition, Path, Unsupported, bare

PathOf: TypeAlias = Callable[[Tree], Path]

_LITERALS = {"String": str, "Boolean": bool, "Integer": int}


def equal(path: Path, literal: Literal, wanted: bool) -> Condition:
    """A path beside a constant; types whose text is not their value (dates, decimals) go the general way."""
    kind = _LITERALS.get(literal.kind)
    if kind is None or any(converts(name) for name in path.types):
        raise Unsupported
    items, constant = path.items, literal.value
    name = path.slot.key if path.slot is not None else ""

    def test(value: Any) -> bool | None:
        if name and type(got := value.get(name)) is kind:
            return (got == constant) is wanted
        found = items(value)
        if not found:
            return None
        same = len(found) == 1 and found[0] == constant and type(found[0]) is kind
        return same is wanted

    return test


def within(path: Path, choices: Tree) -> Condition:
    """`in` with a union of constant strings."""
    choices = bare(choices)
    parts = choices.parts if isinstance(choices, Union) else (choices,)
    if any(converts(name) for name in path.types):
        raise Unsupported
    words = frozenset(part.value for part in parts if isinstance(part, Literal) and part.kind == "String")
    if len(words) < len(set(parts)):
        raise Unsupported
    items = path.items

    def test(value: Any) -> bool | None:
        found = items(value)
        if len(found) > 1:
            raise FhirPathError(f"in needs a single item, not {len(found)}")
        return found[0] in words if found else None

    return test


SIGNS: dict[str, Callable[[int], bool]] = {
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    ">": lambda sign: sign > 0,
    ">=": lambda sign: sign >= 0,
    "=": lambda sign: sign == 0,
    "!=": lambda sign: sign != 0,
}
_SYSTEM = {"Integer": "System.Integer", "Decimal": "System.Decimal", "String": "System.String"}


def ordered(tree: Binary, path_of: PathOf) -> Condition:
    """Two sides in their order."""
    accept = SIGNS[tree.operator]
    left, right = _operand(tree.left, path_of, tree.operator), _operand(tree.right, path_of, tree.operator)

    def test(value: Any) -> bool | None:
        a, b = left(value), right(value)
        if a is None or b is None:
            return None
        found = order(a, b)
        return None if found is None else accept(found)

    return test


def _operand(tree: Tree, path_of: PathOf, sign: str) -> Callable[[Any], Node | None]:
    """One side of a comparison as a node: a constant, a count, or a path of one type."""
    if isinstance(tree, Literal):
        if tree.kind not in _SYSTEM:
            raise Unsupported
        constant = Node(tree.value, _SYSTEM[tree.kind])
        return lambda _: constant
    if is_count(tree):
        counted = _count(tree, path_of)
        return lambda value: Node(counted(value), "System.Integer")
    path = path_of(tree)
    name, items = path.only_type(), path.items

    def node(value: Any) -> Node | None:
        found = items(value)
        if len(found) > 1:
            raise FhirPathError(f"{sign} needs a single item, not {len(found)}")
        return Node(found[0], name) if found else None

    return node


def is_count(tree: Tree) -> bool:
    """`x.count()`, or a sum of such."""
    if isinstance(tree, Binary):
        return tree.operator == "+" and is_count(tree.left) and is_count(tree.right)
    return isinstance(tree, Chain) and bool(tree.steps) and tree.steps[-1] == Call("count", ())


def _count(tree: Tree, path_of: PathOf) -> Callable[[Any], int]:
    if isinstance(tree, Binary):
        left, right = _count(tree.left, path_of), _count(tree.right, path_of)
        return lambda value: left(value) + right(value)
    if not isinstance(tree, Chain):
        raise Unsupported
    path = path_of(Chain(tree.first, tree.steps[:-1]))
    if path.merged:
        raise Unsupported
    items = path.items
    return lambda value: len(items(value))


def on_text(make: Callable[[str], Callable[[str], bool]]) -> Callable[[Path, tuple[Tree, ...]], Condition]:
    """A string function with a constant argument on the single string of a path."""

    def build(path: Path, args: tuple[Tree, ...]) -> Condition:
        argument = args[0]
        if not isinstance(argument, Literal) or argument.kind != "String" or not path.types <= TEXTS:
            raise Unsupported
        check, items = make(argument.value), path.items
        name = path.slot.key if path.slot is not None else ""

        def test(value: Any) -> bool | None:
            if name and type(got := value.get(name)) is str:
                return check(got)
            found = items(value)
            if len(found) > 1:
                raise FhirPathError(f"A string function needs a single item, not {len(found)}")
            return check(found[0]) if found and isinstance(found[0], str) else None

        return test

    return build


TEXTS = schema.PRIMITIVES - {"boolean", "integer", "decimal", "positiveInt", "unsignedInt"}
