"""Words: an inverted index of our own for `_text` and `_content` (http://hl7.org/fhir/R4/search.html#text).

A word of the narrative is one entry, a word that stands anywhere else another; `_content` asks for both. Types that
come by the million and carry little text are not indexed for `_content`: there the bodies of candidates are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import unescape as from_html
from typing import Any

from search.clauses import Body, Clause, Kinds, OneOf, Resource, every, some, starting, without
from search.matches import matches
from search.texts import fold
from search.values import invalid

NARRATIVE, ELSEWHERE = "__~n:", "__~w:"
# Half of a clinical database, and six more entries each would double what their writes cost.
WORDLESS = frozenset(
    {
        "Appointment",
        "AppointmentResponse",
        "AuditEvent",
        "Binary",
        "ChargeItem",
        "Claim",
        "ClaimResponse",
        "Encounter",
        "ExplanationOfBenefit",
        "Immunization",
        "Invoice",
        "MedicationAdministration",
        "MedicationDispense",
        "Observation",
        "Provenance",
        "Slot",
        "Specimen",
    }
)
# Properties that hold no text for people at all, and those that hold none where they are a string.
SKIPPED = frozenset({"identifier", "telecom", "div", "data", "meta"})
CODED = frozenset(
    {"resourceType", "id", "reference", "system", "code", "url", "status", "use", "unit", "versionId", "contentType"}
)
MOST = 2_000  # different words of one resource
DEEPEST = 20  # brackets in a query

# What is indexed has a letter: numbers, dates and identifiers have parameters of their own. Questions keep their
# numbers, which the body is asked for. Begun at an edge and without a way back: a long number costs one look.
_WORD = re.compile(r"\b[\d_]*+[^\W\d_]\w*")
_SAID = re.compile(r"\b_*+[^\W_]\w*")
_TAG = re.compile(r"<[^>]*>")
# Markup within a line, which parts no words: `H<sub>2</sub>O`.
_INLINE = re.compile(
    r"</?(?:a|abbr|acronym|b|bdo|big|cite|code|dfn|em|font|i|kbd|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var)"
    r"(?=[\s/>])[^>]*>"
)
_TOKEN = re.compile(r'\(|\)|"([^"]*)"|([^\s()"]+)')


def words_of(text: str) -> list[str]:
    """The folded words of a text that are in the index, in their order."""
    return _WORD.findall(fold(text))


def all_words(text: str) -> list[str]:
    """The folded words of a text, those of digits too, in their order."""
    return _SAID.findall(fold(text))


def narrative(resource: Resource) -> str:
    """The text of the narrative without its markup."""
    text = resource.get("text")
    div = text.get("div", "") if isinstance(text, dict) else ""
    return from_html(_TAG.sub(" ", _INLINE.sub("", div))) if div else ""


def strings(resource: Resource) -> list[str]:
    """Every string for people in a resource, the narrative left out."""
    found: list[str] = []
    rest: list[Any] = [resource]
    while rest:
        value = rest.pop()
        kind = type(value)
        if kind is dict:
            rest += [
                i for name, i in value.items() if name not in SKIPPED and (name not in CODED or type(i) is not str)
            ]
        elif kind is str:
            found.append(value)
        elif kind is list:
            rest += value
    return found


def add_words(resource: Resource, add: Callable[[str], object]) -> None:
    """The entries of the words of a resource."""
    said = narrative(resource)
    told = set(words_of(said)) if said else set()
    for word in sorted(told)[:MOST]:
        add(NARRATIVE + word[:60])
    if resource["resourceType"] not in WORDLESS:
        found = set(words_of(" ".join(strings(resource)))) - told
        for word in sorted(found)[:MOST]:
            add(ELSEWHERE + word[:60])


@dataclass(slots=True)
class Reader:
    """A query of words: `(bone OR liver) and metastases`, "in this order", `begin*`, not."""

    heads: tuple[str, ...]
    texts: Callable[[Resource], list[str]]
    tokens: list[tuple[str, str]]
    at: int = 0
    depth: int = 0

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def either(self) -> Clause:
        found = [self.all()]
        while self.peek() == "or":
            self.at += 1
            found.append(self.all())
        return some(found)

    def all(self) -> Clause:
        found = [self.one()]
        while self.peek() not in ("", "or", ")"):
            if self.peek() == "and":
                self.at += 1
            found.append(self.one())
        return every(found)

    def one(self) -> Clause:
        kind, text = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        self.at += 1
        if kind == "not":
            return without(self.one())
        if kind == "(":
            return self.group()
        if kind not in ("word", "phrase"):
            raise invalid('Write words, with AND, OR, NOT, brackets, "a phrase" or begin*')
        return self.phrase(text) if kind == "phrase" else self.word(text)

    def group(self) -> Clause:
        self.depth += 1
        if self.depth > DEEPEST:
            raise invalid(f"Brackets go at most {DEEPEST} deep")
        found = self.either()
        if self.peek() != ")":
            raise invalid("A bracket is not closed")
        self.at += 1
        self.depth -= 1
        return found

    def word(self, text: str) -> Clause:
        """One word, or `covid-19` with its parts in their order; parts that all have letters may stand anywhere."""
        words, begins = _asked(text), text.endswith("*")
        found = self.indexed(words, begins)
        return found if all(map(_WORD.match, words)) else every((found, self.in_order(words, begins, text)))

    def phrase(self, text: str) -> Clause:
        words = _asked(text)
        return every((self.indexed(words, False), self.in_order(words, False, text)))

    def indexed(self, words: Sequence[str], begins: bool) -> Clause:
        """What the index knows of the words, the last of which may be a beginning."""
        found: list[Clause] = []
        for n, word in enumerate(words, 1):
            if _WORD.match(word):
                texts = tuple(head + word[:60] for head in self.heads)
                found.append(some(map(starting, texts)) if begins and n == len(words) else OneOf(texts))
        return every(found)

    def in_order(self, words: Sequence[str], begins: bool, text: str) -> Clause:
        """The words beside each other in one text of the body."""
        pattern = f" {' '.join(words)}" + ("" if begins else " ")

        def check(resource: Resource) -> bool:
            return any(pattern in f" {' '.join(all_words(said))} " for said in self.texts(resource))

        return Body(check, f"the words {text!r}")


def _asked(text: str) -> list[str]:
    words = all_words(text)
    if not words:
        raise invalid(f"{text!r} has no letter or digit to search for")
    return words


def words_clause(name: str, value: str, type_name: str | None) -> Clause:
    """The clause of `_text` or `_content`."""
    narrow = name == "_text"
    heads, texts = ((NARRATIVE,), lambda r: [narrative(r)]) if narrow else ((NARRATIVE, ELSEWHERE), all_texts)
    tokens = [_token(m) for m in _TOKEN.finditer(value)]
    if not tokens:
        raise invalid(f"{name} needs a word to search for")
    reader = Reader(heads, texts, tokens)
    found = reader.either()
    if reader.at < len(tokens):
        raise invalid(f"{name}: a bracket is closed that was not opened")
    if narrow or (type_name and type_name not in WORDLESS):
        return found
    in_bodies = every((Kinds(tuple(sorted(WORDLESS))), _in_bodies(value)))
    return in_bodies if type_name else some((found, in_bodies))


def _in_bodies(value: str) -> Body:
    """The same question, asked of the words of a body that are not in the index."""

    asked = Reader((ELSEWHERE,), all_texts, [_token(m) for m in _TOKEN.finditer(value)]).either()

    def check(resource: Resource) -> bool:
        said = {word for text in all_texts(resource) for word in words_of(text)}
        return matches(asked, sorted(ELSEWHERE + word[:60] for word in said), resource)

    return Body(check, f"the words {value!r}")


def all_texts(resource: Resource) -> list[str]:
    """The narrative and every other string: words of two of them are not beside each other."""
    return [narrative(resource), *strings(resource)]


def _token(match: re.Match[str]) -> tuple[str, str]:
    if match[1] is not None:
        return "phrase", match[1]
    text = match[0]
    return (text.lower(), text) if text.lower() in ("and", "or", "not", "(", ")") else ("word", text)


def score(resource: Resource, value: str) -> float:
    """How well a resource fits the words, 0 to 1: how often they stand in it, beside all that stands in it."""
    said = [word for text in all_texts(resource) for word in all_words(text)]
    asked = {w for m in _TOKEN.finditer(value) for w in all_words(m[1] or m[2] or "")} - {"and", "or", "not"}
    hits = sum(word in asked for word in said)
    present = len(asked.intersection(said)) / max(1, len(asked))
    return round(present * (0.5 + 0.5 * hits / (hits + 0.05 * len(said) + 1)), 4) if said else 0.0
