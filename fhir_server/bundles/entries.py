"""The entries of a batch or transaction as they were sent: pure (http://hl7.org/fhir/R4/bundle.html)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from fhir_server.http.criteria import Pairs, create_criteria
from fhir_server.http.headers import http_date
from fhir_server.http.queries import LONGEST
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError

Resource = dict[str, Any]
METHODS = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
# http://hl7.org/fhir/R4/http.html#trules
ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
# Bundle.entry.request -> HTTP header
HEADERS = {
    "ifMatch": "if-match",
    "ifNoneMatch": "if-none-match",
    "ifModifiedSince": "if-modified-since",
    "ifNoneExist": "if-none-exist",
}
SINCE = "if-modified-since"


@dataclass(slots=True)
class Entry:
    """One entry as it will be carried out; `number` is its place in the Bundle that was sent."""

    number: int
    method: str
    parts: tuple[str, ...]
    query: Pairs
    headers: dict[str, str]
    resource: Resource | None = None
    full_url: str = ""
    id: str = ""
    is_operation: bool = False

    @property
    def place(self) -> str:
        """Where it stands, as an expression."""
        return f"Bundle.entry[{self.number}]"

    @property
    def type(self) -> str:
        """The resource type of its URL; empty for the base and for operations on it."""
        return self.parts[0] if self.parts and self.parts[0] in RESOURCE_TYPES else ""

    @property
    def condition(self) -> Pairs | None:
        """The criteria that choose its resource, None where it is named or new."""
        if self.is_operation or self.method in ("GET", "HEAD"):
            return None
        if self.method == "POST":
            return create_criteria(self.headers.get("if-none-exist"), self.query) if len(self.parts) == 1 else None
        return self.query if len(self.parts) == 1 else None

    @property
    def order(self) -> int:
        """Operations come with the reads, after everything that is stored."""
        return 3 if self.is_operation else ORDER[self.method]

    @property
    def identity(self) -> str:
        """What it changes, as `Patient/123`; empty where that is not known yet or nothing is changed."""
        changes = self.order < 3
        if not changes or not self.type:
            return ""
        id = self.parts[1] if len(self.parts) > 1 else self.id
        return f"{self.type}/{id}" if id else ""


def read_entries(bundle: Mapping[str, Any], base: str, most: int) -> list[Entry | FhirError]:
    """Every entry, or the error that says what is wrong with it."""
    rows = bundle.get("entry", [])
    if not isinstance(rows, list):
        raise FhirError("structure", "Bundle.entry must be a list.", "Bundle.entry")
    if len(rows) > most:
        raise FhirError("too-long", f"The Bundle has {len(rows)} entries, and {most} are allowed.", "Bundle.entry")
    return [_entry_or_error(number, row, base) for number, row in enumerate(rows)]


def _entry_or_error(number: int, row: Any, base: str) -> Entry | FhirError:
    try:
        return _entry(number, row, base)
    except FhirError as error:
        return error


def _entry(number: int, row: Any, base: str) -> Entry:
    place = f"Bundle.entry[{number}]"
    request = row.get("request") if isinstance(row, dict) else None
    if not isinstance(request, dict):
        raise FhirError("required", f"{place} has no request.", f"{place}.request", status=400)
    method, url = request.get("method"), request.get("url")
    if method not in METHODS:
        raise FhirError("value", f"{place}: {method!r} is no HTTP verb.", f"{place}.request.method", status=400)
    if not isinstance(url, str):
        raise FhirError("required", f"{place} has no URL.", f"{place}.request.url", status=400)
    if len(url) > LONGEST:
        raise FhirError("too-long", f"{place}: The URL is longer than {LONGEST} characters.", f"{place}.request.url")
    parts, query = split_url(url, base, place)
    headers = {HEADERS[name]: value for name, value in request.items() if name in HEADERS and isinstance(value, str)}
    if SINCE in headers:
        headers[SINCE] = _http_date(headers[SINCE])
    resource = _resource(row, method, place)
    full_url = row.get("fullUrl", "")
    name = full_url if isinstance(full_url, str) else ""
    is_operation = any(part.startswith("$") for part in parts)
    return Entry(number, method, parts, query, headers, resource, name, is_operation=is_operation)


def _http_date(instant: str) -> str:
    """The instant of an entry as the header has it; as it is where it is none, which is told elsewhere."""
    try:
        return http_date(datetime.fromisoformat(instant))
    except (ValueError, OverflowError):
        return instant


def _resource(row: Mapping[str, Any], method: str, place: str) -> Resource | None:
    resource = row.get("resource")
    if resource is None and method in ("POST", "PUT", "PATCH"):
        if method == "POST":
            return None
        raise FhirError("required", f"{place}: {method} needs a resource.", f"{place}.resource", status=400)
    if resource is not None and not isinstance(resource, dict):
        raise FhirError("structure", f"{place}.resource must be an object.", f"{place}.resource")
    return resource


def split_url(url: str, base: str, place: str) -> tuple[tuple[str, ...], Pairs]:
    """Path segments and query of an entry's URL, relative to the base or below it; no other server's."""
    path, _, query = url.partition("?")
    path = f"{path}/".removeprefix(f"{base}/")
    if "://" in path or path.startswith("//") or "#" in path:
        raise FhirError("invalid", f"{place}: {url} is not on this server.", f"{place}.request.url")
    parts = tuple(unquote(part) for part in path.strip("/").split("/")) if path.strip("/") else ()
    if any(part in ("", ".", "..") or "/" in part for part in parts):
        raise FhirError("invalid", f"{place}: {url} is no URL of this server.", f"{place}.request.url")
    return parts, parse_qsl(query, keep_blank_values=True)
