"""Strings: without case, accents and punctuation, from the beginning (http://hl7.org/fhir/R4/search.html#string)."""

from __future__ import annotations

from typing import Any

from search.clauses import Between, Clause, OneOf, after, every, some, starting
from search.params import Parameter
from search.texts import LONGEST, cut, loose
from search.types.rows import Add, Emit
from search.values import Around, invalid, unescape
from search.walks import holds
from search.words import all_words

KEPT = LONGEST - 20  # of a text that is cut


# Beside an entry that was cut, so that those few are found without looking at all of them.
LONG = "\x1e"


def emit_string(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        text = loose(value)
        add(key + cut(text))
        if len(text) > LONGEST:
            add(key + LONG)

    return emit


def starts(parameter: Parameter, value: str, around: Around) -> Clause:
    """The value is the beginning of the field."""
    text = folded(value)
    found = some(starting(key + text[:KEPT]) for key in parameter.keys)
    if len(text) <= KEPT:
        return found
    return every((found, holds(parameter, f"starts with {text!r}", lambda v: loose(v).startswith(text))))


def exact(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:exact`: the whole field, case and accents included; the entry finds the candidates."""
    text = unescape(value)
    found = OneOf(tuple(key + cut(loose(text)) for key in parameter.keys))
    return every((found, holds(parameter, f"is {text!r}", lambda v: v == text)))


def contains(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:contains`: anywhere in the field; only fields that were cut are looked up in the body."""
    text = folded(value)
    found = some(Between(key, after(key), parts=(text,)) for key in parameter.keys)
    cuts = OneOf(tuple(key + LONG for key in parameter.keys))
    return some((found, every((cuts, holds(parameter, f"contains {text!r}", lambda v: text in loose(v))))))


def words(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:text`: each word of the value begins a word of the same field, in whatever order."""
    asked = all_words(unescape(value))
    if not asked:
        raise invalid(f"{value!r} has no letter or digit to search for")

    def check(text: str) -> bool:
        said = all_words(text)
        return all(any(word.startswith(wanted) for word in said) for wanted in asked)

    cuts = OneOf(tuple(key + LONG for key in parameter.keys))
    parts = [every(Between(key, after(key), parts=(loose(word),)) for word in asked) for key in parameter.keys]
    return every((some((*parts, cuts)), holds(parameter, f"text {value!r}", check)))


def folded(value: str) -> str:
    """The value as entries are written; an empty one is no question."""
    text = loose(unescape(value))
    if not text:
        raise invalid("A string to search for must not be empty")
    return text


EMIT = {"string": emit_string, "markdown": emit_string}
MATCH = {"": starts, "exact": exact, "contains": contains, "text": words}
