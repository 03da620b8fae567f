"""Utility functions: trace, variables, the clock (N1 section 5.9)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.conversion import text
from profiles.fhirpath.functions.filtering import project
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.nodes import Collection, Node, Program, Scope
from profiles.fhirpath.temporal import Temporal
from profiles.fhirpath.values import plain
from profiles.fhirpath.variables import RESERVED


def _trace(scope: Scope, items: Collection, name: Program, projection: Program | None = None) -> Collection:
    label = text(name(scope), "trace()")
    shown = items if projection is None else project(scope, items, projection)
    if scope.run.env.trace is not None:
        scope.run.env.trace(label or "", [plain(node) for node in shown])
    return items


def _define_variable(scope: Scope, items: Collection, name: Program, value: Program | None = None) -> Collection:
    label = text(name(scope), "defineVariable()")
    if label is None:
        raise FhirPathError("defineVariable() needs a name")
    if label in scope.variables or label in RESERVED or label in scope.run.env.variables:
        raise FhirPathError(f"%{label} is already defined")
    if value is None:
        found = items
    else:
        inner = scope.inner()
        inner.this = items
        found = value(inner)
    scope.variables = {**scope.variables, label: found}
    return items


def _clock(scope: Scope) -> datetime:
    now = scope.run.env.now
    if now is None:
        raise FhirPathError("There is no clock in this environment")
    return now


def _now(scope: Scope, items: Collection) -> Collection:
    return [Node(moment(_clock(scope)), "System.DateTime")]


def moment(now: datetime) -> Temporal:
    """A point in time as a DateTime with milliseconds."""
    offset = now.utcoffset()
    zone = None if offset is None else int(offset.total_seconds() // 60)
    return Temporal("DateTime", (now.year, now.month, now.day, now.hour, now.minute, _second(now)), zone)


def _second(now: datetime) -> Decimal:
    return Decimal(f"{now.second}.{now.microsecond // 1000:03d}")


def _today(scope: Scope, items: Collection) -> Collection:
    now = _clock(scope)
    return [Node(Temporal("Date", (now.year, now.month, now.day)), "System.Date")]


def _time_of_day(scope: Scope, items: Collection) -> Collection:
    now = _clock(scope)
    return [Node(Temporal("Time", (now.hour, now.minute, _second(now))), "System.Time")]


FUNCTIONS = {
    "trace": Function(_trace, "programs", 1, 2),
    "defineVariable": Function(_define_variable, "programs", 1, 2),
    "now": Function(_now),
    "today": Function(_today),
    "timeOfDay": Function(_time_of_day),
}
