"""A tree to closures: every node of the tree becomes one function of the scope, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from profiles.fhirpath import schema, steps, temporal
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions import FUNCTIONS, Function
from profiles.fhirpath.nodes import NO, YES, Collection, Node, Program, Scope, boolean, integer, single, whole
from profiles.fhirpath.operators import OPERATORS, exact, is_number, number, truth, union
from profiles.fhirpath.parser import (
    Binary,
    Call,
    Chain,
    Index,
    Literal,
    Name,
    Sorted,
    Special,
    Tree,
    TypeTest,
    Unary,
    Union,
    Variable,
)
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.steps import Step
from profiles.fhirpath.values import unwrap
from profiles.fhirpath.variables import lookup


def compile_tree(tree: Tree, strict: bool) -> Program:
    """The program of a tree; raises FhirPathError for unknown functions and types, wrong numbers of arguments."""
    return _Compiler(strict, _defines_variables(tree)).program(tree)


def compile_step(tree: Tree) -> Step:
    """One step of a chain by itself, not strict."""
    return _Compiler(strict=False, scoped=False).step(tree)


def _defines_variables(tree: Any) -> bool:
    if isinstance(tree, tuple):
        return any(_defines_variables(part) for part in tree)
    if isinstance(tree, Call) and tree.name == "defineVariable":
        return True
    return is_dataclass(tree) and any(_defines_variables(getattr(tree, f.name)) for f in fields(tree))


class _Compiler:
    """What every part of one expression shares: strictness, and whether variables need their scopes kept apart."""

    __slots__ = ("_scoped", "_strict")

    def __init__(self, strict: bool, scoped: bool) -> None:
        self._strict = strict
        self._scoped = scoped

    def program(self, tree: Tree) -> Program:
        """The closure of any node."""
        build: Callable[[Any], Program] = getattr(self, f"_{type(tree).__name__.lower()}")
        return build(tree)

    def _operand(self, tree: Tree) -> Program:
        """An operand or argument: variables defined in it end with it."""
        program = self.program(tree)
        if not self._scoped:
            return program

        def isolated(scope: Scope) -> Collection:
            variables = scope.variables
            out = program(scope)
            scope.variables = variables
            return out

        return isolated

    def _literal(self, tree: Literal) -> Program:
        items = _constant(tree)
        return lambda scope: items

    def _name(self, tree: Name) -> Program:
        name = tree.name
        step = steps.member(name)
        if not name[0].isupper() or (type_name := schema.resolve_type(name)) is None:
            return lambda scope: step(scope, scope.this)
        return lambda scope: [node for node in scope.this if schema.is_a(node.type, type_name)]

    def _special(self, tree: Special) -> Program:
        return _SPECIALS[tree.name]

    def _variable(self, tree: Variable) -> Program:
        name = tree.name
        return lambda scope: lookup(scope, name)

    def _call(self, tree: Call) -> Program:
        step = self._function(tree)
        return lambda scope: step(scope, scope.this)

    def _chain(self, tree: Chain) -> Program:
        first = self.program(tree.first)
        row = [self.step(step) for step in tree.steps]
        if len(row) == 1:
            only = row[0]
            return lambda scope: only(scope, first(scope))

        def chain(scope: Scope) -> Collection:
            items = first(scope)
            for step in row:
                items = step(scope, items)
            return items

        return chain

    def step(self, tree: Tree) -> Step:
        """What a part of a chain does to the items before it."""
        if isinstance(tree, Name):
            return steps.member(tree.name)
        if isinstance(tree, Call):
            return self._function(tree)
        if isinstance(tree, Index):
            return _indexer(self._operand(tree.index))
        special = self.program(tree)
        return lambda scope, items: special(scope)

    def _function(self, tree: Call) -> Step:
        function = FUNCTIONS.get(tree.name)
        if function is None:
            raise FhirPathError(f"Unknown function {tree.name}()")
        if not function.least <= len(tree.args) <= function.most:
            raise FhirPathError(f"{tree.name}() does not take {len(tree.args)} arguments")
        build: Callable[[Function, Call], Step] = getattr(self, f"_with_{function.takes}")
        return build(function, tree)

    def _with_nothing(self, function: Function, tree: Call) -> Step:
        step: Step = function.apply
        return step

    def _with_values(self, function: Function, tree: Call) -> Step:
        """Arguments are evaluated against the outer `$this`."""
        apply = function.apply
        args = [self._operand(arg) for arg in tree.args]
        if len(args) == 1:
            only = args[0]
            return lambda scope, items: apply(scope, items, only(scope))
        return lambda scope, items: apply(scope, items, *[arg(scope) for arg in args])

    def _with_programs(self, function: Function, tree: Call) -> Step:
        apply = function.apply
        args = [self.program(arg) for arg in tree.args]
        if len(args) == 1:
            only = args[0]
            return lambda scope, items: apply(scope, items, only)
        return lambda scope, items: apply(scope, items, *args)

    def _with_type(self, function: Function, tree: Call) -> Step:
        apply, strict = function.apply, self._strict
        type_name = known_type(specifier(tree.args[0]))
        return lambda scope, items: apply(items, type_name, strict)

    def _with_keys(self, function: Function, tree: Call) -> Step:
        apply = function.apply
        args = [self._sort_key(arg) for arg in tree.args]
        return lambda scope, items: apply(scope, items, args)

    def _sort_key(self, tree: Tree) -> tuple[Program, bool]:
        if isinstance(tree, Sorted):
            return self.program(tree.key), tree.descending
        if isinstance(tree, Unary) and tree.operator == "-":
            return self.program(tree.operand), True
        return self.program(tree), False

    def _unary(self, tree: Unary) -> Program:
        operand = self._operand(tree.operand)
        sign = -1 if tree.operator == "-" else 1
        return lambda scope: _signed(operand(scope), sign)

    def _binary(self, tree: Binary) -> Program:
        left, right = self._operand(tree.left), self._operand(tree.right)
        if tree.operator in _LOGIC:
            return _LOGIC[tree.operator](left, right)
        apply = OPERATORS[tree.operator]
        return lambda scope: apply(left(scope), right(scope), scope.run)

    def _union(self, tree: Union) -> Program:
        parts = [self._operand(part) for part in tree.parts]

        def merged(scope: Scope) -> Collection:
            return union([node for part in parts for node in part(scope)], [], scope.run)

        return merged

    def _typetest(self, tree: TypeTest) -> Program:
        operand, type_name, strict = self._operand(tree.operand), known_type(tree.type), self._strict
        apply = FUNCTIONS[tree.operator].apply
        return lambda scope: apply(operand(scope), type_name, strict)


def specifier(tree: Tree) -> str:
    """The dotted name a type argument writes."""
    if isinstance(tree, Name):
        return tree.name
    if isinstance(tree, Chain) and all(isinstance(part, Name) for part in (tree.first, *tree.steps)):
        return ".".join(part.name for part in (tree.first, *tree.steps))  # type: ignore[union-attr]
    raise FhirPathError("A type name is needed here")


def known_type(name: str) -> str:
    """The type a specifier names; raises where there is none."""
    found = schema.resolve_type(name)
    if found is None:
        raise FhirPathError(f"Unknown type {name}")
    return found


def _constant(tree: Literal) -> Collection:
    if tree.kind == "Empty":
        return []
    if tree.kind == "Boolean":
        return YES if tree.value else NO
    if tree.kind in ("Date", "DateTime", "Time"):
        value = temporal.parse(tree.kind, tree.value)
        if value is None:
            raise FhirPathError(f"@{tree.value} is no {tree.kind}")
        return [Node(value, f"System.{tree.kind}")]
    if tree.kind == "Quantity":
        return [Node(Quantity(tree.value, tree.unit, tree.calendar), "System.Quantity")]
    if tree.kind == "Integer" and tree.value >= 2**32:
        raise FhirPathError(f"{tree.value} is too large for an Integer")
    return [Node(tree.value, f"System.{tree.kind}")]


def _index_item(scope: Scope) -> Collection:
    return [] if scope.index is None else [integer(scope.index)]


_SPECIALS: dict[str, Program] = {
    "$this": lambda scope: scope.this,
    "$index": _index_item,
    "$total": lambda scope: scope.total,
}


def _indexer(index: Program) -> Step:
    def pick(scope: Scope, items: Collection) -> Collection:
        at = whole(index(scope), "An index")
        return [] if at is None or at < 0 else items[at : at + 1]

    return pick


def _signed(items: Collection, sign: int) -> Collection:
    node = single(items, "A sign")
    if node is None:
        return []
    value = unwrap(node)
    if is_number(value):
        return number(sign * exact(value), (value,))
    if isinstance(value, Quantity):
        return [Node(Quantity(sign * value.value, value.unit, value.calendar, value.coded), "System.Quantity")]
    raise FhirPathError("A sign needs a number or a quantity")


def _and(left: Program, right: Program) -> Program:
    def apply(scope: Scope) -> Collection:
        a = truth(left(scope))
        if a is False:
            return NO
        b = truth(right(scope))
        return NO if b is False else boolean(True if a and b else None)

    return apply


def _or(left: Program, right: Program) -> Program:
    def apply(scope: Scope) -> Collection:
        a = truth(left(scope))
        if a:
            return YES
        b = truth(right(scope))
        return YES if b else boolean(False if a is False and b is False else None)

    return apply


def _implies(left: Program, right: Program) -> Program:
    def apply(scope: Scope) -> Collection:
        a = truth(left(scope))
        if a is False:
            return YES
        b = truth(right(scope))
        return YES if b else boolean(b if a else None)

    return apply


_LOGIC: dict[str, Callable[[Program, Program], Program]] = {"and": _and, "or": _or, "implies": _implies}
