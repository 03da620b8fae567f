"""Compiled expressions and the plain entry `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from profiles.fhirpath.check import check
from profiles.fhirpath.compiler import compile_tree
from profiles.fhirpath.conditions import fast_condition
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import UNRESOLVED, Collection, Environment, Node, Program, Run, Scope, boolean
from profiles.fhirpath.parser import Tree, parse
from profiles.fhirpath.paths import fast_path
from profiles.fhirpath.steps import is_resource_of
from profiles.fhirpath.values import plain
from profiles.fhirpath.walks import Condition

Fast: TypeAlias = Callable[[Any], Collection]

_NOTHING = Environment()
_SETTINGS = frozenset(f.name for f in fields(Environment))


class Expression:
    """A compiled expression: call it with a resource (or a node) and an environment.

    Straight paths and plain conditions take a closure made for the type at hand; everything else the general program.
    """

    __slots__ = ("_fast", "_program", "_tree", "root_type", "strict", "text")

    def __init__(self, text: str, root_type: str | None, strict: bool) -> None:
        self.text = text
        self.root_type = root_type
        self.strict = strict
        self._tree: Tree = parse(text)
        self._program: Program = compile_tree(self._tree, strict)
        self._fast: dict[str, Fast | None] = {}
        if strict:
            check(self._tree, root_type)

    def __call__(self, resource: dict[str, Any] | Node | None, env: Environment | None = None) -> list[Node]:
        """The nodes the expression finds, plain JSON values in them; raises FhirPathError."""
        if env is None or env.trace is None:
            try:
                if type(resource) is dict:
                    fast = self._fast[resource["resourceType"]]
                    value: Any = resource
                else:
                    fast = self._fast[resource.type]  # type: ignore[union-attr]
                    value = resource.value  # type: ignore[union-attr]
                if fast is not None:
                    return fast(value)
            except (KeyError, AttributeError, TypeError):
                # A type seen for the first time; or a string where an object belongs, which the general program skips.
                return self._first_time(resource, env or _NOTHING)
        return self._general(resource, env or _NOTHING)

    def _first_time(self, resource: dict[str, Any] | Node | None, env: Environment) -> list[Node]:
        """Make the closure for the type; without one, or where it meets what is malformed, the general program."""
        context = _context(resource, self.root_type)
        if context and context[0].type not in self._fast:
            fast = self._specialise(context[0].type)
            if fast is not None and env.trace is None:
                try:
                    return fast(context[0].value)
                except (AttributeError, TypeError):
                    pass
        return self._general(resource, env)

    def _specialise(self, kind: str) -> Fast | None:
        found: Fast | None = None if self.strict else fast_path(self._tree, kind)
        if found is None and not self.strict and (condition := fast_condition(self._tree, kind)) is not None:
            found = _answer(condition)
        self._fast[kind] = found
        return found

    def _general(self, resource: dict[str, Any] | Node | None, env: Environment) -> list[Node]:
        context = _context(resource, self.root_type)
        held = _context(env.resource, None) or context
        run = Run(env, context, held, _context(env.root, None) or held)
        try:
            found = self._program(Scope(run, context, {}))
            return [_plain(node) for node in found if node.value is not None and node.path is not UNRESOLVED]
        except RecursionError as error:
            raise FhirPathError("The FHIRPath expression is nested too deeply", "too-costly") from error


def _answer(condition: Condition) -> Fast:
    return lambda value: boolean(condition(value))


def _context(value: dict[str, Any] | Node | None, root_type: str | None) -> Collection:
    if value is None:
        return []
    if isinstance(value, Node):
        return [value]
    return [Node(value, root_type if root_type and "resourceType" not in value else is_resource_of(value))]


def _plain(node: Node) -> Node:
    value = plain(node)
    return node if value is node.value else Node(value, node.type)


@lru_cache(maxsize=8192)
def compile(expression: str, root_type: str | None = None, *, strict: bool = False) -> Expression:
    """The compiled expression, from the cache; raises FhirPathError.

    Strict is the specification to the letter: unknown elements, casts of several items and the order of children are
    errors. Otherwise R4's own search expressions and invariants work, which rely on less.
    """
    return Expression(expression, root_type, strict)


def evaluate(resource: dict[str, Any] | None, expression: str, **environment: Any) -> list[Any]:
    """The plain values the expression finds in the resource, strictly evaluated; raises FhirPathError.

    Keywords are the settings of Environment (`now`, `resolve` ...); any other is a variable of its name.
    """
    settings = {name: value for name, value in environment.items() if name in _SETTINGS}
    variables = {name: value for name, value in environment.items() if name not in _SETTINGS}
    env = Environment(**settings)
    if env.now is None:
        # The one default clock, for callers without an environment of their own.
        env = replace(env, now=datetime.now(UTC))
    if variables:
        env = replace(env, variables={**env.variables, **variables})
    kind = is_resource_of(resource) if resource is not None else None
    return [node.value for node in compile(expression, kind, strict=True)(resource, env)]
