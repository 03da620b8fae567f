"""Which part of a query drives it: one stretch of the index is walked, all other parts are looked at afterwards.

The choice is ours, not the database's: its plan cache keeps a plan per shape of query and so may keep the wrong one for
the next value. Parts that do not drive are hidden behind a double negation, which MongoDB does not look through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.clauses import Between, Clause, Every, Ids, Kept, Kinds, Named, OneOf, Some, every, some
from search.filters import FILTERS, KEY, Filter, compile, typed
from search.params import Registry

# Kinds whose exact values are shared by few resources; for the others it is measured.
SHARP = frozenset({"reference", "uri"})
SHARP_CODES = frozenset({"identifier"})
FEW_TEXTS = 20
# MongoDB merges up to 200 stretches of an index (internalQueryMaxScansToExplode).
MERGED = 200

Stretch = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The part that drives, and the rest; `driver` None leaves the choice to the database."""

    driver: Clause | None
    others: tuple[Clause, ...]

    @property
    def filter(self) -> Filter:
        """The filter, with all but the driver hidden from the choice of an index.

        Names stay in sight: they follow the entry in the same index, and 116 of a word that other types have too are
        counted in 0.6 ms, where looking at the documents takes 1.4.
        """
        if self.driver is None:
            return compile(every(self.others))
        return {"$and": [compile(self.driver), *(_plain(c) if is_named(c) else hidden(c) for c in self.others)]}

    @property
    def in_order(self) -> bool:
        """Whether the index gives the results in the order of their names, so that a page ends the work.

        Stretches of several texts are merged: 20 of 15,000 by two words in 1.7 ms, where the type's own order took 79.
        """
        clause = self.driver if self.driver is not None else every(self.others)
        parts = clause.clauses if isinstance(clause, Every) else (clause,)
        return any(
            len(c.texts) <= MERGED if isinstance(c, OneOf) else isinstance(c, Kinds) and len(c.types) == 1
            for c in parts
        )

    @property
    def alone(self) -> bool:
        """Whether the index answers all of it: nothing is left to look at in the documents."""
        return self.driver is None or all(is_named(c) for c in self.others)


def is_named(clause: Clause) -> bool:
    """Whether only names are asked for: a stretch of them, or several."""
    return isinstance(clause, Named) or (isinstance(clause, Some) and all(isinstance(c, Named) for c in clause.clauses))


def hidden(clause: Clause) -> Filter:
    """The filter of a clause in a form for which no index is chosen."""
    return {"$nor": [{"$nor": [_plain(clause)]}]}


def _plain(clause: Clause) -> Filter:
    found: Filter = FILTERS[type(clause)](clause)
    return found


def candidates(clause: Clause) -> list[Clause]:
    """The parts of a conjunction that a stretch of the index can answer."""
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    return [part for part in parts if drives(part)]


def drives(clause: Clause) -> bool:
    if isinstance(clause, Some):
        return bool(clause.clauses) and all(drives(c) for c in clause.clauses)
    return isinstance(clause, OneOf | Between | Ids)


def sharp(clause: Clause, registry: Registry) -> bool:
    """Whether the clause is sure to leave few resources."""
    if isinstance(clause, Ids):
        return True
    if not isinstance(clause, OneOf) or len(clause.texts) > FEW_TEXTS:
        return False
    return all(_is_sharp(text, registry) for text in clause.texts)


def _is_sharp(text: str, registry: Registry) -> bool:
    about = registry.about(text[:KEY])
    if about is None:
        return False
    return about.kind in SHARP or about.place.name.rpartition(".")[2] in SHARP_CODES


def kind(clause: Clause) -> str:
    """What parts have in common that differ in their values only: the parameter, and how exact a stretch is."""
    if isinstance(clause, Between):
        common = next((n for n, (a, b) in enumerate(zip(clause.low, clause.high, strict=False)) if a != b), 0)
        return f"{clause.low[:KEY]}-{common}"
    if isinstance(clause, OneOf):
        return "=".join(sorted({text[:KEY] for text in clause.texts})) + f"={len(clause.texts).bit_length()}"
    if isinstance(clause, Some | Every):
        return type(clause).__name__ + ",".join(sorted({kind(c) for c in clause.clauses}))
    return type(clause).__name__


def parted(clause: Clause) -> tuple[Clause, tuple[Clause, ...]]:
    """The clause without what is kept in it, which never drives and is not looked into, and that."""
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    beside = tuple(part for part in parts if isinstance(part, Kept))
    return (every(part for part in parts if not isinstance(part, Kept)), beside) if beside else (clause, ())


