"""The criteria of conditional interactions, as headers and URLs carry them (http://hl7.org/fhir/R4/http.html#ccreate)."""

from __future__ import annotations

from urllib.parse import parse_qsl

Pairs = list[tuple[str, str]]

# What a query may carry that does not narrow it.
RESULTS = ("_format", "_pretty", "_summary", "_elements", "_count", "_sort", "_total", "_include", "_revinclude")
RESULT_PREFIXES = tuple(f"{name}:" for name in RESULTS)


def criteria(text: str) -> Pairs:
    """The pairs of `If-None-Exist`: `identifier=x` or, as some clients send it, `Patient?identifier=x`."""
    return parse_qsl(text.partition("?")[2] if "?" in text else text, keep_blank_values=True)


def chosen_by(pairs: Pairs) -> Pairs:
    """The pairs that choose resources."""
    return [(name, value) for name, value in pairs if name not in RESULTS and not name.startswith(RESULT_PREFIXES)]


def create_criteria(header: str | None, query: Pairs) -> Pairs | None:
    """The criteria of a conditional create, None for a plain one.

    Some clients put them into the URL instead of the header; ignored, they would make a duplicate.
    """
    return criteria(header) if header is not None else chosen_by(query) or None
