"""Strict evaluation: types followed through the expression before it runs (N1, Type safety and strict evaluation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from profiles.fhirpath import schema
from profiles.fhirpath.compiler import known_type, specifier
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions import FUNCTIONS
from profiles.fhirpath.parser import Binary, Call, Chain, Index, Literal, Name, Special, Tree, TypeTest, Unary, Union
from profiles.fhirpath.schema import words


class Shape(NamedTuple):
    """What an expression gives: the possible types (None: anything) and whether their order means something."""

    types: frozenset[str] | None
    ordered: bool = True


_ANYTHING = Shape(None)
_DYNAMIC = frozenset(("Resource", "DomainResource", "Element", "BackboneElement", "System.Any"))
_ORDER_NEEDED = frozenset(("first", "last", "tail", "skip", "take"))
_SAME = words("where first last tail skip take single distinct trace exclude intersect sort defineVariable")
_CASTS = frozenset(("as", "ofType"))


def _fixed(name: str) -> Shape:
    return Shape(frozenset((name,)))


_RESULTS: dict[str, Shape] = {
    **dict.fromkeys(("children", "descendants"), Shape(None, ordered=False)),
    **dict.fromkeys(("extension",), _fixed("Extension")),
    **dict.fromkeys(("type",), _fixed("System.TypeInfo")),
    **dict.fromkeys(("count", "length", "indexOf", "lastIndexOf", "toInteger", "precision"), _fixed("System.Integer")),
    **dict.fromkeys(
        words(
            "substring upper lower replace replaceMatches toChars encode decode escape unescape trim split "
            "join toString"
        ),
        _fixed("System.String"),
    ),
    **dict.fromkeys(
        words(
            "empty exists all allTrue anyTrue allFalse anyFalse subsetOf supersetOf isDistinct not is "
            "startsWith endsWith contains matches matchesFull hasValue hasExtension"
        ),
        _fixed("System.Boolean"),
    ),
}


def check(tree: Tree, root_type: str | None) -> None:
    """Raise FhirPathError for a member no type at that place has, and for taking the first of what has no order."""
    _infer(tree, _shape_of(root_type))


def _shape_of(root_type: str | None) -> Shape:
    return _ANYTHING if root_type is None or root_type in _DYNAMIC else _fixed(root_type)


def _infer(tree: Tree, this: Shape) -> Shape:
    rule = _RULES.get(type(tree))
    return _ANYTHING if rule is None else rule(tree, this)


def _name(tree: Name, this: Shape) -> Shape:
    """The start of a path: a type name must be the context's, its ancestor's or its descendant's."""
    name = tree.name
    if not name[0].isupper() or this.types is None or (found := schema.resolve_type(name)) is None:
        return _member(name, this)
    if any(schema.is_a(known, found) for known in this.types):
        return this
    if any(schema.is_a(found, known) for known in this.types):
        return _fixed(found)
    raise FhirPathError(f"The context is a {_listed(this.types)}, not a {name}")


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(schema.public_name(name) for name in types))


def _member(name: str, items: Shape) -> Shape:
    if items.types is None:
        return items
    found = [slots for known in items.types if (slots := schema.slots(known, name)) is not None]
    if not found:
        raise FhirPathError(f"{_listed(items.types)} has no element {name}")
    types = frozenset(slot.type for slots in found for slot in slots)
    return Shape(None if types & _DYNAMIC else types, items.ordered)


def _chain(tree: Chain, this: Shape) -> Shape:
    items = _infer(tree.first, this)
    for step in tree.steps:
        items = _step(step, items, this)
    return items


def _step(step: Tree, items: Shape, this: Shape) -> Shape:
    if isinstance(step, Name):
        return _member(step.name, items)
    if isinstance(step, Call):
        return _call(step, items, this)
    if isinstance(step, Index):
        _need_order(items, "An index")
        _infer(step.index, this)
        return items
    return _infer(step, this)


def _need_order(items: Shape, what: str) -> None:
    if not items.ordered:
        raise FhirPathError(f"{what} needs an order, and children have none")


def _call(tree: Call, items: Shape, this: Shape) -> Shape:
    name = tree.name
    if name in _ORDER_NEEDED:
        _need_order(items, f"{name}()")
    if name in _CASTS:
        return Shape(frozenset((known_type(specifier(tree.args[0])),)), items.ordered)
    function = FUNCTIONS[name]
    if function.takes == "type":
        return _RESULTS[name]
    inner = this if function.takes == "values" else items
    if name in ("repeat", "repeatAll"):
        return _repeated(tree.args[0], items)
    results = [_infer(arg, inner) for arg in tree.args]
    return _result(name, items, results)


def _repeated(projection: Tree, items: Shape) -> Shape:
    """What is not an element of the first items may be one of those found: `repeat(item | answer)`."""
    parts = projection.parts if isinstance(projection, Union) else (projection,)
    if len(parts) == 1 or not any(_fits(part, items) for part in parts):
        return _infer(projection, items)
    return _ANYTHING


def _fits(tree: Tree, items: Shape) -> bool:
    try:
        _infer(tree, items)
    except FhirPathError:
        return False
    return True


def _result(name: str, items: Shape, results: list[Shape]) -> Shape:
    if name in _SAME:
        return items._replace(ordered=True) if name == "sort" else items
    if name == "select":
        return results[0]._replace(ordered=results[0].ordered and items.ordered)
    if name in ("union", "combine"):
        return _merge([items, results[0]])
    if name == "iif":
        return _merge(results[1:])
    return _RESULTS.get(name, _ANYTHING)


def _merge(shapes: list[Shape]) -> Shape:
    types = [shape.types for shape in shapes]
    ordered = all(shape.ordered for shape in shapes)
    if any(known is None for known in types):
        return Shape(None, ordered)
    return Shape(frozenset().union(*(known for known in types if known is not None)), ordered)


def _binary(tree: Binary, this: Shape) -> Shape:
    _infer(tree.left, this)
    _infer(tree.right, this)
    return _ANYTHING


def _type_test(tree: TypeTest, this: Shape) -> Shape:
    _infer(tree.operand, this)
    return _fixed(known_type(tree.type)) if tree.operator == "as" else _fixed("System.Boolean")


def _special(tree: Special, this: Shape) -> Shape:
    return this if tree.name == "$this" else _ANYTHING


def _literal(tree: Literal, this: Shape) -> Shape:
    return _ANYTHING if tree.kind == "Empty" else _fixed(f"System.{tree.kind}")


def _unary(tree: Unary, this: Shape) -> Shape:
    return _infer(tree.operand, this)


def _union(tree: Union, this: Shape) -> Shape:
    return _merge([_infer(part, this) for part in tree.parts])


_RULES: dict[type, Callable[[Any, Shape], Shape]] = {
    Literal: _literal,
    Name: _name,
    Chain: _chain,
    Call: lambda tree, this: _call(tree, this, this),
    Binary: _binary,
    TypeTest: _type_test,
    Special: _special,
    Unary: _unary,
    Union: _union,
}
