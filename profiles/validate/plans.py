"""Plans: what there is to check of an object with certain keys, worked out once for all objects of that shape.

A resource is mostly strings that no rule looks at, and objects whose rules their keys settle (`settled`). A plan leaves
those out, and the walk passes them by. Plans are for valid resources: there every key is known, and has a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from profiles.model import PRIMITIVES, Field, fields
from profiles.validate.checks import Check, Switches, checks_of, passes, run, switches_of
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members, whole

Json = dict[str, Any]
Shape: TypeAlias = tuple[str, ...]
MOST = 20_000  # plans kept, about a kilobyte each


class Plan(NamedTuple):
    """What to check of a value, and the keys that lead to more."""

    checks: tuple[Check, ...]
    rows: tuple[Row, ...]


class Row(NamedTuple):
    """A key worth following; `passes` tells primitive values of which there is nothing to say."""

    follow: Callable[[Report, Spot, Json, Row], None]
    key: str
    name: str
    place: Place
    repeats: bool
    passes: Callable[[Any], bool | None] | None = None


NOTHING = Plan((), ())


class Place:
    """A type at an element of its parent, with the plans for the shapes seen so far."""

    __slots__ = ("element", "plans", "switches", "type")

    def __init__(self, type_name: str, element: str, switches: Switches) -> None:
        self.type, self.element, self.switches = type_name, element, switches
        self.plans: dict[Shape, Plan] = {}

    def plan(self, holder: Json) -> Plan:
        """The plan for an object, or for what stands beside a primitive."""
        shape = tuple(holder)
        return self.plans.get(shape) or self._learn(shape)

    def _learn(self, shape: Shape) -> Plan:
        plan = Plan(checks_of(self.type, self.element, frozenset(shape), self.switches), tuple(self._rows(shape)))
        plan = plan if plan.checks or plan.rows else NOTHING
        self.plans[shape] = plan
        _kept.append((self, shape))
        if len(_kept) > MOST:
            place, gone = _kept.popleft()
            place.plans.pop(gone, None)
        return plan

    def _rows(self, shape: Shape) -> Iterator[Row]:
        known = fields("Element" if self.type in PRIMITIVES else self.type)
        for key in shape:
            name = key.removeprefix("_")
            if name in known and (name == key or name not in shape):
                row = _row(name, known[name], self.switches, "_" + name in shape)
                if row is not None:
                    yield row


_kept: deque[tuple[Place, Shape]] = deque()


@cache
def place_of(type_name: str, element: str, switches: Switches) -> Place:
    return Place(type_name, element, switches)


def _row(key: str, field: Field, switches: Switches, has_beside: bool) -> Row | None:
    """How to follow a key; None where there is nothing to check of its values, or below them."""
    child = field.element
    place = place_of(field.type, child.path, switches)
    if field.type == "Resource":
        return Row(_resources, key, child.name, place, child.max != 1)
    if field.type not in PRIMITIVES:
        return Row(_object if child.max == 1 else _objects, key, child.name, place, child.max != 1)
    checks = place.plan({}).checks
    if not checks and not has_beside:
        return None
    test = passes(checks[0]) if len(checks) == 1 and not has_beside else None
    return Row(_values, key, child.name, place, child.max != 1, test)


def check_all(report: Report, resource: Json) -> None:
    """Every check of a valid resource and of all there is in it."""
    root = whole(resource)
    visit(report, root, place_of(root.type, root.element, switches_of(report.options)).plan(resource))


def visit(report: Report, spot: Spot, plan: Plan) -> None:
    """A value, then what is below it."""
    if plan.checks:
        run(report, plan.checks, spot)
    if plan.rows:
        holder = spot.value if type(spot.value) is dict else spot.extra
        for row in plan.rows:
            row.follow(report, spot, holder, row)


def _object(report: Report, spot: Spot, holder: Json, row: Row) -> None:
    value, place = holder[row.key], row.place
    plan = place.plan(value)
    if plan is not NOTHING:
        path = f"{spot.path}.{row.name}"
        visit(report, Spot(value, None, place.type, path, place.element, spot.resource, spot.root, spot), plan)


def _objects(report: Report, spot: Spot, holder: Json, row: Row) -> None:
    place = row.place
    for index, value in enumerate(holder[row.key]):
        plan = place.plan(value)
        if plan is not NOTHING:
            path = f"{spot.path}.{row.name}[{index}]"
            visit(report, Spot(value, None, place.type, path, place.element, spot.resource, spot.root, spot), plan)


def _resources(report: Report, spot: Spot, holder: Json, row: Row) -> None:
    for child in members(spot, row.name):
        visit(report, child, place_of(child.type, child.element, row.place.switches).plan(child.value))


def _values(report: Report, spot: Spot, holder: Json, row: Row) -> None:
    if row.passes is not None:
        value = holder[row.key]
        if all(map(row.passes, value)) if row.repeats else row.passes(value):
            return
    for child in members(spot, row.name):
        visit(report, child, row.place.plan(child.extra or {}))