def chosen(clause: Clause, driver: Clause | None, beside: tuple[Clause, ...] = ()) -> Plan:
    """The plan in which `driver`, a part of the clause, drives; `beside` is looked at with the rest."""
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    if driver is None or driver not in parts:
        return Plan(None, (*parts, *beside))
    return Plan(driver, (*(p for p in parts if p is not driver), *beside))


def by_type(clause: Clause, types: Sequence[str]) -> Plan:
    """The plan that walks all resources of the types in the order of their names: for conditions most of them meet."""
    parts = clause.clauses if isinstance(clause, Every) else (clause,)
    return Plan(Kinds(tuple(types)), tuple(p for p in parts if not isinstance(p, Kinds)))


# Conditions on one value


def merged(clause: Clause, registry: Registry) -> Clause:
    """Ranges of one value put together: `date=ge2020&date=lt2021` is one stretch where there is at most one date."""
    clause = typed(clause)
    if not isinstance(clause, Every):
        return clause
    groups: dict[str, list[Clause]] = {}
    rest: list[Clause] = []
    for part in clause.clauses:
        key = _key_of(part, registry)
        if key:
            groups.setdefault(key, []).append(part)
        else:
            rest.append(part)
    return every([*(_together(parts) for parts in groups.values()), *rest])


def _leaves(clause: Clause) -> tuple[Clause, ...]:
    return clause.clauses if isinstance(clause, Some) else (clause,)


def _key_of(clause: Clause, registry: Registry) -> str:
    """The key all leaves of a clause share, where it has one value at most."""
    leaves = _leaves(clause)
    if not all(isinstance(leaf, OneOf | Between) for leaf in leaves):
        return ""
    texts = [t for leaf in leaves for t in _texts_of(leaf)]
    key = texts[0][:KEY] if texts else ""
    about = registry.about(key) if key and all(t[:KEY] == key for t in texts) else None
    return key if about is not None and about.single and about.kind in ("date", "number", "string", "uri") else ""


def _texts_of(leaf: Clause) -> tuple[str, ...]:
    if isinstance(leaf, OneOf):
        return leaf.texts
    return (leaf.low, leaf.high) if isinstance(leaf, Between) else ()


def _together(parts: list[Clause]) -> Clause:
    if len(parts) == 1:
        return parts[0]
    points = [[s for leaf in _leaves(p) if _is_point(leaf) for s in _stretches(leaf)] for p in parts]
    others = [[leaf for leaf in _leaves(p) if not _is_point(leaf)] for p in parts]
    common = points[0]
    for more in points[1:]:
        common = [s for a in common for b in more if (s := (max(a[0], b[0]), min(a[1], b[1])))[0] < s[1]]
    found = [_of_stretch(s) for s in sorted(set(common))]
    return some([*found, every(some(o) for o in others)])


def _is_point(leaf: Clause) -> bool:
    """A leaf on the entries of points, not on those of Periods, without a further look at the text."""
    if isinstance(leaf, OneOf):
        return True
    assert isinstance(leaf, Between)
    return leaf.low[KEY : KEY + 1] not in ("(", ")") and not (leaf.parts or leaf.tail or leaf.within)


def _stretches(leaf: Clause) -> list[Stretch]:
    if isinstance(leaf, OneOf):
        return [(t, t + "\x00") for t in leaf.texts]
    assert isinstance(leaf, Between)
    return [(leaf.low, leaf.high)]


def _of_stretch(stretch: Stretch) -> Clause:
    low, high = stretch
    return OneOf((low,)) if high == low + "\x00" else Between(low, high)


def shown(clause: Clause, registry: Registry) -> Any:
    """A clause for people: parameters by their place instead of their keys."""
    if isinstance(clause, OneOf):
        return {"one of": [_text(t, registry) for t in clause.texts[:10]], "values": len(clause.texts)}
    if isinstance(clause, Between):
        found = {"from": _text(clause.low, registry), "below": _text(clause.high, registry)}
        return found | ({"with": [*clause.parts, clause.tail]} if clause.parts or clause.tail else {})
    if isinstance(clause, Every | Some):
        return {type(clause).__name__.lower(): [shown(c, registry) for c in clause.clauses]}
    return repr(clause)[:300]


def _text(text: str, registry: Registry) -> str:
    about = registry.about(text[:KEY])
    return f"{about.place.name}: {text[KEY:]!r}" if about else repr(text)
