"""Filtering, projection and the functions on types (N1 sections 5.2 and 6.3)."""

from __future__ import annotations

from profiles import model
from profiles.fhirpath import schema
from profiles.fhirpath.functions.existence import holds
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Program, Scope, boolean, single, whole
from profiles.fhirpath.steps import casts_to, children, is_type
from profiles.fhirpath.values import keys, order


def project(scope: Scope, items: Collection, projection: Program) -> Collection:
    """The results for all items in one collection."""
    out: Collection = []
    inner, variables = scope.inner(), scope.variables
    scope.run.spend(2 + 2 * len(items))
    for index, node in enumerate(items):
        inner.this, inner.index, inner.variables = [node], index, variables
        out.extend(projection(inner))
    return out


def _repeat(scope: Scope, items: Collection, projection: Program) -> Collection:
    """Until nothing new is found: repetitions by `=` are left out."""
    seen: set[object] = set()
    out: Collection = []
    queue = items
    while queue:
        found = project(scope, queue, projection)
        queue = []
        for node, mark in zip(found, keys(found), strict=True):
            if mark not in seen:
                seen.add(mark)
                queue.append(node)
        out.extend(queue)
    return out


def _repeat_all(scope: Scope, items: Collection, projection: Program) -> Collection:
    """As `repeat`, repetitions kept; a loop ends at the step limit."""
    out: Collection = []
    queue = items
    while queue:
        queue = project(scope, queue, projection)
        out.extend(queue)
    return out


def _children(scope: Scope, items: Collection) -> Collection:
    scope.run.spend(len(items))
    return children(items)


def _descendants(scope: Scope, items: Collection) -> Collection:
    out: Collection = []
    queue = children(items)
    while queue:
        scope.run.spend(len(queue))
        out.extend(queue)
        queue = children(queue)
    return out


def _of_type(items: Collection, type_name: str, strict: bool) -> Collection:
    return [node for node in items if casts_to(node, type_name, strict)]


def _as(items: Collection, type_name: str, strict: bool) -> Collection:
    """Several items are an error only when strict: R4's own expressions cast collections."""
    if strict:
        single(items, "as")
    return _of_type(items, type_name, strict)


def _is(items: Collection, type_name: str, strict: bool) -> Collection:
    node = single(items, "is")
    return [] if node is None else boolean(is_type(node, type_name, strict))


def _type(scope: Scope, items: Collection) -> Collection:
    return [Node(type_info(node), "System.TypeInfo") for node in items]


def type_info(node: Node) -> dict[str, str]:
    """The TypeInfo of a node (section Reflection)."""
    if node.type.startswith("System."):
        return {"namespace": "System", "name": node.type.removeprefix("System."), "baseType": "System.Any"}
    name = schema.public_name(node.type)
    return {"namespace": "FHIR", "name": name, "baseType": f"FHIR.{model.base_of(name) or 'Any'}"}


def _sort(scope: Scope, items: Collection, sort_keys: list[tuple[Program, bool]]) -> Collection:
    """By the keys in their order, empty ones first; without keys by the items themselves."""
    rows = [(node, _sort_row(scope, node, i, sort_keys)) for i, node in enumerate(items)]
    scope.run.spend(len(items) * 4)
    directions = [descending for _, descending in sort_keys] or [False]
    for position in range(len(directions) - 1, -1, -1):
        rows.sort(key=lambda row, at=position: _Ordered(row[1][at]), reverse=directions[position])  # type: ignore[misc]
    return [node for node, _ in rows]


def _sort_row(scope: Scope, node: Node, index: int, sort_keys: list[tuple[Program, bool]]) -> list[Node | None]:
    if not sort_keys:
        return [node]
    inner = scope.inner()
    inner.this, inner.index = [node], index
    return [single(program(inner), "A sort key") for program, _ in sort_keys]


class _Ordered:
    """A sort key that orders by FHIRPath's own comparison."""

    __slots__ = ("_node",)

    def __init__(self, node: Node | None) -> None:
        self._node = node

    def __lt__(self, other: _Ordered) -> bool:
        if self._node is None or other._node is None:
            return self._node is None and other._node is not None
        return order(self._node, other._node) == -1


def _coalesce(scope: Scope, items: Collection, *candidates: Program) -> Collection:
    """The first argument that is not empty."""
    for candidate in candidates:
        found = candidate(scope)
        if found:
            return found
    return []


def _single(scope: Scope, items: Collection) -> Collection:
    single(items, "single()")
    return items


def _first(scope: Scope, items: Collection) -> Collection:
    return items[:1]


def _last(scope: Scope, items: Collection) -> Collection:
    return items[-1:]


def _tail(scope: Scope, items: Collection) -> Collection:
    return items[1:]


def _skip(scope: Scope, items: Collection, number: Collection) -> Collection:
    amount = whole(number, "skip()")
    return [] if amount is None else items[max(amount, 0) :]


def _take(scope: Scope, items: Collection, number: Collection) -> Collection:
    amount = whole(number, "take()")
    return [] if amount is None else items[: max(amount, 0)]


FUNCTIONS = {
    "where": Function(holds, "programs", 1, 1),
    "select": Function(project, "programs", 1, 1),
    "repeat": Function(_repeat, "programs", 1, 1),
    "repeatAll": Function(_repeat_all, "programs", 1, 1),
    "children": Function(_children),
    "descendants": Function(_descendants),
    "ofType": Function(_of_type, "type", 1, 1),
    "as": Function(_as, "type", 1, 1),
    "is": Function(_is, "type", 1, 1),
    "type": Function(_type),
    "sort": Function(_sort, "keys", 0, 16),
    "coalesce": Function(_coalesce, "programs", 1, 32),
    "single": Function(_single),
    "first": Function(_first),
    "last": Function(_last),
    "tail": Function(_tail),
    "skip": Function(_skip, "values", 1, 1),
    "take": Function(_take, "values", 1, 1),
}
