"""Counts and links of bundles that come in pages (http://hl7.org/fhir/R4/http.html#paging)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, quote_plus

from fhir_server.answers.links import PAGE
from fhir_server.config import Config
from fhir_server.context import Context, Pairs, Request
from profiles.outcome import FhirError

SAFE = "$,:|/*"
# What needs no escape in a query, and in a part of a path.
PLAIN = re.compile(r"[\w.~$,:|/*-]*", re.ASCII)
PLAIN_PART = re.compile(r"[\w.~$*-]*", re.ASCII)


def count_asked(pairs: Pairs, config: Config) -> int:
    """The size of a page: what `_count` says, at most what the configuration allows."""
    texts = [value for name, value in pairs if name == "_count"]
    if not texts:
        return config.count
    text = texts[0]
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise FhirError("value", f"_count={text} is no whole number from 0 on.", "http._count", status=400)
    if len(texts) > 1:
        raise FhirError("invalid", "_count is given more than once.", "http._count")
    return min(int(text), config.max_count)


def address(request: Request, context: Context) -> str:
    """The configured URL of what was asked for; a search that was posted has that of the same search by GET."""
    parts = [part for part in request.parts if part != "_search"]
    return "/".join([context.config.base, *(p if PLAIN_PART.fullmatch(p) else quote(p, safe="$*") for p in parts)])


def self_url(request: Request, pairs: Pairs, context: Context, token: str | None = None) -> str:
    """The link to this very page."""
    shown = [(PAGE, token)] if token else [pair for pair in pairs if pair[0] not in ("_format", "_pretty")]
    query = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in shown])
    return f"{address(request, context)}?{query}" if query else address(request, context)


def _quoted(text: str) -> str:
    """Text of a query in a URL; most of it needs nothing, which is seen in a tenth of the time."""
    return text if PLAIN.fullmatch(text) else quote_plus(text, SAFE)


def page_url(request: Request, context: Context, state: Any, about: str) -> str:
    """A link to another page: its state is sealed in it."""
    return f"{address(request, context)}?{PAGE}={context.seal.close(state, about)}"
