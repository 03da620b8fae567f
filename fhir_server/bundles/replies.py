"""An entry of a Bundle as a request, and the answer to it as an entry (http://hl7.org/fhir/R4/bundle.html#transaction)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fhir_server.answers.respond import Response, instant_text
from fhir_server.bundles.entries import Entry
from fhir_server.context import Context, Request
from profiles.json import encode

PASSED_ON = ("prefer",)


def entry_request(entry: Entry, request: Request) -> Request:
    """The request that an entry stands for, in the name of the caller who sent the Bundle."""
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    return Request(
        entry.method,
        entry.parts,
        entry.query,
        headers | entry.headers,
        resource=entry.resource,
        id=request.id,
        principal=request.principal,
        assigned=entry.id,
        in_bundle=True,
        peer=request.peer,
    )


def reply(answer: Response, context: Context, request: Request | None = None) -> bytes:
    """The entry that tells the answer; what was asked for is its resource, what went wrong its outcome."""
    told: dict[str, Any] = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    place = answer.headers.get("Location") or answer.headers.get("Content-Location")
    if place:
        told["location"] = place
    if "ETag" in answer.headers:
        told["etag"] = answer.headers["ETag"]
    if answer.stored is not None:
        told["lastModified"] = instant_text(answer.stored.at)
    parts: list[bytes] = []
    if answer.stored is not None:
        full_url = f"{context.config.base}/{answer.stored.type}/{answer.stored.id}"
        parts.append(b'"fullUrl":%b' % encode(full_url))
    is_outcome = answer.body.startswith(b'{"resourceType":"OperationOutcome"') and (
        answer.status >= 400 or (request is not None and request.method not in ("GET", "HEAD"))
    )
    is_shown = request is None or request.method != "HEAD"
    if answer.body and is_shown and not is_outcome and answer.media is None:
        parts.append(b'"resource":%b' % answer.body)
    response = encode({"status": told.pop("status"), **told})
    if is_outcome:
        response = response[:-1] + b',"outcome":%b}' % answer.body
    parts.append(b'"response":%b' % response)
    return b"{%b}" % b",".join(parts)
