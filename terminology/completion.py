"""What a coder means by a few letters: shorthand spelled out, typing errors put right, the code to bill first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from terminology.concepts import Json
from terminology.icd10 import Icd10, with_dot
from terminology.pack import ABSTRACT
from terminology.shorthand import PHRASES, WORDS
from terminology.wording import tokens

# So many of what is found are weighed one by one: 20 µs each.
_WEIGHED = 400
_DROPPED = frozenset(("with", "of", "the", "and", "due", "to", "in", "a", "an", "for"))
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
# What a title says beside the disease: that nothing more is known, or what is not there.
_BESIDE = re.compile(
    r",? ?\bunspecified (?:organism|site|type|cause|part|whether|severity)\b|\bunspecified\b|\bnos\b"
    r"|, site not specified|\buncomplicated\b|\bnot intractable\b|,? ?\bwithout .*"
)
_VAGUE = re.compile(r"\bunspecified\b|\bnot specified\b|\buncomplicated\b|\bwithout complication", re.I)
_OTHER = re.compile(r"\bother\b|\bsecondary\b|\bin diseases classified elsewhere\b|\bmale breast\b", re.I)


@dataclass(frozen=True, slots=True)
class _Name:
    """One name of a concept: all its words, and those of the disease alone."""

    words: tuple[str, ...]
    core: frozenset[str]


def search(system: Icd10, text: str, count: int = 20) -> list[Json]:
    """The best matches for what a coder has typed so far: code, title, billable, chapter and the notes that hold."""
    exact = _by_code(system, text)
    others = exact or complete(system, text, count)
    return [_row(system, system.code(n)) for n in others[:count]]


def _by_code(system: Icd10, text: str) -> list[int]:
    """A code, or the beginning of one, and what is below it in the order of the list."""
    stem = with_dot(text)
    if not re.fullmatch(r"[A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{0,4})?", stem):
        return []
    number = system.number(stem.rstrip("."))
    if number is not None:
        return [*system.below(system.code(number), itself=True)]
    above = system.number(stem[:-1].rstrip("."))
    return [n for n in system.below(system.code(above)) if system.code(n).startswith(stem)] if above is not None else []


def _row(system: Icd10, code: str) -> Json:
    line = system.line(code)
    return {
        "code": code,
        "display": system.display(system.number(code) or 0),
        "billable": system.billable(code),
        "chapter": {"code": line[0], "display": system.display(system.number(line[0]) or 0)},
        "notes": [{"at": at, "kind": kind, "text": text} for at, kind, text in system.notes(code)],
    }


def complete(system: Icd10, text: str, count: int) -> list[int]:
    """The numbers of the best matches, no more than `count`: first what the shorthand means, then what was typed."""
    found: dict[int, None] = {}
    for meant in dict.fromkeys(_meanings(system, text)):
        found |= dict.fromkeys(islice(_best(system, meant), count))
        if len(found) >= count:
            break
    return list(found)[:count]


def _meanings(system: Icd10, text: str) -> Iterator[tuple[str, ...]]:
    """The words that the text can mean: spelled out, put right, begun words completed; then as they are."""
    typed = tokens(text)
    right = [word if word in WORDS else system.spelled(word) for word in typed]
    spelled = [part for word in right for part in tokens(WORDS.get(word, word))]
    yield _significant(_phrased(_ended(system, spelled)))
    yield _significant(_phrased(spelled))
    yield _significant(right)
    yield tuple(typed)


def _ended(system: Icd10, words: list[str]) -> list[str]:
    """The last word is still being typed: the commonest word that begins so."""
    return [*words[:-1], system.commonest(words[-1])] if words else words


def _phrased(words: list[str]) -> list[str]:
    for phrase, meant in PHRASES:
        parts = phrase.split()
        if set(parts) <= set(words):
            words = [*meant.split(), *(word for word in words if word not in parts)]
    return words


def _significant(words: Iterable[str]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(word for word in words if word not in _DROPPED))
    return kept or tuple(words)


def _best(system: Icd10, words: Sequence[str]) -> Iterator[int]:
    """What has all the words: the most fitting first, and before a group that fits wholly the code to bill for it."""
    ranked = (n for n in system.ranked(" ".join(words)) if not system.flags(n) & ABSTRACT)
    weights = {n: _weight(system, n, words) for n in islice(ranked, _WEIGHED)}
    ordered = sorted(weights, key=weights.__getitem__)
    # A group that is called just so: its default goes before everything.
    whole = [n for n in ordered if weights[n][0] == 0 and not system.is_billable(n)]
    defaults = [default for n in whole[:1] if (default := _default(system, n)) is not None]
    exact = [n for n in ordered if weights[n][0] == 0 and system.is_billable(n)]
    yield from dict.fromkeys((*exact[:1], *defaults, *ordered) if exact else (*defaults, *ordered))
    yield from ranked


def _weight(system: Icd10, number: int, words: Sequence[str]) -> tuple[int, ...]:
    """Smaller is better: how far a name is what was asked, then whether it can be billed, is vague, and is short."""
    wanted, names = frozenset(words), list(_names(system, number))
    display = system.display(number)
    fit = min(_fit(name, place, words, wanted) for place, name in enumerate(names))
    usual = 0 if system.is_usual(number, wanted) else 1
    other = 1 if _OTHER.search(display) and not wanted & {"other", "secondary"} else 0
    billable = int(not system.is_billable(number))
    return fit, usual, other, _visit(system.code(number)), billable, *_vaguest(display)


def _vaguest(display: str) -> tuple[int, int]:
    """What nothing more is said of comes first, then the short ones."""
    return -len(_VAGUE.findall(display)), len(display)


def _fit(name: _Name, place: int, words: Sequence[str], wanted: frozenset[str]) -> int:
    if name.core == wanted:
        return 0
    if place == 0 and (name.words[: len(words)] == tuple(words)):
        return 1
    if all(any(have.startswith(word) if len(word) > 1 else have == word for have in name.words) for word in words):
        return 2 if place == 0 else 3
    return 4


def _visit(code: str) -> int:
    """The 7th characters in the order in which they are needed: first visit, closed fracture, then the later ones."""
    return ord(code[7]) - ord("A") if code[7:].isalpha() else 0


def _names(system: Icd10, number: int) -> Iterator[_Name]:
    """Its title, its inclusion terms, and what its note says that it includes without more."""
    record = system.record(number)
    yield _name(system.display(number))
    for row in record.get("designation", ()):
        yield _name(row.get("value", ""))
    for row in record.get("property", ()):
        if row.get("code") == "includes":
            yield _name(row.get("valueString", ""))


def _name(text: str) -> _Name:
    plain = text.lower()
    core = _BESIDE.sub(" ", _BRACKETS.sub(" ", plain))
    return _Name(tuple(tokens(text)), frozenset(word for word in tokens(core) if word not in _DROPPED))


def _default(system: Icd10, number: int) -> int | None:
    """The code to bill for a group of which nothing more is known; None where its subdivisions ask for a choice."""
    while not system.is_billable(number):
        below = system.below_directly(number)
        vague = [n for n in below if _VAGUE.search(system.display(n))]
        first = [n for n in below if system.code(n)[7:] == "A"]
        if not vague and not first:
            return None
        number = first[0] if first else min(vague, key=lambda n: _vaguest(system.display(n)))
    return number
