"""Bundles of type batch and transaction as a plan: pure (http://hl7.org/fhir/R4/http.html#transaction).

`plan` reads the entries, orders them, gives ids to what will be created and finds every place that refers to another
entry or, conditionally, to a stored resource. `fill` writes the final references into those places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from fhir_server.http.criteria import Pairs, create_criteria
from fhir_server.http.headers import http_date
from profiles.model import RESOURCE_TYPES
from profiles.model import field as field_of
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
# Canonicals stay as they were sent (R4 http.html#trules).
LINKED = frozenset(("uri", "url", "oid", "uuid"))
HISTORY = "/_history/"
SINCE = "if-modified-since"
PLACES = frozenset(("reference", "div"))
ATTRIBUTE = re.compile(r"""(?<=\s)(href|src)(\s*=\s*)(["'])([^"']*)\3""", re.ASCII)


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


@dataclass(slots=True)
class Slot:
    """A place in a resource that refers to something: its container, its key there, and the text that was sent."""

    entry: Entry
    container: Any
    key: Any
    text: str
    kind: str  # condition, link or narrative
    place: str = ""


class Condition(NamedTuple):
    """A conditional reference: the type and criteria of its target, and the first place where it stands."""

    type: str
    pairs: Pairs
    place: str


@dataclass(slots=True)
class Plan:
    """The entries in the order they are carried out, and what has to be filled in."""

    entries: list[Entry]
    slots: list[Slot] = field(default_factory=list)
    conditions: dict[str, Condition] = field(default_factory=dict)


# Reading entries


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


# Planning a transaction


def plan(entries: list[Entry], new_id: Callable[[], str], base: str) -> Plan:
    """Order, ids and references of a transaction; FhirError where two entries collide."""
    for entry in entries:
        if entry.method == "POST" and len(entry.parts) == 1 and not entry.is_operation:
            _check_create(entry)
            entry.id = new_id()
        elif entry.method == "PUT" and entry.condition is not None:
            entry.id = (entry.resource or {}).get("id") or new_id()
    refuse_duplicates((entry, entry.identity) for entry in entries if not _is_open(entry))
    refuse_duplicates((entry, entry.full_url) for entry in entries if entry.order < 3)
    made = Plan(sorted(entries, key=lambda entry: entry.order))
    known = {name for entry in entries for name in names_of(entry)}
    for entry in entries:
        if entry.resource is not None and not entry.is_operation:
            made.slots += slots_of(entry, known)
    for slot in made.slots:
        if slot.kind == "condition":
            made.conditions.setdefault(slot.text, _condition(slot))
    return made


def _check_create(entry: Entry) -> None:
    if entry.resource is None:
        raise FhirError("required", f"{entry.place}: POST needs a resource.", f"{entry.place}.resource", status=400)


def _is_open(entry: Entry) -> bool:
    """Whether only a search tells what the entry changes."""
    return entry.condition is not None


def refuse_duplicates(named: Iterable[tuple[Entry, str]]) -> None:
    """Refuse a transaction in which two entries speak about the same thing."""
    seen: dict[str, Entry] = {}
    for entry, name in named:
        other = seen.setdefault(name, entry) if name else entry
        if other is not entry:
            raise FhirError(
                "invalid",
                f"{entry.place} and {other.place} are about the same resource, {name}.",
                (entry.place, other.place),
            )


def names_of(entry: Entry) -> list[str]:
    """What other entries may call the resource of this one.

    Its fullUrl, the relative form of a RESTful one, and without a fullUrl the id that it was sent with.
    """
    if entry.order == 3 or not entry.type:
        return []
    if not entry.full_url:
        own = (entry.resource or {}).get("id")
        return [f"{entry.type}/{own}"] if own else []
    root = root_of(entry.full_url)
    return [entry.full_url] if not root else [entry.full_url, entry.full_url[len(root) :]]


def root_of(full_url: str) -> str | None:
    """The base of a RESTful fullUrl: `http://a/fhir/` of `http://a/fhir/Patient/1`, None where it is not one."""
    head, _, id = full_url.rpartition("/")
    root, _, type = head.rpartition("/")
    return full_url[: len(root) + 1 if root else 0] if type in RESOURCE_TYPES and id else None


def final_names(entries: Iterable[Entry], identities: Mapping[int, str]) -> dict[str, str]:
    """What each name becomes: `urn:uuid:…` -> `Patient/123`; identities are by number of the entry."""
    return {
        name: identities[entry.number] for entry in entries if entry.number in identities for name in names_of(entry)
    }


# Finding references


def slots_of(entry: Entry, known: set[str]) -> list[Slot]:
    """Every place of the resource where a name of another entry, or a conditional reference, stands."""
    found: list[Slot] = []
    resource = entry.resource or {}
    _walk(resource, entry, known, found, [resource.get("resourceType", "")])
    return found


def _walk(value: Any, entry: Entry, known: set[str], found: list[Slot], path: list[Any]) -> None:
    pairs = value.items() if type(value) is dict else enumerate(value)
    for key, child in pairs:
        kind = type(child)
        if kind is str:
            # Most texts are dismissed here, by comparisons of 30 ns each.
            if key in PLACES or child in known or "#" in child or HISTORY in child:
                slot = _slot(value, key, child, entry, known, path)
                if slot is not None:
                    found.append(slot)
        elif kind is dict or kind is list:
            path.append(key)
            _walk(child, entry, known, found, path)
            path.pop()


def _slot(value: Any, key: Any, text: str, entry: Entry, known: set[str], path: list[Any]) -> Slot | None:
    if key == "reference":
        kind = _reference_kind(text, known)
        place = _place(entry, path) if kind == "condition" else ""
        return Slot(entry, value, key, text, kind, place) if kind else None
    if key == "div" and ("href" in text or "src" in text):
        return Slot(entry, value, key, text, "narrative")
    if stem(text) in known and _is_link([*path, key]):
        return Slot(entry, value, key, text, "link")
    return None


def _reference_kind(text: str, known: set[str]) -> str:
    if stem(text) in known:
        return "link"
    return "condition" if "?" in text and text.partition("?")[0] in RESOURCE_TYPES else ""


def stem(text: str) -> str:
    """A reference without its version and fragment."""
    return text.partition("#")[0].partition(HISTORY)[0]


def _is_link(path: list[Any]) -> bool:
    """Whether the element at the path is a uri or one of its kinds: an Identifier.value stays as it was sent."""
    type = path[0]
    for key in path[1:]:
        if isinstance(key, int):
            continue
        row = field_of(type, key)
        if row is None:
            return False
        type = row.type
        if type == "Resource":
            return True
    return type in LINKED


def _place(entry: Entry, path: list[Any]) -> str:
    """`Bundle.entry[1].resource.subject` of a path such as ["Observation", "subject"]."""
    return f"{entry.place}.resource" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path[1:])


def _condition(slot: Slot) -> Condition:
    type, _, query = slot.text.partition("?")
    return Condition(type, parse_qsl(query, keep_blank_values=True), slot.place)


# Filling them in


def fill(slots: Iterable[Slot], names: Mapping[str, str], matches: Mapping[str, str]) -> None:
    """Write the final references; from the text that was sent, so that it may be done again."""
    for slot in slots:
        slot.container[slot.key] = _filled(slot, names, matches)


def rename(resource: Resource, names: Mapping[str, str]) -> None:
    """Write the final references into what a patch made: its Binary is closed to the search for places.

    Only urn: names, which stand for nothing but an entry; a relative one may have been there before the patch.
    """
    placeholders = {name: final for name, final in names.items() if name.startswith("urn:")}
    if placeholders:
        made = Entry(0, "PATCH", (), [], {}, resource)
        fill([slot for slot in slots_of(made, set(placeholders)) if slot.kind != "condition"], placeholders, {})


def _filled(slot: Slot, names: Mapping[str, str], matches: Mapping[str, str]) -> str:
    if slot.kind == "condition":
        return matches[slot.text]
    if slot.kind == "narrative":
        return ATTRIBUTE.sub(lambda found: _attribute(found, names), slot.text)
    return renamed(slot.text, names)


def _attribute(found: re.Match[str], names: Mapping[str, str]) -> str:
    name, equals, mark, url = found.groups()
    return f"{name}{equals}{mark}{renamed(url, names)}{mark}"


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with the name before its version or fragment replaced; the version by what `name/_history/` becomes."""
    name = stem(text)
    if name not in names:
        return text
    rest = text[len(name) :]
    if rest.startswith(HISTORY) and names[name] != name:
        return names.get(f"{name}{HISTORY}", f"{names[name]}{HISTORY}1") + "".join(rest.partition("#")[1:])
    return names[name] + rest
