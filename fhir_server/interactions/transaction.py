"""transaction: all entries or none (http://hl7.org/fhir/R4/http.html#trules)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fhir_server import access
from fhir_server.answers.respond import Response, bundle, failure
from fhir_server.bundles.entries import Entry
from fhir_server.bundles.envelope import checked_entries
from fhir_server.bundles.links import HISTORY, fill, final_names, names_of
from fhir_server.bundles.plan import Condition, Plan, plan, refuse_duplicates
from fhir_server.bundles.replies import entry_request, reply
from fhir_server.context import Context, Pairs, Request, Resource
from fhir_server.store import Stored, Transaction
from fhir_server.writing.atomic import atomically
from fhir_server.writing.checking import DEFINING, defined, faults, store_of
from fhir_server.writing.conditions import hold, match_key, matching, narrowing, once, only
from fhir_server.writing.provenance import keep, names_source, source_of
from fhir_server.writing.resource import check_type, is_same
from profiles.outcome import FhirError, Issue

Check: TypeAlias = Callable[[], Awaitable[None]]
Perform: TypeAlias = Callable[[Request, Context], Awaitable[Response]]

PARAMETER = "http."  # how an expression names a header or a parameter (R4 operationoutcome.html)
BREATH = 32  # entries between two looks at the event loop: about 3 ms


@dataclass(slots=True)
class Resolved:
    """What the searches of one attempt found: the matches of each conditional entry, and each reference's target."""

    entries: dict[int, list[Stored]] = field(default_factory=dict)
    aliases: dict[int, Entry] = field(default_factory=dict)
    matches: dict[str, str] = field(default_factory=dict)

    def identity(self, entry: Entry) -> str:
        """The resource an entry is about, as `Patient/123`; empty for reads."""
        entry = self.aliases.get(entry.number, entry)
        matches = self.entries.get(entry.number)
        return f"{matches[0].type}/{matches[0].id}" if matches else entry.identity

    def is_left_alone(self, entry: Entry) -> bool:
        """Whether a conditional create found its match, and so changes nothing."""
        return entry.method == "POST" and (entry.number in self.aliases or bool(self.entries.get(entry.number)))


async def transaction(sent: Resource, request: Request, context: Context, perform: Perform) -> Response:
    """A transaction-response in the order that was sent; FhirError that names the entry at fault, nothing stored."""
    config = context.config
    rows = checked_entries(sent, config.base, config.max_transaction)
    entries = [row for row in rows if isinstance(row, Entry)]
    if len(entries) < len(rows):
        faults = [issue for row in rows if isinstance(row, FhirError) for issue in row.issues]
        raise FhirError.of(faults, status=400)
    made = plan(entries, context.new_id, config.base)
    await _check(entries, request, context)
    source = await source_of(request, context) if names_source(request) else None

    async def work(inner: Context) -> dict[int, bytes]:
        replies = await _attempt(made, request, inner, perform)
        if source is not None:
            await keep(source, request, inner, perform)
        return replies

    replies = await atomically(context, work)
    if any(entry.order < 3 and entry.type in DEFINING for entry in made.entries):
        await defined(store_of(context))
    for entry in filter(_is_after, made.entries):
        replies[entry.number] = await _answer(entry, request, context, perform)
    return Response(200, {}, bundle("transaction-response", [replies[n] for n in sorted(replies)], context))


async def _answer(entry: Entry, request: Request, context: Context, perform: Perform) -> bytes:
    own = entry_request(entry, request)
    try:
        return reply(await perform(own, context), context, own)
    except Exception as error:
        return reply(failure(error, own), context)


async def _check(entries: list[Entry], request: Request, context: Context) -> None:
    """Validate every resource before anything is written, and name all faults at once."""
    issues: list[Issue] = []
    for number, entry in enumerate(entries):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        if entry.resource is not None and entry.method in ("POST", "PUT") and not entry.is_operation:
            issues += [_placed(issue, entry) for issue in await _faults(entry, request, context)]
    if issues:
        raise FhirError.of(issues)


async def _faults(entry: Entry, request: Request, context: Context) -> list[Issue]:
    resource = entry.resource or {}
    try:
        check_type(resource, entry.type)
    except FhirError as error:
        return list(error.issues)
    found = await faults(resource, entry.type, request, context)
    return [issue for issue in found if issue.is_error]


def _placed(issue: Issue, entry: Entry) -> Issue:
    """The issue with its place in the Bundle: `Bundle.entry[3].resource.birthDate`."""
    places = tuple(_place(text, entry) for text in issue.expression) or (entry.place,)
    return Issue(issue.severity, issue.code, f"{entry.place}: {issue.text}", places)


def _place(text: str, entry: Entry) -> str:
    """What is said of a parameter is said of the URL, all else of the resource."""
    if text.startswith(PARAMETER):
        return f"{entry.place}.request.url"
    inner = text.removeprefix(f"{entry.type}.").removeprefix(entry.type)
    return f"{entry.place}.resource.{inner}".rstrip(".")


async def _attempt(made: Plan, request: Request, context: Context, perform: Perform) -> dict[int, bytes]:
    """One attempt inside the database's transaction; it may be made again from the start."""
    await once(request, context)
    found = await _resolve(made, request, context)
    refuse_duplicates((entry, found.identity(entry)) for entry in made.entries if not found.is_left_alone(entry))
    names = final_names(made.entries, {entry.number: found.identity(entry) for entry in made.entries})
    fill(made.slots, names, found.matches)
    await _prefetch(found, made, context)
    if any(HISTORY in slot.text for slot in made.slots):
        names |= await _versions(made, found, names, request, context)
        fill(made.slots, names, found.matches)
    inner = replace(context, later=[])
    checks: list[tuple[Entry, Check]] = []
    replies: dict[int, bytes] = {}
    for number, entry in enumerate(made.entries):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        if not _is_after(entry):
            replies[entry.number] = await _carry_out(entry, found, names, request, inner, perform)
            checks += [(entry, check) for check in inner.later or ()]
            (inner.later or []).clear()
    await _hold_to(checks)
    return replies


