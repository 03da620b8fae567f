"""capabilities: what this server can do, generated from its tables (http://hl7.org/fhir/R4/http.html#capabilities)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from fhir_server.answers.respond import Response, resource_answer
from fhir_server.answers.subsets import Subset, subset_asked, subset_body
from fhir_server.config import Config
from fhir_server.context import Context, Request, Resource
from fhir_server.http.formats import FORMATS
from fhir_server.http.headers import etag, matches_etag
from fhir_server.interactions.patch import PATCHES
from fhir_server.store.terms import terms_of
from profiles.json import encode
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.params import TYPES, Registry
from terminology.capabilities import terminology_capabilities
from terminology.library import Library

RELEASE = "0.1.0"
DATE = "2026-11-21"
MODES = ("full", "normative", "terminology")

# Features of the terminology ecosystem: resources may be sent along, and which tests are answered.
FEATURE = "http://hl7.org/fhir/uv/application-feature/StructureDefinition/feature"
FEATURES = (
    ("http://hl7.org/fhir/uv/tx-tests/FeatureDefinition/test-version", "valueCode", "1.8.0"),
    ("http://hl7.org/fhir/uv/tx-ecosystem/FeatureDefinition/CodeSystemAsParameter", "valueBoolean", True),
)

# http://hl7.org/fhir/R4/valueset-type-restful-interaction.html, in its order
TYPE_LEVEL = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
SYSTEM_LEVEL = ("transaction", "batch", "search-system", "history-system")


class Offered(Protocol):
    """What the statement says of an operation."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...


async def capabilities(
    request: Request, context: Context, operations: Mapping[str, Sequence[Offered]], interactions: frozenset[str]
) -> Response:
    """The CapabilityStatement; `operations` are by type, those of the server under the empty name."""
    mode = request.first("mode") or "full"
    if mode not in MODES:
        raise FhirError("value", f"mode={mode} is not one of {', '.join(MODES)}.", "mode", status=400)
    if mode == "terminology":
        return resource_answer(await _terminology(context))
    names = tuple((type, tuple((row.name, row.url) for row in rows)) for type, rows in operations.items())
    body, mark = _part(_body(context.config, context.registry, names, interactions), subset_asked(request))
    headers = {"Cache-Control": "no-cache", "ETag": etag(mark)}
    if matches_etag(request.headers.get("if-none-match", ""), mark):
        return Response(304, headers)
    return Response(200, headers, body)


async def _terminology(context: Context) -> Resource:
    """The code systems that come with the server and those that were stored."""

    def systems(library: Library) -> list[tuple[str, list[str]]]:
        return [(url, library.versions("CodeSystem", url)) for url in library.urls("CodeSystem")]

    known = await terms_of(context.store, context.registry).listed(systems)
    return terminology_capabilities(context.config.base, RELEASE, DATE, known)


Names = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@lru_cache(maxsize=4)  # 700 kB of text, made in a third of a second
def _body(config: Config, registry: Registry, names: Names, interactions: frozenset[str]) -> bytes:
    return encode(statement(config, registry, dict(names), interactions))


@lru_cache(maxsize=16)  # 10 ms for a part
def _part(body: bytes, asked: Subset | None) -> tuple[bytes, str]:
    """The statement or the part of it that was asked for, and a mark that changes with it."""
    part = body if asked is None else subset_body(body, asked)
    return part, hashlib.sha256(part).hexdigest()[:16]


