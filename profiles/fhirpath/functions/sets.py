"""Combining collections (N1 sections 5.3 and 5.4)."""

from __future__ import annotations

from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Scope
from profiles.fhirpath.operators import union
from profiles.fhirpath.values import distinct, keys


def _union(scope: Scope, items: Collection, other: Collection) -> Collection:
    return union(items, other, scope.run)


def _combine(
    scope: Scope, items: Collection, other: Collection, preserve_order: Collection | None = None
) -> Collection:
    scope.run.spend(len(items) + len(other))
    return items + other


def _intersect(scope: Scope, items: Collection, other: Collection) -> Collection:
    scope.run.spend(len(items) + len(other))
    others = set(keys(other))
    return distinct([node for node, mark in zip(items, keys(items), strict=True) if mark in others])


def _exclude(scope: Scope, items: Collection, other: Collection) -> Collection:
    scope.run.spend(len(items) + len(other))
    others = set(keys(other))
    return [node for node, mark in zip(items, keys(items), strict=True) if mark not in others]


FUNCTIONS = {
    "union": Function(_union, "values", 1, 1),
    "combine": Function(_combine, "values", 1, 2),
    "intersect": Function(_intersect, "values", 1, 1),
    "exclude": Function(_exclude, "values", 1, 1),
}
