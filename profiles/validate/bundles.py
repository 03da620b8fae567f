"""What a Bundle must be beyond its invariants (http://hl7.org/fhir/R4/bundle.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from profiles.model import RESOURCE_TYPES
from profiles.validate.references import LITERAL
from profiles.validate.report import Report, absolute, entry_for
from profiles.validate.spots import Spot, everything, members

Json = dict[str, Any]
# Types whose entries need no fullUrl: their resources have no identity yet, or none at all.
WITHOUT_URL = ("transaction", "batch", "transaction-response", "batch-response")
PAGED = ("searchset", "history")
PAGES = ("first", "prev", "previous", "next", "last")
FIRST = {"document": "Composition", "message": "MessageHeader"}


def check_bundle(report: Report, spot: Spot) -> None:
    entries = members(spot, "entry")
    kind = spot.value.get("type")
    for entry in entries:
        _check_full_url(report, entry, str(kind))
    if kind not in PAGED:
        _check_no_pages(report, spot, str(kind))
    if kind in FIRST:
        _check_first(report, spot, entries, str(kind))
    if kind == "searchset":
        _check_found(report, entries)
        _check_asked(report, spot, entries)
    if kind == "document":
        _check_links(report, spot, entries)
    if kind == "message":
        _check_focus(report, spot, entries)


def _check_no_pages(report: Report, spot: Spot, kind: str) -> None:
    """http://hl7.org/fhir/R4/http.html#paging: only what is found has pages."""
    for link in members(spot, "link"):
        if link.value.get("relation") in PAGES:
            report.error("business-rule", link, f"a {kind} has no {link.value['relation']} page")


def _resource(entry: Spot) -> Json:
    found = entry.value.get("resource")
    return found if isinstance(found, dict) else {}


def _check_full_url(report: Report, entry: Spot, kind: str) -> None:
    """Absolute, and in line with the id of the resource (http://hl7.org/fhir/R4/bundle.html#bundle-unique)."""
    url, resource = entry.value.get("fullUrl"), _resource(entry)
    if not isinstance(url, str):
        if resource and kind not in WITHOUT_URL and kind != "searchset":
            report.error("required", entry, f"an entry of a {kind} needs a fullUrl")
        return
    if ":" not in url:
        report.error("value", entry, f"the fullUrl must be absolute, not '{url}'")
        return
    literal = LITERAL.search(url) if url.startswith("http") else None
    if literal and literal[1] in RESOURCE_TYPES and resource and kind not in WITHOUT_URL:
        ident, name = resource.get("id"), resource.get("resourceType")
        if ident is None:
            report.error("required", entry, f"the fullUrl '{url}' is one of a server, but the resource has no id")
        elif not url.endswith(f"{name}/{ident}"):
            report.error("value", entry, f"the fullUrl '{url}' is not that of {name}/{ident}")
    elif url.startswith("urn:uuid:") and len(url) != 45:
        report.error("value", entry, f"'{url}' is no UUID")


def _check_first(report: Report, spot: Spot, entries: list[Spot], kind: str) -> None:
    if not entries:
        report.error("required", spot, f"a {kind} needs entries")
    elif _resource(entries[0]).get("resourceType") != FIRST[kind]:
        report.error("structure", entries[0], f"the first entry of a {kind} must be a {FIRST[kind]}")


def _check_found(report: Report, entries: list[Spot]) -> None:
    """Search results have ids; what goes with them as outcome is an OperationOutcome."""
    for entry in entries:
        resource = _resource(entry)
        mode = entry.value.get("search", {}).get("mode")
        if mode == "outcome" and resource.get("resourceType") != "OperationOutcome":
            report.error(
                "structure", entry, f"an outcome must be an OperationOutcome, not a {resource.get('resourceType')}"
            )
        elif (
            mode != "outcome"
            and resource
            and resource.get("resourceType") != "OperationOutcome"
            and "id" not in resource
        ):
            report.error("required", entry, "a search result needs an id")


# The type of a search on one: `http://server/fhir/Patient?name=x`, `Patient/_search?name=x`.
SEARCHED = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)(?:/_search)?\?")


def _check_asked(report: Report, spot: Spot, entries: list[Spot]) -> None:
    """http://hl7.org/fhir/R4/search.html: what matches a search on one type is of that type, as `self` tells it."""
    links = [link.value for link in members(spot, "link") if link.value.get("relation") == "self"]
    found = SEARCHED.search(str(links[0].get("url", ""))) if links else None
    if found is None or found[1] not in RESOURCE_TYPES:
        return
    for entry in entries:
        kind = _resource(entry).get("resourceType")
        if entry.value.get("search", {}).get("mode", "match") == "match" and kind not in (None, found[1]):
            report.error("value", entry, f"a search of {found[1]} does not match a {kind}")


def _check_focus(report: Report, spot: Spot, entries: list[Spot]) -> None:
    """http://hl7.org/fhir/R4/messageheader.html: what a message is about comes with it."""
    header = next((place for entry in entries[:1] for place in members(entry, "resource")), None)
    if header is None or header.type != "MessageHeader":
        return
    url = str(entries[0].value.get("fullUrl", ""))
    for focus in members(header, "focus"):
        text = focus.value.get("reference")
        if isinstance(text, str) and not text.startswith("#") and entry_for(spot.value, text, url) is None:
            report.error("not-found", focus, f"'{absolute(text, url)}' is not in the message")


def references(entry: Spot) -> Iterator[tuple[Spot, str]]:
    """The references of an entry's resource that stay inside no resource."""
    for spot in everything(entry):
        if spot.type == "Reference" and isinstance(spot.value, dict):
            text = spot.value.get("reference")
            if isinstance(text, str) and not text.startswith("#"):
                yield spot, text


def _check_links(report: Report, spot: Spot, entries: list[Spot]) -> None:
    """In a document relative references must be found, and every entry must be reached from the Composition."""
    links: dict[int, set[int]] = {n: set() for n in range(len(entries))}
    numbers = {id(e.value): n for n, e in enumerate(entries)}
    for number, entry in enumerate(entries):
        url = str(entry.value.get("fullUrl", ""))
        for place, text in references(entry):
            found = entry_for(spot.value, text, url)
            if found is not None:
                links[number].add(numbers[id(found)])
                links[numbers[id(found)]].add(number)
            elif number == 0 and (":" not in text or text.startswith("urn:")) and "?" not in text:
                report.error("not-found", place, f"'{absolute(text, url)}' is not in the document")
    reached = _reach(links)
    for number, entry in enumerate(entries):
        if number not in reached:
            report.error("business-rule", entry, "nothing leads from the Composition to this entry, nor back")


def _reach(links: dict[int, set[int]]) -> set[int]:
    reached, waiting = {0}, [0]
    while waiting:
        for number in links.get(waiting.pop(), set()) - reached:
            reached.add(number)
            waiting.append(number)
    return reached
