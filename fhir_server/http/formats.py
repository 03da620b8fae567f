"""The formats of a resource on the wire: one row each (http://hl7.org/fhir/R4/http.html#mime-type)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir_server.context import Request
from fhir_server.http.headers import Media, media, ranges_of
from fhir_server.http.lines import lines
from profiles.json import decode, parse, pretty
from profiles.outcome import FhirError, Issue
from profiles.xml import parse_xml, print_xml, read_xml

FHIR_VERSIONS = ("4.0", "4.0.1")


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what it is called, how it is read, and how canonical JSON is written in it.

    `examine` reads for a validation: what does not belong in the text is listed instead of ending the reading.
    """

    name: str
    media: str
    aliases: tuple[str, ...]
    read: Callable[[bytes], Any]
    examine: Callable[[bytes], tuple[Any, list[Issue]]]
    write: Callable[[bytes], bytes]
    indented: Callable[[bytes], bytes]


def _as_is(body: bytes) -> bytes:
    return body


def _examine(body: bytes) -> tuple[Any, list[Issue]]:
    return parse(body), []


def _xml(body: bytes) -> bytes:
    return print_xml(decode(body))


def _indented_xml(body: bytes) -> bytes:
    return print_xml(decode(body), indented=True)


JSON = Format(
    "json",
    "application/fhir+json",
    ("application/json", "json", "text/json", "application/json+fhir"),
    parse,
    _examine,
    _as_is,
    pretty,
)
XML = Format(
    "xml",
    "application/fhir+xml",
    ("application/xml", "xml", "text/xml", "application/xml+fhir"),
    parse_xml,
    read_xml,
    _xml,
    _indented_xml,
)
NDJSON = Format("ndjson", "application/fhir+ndjson", ("application/ndjson", "ndjson"), parse, _examine, lines, lines)
FORMATS = (JSON, XML)
NAMED = {name: row for row in (*FORMATS, NDJSON) for name in (row.media, *row.aliases)}
# Browsers put application/xml before */*, and nobody reads FHIR in them as XML.
NAMED["text/html"] = JSON
WILD = {"application/*": 1, "text/*": 1, "*/*": 0}
OFFERED = " or ".join(row.media for row in FORMATS)
NEGOTIATED = frozenset(("_format", "_pretty"))


def chosen(request: Request) -> Format:
    """The format of the answer: `_format` before `Accept`; FhirError 406 when neither names one of ours."""
    asked = request.first("_format") if request.query else None
    if asked is not None:
        return _named(asked)
    accept = request.headers.get("accept")
    return (_best(accept) if len(accept) < 200 else _best.__wrapped__(accept)) if accept else JSON


def _named(text: str) -> Format:
    """`_format`: a plus sign that came unencoded was read as a space."""
    found = media(text.replace(" ", "+")) if "/" in text else media(text)
    row = NAMED.get(found.name)
    if row is None or not _version_fits(found):
        raise FhirError("not-supported", f"_format={text} is not supported; use {OFFERED}.", "_format", status=406)
    return row


def refuse_lines() -> FhirError:
    """The error of anything but a search that is asked for as NDJSON."""
    return FhirError("not-supported", f"NDJSON is for searches; use {OFFERED}.", status=406)


@lru_cache(maxsize=256)  # 4 of the 18 microseconds of a read
def _best(accept: str) -> Format:
    """The format of the highest quality; the most specific range that it is in decides on it (RFC 9110 §12.5.1)."""
    ranges = [row for row in ranges_of(accept) if _version_fits(row)]
    ranked = [(_rank(ranges, row), row) for row in (*FORMATS, NDJSON)]
    rank, best = max(ranked, key=lambda pair: pair[0])
    if rank[0] <= 0:
        raise FhirError("not-supported", f"Accept: {accept} is not supported; use {OFFERED}.", status=406)
    return best


def _rank(ranges: list[Media], format: Format) -> tuple[float, int, int]:
    """Quality, how specifically it is asked for, and how early."""
    fitting = [(_specific(row, format), row.quality, -number) for number, row in enumerate(ranges)]
    specific, quality, early = max(fitting, default=(-1, 0.0, 0))
    return (quality if specific >= 0 else 0.0), specific, early


def _specific(row: Media, format: Format) -> int:
    """2 for the format itself, 1 and 0 for ranges that it is in, -1 for another one; NDJSON has to be named."""
    if NAMED.get(row.name) is format:
        return 2
    return -1 if format is NDJSON else WILD.get(row.name, -1)


def _version_fits(row: Media) -> bool:
    version = row.parameter("fhirversion")
    return version is None or version in FHIR_VERSIONS


def sent(request: Request) -> Format:
    """The format of the request's body; no Content-Type counts as JSON, FhirError 415 for one that is not ours."""
    content_type = request.headers.get("content-type")
    if not content_type:
        return JSON
    found = media(content_type)
    row = NAMED.get(found.name)
    if row not in FORMATS or found.name == "text/html" or not _version_fits(found):
        raise FhirError("not-supported", f"Content-Type: {content_type} is not supported; use {OFFERED}.", status=415)
    charset = (found.parameter("charset") or "utf-8").lower().replace("_", "-")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise FhirError("not-supported", f"The character set {charset} is not supported; use UTF-8.", status=415)
    return row
