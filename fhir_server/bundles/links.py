"""What refers to what in a transaction: pure (http://hl7.org/fhir/R4/http.html#trules, bundle.html#references).

`slots_of` finds the places of a resource that refer to another entry or, conditionally, to a resource; `fill` writes
the final references into them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.bundles.entries import Entry, Resource
from profiles.model import RESOURCE_TYPES
from profiles.model import field as field_of
from profiles.outcome import FhirError

# Canonicals stay as they were sent (R4 http.html#trules).
LINKED = frozenset(("uri", "url", "oid", "uuid"))
HISTORY = "/_history/"
PLACES = frozenset(("reference", "div"))
ATTRIBUTE = re.compile(r"""(?<=\s)(href|src)(\s*=\s*)(["'])([^"']*)\3""", re.ASCII)
SHARED = ""  # what a name becomes that entries about different resources have


@dataclass(slots=True)
class Slot:
    """A place in a resource that refers to something: its container, its key there, and the text that was sent.

    The text of a condition is without the base.
    """

    entry: Entry
    container: Any
    key: Any
    text: str
    kind: str  # condition, link or narrative
    known: Set[str]
    place: str = ""

    @property
    def names_version(self) -> bool:
        """Whether a version is named, which the transaction decides."""
        return HISTORY in self.text


@dataclass(slots=True)
class Sought:
    """What is looked for in a resource, and what was found."""

    entry: Entry
    known: Set[str]
    base: str
    found: list[Slot]


# Names


def names_of(entry: Entry) -> list[str]:
    """What other entries may call the resource of this one.

    Its fullUrl, the relative form of a RESTful one, and without a fullUrl the id that it was sent with.
    """
    if entry.order == 3 or not entry.type:
        return []
    if not entry.full_url:
        own = (entry.resource or {}).get("id")
        return [f"{entry.type}/{own}"] if own else []
    return _forms(entry.full_url)


def _forms(full_url: str) -> list[str]:
    root = root_of(full_url)
    return [full_url, full_url[len(root) :]] if root else [full_url]


def root_of(full_url: str) -> str | None:
    """The base of a RESTful fullUrl: `http://a/fhir/` of `http://a/fhir/Patient/1`, None where it is not one."""
    head, _, id = full_url.rpartition("/")
    root, _, type = head.rpartition("/")
    return full_url[: len(root) + 1 if root else 0] if type in RESOURCE_TYPES and id else None


def final_names(entries: Iterable[Entry], identities: Mapping[int, str]) -> dict[str, str]:
    """What each name becomes: `urn:uuid:…` -> `Patient/123`; identities are by number of the entry."""
    names: dict[str, str] = {}
    for entry in entries:
        identity = identities.get(entry.number, "")
        for name in names_of(entry) if identity else ():
            names[name] = identity if names.get(name, identity) == identity else SHARED
    return names


# Finding references


def slots_of(entry: Entry, known: Set[str], base: str) -> list[Slot]:
    """Every place of the resource where a name of another entry, or a conditional reference, stands."""
    resource = entry.resource or {}
    sought = _within(resource, Sought(entry, known, base, []))
    _walk(resource, sought, [])
    return sought.found


def _within(resource: Any, sought: Sought) -> Sought:
    """Inside a Bundle the names are those of its own entries first: a document stays whole."""
    rows = resource.get("entry") if isinstance(resource, dict) and resource.get("resourceType") == "Bundle" else None
    urls = [row.get("fullUrl") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    own = {name for url in urls if isinstance(url, str) for name in _forms(url)}
    return replace(sought, known=sought.known - own) if own else sought


def _walk(value: Any, sought: Sought, path: list[Any]) -> None:
    known = sought.known
    pairs = value.items() if type(value) is dict else enumerate(value)
    for key, child in pairs:
        kind = type(child)
        if kind is str:
            # Most texts are dismissed here, by comparisons of 30 ns each.
            if key in PLACES or child in known or "#" in child or HISTORY in child:
                slot = _slot(value, key, child, sought, path)
                if slot is not None:
                    sought.found.append(slot)
        elif kind is dict or kind is list:
            path.append(key)
            _walk(child, _within(child, sought) if key == "resource" else sought, path)
            path.pop()


def _slot(value: Any, key: Any, text: str, sought: Sought, path: list[Any]) -> Slot | None:
    entry, known = sought.entry, sought.known
    if key == "div":
        return Slot(entry, value, key, text, "narrative", known) if "href" in text or "src" in text else None
    if stem(absolute(text, entry)) in known:
        is_link = key == "reference" or _is_link(entry.resource, [*path, key])
        return Slot(entry, value, key, text, "link", known) if is_link else None
    if key == "reference" and "?" in text:
        text = text.removeprefix(f"{sought.base}/")
        if text.partition("?")[0] in RESOURCE_TYPES:
            return Slot(entry, value, key, text, "condition", known, _place(entry, path))
    return None


def absolute(text: str, entry: Entry) -> str:
    """A relative reference with the root of the entry where it stands, where that has one; other texts as they are."""
    if text.partition("/")[0] not in RESOURCE_TYPES:
        return text
    return f"{root_of(entry.full_url) or ''}{text}"


def stem(text: str) -> str:
    """A reference without its version and fragment."""
    return text.partition("#")[0].partition(HISTORY)[0]


def _is_link(resource: Any, path: list[Any]) -> bool:
    """Whether the element at the path is a uri or one of its kinds: an Identifier.value stays as it was sent."""
    type, node = "Resource", resource
    for key in path:
        if not isinstance(key, int):
            row = field_of(str(node.get("resourceType")) if type == "Resource" else type, key)
            if row is None:
                return False
            type = row.type
        node = node[key]
    return type in LINKED


def _place(entry: Entry, path: list[Any]) -> str:
    """`Bundle.entry[1].resource.subject` of a path such as ["subject"]."""
    return f"{entry.place}.resource" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


# Filling them in


def fill(slots: Iterable[Slot], names: Mapping[str, str], matches: Mapping[str, str]) -> None:
    """Write the final references; from the text that was sent, so that it may be done again."""
    for slot in slots:
        slot.container[slot.key] = _filled(slot, names, matches)


def slots_of_patched(resource: Resource, names: Iterable[str], base: str) -> list[Slot]:
    """The places of what a patch made, whose own text is closed to the search.

    Only urn: names, which stand for nothing but an entry; a relative one may have been there before the patch.
    """
    placeholders = {name for name in names if name.startswith("urn:")}
    return slots_of(Entry(0, "PATCH", (), [], {}, resource), placeholders, base)


def _filled(slot: Slot, names: Mapping[str, str], matches: Mapping[str, str]) -> str:
    if slot.kind == "condition":
        return matches[slot.text]
    if slot.kind == "narrative":
        return ATTRIBUTE.sub(lambda found: _attribute(found, slot, names), slot.text)
    return _named(slot.text, slot, names)


def _attribute(found: re.Match[str], slot: Slot, names: Mapping[str, str]) -> str:
    name, equals, mark, url = found.groups()
    is_known = stem(absolute(url, slot.entry)) in slot.known
    return f"{name}{equals}{mark}{_named(url, slot, names) if is_known else url}{mark}"


def _named(text: str, slot: Slot, names: Mapping[str, str]) -> str:
    """What keeps its name keeps its version: that is of a resource the client knows."""
    full = absolute(text, slot.entry)
    final = names.get(stem(full))
    if final == SHARED:
        place = slot.entry.place
        raise FhirError("invalid", f"{place}: several entries have the name {text}; a fullUrl tells them apart.", place)
    return text if final is None or final == stem(text) else renamed(full, names)


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with the name before its version or fragment replaced; the version by what `name/_history/` becomes."""
    name = stem(text)
    if name not in names:
        return text
    rest = text[len(name) :]
    if rest.startswith(HISTORY):
        return names.get(f"{name}{HISTORY}", f"{names[name]}{HISTORY}1") + "".join(rest.partition("#")[1:])
    return names[name] + rest
