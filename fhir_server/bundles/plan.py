"""A transaction as a plan: pure (http://hl7.org/fhir/R4/http.html#transaction).

`plan` orders the entries, gives ids to what will be created and finds every place that refers to another entry or,
conditionally, to a resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

from fhir_server.bundles.entries import Entry
from fhir_server.bundles.links import Slot, names_of, slots_of
from fhir_server.http.criteria import Pairs
from profiles.outcome import FhirError


class Condition(NamedTuple):
    """A conditional reference as it was sent: type and criteria of its target, and the first place where it stands."""

    text: str
    type: str
    pairs: Pairs
    place: str


@dataclass(slots=True)
class Plan:
    """The entries in the order they are carried out, and what has to be filled in.

    `late` are the slots, by number, of the entries that wait: what they refer to only the written others tell.
    """

    entries: list[Entry]
    slots: list[Slot] = field(default_factory=list)
    late: dict[int, list[Slot]] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)


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
            _place_slots(slots_of(entry, known, base), entry, made)
    return made


def _place_slots(slots: list[Slot], entry: Entry, made: Plan) -> None:
    for slot in slots:
        if slot.kind == "condition" and slot.text not in made.conditions:
            made.conditions[slot.text] = condition_of(slot)
    if any(slot.kind == "condition" or slot.names_version for slot in slots):
        made.late[entry.number] = slots
    else:
        made.slots += slots


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


def condition_of(slot: Slot) -> Condition:
    """The conditional reference that stands in the slot."""
    type, _, query = slot.text.partition("?")
    return Condition(slot.text, type, parse_qsl(query, keep_blank_values=True), slot.place)
