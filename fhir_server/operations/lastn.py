"""Observation/$lastn: the latest observations of each code (R4 observation-operation-lastn.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server import access
from fhir_server.answers.paging import self_url
from fhir_server.answers.respond import Response, milliseconds, searchset
from fhir_server.context import Context, Pairs, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.parameters import CONTROLS
from fhir_server.store import Stored
from fhir_server.store.find.page import find
from profiles.json import decode
from profiles.outcome import FhirError
from search.query import parse

LOOKED_AT = 10_000  # observations that are looked at before the question counts as too costly
PATIENTS = ("patient", "subject")
EFFECTIVE = ("effectiveDateTime", "effectiveInstant")


async def run(call: Call, context: Context) -> Response:
    """A searchset: for each code the `max` latest, newest first; equal times count as one place."""
    pairs = [*call.request.query, *_posted(call.sent)]
    most = _most(pairs)
    criteria = [pair for pair in pairs if pair[0] != "max" and pair[0] not in CONTROLS]
    if not any(name.partition(":")[0].partition(".")[0] in PATIENTS for name, _ in criteria):
        raise FhirError("required", "$lastn needs the parameter patient or subject.", "patient", status=400)
    groups = Groups(most)
    async for stored in _newest_first(criteria, call, context):
        groups.take(stored, decode(stored.body or b"{}"))
    kept = [(stored, stored.body or b"") for stored in groups.kept()]
    links = {"self": self_url(call.request, pairs, context)}
    told = tuple(stored.compartment for stored, _ in kept)
    return Response(200, {}, searchset(kept, (), context=context, total=len(kept), links=links), compartments=told)


def _posted(sent: Resource | None) -> Pairs:
    rows = (sent or {}).get("parameter", ())
    return [(row["name"], str(value)) for row in rows for key, value in row.items() if key.startswith("value")]


def _most(pairs: Pairs) -> int:
    text = dict(pairs).get("max", "1")
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:9]) <= 1000:
        raise FhirError("value", f"max={text} is no whole number from 1 to 1000.", "max", status=400)
    return int(text)


async def _newest_first(criteria: Pairs, call: Call, context: Context) -> Any:
    asked = [*criteria, ("_sort", "-date"), ("_count", "1000"), ("_total", "none")]
    now = milliseconds(context.now())
    query = parse("Observation", asked, context.registry, base=context.config.base, now=now)
    access.check_query(call.request, context, query)
    visible, cursor, seen = access.clause_of(call.request, context), None, 0
    while True:
        found = await find(context.store, query, registry=context.registry, cursor=cursor, access=visible)
        for stored in found.matches:
            yield access.shown(call.request, context, stored)
        seen, cursor = seen + len(found.matches), found.next
        if cursor is None:
            return
        if seen >= LOOKED_AT:
            raise FhirError("too-costly", f"More than {LOOKED_AT} observations match; narrow them by category or code.")


class Groups:
    """The latest of each code: observations that share a coding, or the text, belong together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[Any, list[tuple[str, Stored]]] = {}
        self._groups: list[list[tuple[str, Stored]]] = []

    def take(self, stored: Stored, resource: Resource) -> None:
        """Take in the next one; they come newest first."""
        names = list(_codes(resource.get("code", {})))
        group = next((self._of[name] for name in names if name in self._of), None)
        if group is None:
            group = []
            self._groups.append(group)
        for name in names:
            self._of.setdefault(name, group)
        moment = next((str(resource[key]) for key in EFFECTIVE if key in resource), "")
        moments = {text for text, _ in group}
        if len(moments) < self._most or (moment and moment in moments):
            group.append((moment, stored))

    def kept(self) -> list[Stored]:
        """Group by group, newest first."""
        return [stored for group in self._groups for _, stored in group]


def _codes(code: Resource) -> Iterator[Any]:
    for coding in code.get("coding", ()):
        yield coding.get("system"), coding.get("code")
    if not code.get("coding"):
        yield code.get("text")