async def _hold_to(checks: list[tuple[Entry, Check]]) -> None:
    """Carry out what was put off until everything is there or gone."""
    for entry, check in checks:
        with _about(entry):
            await check()


def _is_after(entry: Entry) -> bool:
    """Operations and histories look at what is committed."""
    return entry.order == 3 and (entry.is_operation or entry.parts[-1:] == ("_history",))


async def _prefetch(found: Resolved, made: Plan, context: Context) -> None:
    """Read what will be changed in one call."""
    changed = [entry for entry in made.entries if entry.order < 3 and (entry.method != "POST")]
    names = {found.identity(entry) for entry in changed} - {""}
    if names and isinstance(context.store, Transaction):
        await context.store.prefetch(names)


async def _versions(
    made: Plan, found: Resolved, names: Mapping[str, str], request: Request, context: Context
) -> dict[str, str]:
    """What references to a version of an entry become: `urn:uuid:…/_history/` -> `Patient/123/_history/4`.

    A client cannot know the version; every one is written anew (R4 http.html#trules).
    """
    versions: dict[str, str] = {}
    for entry in made.entries:
        identity = found.identity(entry)
        if identity and entry.order < 3:
            current = await _current(entry, identity, request, context)
            version = _version_to_be(entry, current, found)
            versions |= {f"{name}{HISTORY}": f"{names[name]}{HISTORY}{version}" for name in names_of(entry)}
    return versions


async def _current(entry: Entry, identity: str, request: Request, context: Context) -> Stored | None:
    """What an entry is about; the delete of what the caller does not see finds nothing, where other writes fail."""
    current = await context.store.get(*identity.split("/"))
    if entry.method != "DELETE" or current is None:
        return current
    with _about(entry):
        return current if await access.sees(entry_request(entry, request), context, current) else None


def _version_to_be(entry: Entry, current: Stored | None, found: Resolved) -> int:
    """The version after the transaction: one more, unless nothing is changed."""
    if current is None:
        return 1
    stays = found.is_left_alone(entry) or (entry.method == "PUT" and is_same(entry.resource or {}, current))
    return current.version + (not stays)


async def _carry_out(
    entry: Entry, found: Resolved, names: Mapping[str, str], request: Request, context: Context, perform: Perform
) -> bytes:
    own = entry_request(entry, request)
    own.checked, own.names = True, names
    own.resolved = found.entries.get(entry.number)
    with _about(entry):
        return reply(await perform(own, context), context, own)


@contextmanager
def _about(entry: Entry) -> Iterator[None]:
    """Errors leave the block with the entry that they are about."""
    try:
        yield
    except FhirError as error:
        issues = [_placed(issue, entry) for issue in error.issues]
        raise FhirError(error.code, error.text, status=error.status, headers=error.headers, issues=issues) from error


async def _resolve(made: Plan, request: Request, context: Context) -> Resolved:
    """Run the searches that the entries and references ask for, with the match keys in hand."""
    found = Resolved()
    open_entries = [(entry, _criteria(entry)) for entry in made.entries if entry.condition is not None]
    keys = [match_key(entry.type, pairs) for entry, pairs in open_entries]
    if keys:
        await hold(context, request, *keys)
    first: dict[str, Entry] = {}
    for (entry, pairs), key in zip(open_entries, keys, strict=True):
        await _resolve_entry(entry, pairs, first.setdefault(key, entry), found, request, context)
    for text, condition in made.conditions.items():
        found.matches[text] = await _target(text, condition, first, found, request, context)
    return found


def _criteria(entry: Entry) -> Pairs:
    with _about(entry):
        return narrowing(entry.condition or [])


async def _resolve_entry(
    entry: Entry, pairs: Pairs, first: Entry, found: Resolved, request: Request, context: Context
) -> None:
    """The second of two creates with the same criteria finds what the first one made."""
    most = context.config.max_conditional_delete + 1 if entry.method == "DELETE" else 2
    with _about(entry):
        matches = await matching(entry.type, pairs, request, context, most)
        if entry.method != "DELETE":
            only(matches, entry.type)
    if first is not entry and not matches and entry.method == "POST":
        found.aliases[entry.number] = first
    else:
        found.entries[entry.number] = matches


async def _target(
    text: str, condition: Condition, first: Mapping[str, Entry], found: Resolved, request: Request, context: Context
) -> str:
    """The one resource that a conditional reference means: what an entry makes, or what is stored."""
    try:
        own = first.get(match_key(condition.type, narrowing(condition.pairs)))
        if own is not None:
            return found.identity(own)
        matches = await matching(condition.type, condition.pairs, request, context)
    except FhirError as error:
        raise FhirError(
            error.code, f"{condition.place}: {error.text}", condition.place, status=error.status, headers=error.headers
        ) from error
    if len(matches) != 1:
        number = "more than one resource" if matches else "no resource"
        code = "multiple-matches" if matches else "not-found"
        told = f"{condition.place}: the conditional reference {text} matches {number}."
        raise FhirError(code, told, condition.place, status=412)
    return f"{matches[0].type}/{matches[0].id}"
