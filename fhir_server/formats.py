"""The formats of a resource on the wire: one row each (http://hl7.org/fhir/R4/http.html#mime-type)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir_server.context import Request
from fhir_server.headers import Media, accepted, media
from profiles.json import parse, pretty
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
    return print_xml(parse(body))


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
    _xml,
)
FORMATS = (JSON, XML)
NAMED = {name: row for row in FORMATS for name in (row.media, *row.aliases)}
# Browsers put application/xml before */*, and nobody reads FHIR in them as XML.
NAMED["text/html"] = JSON
WILD = {"*/*": JSON, "application/*": JSON, "text/*": JSON}
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


@lru_cache(maxsize=256)  # 4 of the 18 microseconds of a read
def _best(accept: str) -> Format:
    for row in accepted(accept):
        found = NAMED.get(row.name) or WILD.get(row.name)
        if found is not None and _version_fits(row):
            return found
    raise FhirError("not-supported", f"Accept: {accept} is not supported; use {OFFERED}.", status=406)


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
    if row is None or found.name == "text/html" or not _version_fits(found):
        raise FhirError("not-supported", f"Content-Type: {content_type} is not supported; use {OFFERED}.", status=415)
    charset = (found.parameter("charset") or "utf-8").lower().replace("_", "-")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise FhirError("not-supported", f"The character set {charset} is not supported; use UTF-8.", status=415)
    return row
