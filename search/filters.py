"""Clauses as MongoDB filters. `matches` gives the same answers in memory; a test holds the two together.

A condition on one entry is always inside one `$elemMatch`: without it two different entries could meet its two bounds.
User text stands in filters only as a value to compare with, or escaped in a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from search.clauses import (
    ALWAYS,
    NEVER,
    Among,
    Between,
    Body,
    Chain,
    Clause,
    Coded,
    Every,
    Has,
    Ids,
    Kept,
    Kinds,
    Listed,
    Named,
    OneOf,
    Some,
    Updated,
    Without,
    every,
    some,
    starting,
    walk,
    without,
)
from search.params import TYPE_CODES

Filter = dict[str, Any]

FEW = 8  # types that are told apart by the beginning of the name; for more their own entry is cheaper
KEY = 5  # characters of the key, in which no part is looked for
ALL: Filter = {"s.0": {"$exists": True}}
NONE: Filter = {"_id": {"$in": []}}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999

# What the database cannot see: looked up, or worked out on the body, for each candidate.
UNSEEN = (Body, Chain, Has, Coded, Among, Listed)


def compile(clause: Clause) -> Filter:
    """The filter of a clause without unseen parts; tombstones have no entries and never match."""
    if clause == ALWAYS:
        return ALL
    clause = typed(clause)
    found = _filter(clause)
    return found if _needs_entry(clause) else {"$and": [found, ALL]}


def typed(clause: Clause) -> Clause:
    """The clause without a condition on the type that its entries imply, or with it moved to the name."""
    if not isinstance(clause, Every):
        return clause
    kinds = [c for c in clause.clauses if isinstance(c, Kinds)]
    others = [c for c in clause.clauses if not isinstance(c, Kinds)]
    if not kinds:
        return clause
    wanted = {TYPE_CODES[t] for k in kinds for t in k.types}
    found = [codes for c in others if (codes := implied_types(c)) is not None]
    if not found:
        return clause
    if any(codes <= wanted for codes in found):
        return every(others)
    named: list[Clause] = [Named(f"{t}/", f"{t}0") for t in kinds[0].types]
    return every((*others, some(named))) if len(kinds) == 1 and len(named) <= FEW else clause


def implied_types(clause: Clause) -> frozenset[str] | None:
    """The type codes of the entries a positive clause asks for; `__` stands for any type; None: it asks for none."""
    if isinstance(clause, OneOf):
        return frozenset(t[:2] for t in clause.texts)
    if isinstance(clause, Between):
        return frozenset((clause.low[:2],))
    if isinstance(clause, Some) and clause.clauses:
        found = [implied_types(c) for c in clause.clauses]
        return None if None in found else frozenset().union(*(f for f in found if f))
    if isinstance(clause, Every):
        sets = [f for c in clause.clauses if (f := implied_types(c)) is not None]
        return min(sets, key=len) if sets else None
    return None


def _needs_entry(clause: Clause) -> bool:
    """Whether nothing without an entry can match."""
    if isinstance(clause, OneOf | Between | Kinds):
        return True
    if isinstance(clause, Every):
        return any(_needs_entry(c) for c in clause.clauses)
    return isinstance(clause, Some) and all(_needs_entry(c) for c in clause.clauses)


def _filter(clause: Clause) -> Filter:
    return FILTERS[type(clause)](clause)


def _one_of(clause: OneOf) -> Filter:
    return {"s": clause.texts[0] if len(clause.texts) == 1 else {"$in": list(clause.texts)}}


def _between(clause: Between) -> Filter:
    test: Filter = {"$gte": clause.low, "$lt": clause.high}
    if clause.parts or clause.tail:
        test |= {"$regex": pattern(clause), "$options": "s"}
    found: Filter = {"s": {"$elemMatch": test}}
    return {"$and": [found, _within(clause, *clause.within)]} if clause.within else found


def pattern(clause: Between) -> str:
    """The parts one after the other and the tail, as literal text after the key."""
    middle = "".join(f".*?{re.escape(part)}" for part in clause.parts)
    return f"^.{{{KEY}}}{middle}" + (f".*{re.escape(clause.tail)}$" if clause.tail else "")


def _within(clause: Between, start: int, low: str, high: str) -> Filter:
    """Both ends of the same entry; the first two comparisons keep others out before the text is cut."""
    rest = {"$substrBytes": ["$$e", start, -1]}
    tests = [
        {"$gte": ["$$e", clause.low]},
        {"$lt": ["$$e", clause.high]},
        {"$gte": [rest, low]},
        {"$lt": [rest, high]},
    ]
    each = {"$map": {"input": {"$ifNull": ["$s", []]}, "as": "e", "in": {"$and": tests}}}
    return {"$expr": {"$anyElementTrue": [each]}}


def _every(clause: Every) -> Filter:
    return {"$and": [_filter(c) for c in clause.clauses]} if clause.clauses else {}


def _some(clause: Some) -> Filter:
    return {"$or": [_filter(c) for c in clause.clauses]} if clause.clauses else NONE


def _ids(clause: Ids) -> Filter:
    return {"_id": clause.names[0] if len(clause.names) == 1 else {"$in": list(clause.names)}}


def _kinds(clause: Kinds) -> Filter:
    return _one_of(OneOf(tuple(TYPE_CODES[t] for t in clause.types)))


def _updated(clause: Updated) -> Filter:
    return {"at": {"$gte": moment(clause.low), "$lt": moment(clause.high)}}


def moment(at: int) -> datetime:
    """Milliseconds since 1970 as the driver wants them, within what a date can be."""
    return _EPOCH + timedelta(milliseconds=min(max(at, _FIRST), _LAST))


@lru_cache(maxsize=1_000)
def _kept(clause: Kept) -> Filter:
    return _filter(clause.clause)


FILTERS: dict[type, Callable[[Any], Filter]] = {
    OneOf: _one_of,
    Between: _between,
    Every: _every,
    Some: _some,
    Without: lambda clause: {"$nor": [_filter(clause.clause)]},
    Ids: _ids,
    Kinds: _kinds,
    Updated: _updated,
    Named: lambda clause: {"_id": {"$gte": clause.low, "$lt": clause.high}},
    Kept: _kept,
}


@lru_cache(maxsize=1_000)
def _one_kept(clause: Clause) -> Kept:
    return Kept(clause)


def kept(clause: Clause) -> Clause:
    """The clause with its negative parts made `Kept`, where entries alone decide on them; equal ones are one."""
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    return every(_one_kept(part) if isinstance(part, Without) and _by_entries(part) else part for part in parts)


def _by_entries(clause: Clause) -> bool:
    return is_seen(clause) and not any(isinstance(part, Updated) for part in walk(clause))


def is_seen(clause: Clause) -> bool:
    """Whether the database alone can answer the clause."""
    if isinstance(clause, Every | Some):
        return all(map(is_seen, clause.clauses))
    return is_seen(clause.clause) if isinstance(clause, Without) else not isinstance(clause, UNSEEN)


def widened(clause: Clause, holds: bool = True) -> Clause:
    """The clause with its unseen parts taken to hold, so that no match is lost; the rest is for `matches` to say."""
    if isinstance(clause, Among) and holds:
        return some(starting(key) for key in clause.keys)
    if isinstance(clause, UNSEEN):
        return ALWAYS if holds else NEVER
    if isinstance(clause, Every):
        return every(widened(c, holds) for c in clause.clauses)
    if isinstance(clause, Some):
        return some(widened(c, holds) for c in clause.clauses)
    if isinstance(clause, Without):
        return without(widened(clause.clause, not holds))
    return clause
