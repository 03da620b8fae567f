"""Uris: exact to the character (http://hl7.org/fhir/R4/search.html#uri)."""

from __future__ import annotations

from typing import Any

from search.clauses import Clause, OneOf, every, some, starting
from search.params import Parameter
from search.texts import LONGEST, cut, tokens
from search.types.rows import Add, Emit
from search.values import Around, invalid, unescape
from search.walks import holds


def emit_uri(key: str) -> Emit:
    def emit(value: Any, add: Add, base: str) -> None:
        add(key + cut(value))

    return emit


def is_uri(parameter: Parameter, value: str, around: Around) -> Clause:
    """The same uri; a canonical is found without its version, a definition by its url with its version."""
    text = _given(value)
    exact: Clause = OneOf(tuple(key + cut(text) for key in parameter.keys))
    if "|" in text:
        return some((exact, *_versioned(parameter, text, around)))
    canonical = parameter.value_types == {"canonical"}
    return some((exact, *(starting(f"{key}{text[:LONGEST]}|") for key in parameter.keys if canonical)))


def _versioned(parameter: Parameter, text: str, around: Around) -> list[Clause]:
    """`url|version` of the resource itself."""
    version = around.registry.lookup(parameter.base, "version") if parameter.code == "url" else None
    if version is None:
        return []
    url, _, wanted = text.rpartition("|")
    forms = tuple(starting(f"{key}{form}|") for key in version.keys for form in tokens(wanted))
    return [every((OneOf(tuple(key + cut(url) for key in parameter.keys)), some(forms)))] if wanted else []


def below(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:below`: uris that begin with the value; names (urn:) have nothing below them."""
    text = _given(value)
    if text.lower().startswith("urn:"):
        return is_uri(parameter, value, around)
    found = some(starting(key + text[: LONGEST - 20]) for key in parameter.keys)
    if len(text) <= LONGEST - 20:
        return found
    return every((found, holds(parameter, f"below {text!r}", lambda v: v.startswith(text))))


def above(parameter: Parameter, value: str, around: Around) -> Clause:
    """`:above`: uris that the value begins with."""
    text = _given(value)
    if text.lower().startswith("urn:"):
        return is_uri(parameter, value, around)
    if len(text) > 1000:
        raise invalid("A uri of more than 1,000 characters has too much above it")
    return OneOf(tuple(key + cut(text[:n]) for key in parameter.keys for n in range(1, len(text) + 1)))


def _given(value: str) -> str:
    text = unescape(value)
    if not text:
        raise invalid("A uri to search for must not be empty")
    return text


EMIT = dict.fromkeys(("uri", "url", "canonical", "oid", "uuid"), emit_uri)
MATCH = {"": is_uri, "below": below, "above": above}
