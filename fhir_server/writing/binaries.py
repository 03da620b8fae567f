"""Binary: content of any type goes in and out as it is (http://hl7.org/fhir/R4/binary.html#rest)."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode

from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request, Resource
from fhir_server.http.formats import JSON, XML
from fhir_server.http.headers import accepted, media
from profiles.json import decode
from profiles.json import named_type as json_type
from profiles.outcome import FhirError
from profiles.xml import named_type as xml_type

FHIR = frozenset(("application/fhir+json", "application/fhir+xml", "application/json+fhir", "application/xml+fhir"))
# How the type of a resource is told in a text that may be one.
TYPED = {name: type_of for row, type_of in ((JSON, json_type), (XML, xml_type)) for name in (row.media, *row.aliases)}
# What may stand in a Content-Type that is sent back (RFC 9110 §8.3.1): no line ends, no more than ASCII.
WORD = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,127}"
QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
MEDIA_TYPE = re.compile(rf"{WORD}/{WORD}(?:[ \t]*;(?:[ \t]*{WORD}=(?:{WORD}|{QUOTED}))?)*", re.ASCII)
LONGEST_TYPE = 500
SPACES = re.compile(rf"({QUOTED})|[ \t]+")
HEADER = "X-Security-Context"
NAME = re.compile(r"[!-~]{0,500}[A-Z][A-Za-z]{1,60}/[A-Za-z0-9\-.]{1,64}", re.ASCII)
# A browser must not run what somebody stored here (attack X03).
SAFE = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox; default-src 'none'"}


def is_native(request: Request) -> bool:
    """Whether a read of a Binary wants the content itself: every time that FHIR is not asked for by name."""
    if request.parts[:1] != ("Binary",) or len(request.parts) not in (2, 4) or request.in_bundle:
        return False
    if request.parts[1][:1] in ("_", "$"):
        return False
    if request.method not in ("GET", "HEAD") or request.first("_format") is not None:
        return False
    return not any(row.name in FHIR for row in accepted(request.headers.get("accept", "")))


async def native(answer: Response, context: Context) -> Response:
    """The content of the Binary that was read, with its own type; an answer without one stays as it is."""
    if not answer.body:
        return answer
    resource = decode(answer.body)
    type, data = str(resource.get("contentType", "")), resource.get("data", "")
    big = len(data) >= context.config.big_body
    answer.body = await asyncio.to_thread(b64decode, data) if big else b64decode(data)
    answer.media = _media_type(type) or "application/octet-stream"
    answer.headers |= SAFE
    named = (resource.get("securityContext") or {}).get("reference")
    if isinstance(named, str) and NAME.fullmatch(named):
        answer.headers[HEADER] = named
    return answer


def _media_type(text: str) -> str | None:
    """The media type with single spaces, as a code has them; None where it is none."""
    text = SPACES.sub(lambda found: found[1] or " ", text) if len(text) <= LONGEST_TYPE else ""
    return text if MEDIA_TYPE.fullmatch(text) else None


def is_content(request: Request) -> bool:
    """Whether the body of a write is content to be wrapped in a Binary, and no Binary resource: its root tells."""
    if request.parts[:1] != ("Binary",) or request.resource is not None or request.parts[-1][:1] in ("_", "$"):
        return False
    name = media(request.headers.get("content-type", "")).name
    if not name:
        return False
    type_of = TYPED.get(name)
    return type_of is None or type_of(request.body) != "Binary"


async def wrapped(request: Request, context: Context) -> Resource:
    """A Binary around the body; `X-Security-Context` is its securityContext, which the caller must be able to see."""
    type = _media_type(request.headers["content-type"].strip())
    if type is None:
        raise FhirError("not-supported", "The Content-Type is no media type.", status=415)
    big = len(request.body) >= context.config.big_body
    data = await asyncio.to_thread(b64encode, request.body) if big else b64encode(request.body)
    resource: Resource = {"resourceType": "Binary", "contentType": type}
    if len(request.parts) == 2:
        resource["id"] = request.parts[1]
    named = request.headers.get(HEADER.lower())
    if named is not None:
        if not NAME.fullmatch(named):
            raise FhirError("value", f"{HEADER} must name a resource, such as Patient/1.", status=400)
        resource["securityContext"] = {"reference": named}
    return resource | ({"data": data.decode()} if data else {})
