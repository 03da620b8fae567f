"""Which resources the entries and conditional references of a transaction mean (http://hl7.org/fhir/R4/http.html#trules)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fhir_server.bundles.entries import Entry
from fhir_server.bundles.places import about
from fhir_server.bundles.plan import Condition, refuse_duplicates
from fhir_server.context import Context, Pairs, Request
from fhir_server.store import Stored
from fhir_server.writing.conditions import hold, match_key, matching, narrowing, only
from profiles.outcome import FhirError


@dataclass(slots=True)
class Resolved:
    """What the searches of one attempt found: the matches of each conditional entry, and each reference's target.

    `makers` are the entries that leave a resource for their criteria, by match key.
    """

    entries: dict[int, list[Stored]] = field(default_factory=dict)
    aliases: dict[int, Entry] = field(default_factory=dict)
    makers: dict[str, Entry] = field(default_factory=dict)
    matches: dict[str, str] = field(default_factory=dict)

    def identities(self, entry: Entry) -> list[str]:
        """The resources an entry is about, as `Patient/123`: several of a conditional delete, [""] of reads."""
        entry = self.aliases.get(entry.number, entry)
        matches = self.entries.get(entry.number)
        return [f"{stored.type}/{stored.id}" for stored in matches] if matches else [entry.identity]

    def identity(self, entry: Entry) -> str:
        """The resource an entry is about; empty for reads."""
        return self.identities(entry)[0]

    def is_left_alone(self, entry: Entry) -> bool:
        """Whether a conditional create found its match, and so changes nothing."""
        return entry.method == "POST" and (entry.number in self.aliases or bool(self.entries.get(entry.number)))


async def resolve(entries: Iterable[Entry], request: Request, context: Context) -> Resolved:
    """Run the searches that the entries ask for, with the match keys in hand."""
    found = Resolved()
    open_entries = [(entry, _criteria(entry)) for entry in entries if entry.condition is not None]
    keys = [match_key(entry.type, pairs) for entry, pairs in open_entries]
    if keys:
        await hold(context, request, *keys)
    for (entry, pairs), key in zip(open_entries, keys, strict=True):
        matches = await _matches(entry, pairs, request, context)
        first = found.makers.setdefault(key, entry) if entry.method in ("POST", "PUT") else entry
        if first is entry or matches:
            found.entries[entry.number] = matches
        else:
            found.aliases[entry.number] = _made_before(entry, first, pairs)
    return found


def _criteria(entry: Entry) -> Pairs:
    with about(entry):
        return narrowing(entry.condition or [])


async def _matches(entry: Entry, pairs: Pairs, request: Request, context: Context) -> list[Stored]:
    most = context.config.max_conditional_delete + 1 if entry.method == "DELETE" else 2
    with about(entry):
        matches = await matching(entry.type, pairs, request, context, most)
        if entry.method != "DELETE":
            only(matches, entry.type)
    return matches


def _made_before(entry: Entry, first: Entry, pairs: Pairs) -> Entry:
    """The second of two creates with the same criteria finds what the first one made; an update would change it."""
    if "PUT" in (entry.method, first.method):
        name = f"{entry.type}?{'&'.join(f'{name}={value}' for name, value in pairs)}"
        refuse_duplicates([(first, name), (entry, name)])
    return first


def refuse_overlaps(entries: Iterable[Entry], found: Resolved) -> None:
    """Refuse a transaction in which two entries change one resource, or one deletes what another has found."""
    changed = [(entry, name) for entry in entries if not found.is_left_alone(entry) for name in found.identities(entry)]
    refuse_duplicates(changed)
    gone = {name: entry for entry, name in changed if entry.method == "DELETE"}
    for entry in filter(found.is_left_alone, entries) if gone else ():
        other = gone.get(found.identity(entry))
        if other is not None:
            told = f"{entry.place} finds {found.identity(entry)}, which {other.place} deletes."
            raise FhirError("invalid", told, (entry.place, other.place))


async def look_up(condition: Condition, found: Resolved, request: Request, context: Context) -> str | None:
    """The one resource that a conditional reference means, None where nothing matches it yet."""
    try:
        maker = found.makers.get(match_key(condition.type, narrowing(condition.pairs)))
        if maker is not None:
            return found.identity(maker)
        matches = await matching(condition.type, condition.pairs, request, context)
    except FhirError as error:
        text = f"{_start(condition)}{error.text}"
        raise FhirError(error.code, text, condition.place, status=error.status, headers=error.headers) from error
    if len(matches) > 1:
        raise unclear(condition, "multiple-matches", "more than one resource")
    return f"{matches[0].type}/{matches[0].id}" if matches else None


def unclear(condition: Condition, code: str = "not-found", number: str = "no resource") -> FhirError:
    """The error of a conditional reference that does not mean exactly one resource."""
    told = f"{_start(condition)}the conditional reference {condition.text} matches {number}."
    return FhirError(code, told, condition.place, status=412)


def _start(condition: Condition) -> str:
    return f"{condition.place}: " if condition.place else ""
