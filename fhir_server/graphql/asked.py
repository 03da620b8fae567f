"""What a client asks of $graphql: by GET, as JSON, as a GraphQL document or as Parameters (R4 graphql.html).

https://graphql.github.io/graphql-over-http/draft/ says what GET and JSON look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.context import Request
from fhir_server.http.formats import sent
from fhir_server.http.headers import media
from profiles.json import parse
from profiles.outcome import FhirError

DOCUMENT = "application/graphql"


@dataclass(frozen=True, slots=True)
class Asked:
    """A GraphQL document, the values of its variables, and which of its operations is meant."""

    query: str
    variables: dict[str, Any] = field(default_factory=dict)
    operation: str | None = None


def asked(request: Request) -> Asked:
    """The document of a request; FhirError 400 or 415 where there is none."""
    if request.method != "POST" or not (request.body or request.resource):
        return _of_values(dict(request.query))
    if request.resource is not None:
        return _of_json(request.resource)
    if media(request.headers.get("content-type", "application/json")).name == DOCUMENT:
        return _of_values(dict(request.query) | {"query": _text(request.body)})
    return _of_json(sent(request).read(request.body))


def _of_values(values: Mapping[str, Any]) -> Asked:
    """The three members; variables are a JSON object, or text of one."""
    query, variables, operation = (values.get(name) for name in ("query", "variables", "operationName"))
    if not isinstance(query, str) or not query.strip():
        raise FhirError("required", "$graphql needs the parameter query.", "query", status=400)
    if isinstance(variables, str):
        variables = parse(variables.encode()) if variables.strip() else None
    if variables is not None and not isinstance(variables, dict):
        raise FhirError("invalid", "variables must be a JSON object.", "variables")
    if operation is not None and not isinstance(operation, str):
        raise FhirError("invalid", "operationName must be text.", "operationName")
    return Asked(query, variables or {}, operation or None)


def _of_json(body: Any) -> Asked:
    """A JSON object with the members, or Parameters with them by name."""
    if not isinstance(body, dict):
        raise FhirError("structure", "One JSON object with the member query is needed; batches are not taken.")
    if body.get("resourceType") != "Parameters":
        return _of_values(body)
    rows = [row for row in body.get("parameter", ()) if isinstance(row, dict)]
    return _of_values({str(row.get("name")): row.get("valueString") for row in rows})


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise FhirError("structure", "The GraphQL document is not valid UTF-8.") from error
