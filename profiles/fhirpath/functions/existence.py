"""Existence (N1 section 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import NO, YES, Collection, Program, Scope, boolean, integer
from profiles.fhirpath.operators import truth
from profiles.fhirpath.values import distinct, keys


def holds(scope: Scope, items: Collection, criteria: Program) -> Collection:
    """The items for which the criteria are true."""
    out: Collection = []
    inner, variables = scope.inner(), scope.variables
    scope.run.spend(2 + 2 * len(items))
    for index, node in enumerate(items):
        inner.this, inner.index, inner.variables = [node], index, variables
        if truth(criteria(inner)):
            out.append(node)
    return out


def _empty(scope: Scope, items: Collection) -> Collection:
    return NO if items else YES


def _exists(scope: Scope, items: Collection, criteria: Program | None = None) -> Collection:
    return YES if (items if criteria is None else holds(scope, items, criteria)) else NO


def _all(scope: Scope, items: Collection, criteria: Program) -> Collection:
    return boolean(len(holds(scope, items, criteria)) == len(items))


def _each(quantifier: Callable[[Iterable[bool]], bool], wanted: bool) -> Callable[[Scope, Collection], Collection]:
    """Whether all or any of the items are the Boolean wanted; an item that is no Boolean is neither true nor false."""

    def apply(scope: Scope, items: Collection) -> Collection:
        return boolean(quantifier(node.value is wanted for node in items))

    return apply


def _subset_of(scope: Scope, items: Collection, other: Collection) -> Collection:
    scope.run.spend(len(items) + len(other))
    return boolean(set(keys(items)) <= set(keys(other)))


def _superset_of(scope: Scope, items: Collection, other: Collection) -> Collection:
    return _subset_of(scope, other, items)


def _count(scope: Scope, items: Collection) -> Collection:
    return [integer(len(items))]


def _distinct(scope: Scope, items: Collection) -> Collection:
    scope.run.spend(len(items))
    return distinct(items)


def _is_distinct(scope: Scope, items: Collection) -> Collection:
    scope.run.spend(len(items))
    return boolean(len(distinct(items)) == len(items))


def _not(scope: Scope, items: Collection) -> Collection:
    value = truth(items)
    return [] if value is None else boolean(not value)


FUNCTIONS = {
    "empty": Function(_empty),
    "exists": Function(_exists, "programs", 0, 1),
    "all": Function(_all, "programs", 1, 1),
    "allTrue": Function(_each(all, True)),
    "anyTrue": Function(_each(any, True)),
    "allFalse": Function(_each(all, False)),
    "anyFalse": Function(_each(any, False)),
    "subsetOf": Function(_subset_of, "values", 1, 1),
    "supersetOf": Function(_superset_of, "values", 1, 1),
    "count": Function(_count),
    "distinct": Function(_distinct),
    "isDistinct": Function(_is_distinct),
    "not": Function(_not),
}
