"""transaction: all entries or none (http://hl7.org/fhir/R4/http.html#trules)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from fhir_server import access
from fhir_server.answers.respond import Response, bundle, failure
from fhir_server.bundles.entries import Entry
from fhir_server.bundles.envelope import checked_entries
from fhir_server.bundles.links import HISTORY, fill, final_names, names_of, slots_of_patched
from fhir_server.bundles.places import about, placed
from fhir_server.bundles.plan import Condition, Plan, condition_of, plan
from fhir_server.bundles.replies import entry_request, reply
from fhir_server.bundles.resolving import Resolved, look_up, refuse_overlaps, resolve, unclear
from fhir_server.context import Context, Request, Resource
from fhir_server.store import Stored, Transaction
from fhir_server.writing.atomic import atomically
from fhir_server.writing.checking import DEFINING, defined, faults, store_of
from fhir_server.writing.conditions import once
from fhir_server.writing.provenance import keep, names_source, source_of
from fhir_server.writing.resource import check_type, is_same
from profiles.json import decode
from profiles.outcome import FhirError, Issue

Check: TypeAlias = Callable[[], Awaitable[None]]
Perform: TypeAlias = Callable[[Request, Context], Awaitable[Response]]

BREATH = 32  # entries between two looks at the event loop: about 3 ms


@dataclass(slots=True)
class Attempt:
    """One attempt inside the database's transaction; it may be made again from the start.

    `names` is what each name of an entry becomes, `replies` are by number of the entry, `checks` were put off.
    """

    made: Plan
    found: Resolved
    names: dict[str, str]
    request: Request
    context: Context
    perform: Perform
    replies: dict[int, bytes] = field(default_factory=dict)
    checks: list[tuple[Entry, Check]] = field(default_factory=list)


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
            issues += [placed(issue, entry) for issue in await _faults(entry, request, context)]
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


async def _attempt(made: Plan, request: Request, context: Context, perform: Perform) -> dict[int, bytes]:
    await once(request, context)
    found = await resolve(made.entries, request, context)
    refuse_overlaps(made.entries, found)
    names = final_names(made.entries, {entry.number: found.identity(entry) for entry in made.entries})
    fill(made.slots, names, {})
    await _prefetch(found, made, context)
    attempt = Attempt(made, found, names, request, replace(context, later=[]), perform)
    writes = [entry for entry in made.entries if entry.order < 3]
    await _carry_out([entry for entry in writes if entry.number not in made.late], attempt)
    await _carry_out_late([entry for entry in writes if entry.number in made.late], attempt)
    await _carry_out([entry for entry in made.entries if entry.order == 3 and not _is_after(entry)], attempt)
    await _hold_to(attempt.checks)
    return attempt.replies


async def _hold_to(checks: list[tuple[Entry, Check]]) -> None:
    """Carry out what was put off until everything is there or gone."""
    for entry, check in checks:
        with about(entry):
            await check()


def _is_after(entry: Entry) -> bool:
    """Operations and histories look at what is committed."""
    return entry.order == 3 and (entry.is_operation or entry.parts[-1:] == ("_history",))


async def _prefetch(found: Resolved, made: Plan, context: Context) -> None:
    """Read what will be changed in one call."""
    changed = [entry for entry in made.entries if entry.order < 3 and (entry.method != "POST")]
    names = {name for entry in changed for name in found.identities(entry)} - {""}
    if names and isinstance(context.store, Transaction):
        await context.store.prefetch(names)


async def _carry_out(entries: list[Entry], attempt: Attempt) -> None:
    for number, entry in enumerate(entries):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        attempt.replies[entry.number] = await _answer_to(entry, attempt)
        later = attempt.context.later or []
        attempt.checks += [(entry, check) for check in later]
        later.clear()


async def _answer_to(entry: Entry, attempt: Attempt) -> bytes:
    own = entry_request(entry, attempt.request)
    own.checked = True
    own.resolved = attempt.found.entries.get(entry.number)
    if entry.method == "PATCH":
        own.settle = partial(_settle, attempt)
    with about(entry):
        return reply(await attempt.perform(own, attempt.context), attempt.context, own)


# References that only what was written tells


async def _carry_out_late(waiting: list[Entry], attempt: Attempt) -> None:
    """Conditional references mean what the transaction leaves, and versions are those it makes (R4 http.html#trules).

    An entry waits for what it refers to; where entries wait for each other's versions, these are foretold.
    """
    while waiting:
        await _look_up(waiting, attempt)
        ready = [entry for entry in waiting if not _unmatched(entry, attempt)]
        if not ready:
            raise unclear(_unmatched(waiting[0], attempt)[0])
        ready = [entry for entry in ready if not _names_version(entry, attempt)] or ready
        await _fill_late(ready, attempt)
        await _carry_out(ready, attempt)
        waiting = [entry for entry in waiting if entry.number not in attempt.replies]


def _unmatched(entry: Entry, attempt: Attempt) -> list[Condition]:
    texts = {slot.text: slot for slot in attempt.made.late[entry.number] if slot.kind == "condition"}
    return [attempt.made.conditions[text] for text in texts if text not in attempt.found.matches]


def _names_version(entry: Entry, attempt: Attempt) -> bool:
    return any(slot.names_version for slot in attempt.made.late[entry.number])


async def _look_up(waiting: list[Entry], attempt: Attempt) -> None:
    for condition in {each.text: each for entry in waiting for each in _unmatched(entry, attempt)}.values():
        target = await look_up(condition, attempt.found, attempt.request, attempt.context)
        if target is not None:
            attempt.found.matches[condition.text] = target


async def _fill_late(ready: list[Entry], attempt: Attempt) -> None:
    slots = [slot for entry in ready for slot in attempt.made.late[entry.number]]
    if any(_names_version(entry, attempt) for entry in ready):
        done = [entry for entry in attempt.made.entries if entry.number in attempt.replies]
        attempt.names |= await _versions(done, attempt)
        fill(slots, attempt.names, attempt.found.matches)
        attempt.names |= await _versions(ready, attempt)
    fill(slots, attempt.names, attempt.found.matches)


async def _versions(entries: list[Entry], attempt: Attempt) -> dict[str, str]:
    """What references to a version of an entry become: `urn:uuid:…/_history/` -> `Patient/123/_history/4`.

    A client cannot know the version; every one is written anew (R4 http.html#trules).
    """
    versions: dict[str, str] = {}
    for entry in entries:
        identity = attempt.found.identity(entry)
        if identity:
            current = await _current(entry, identity, attempt)
            version = _version_to_be(entry, current, attempt)
            versions |= {f"{name}{HISTORY}": f"{identity}{HISTORY}{version}" for name in names_of(entry)}
    return versions


async def _current(entry: Entry, identity: str, attempt: Attempt) -> Stored | None:
    """What an entry is about; the delete of what the caller does not see finds nothing, where other writes fail."""
    current = await attempt.context.store.get(*identity.split("/"))
    if entry.method != "DELETE" or current is None:
        return current
    with about(entry):
        return current if await access.sees(entry_request(entry, attempt.request), attempt.context, current) else None


def _version_to_be(entry: Entry, current: Stored | None, attempt: Attempt) -> int:
    """The version after the transaction: the one that is there, or one more where that is still to be changed."""
    if current is None:
        return 1
    stays = entry.number in attempt.replies or attempt.found.is_left_alone(entry)
    return current.version + (not (stays or (entry.method == "PUT" and is_same(entry.resource or {}, current))))


async def _settle(attempt: Attempt, resource: Resource, before: Stored) -> None:
    """Write the final references into what a patch made; conditional ones that were there before stay."""
    base = attempt.context.config.base
    slots = slots_of_patched(resource, attempt.names, base)
    if any(slot.kind == "condition" for slot in slots):
        kept = {slot.text for slot in slots_of_patched(decode(before.body or b"{}"), (), base)}
        slots = [slot for slot in slots if slot.text not in kept]
    matches = dict(attempt.found.matches)
    for slot in slots:
        if slot.kind == "condition" and slot.text not in matches:
            matches[slot.text] = await _meant(condition_of(slot)._replace(place=""), attempt)
    fill(slots, attempt.names, matches)


async def _meant(condition: Condition, attempt: Attempt) -> str:
    target = await look_up(condition, attempt.found, attempt.request, attempt.context)
    if target is None:
        raise unclear(condition)
    return target
