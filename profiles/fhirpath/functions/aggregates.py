"""Aggregates (N1 section 7), with sum, min, max and avg as their shorthands."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Program, Scope, integer
from profiles.fhirpath.operators import OPERATORS, is_number
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.values import order, unwrap


def _aggregate(scope: Scope, items: Collection, aggregator: Program, start: Program | None = None) -> Collection:
    inner, variables = scope.inner(), scope.variables
    scope.run.spend(len(items))
    total = start(scope) if start is not None else []
    for index, node in enumerate(items):
        inner.this, inner.index, inner.total, inner.variables = [node], index, total, variables
        total = aggregator(inner)
    return total


def _sum(scope: Scope, items: Collection) -> Collection:
    add = OPERATORS["+"]
    if any(not is_number(value) and not isinstance(value, Quantity) for value in map(unwrap, items)):
        raise FhirPathError("sum() and avg() need numbers or quantities")
    return reduce(lambda total, node: add(total, [node], scope.run), items[1:], items[:1])


def _extreme(sign: int) -> Callable[[Scope, Collection], Collection]:
    def pick(best: Node, node: Node) -> Node:
        found = order(node, best)
        if found is None:
            raise FhirPathError("min() and max() need items that can be compared")
        return node if found == sign else best

    def apply(scope: Scope, items: Collection) -> Collection:
        scope.run.spend(len(items))
        return [reduce(pick, items)] if items else []

    return apply


def _avg(scope: Scope, items: Collection) -> Collection:
    return OPERATORS["/"](_sum(scope, items), [integer(len(items))], scope.run) if items else []


FUNCTIONS = {
    "aggregate": Function(_aggregate, "programs", 1, 2),
    "sum": Function(_sum),
    "min": Function(_extreme(-1)),
    "max": Function(_extreme(1)),
    "avg": Function(_avg),
}
