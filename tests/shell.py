"""What tests of the shell need: a context on a store, and a short way to ask it things."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fhir_server.answers.links import Seal
from fhir_server.answers.respond import Response
from fhir_server.config import Config
from fhir_server.context import Context, Request
from fhir_server.ids import TimeOrdered
from fhir_server.routes import handle
from fhir_server.store import Store
from profiles.json import encode, parse
from search.params import Registry

BASE = "http://test/fhir"


def context_on(store: Store, **settings: Any) -> Context:
    """A context for tests, with settings of the test's own."""
    config = Config(**{"base_url": BASE, **settings})
    return Context(config, store, Registry.r4(), Seal(bytes(32)), lambda: datetime.now(UTC), TimeOrdered())


def request_of(method: str, url: str = "", resource: Any = None, **headers: str) -> Request:
    """A request; header names are given with underscores, `if_match="W/..."`."""
    path, _, query = url.removeprefix(f"{BASE}/").partition("?")
    parts = tuple(path.split("/")) if path else ()
    body = resource if isinstance(resource, bytes) else b"" if resource is None else encode(resource)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, parts, parse_qsl(query, keep_blank_values=True), named, body, id="test")


async def ask(context: Context, method: str, url: str = "", resource: Any = None, **headers: str) -> Response:
    """The answer to a request."""
    return await handle(request_of(method, url, resource, **headers), context)


def content(answer: Response) -> Any:
    """The resource of an answer."""
    return parse(answer.body)


def text_of(answer: Response) -> str:
    """What the first issue of an OperationOutcome says."""
    return str(content(answer)["issue"][0]["diagnostics"])


def id_of(answer: Response) -> str:
    """The id of the resource that was created."""
    return str(answer.headers["Location"].split("/")[-3])


def patient(**more: Any) -> dict[str, Any]:
    """A small patient."""
    return {"resourceType": "Patient", "name": [{"family": "Shaw"}], **more}


def constraint(url: str, *elements: dict[str, Any], type: str = "Patient", **more: Any) -> dict[str, Any]:
    """A profile of the elements of its differential."""
    return {
        "resourceType": "StructureDefinition",
        "id": url.rpartition("/")[2],
        "url": url,
        "name": "Named",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": type,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{type}",
        "derivation": "constraint",
        "differential": {"element": list(elements)},
        **more,
    }


def bundle_of(type: str, *entries: dict[str, Any]) -> dict[str, Any]:
    """A Bundle of entries."""
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}


def entry(method: str, url: str, resource: Any = None, full_url: str = "", **request: str) -> dict[str, Any]:
    """An entry of a Bundle."""
    row: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        row["resource"] = resource
    if full_url:
        row["fullUrl"] = full_url
    return row
