"""ImplementationGuide/$install, $installed and $uninstall: packages through a running server."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64encode
from typing import Any

from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Request, Resource
from fhir_server.http.headers import media
from fhir_server.operations.call import Call
from fhir_server.packages.install import Report, install, installed, remove
from profiles.outcome import FhirError

RAW = frozenset(("application/gzip", "application/x-gzip", "application/tar+gzip", "application/octet-stream"))


def is_package(request: Request) -> bool:
    """Whether the body is a package file itself."""
    named = request.parts == ("ImplementationGuide", "$install") and request.resource is None
    return named and media(request.headers.get("content-type", "")).name in RAW


def packaged(request: Request) -> Resource:
    """The same as Parameters."""
    row = {"name": "npmContent", "valueBase64Binary": b64encode(request.body).decode()}
    return {"resourceType": "Parameters", "parameter": [row]}


async def add(call: Call, context: Context) -> Response:
    """Install the packages that are sent."""
    raws = [await asyncio.to_thread(_decoded, text) for text in call.all("npmContent")]
    return _answer([_told(row) for row in await install(raws, context, with_examples=bool(call.one("examples")))])


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (ValueError, binascii.Error):
        raise FhirError("value", "npmContent is no base64Binary.", "npmContent", status=400) from None


async def show(call: Call, context: Context) -> Response:
    """The packages that are installed."""
    return _answer([_recorded(row) for row in await installed(context)])


async def drop(call: Call, context: Context) -> Response:
    """Remove a package."""
    return _answer([_told(await remove(call.one("name"), call.one("version"), context))])


def _told(report: Report) -> list[tuple[str, str, Any]]:
    return [
        ("name", "valueString", report.name),
        ("version", "valueString", report.version),
        ("status", "valueCode", report.status),
        ("written", "valueInteger", report.written),
        ("unchanged", "valueInteger", report.unchanged),
        *(("missing", "valueString", name) for name in report.missing),
        *(("fault", "valueString", fault) for fault in report.faults),
    ]


def _recorded(record: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        ("name", "valueString", record["name"]),
        ("version", "valueString", record["version"]),
        ("status", "valueCode", record["status"]),
        ("resources", "valueInteger", len(record["resources"])),
        ("examples", "valueBoolean", record["examples"]),
        *(("missing", "valueString", name) for name in record["missing"]),
    ]


def _answer(rows: list[list[tuple[str, str, Any]]]) -> Response:
    named = [{"name": "package", "part": [{"name": name, key: value} for name, key, value in row]} for row in rows]
    return resource_answer({"resourceType": "Parameters", **({"parameter": named} if named else {})})
