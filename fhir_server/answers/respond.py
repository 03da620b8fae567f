"""Answers: the one record, the one converter of errors, and bundles joined from stored bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import structlog

from fhir_server.context import Context, Request, Resource
from fhir_server.http.formats import JSON, NDJSON, Format
from fhir_server.http.headers import etag, http_date
from fhir_server.http.lines import link
from fhir_server.logs import places_of
from fhir_server.store import Stored
from profiles.json import encode
from profiles.outcome import FhirError, Issue, operation_outcome

log = structlog.get_logger()

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Response:
    """An answer: `body` is canonical JSON of a resource, or content of the type `media` where that is set.

    For the audit trail: `stored` is the one resource that was read or written, `each` are those that have an event of
    their own, and `compartments` are those of all that is told otherwise.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    media: str | None = None
    stored: Stored | None = None
    each: tuple[Stored, ...] = ()
    compartments: tuple[str, ...] = ()


def instant_text(at: datetime) -> str:
    """An instant in milliseconds, as FHIR writes it: `2026-11-21T11:12:00.123Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def milliseconds(at: datetime) -> int:
    """An instant in milliseconds since 1970."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def version_headers(stored: Stored) -> dict[str, str]:
    """ETag and Last-Modified of a version."""
    return {"ETag": etag(stored.version), "Last-Modified": http_date(stored.at)}


def location(stored: Stored, context: Context) -> str:
    """The address of a version."""
    return f"{context.config.base}/{stored.type}/{stored.id}/_history/{stored.version}"


def resource_answer(resource: Resource, status: int = 200) -> Response:
    """An answer with a resource that was made for it."""
    return Response(status, {}, encode(resource))


def outcome(issues: Iterable[Issue], status: int = 200) -> Response:
    """An answer with an OperationOutcome."""
    return resource_answer(operation_outcome(issues), status)


def failure(error: Exception, request: Request) -> Response:
    """The answer to an error: the one converter, for single requests and entries of bundles (docs/architecture.md)."""
    if isinstance(error, FhirError):
        answer = outcome(error.issues, error.status)
        answer.headers.update(error.headers)
        return answer
    log.error("unexpected", request=request.id, error=type(error).__name__, place=places_of(error))
    return outcome([Issue("fatal", "exception", f"An unexpected error occurred; its id is {request.id}.")], 500)


def rendered(answer: Response, format: Format, request: Request) -> Response:
    """The answer in the format that the client asked for."""
    if answer.media is not None:
        return answer
    if answer.body:
        if format is NDJSON:
            answer.headers |= link(answer.body)
        indented = request.query and request.first("_pretty") == "true"
        if indented or format is not JSON:
            answer.body = (format.indented if indented else format.write)(answer.body)
        answer.media = f"{format.media}; charset=utf-8"
    return answer


# Bundles


def searchset(
    matches: Sequence[tuple[Stored, bytes]],
    included: Sequence[tuple[Stored, bytes]],
    *,
    context: Context,
    total: int | None,
    links: Mapping[str, str],
    warnings: Sequence[Issue] = (),
    scores: Mapping[str, float] = MappingProxyType({}),
) -> bytes:
    """A searchset Bundle around stored bytes (http://hl7.org/fhir/R4/bundle.html#searchset); `scores` are by name."""
    entries = [_found(stored, body, b"match", context) for stored, body in matches]
    if scores:
        ranks = (scores[f"{stored.type}/{stored.id.partition('#')[0]}"] for stored, _ in matches)
        entries = [entry[:-2] + b',"score":%.4f}}' % rank for entry, rank in zip(entries, ranks, strict=True)]
    entries += [_found(stored, body, b"include", context) for stored, body in included]
    if warnings:
        text = encode(operation_outcome(warnings))
        entries.append(b'{"resource":%b,"search":{"mode":"outcome"}}' % text)
    return bundle("searchset", entries, context, total=total, links=links)


def _found(stored: Stored, body: bytes, mode: bytes, context: Context) -> bytes:
    full_url = f"{context.config.base}/{stored.type}/{stored.id}".encode()
    return b'{"fullUrl":"%b","resource":%b,"search":{"mode":"%b"}}' % (full_url, body, mode)


HISTORY_STATUS = {"POST": "201 Created", "PUT": "200 OK", "PATCH": "200 OK", "DELETE": "204 No Content"}


def history_entry(stored: Stored, context: Context) -> bytes:
    """One version in a history Bundle; a delete has no resource."""
    url = f"{stored.type}/{stored.id}"
    head: dict[str, Any] = {"fullUrl": f"{context.config.base}/{url}"}
    tail = {
        "request": {"method": stored.method, "url": stored.type if stored.method == "POST" else url},
        "response": {
            "status": "201 Created" if stored.version == 1 or stored.back else HISTORY_STATUS[stored.method],
            "etag": etag(stored.version),
            "lastModified": instant_text(stored.at),
        },
    }
    body = b'"resource":%b,' % stored.body if stored.body is not None else b""
    return encode(head)[:-1] + b"," + body + encode(tail)[1:]


def bundle(
    type: str,
    entries: Sequence[bytes],
    context: Context,
    *,
    total: int | None = None,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """A Bundle of the type around encoded entries."""
    head = (
        f'{{"resourceType":"Bundle","id":"{context.new_id()}","meta":{{"lastUpdated":"{instant_text(context.now())}"}}'
    )
    parts = [f'{head},"type":"{type}"'.encode()]
    if total is not None:
        parts.append(b',"total":%d' % total)
    if links:
        parts.append(b',"link":%b' % encode([{"relation": relation, "url": url} for relation, url in links.items()]))
    if entries:
        parts += [b',"entry":[', b",".join(entries), b"]"]
    return b"".join([*parts, b"}"])
