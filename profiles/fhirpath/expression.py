"""Compiled expressions and the plain entry `evaluate`."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from profiles.fhirpath.check import check
from profiles.fhirpath.compiler import compile_tree
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import UNRESOLVED, Collection, Environment, Node, Program, Run, Scope
from profiles.fhirpath.parser import Tree, parse
from profiles.fhirpath.paths import Path, fast_path
from profiles.fhirpath.steps import is_resource_of
from profiles.fhirpath.values import plain

_NOTHING = Environment()
_SETTINGS = frozenset(f.name for f in fields(Environment))


class Expression:
    """A compiled expression: call it with a resource (or a node) and an environment.

    Straight paths take a closure made for the type of the resource; everything else the general program.
    """

    __slots__ = ("_fast", "_program", "_tree", "root_type", "strict", "text")

    def __init__(self, text: str, root_type: str | None, strict: bool) -> None:
        self.text = text
        self.root_type = root_type
        self.strict = strict
        self._tree: Tree = parse(text)
        self._program: Program = compile_tree(self._tree, strict)
        self._fast: dict[str | None, Path | None] = {}
        if strict:
            check(self._tree, root_type)

    def __call__(self, resource: dict[str, Any] | Node | None, env: Environment | None = None) -> list[Node]:
        """The nodes the expression finds, plain JSON values in them; raises FhirPathError."""
        if type(resource) is dict:
            kind = resource.get("resourceType", self.root_type)
            try:
                fast = self._fast[kind]
            except (KeyError, TypeError):
                fast = self._specialise(kind)
            if fast is not None:
                try:
                    return fast(resource)
                except AttributeError:
                    # A string where an object belongs: the general program skips it.
                    pass
        return self._general(resource, env or _NOTHING)

    def _specialise(self, kind: Any) -> Path | None:
        if self.strict or not isinstance(kind, str):
            return None
        self._fast[kind] = found = fast_path(self._tree, kind)
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
