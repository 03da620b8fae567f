"""read and vread (http://hl7.org/fhir/R4/http.html#read, #vread)."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response, version_headers
from fhir_server.answers.subsets import subset_asked, subset_body
from fhir_server.context import Context, Request
from fhir_server.http.headers import instant_of, matches_etag
from fhir_server.shipped import shipped_version
from fhir_server.store import Stored
from fhir_server.writing.binaries import is_native
from profiles.outcome import FhirError


async def read(request: Request, context: Context) -> Response:
    """The current version: 404 where there never was one, 410 where it was deleted."""
    type, id = request.parts
    stored = await context.store.get(type, id) or shipped_version(type, id, context)
    return await _shown(stored, request, context)


async def vread(request: Request, context: Context) -> Response:
    """One version; a deleted resource still shows the versions before its delete."""
    type, id, _, version = request.parts
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
    stored = await context.store.get_version(type, id, number) if str(number) == version else None
    return await _shown(stored, request, context)


def missing(request: Request) -> FhirError:
    """The error of a resource that is not there, or not for this caller."""
    return FhirError("not-found", f"{'/'.join(request.parts)} is not known.")


async def _shown(stored: Stored | None, request: Request, context: Context) -> Response:
    if stored is None or not await access.sees(request, context, stored):
        raise missing(request)
    stored = access.shown(request, context, stored)
    if stored.body is None:
        name = f"{stored.type}/{stored.id}"
        raise FhirError("deleted", f"{name} was deleted.", headers={"ETag": f'W/"{stored.version}"'})
    headers = version_headers(stored)
    if _is_known(request, stored):
        return Response(304, headers, each=(stored,))
    # A native read shows content, which has no elements.
    asked = subset_asked(request) if request.query and not is_native(request) else None
    body = stored.body if asked is None else subset_body(stored.body, asked)
    return Response(200, headers, body, stored=stored)


def _is_known(request: Request, stored: Stored) -> bool:
    """Whether the client has this version already; If-None-Match goes before If-Modified-Since (RFC 9110 §13.2.2)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return matches_etag(tags, stored.version)
    since = instant_of(request.headers.get("if-modified-since"))
    return since is not None and stored.at.replace(microsecond=0) <= since
