"""How long the audit trail is kept (`FHIR_AUDIT_DAYS`): what is older goes, and the chain says so and holds.

A removal begins with a link that names the last link to go and its hash. That link is made with the key like any other,
so nobody can write one who can only write to the database; from then on the chain begins after the named link. Then the
events go, then their links, from the oldest on: whoever finds a removal half done carries it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog

from fhir_server.access.telling import opened
from fhir_server.answers.respond import instant_text
from profiles.outcome import FhirError
from smart_auth import chain

if TYPE_CHECKING:
    from fhir_server.access.auditing import Trail

PAUSE = 3_600.0  # seconds between two looks for events whose time is over
OPERATOR = "retention"

log = structlog.get_logger()


def names(link: chain.Link) -> list[str]:
    """The ids of the events that a link tells of."""
    return [msgspec.json.decode(line)[0] for line in link.lines] if link.tells else []


def last_told(link: chain.Link) -> str:
    """When the last event of a link happened; nothing for a link that tells of none."""
    return max((opened(line)[1] for line in link.lines), default="") if link.tells else ""


async def walk(trail: Trail, before: datetime, most: int | None = None) -> AsyncIterator[chain.Link]:
    """The links at the chain's beginning that tell of earlier events only; FhirError where they do not prove it."""
    anchor, end = await trail.journal.anchor(), instant_text(before)
    last = anchor.cut if anchor else None
    proof = chain.Proof(await trail.keys(last.number if last else 0), last)
    while links := await trail.journal.walk(last.number if last else 0):
        for link in links:
            if last_told(link) >= end or (most is not None and link.number > most):
                return
            faults = list(proof.faults([link])) or await trail.event_faults(link)
            if faults:
                raise FhirError("conflict", f"The audit trail is not whole: {faults[0]}. Nothing is removed.")
            yield link
            last = link


async def old(trail: Trail, before: datetime) -> AsyncIterator[tuple[chain.Link, list[bytes]]]:
    """The same links with the bodies of their events."""
    async for link in walk(trail, before):
        found = [await trail.store.get("AuditEvent", name) for name in names(link)]
        yield link, [stored.body for stored in found if stored is not None and stored.body is not None]


async def remove(trail: Trail, before: datetime, by: str = OPERATOR, most: int | None = None) -> int:
    """Remove what happened before the instant, told in the trail itself; how many events there were.

    With `most` only up to that link, which is what an export has written.
    """
    await trail.move()
    await finish(trail)
    last, count = None, 0
    async for link in walk(trail, before, most):
        last, count = link, count + len(names(link))
    if last is not None and count:
        await trail.note("audit-removed", {"user": by, "reason": f"{count} events before {instant_text(before)}"})
        await trail.journal.append(chain.removed(last), cut=True)
        await finish(trail)
    return count


async def finish(trail: Trail) -> None:
    """Carry out what the newest anchor says, as far as it is not done."""
    anchor = await trail.journal.anchor()
    cut = anchor.cut if anchor else None
    if anchor is None or cut is None or not any(chain.fits(key, anchor) for key in await trail.keys(anchor.number)):
        return
    while links := [link for link in await trail.journal.walk() if link.number <= cut.number]:
        await trail.journal.remove([name for link in links for name in names(link)], links[-1].number)


async def run(trail: Trail, days: int) -> None:
    """Remove what is too old, now and then."""
    while days:
        try:
            await remove(trail, trail.now() - timedelta(days=days))
        except FhirError as error:
            log.warning("audit", text=error.text)
        await asyncio.sleep(PAUSE)
