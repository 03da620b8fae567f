"""Access as a formula over search clauses: plain data that the search engine compiles or evaluates.

A leaf is a conjunction of search parameters (`name`, `value`) in the syntax of a FHIR search; `Any`, `All` and `Not`
combine leaves. `NOTHING` lets nothing through and `EVERYTHING` all; the constructors keep formulas small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Where:
    """All of these search parameters match."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; `All(())` is true of everything."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Some part holds; `Any(())` is true of nothing."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Formula


Formula = Where | All | Any | Not
EVERYTHING: Formula = All(())
NOTHING: Formula = Any(())


def where(*pairs: Pair) -> Formula:
    """A leaf; no pairs at all is `EVERYTHING`."""
    return Where(tuple(pairs)) if pairs else EVERYTHING


def every(parts: Iterable[Formula]) -> Formula:
    """The conjunction, flattened and without repeats; one impossible part makes it `NOTHING`."""
    flat = dict.fromkeys(inner for part in parts for inner in (part.parts if isinstance(part, All) else (part,)))
    if NOTHING in flat:
        return NOTHING
    return next(iter(flat)) if len(flat) == 1 else All(tuple(flat))


def either(parts: Iterable[Formula]) -> Formula:
    """The disjunction, flattened and without repeats; one part without condition makes it `EVERYTHING`."""
    flat = dict.fromkeys(inner for part in parts for inner in (part.parts if isinstance(part, Any) else (part,)))
    if EVERYTHING in flat:
        return EVERYTHING
    return next(iter(flat)) if len(flat) == 1 else Any(tuple(flat))


def negate(part: Formula) -> Formula:
    """The negation; twice is the formula itself."""
    if isinstance(part, Not):
        return part.part
    return {EVERYTHING: NOTHING, NOTHING: EVERYTHING}.get(part, Not(part))


def holds(formula: Formula, leaf: Callable[[tuple[Pair, ...]], bool]) -> bool:
    """The formula's truth, where `leaf` decides a conjunction of search parameters."""
    match formula:
        case Where(pairs):
            return leaf(pairs)
        case All(parts):
            return all(holds(part, leaf) for part in parts)
        case Any(parts):
            return any(holds(part, leaf) for part in parts)
        case Not(part):
            return not holds(part, leaf)
