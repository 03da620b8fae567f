"""The meaning of a search as plain data: one small language, executed by `filters` (MongoDB) and by `matches` (memory).

A clause speaks about one resource through its search entries (`s` in the stored document), its id, the instant of its
last update, and, where no entry can tell, its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Resource: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Some entry is one of these texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """Some entry `e` has low <= e < high, holds each of `parts` one after the other, and ends with `tail`.

    `within` (start, low, high) compares the text from `start` on as well: the second bound of a period.
    """

    low: str
    high: str
    parts: tuple[str, ...] = ()
    tail: str = ""
    within: tuple[int, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """All of the clauses hold; an empty one always holds."""

    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of the clauses holds; an empty one never does."""

    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True, slots=True)
class Without:
    """The clause does not hold."""

    clause: Clause


@dataclass(frozen=True, slots=True)
class Ids:
    """The resource is one of these, named `Patient/123`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kinds:
    """The resource is of one of these types."""

    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """The name lies in this stretch, low <= `Patient/123` < high."""

    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Updated:
    """The instant of the last update, in milliseconds since 1970: low <= at < high."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Body:
    """What no entry can answer: `check` on the resource itself; `name` is for explanations."""

    check: Callable[[Resource], bool]
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A reference under one of `keys` leads to a resource of type `target` for which `where` holds.

    `how` is "reference", "followed" where the references are looked up and never the targets, or "canonical" where the
    entries are canonical urls of the target. `inside` is what holds for a contained resource that is referred to,
    `read` tells its entries; where `where` is NEVER, the chain does not leave the document.
    """

    keys: tuple[str, ...]
    target: str
    where: Clause
    how: str = "reference"
    inside: Clause | None = None
    read: Callable[[Resource], Sequence[str]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Has:
    """A resource of type `source` for which `where` holds refers to this one, of one of `own_types`, under one of
    `keys` (`_has`).
    """

    keys: tuple[str, ...]
    source: str
    own_types: tuple[str, ...]
    where: Clause
    how: str = "reference"  # or "canonical", as of a Chain


@dataclass(frozen=True, slots=True)
class Coded:
    """Membership of a code in what terminology says: `how` is in, below or above; `value` as the query gave it.

    The shell turns it into entries through the terminology function before the clause is executed. `bare` are
    (key, system) of elements whose codes carry no system because their value set implies it. `name` is that of the
    criterion, for errors.
    """

    keys: tuple[str, ...]
    how: str
    value: str
    bare: tuple[tuple[str, str], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Among:
    """Some entry under one of `keys` is one of these texts, too many to send: candidates are asked about in memory."""

    keys: tuple[str, ...]
    texts: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """Membership of a List (`_list`), or of the tree below or above a resource; resolved by the shell."""

    keys: tuple[str, ...]
    how: str
    value: str
    target: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A clause on entries that is the same for many searches and drives none, such as the labels a caller may not see.

    It is compared by identity: a hundred texts are hashed for no search, and compiled once (`kept` makes it).
    """

    clause: Clause


Clause: TypeAlias = (
    OneOf
    | Between
    | Every
    | Some
    | Without
    | Ids
    | Kinds
    | Named
    | Updated
    | Body
    | Chain
    | Has
    | Coded
    | Among
    | Listed
    | Kept
)

ALWAYS = Every()
NEVER = Some()


def every(clauses: Iterable[Clause]) -> Clause:
    """The conjunction, flattened; NEVER as soon as one part can never hold."""
    clauses = tuple(clauses)
    if len(clauses) == 1:
        return clauses[0]
    flat: list[Clause] = []
    for clause in clauses:
        if isinstance(clause, Every):
            flat += [c for c in clause.clauses if c not in flat]
        elif clause not in flat:
            flat.append(clause)
    if NEVER in flat:
        return NEVER
    return flat[0] if len(flat) == 1 else Every(tuple(flat))


def some(clauses: Iterable[Clause]) -> Clause:
    """The disjunction, flattened, exact texts gathered into one; ALWAYS as soon as one part always holds."""
    clauses = tuple(clauses)
    if len(clauses) == 1:
        return clauses[0]
    found: dict[Clause, None] = {}
    texts: dict[str, None] = {}
    for clause in clauses:
        for part in clause.clauses if isinstance(clause, Some) else (clause,):
            if isinstance(part, OneOf):
                texts.update(dict.fromkeys(part.texts))
            else:
                found[part] = None
    flat = list(found)
    if texts:
        flat.insert(0, OneOf(tuple(texts)))
    if ALWAYS in flat:
        return ALWAYS
    return flat[0] if len(flat) == 1 else Some(tuple(flat))


def without(clause: Clause) -> Clause:
    """The negation."""
    return clause.clause if isinstance(clause, Without) else Without(clause)


def starting(prefix: str) -> Between:
    """Some entry starts with the prefix."""
    return Between(prefix, after(prefix))


def after(prefix: str) -> str:
    """The smallest text above every text that starts with the prefix, in the order of code points."""
    code = ord(prefix[-1]) + 1
    if 0xD800 <= code <= 0xDFFF:  # surrogates are no text
        code = 0xE000
    return after(prefix[:-1]) if code > 0x10FFFF else prefix[:-1] + chr(code)


def walk(clause: Clause) -> Iterable[Clause]:
    """The clause and all clauses in it that speak about the same resource."""
    yield clause
    if isinstance(clause, Every | Some):
        for part in clause.clauses:
            yield from walk(part)
    elif isinstance(clause, Without):
        yield from walk(clause.clause)