def statement(
    config: Config, registry: Registry, operations: Mapping[str, tuple[tuple[str, str], ...]], known: frozenset[str]
) -> Resource:
    """The statement for these tables."""
    rest: dict[str, Any] = {
        "mode": "server",
        "security": security(config),
        "resource": [_resource(type, config, registry, operations.get(type, ()), known) for type in _types()],
        "interaction": [{"code": code} for code in SYSTEM_LEVEL if code in known or code == "batch"],
        "searchParam": _parameters("Resource", registry),
        "operation": _operations(operations.get("", ())),
    }
    return {
        "resourceType": "CapabilityStatement",
        "id": "server",
        "url": f"{config.base}/metadata",
        "version": RELEASE,
        "name": "FhirServer",
        "title": "FHIR R4 server",
        "status": "active",
        "date": DATE,
        "publisher": "The operator of this server",
        "extension": [_feature(*feature) for feature in FEATURES],
        "kind": "instance",
        "instantiates": ["http://hl7.org/fhir/CapabilityStatement/terminology-server"],
        "software": {"name": "fhir-server", "version": RELEASE, "releaseDate": DATE},
        "implementation": {"description": "FHIR R4 server on MongoDB", "url": config.base},
        "fhirVersion": "4.0.1",
        "format": [name for row in FORMATS for name in (row.media, row.name)],
        "patchFormat": list(PATCHES),
        "rest": [{name: value for name, value in rest.items() if value != []}],
    }


SERVICE = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
OAUTH = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
# Part of the extension -> path below the endpoints' base; clients of version 1 read these, not the discovery document.
URIS = {"token": "token", "authorize": "authorize", "introspect": "introspect", "revoke": "revoke", "manage": "account"}


def security(config: Config) -> dict[str, Any]:
    """How to log in (SMART App Launch 1.0, "Conformance": the oauth-uris of the CapabilityStatement)."""
    if config.auth == "none":
        return {"cors": bool(config.cors_origins)}
    paths = URIS | ({"register": "register"} if config.registration != "off" else {})
    uris = [{"url": name, "valueUri": f"{config.auth_url}/{path}"} for name, path in paths.items()]
    service = {"coding": [SERVICE | {"display": "SMART-on-FHIR"}], "text": "OAuth 2 as SMART on FHIR profiles it"}
    return {"extension": [{"url": OAUTH, "extension": uris}], "cors": True, "service": [service]}


def _feature(definition: str, kind: str, value: str | bool) -> dict[str, Any]:
    parts = [{"url": "definition", "valueCanonical": definition}, {"url": "value", kind: value}]
    return {"url": FEATURE, "extension": parts}


def _types() -> list[str]:
    return sorted(RESOURCE_TYPES)


def _resource(
    type: str, config: Config, registry: Registry, operations: Sequence[tuple[str, str]], known: frozenset[str]
) -> dict[str, Any]:
    includes = [f"{type}:{row.code}" for row in registry.of(type) if row.type == "reference"]
    row: dict[str, Any] = {
        "type": type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{type}",
        "interaction": [{"code": code} for code in TYPE_LEVEL if code in known],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": config.update_create,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": config.conditional_delete,
        "referencePolicy": ["literal", "logical", "local", *(["enforced"] if config.referential_integrity else [])],
        "searchInclude": ["*", *includes],
        "searchRevInclude": _referring(type, registry),
        "searchParam": _parameters(type, registry),
        "operation": _operations(operations),
    }
    return {name: value for name, value in row.items() if value != []}


def _parameters(type: str, registry: Registry) -> list[dict[str, Any]]:
    return [{"name": row.code, "definition": row.url, "type": _told(row.type)} for row in registry.of(type)]


def _told(type: str) -> str:
    """FHIR's name of a parameter's type: how a string is compared is this server's own affair."""
    return type if type in TYPES else "string"


def _referring(type: str, registry: Registry) -> list[str]:
    """What `_revinclude` brings: parameters of other types that may point at this one."""
    return _reverse(registry).get(type, [])


@lru_cache(maxsize=4)
def _reverse(registry: Registry) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for source in _types():
        for row in registry.of(source):
            if row.type == "reference":
                for target in row.targets:
                    found.setdefault(target, []).append(f"{source}:{row.code}")
    return found


def _operations(rows: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"name": name, "definition": url} for name, url in rows]
