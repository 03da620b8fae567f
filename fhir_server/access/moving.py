"""From the journal to AuditEvents that can be searched: at once for who asks, at leisure while the server is busy."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from fhir_server.context import Context, Request
from fhir_server.store import New, Store
from fhir_server.store.audit import Journal
from profiles.json import encode
from profiles.outcome import FhirError
from search.entries import compartment, entries
from smart_auth import chain
from smart_auth.audit import Resource

AUDIT_EVENT = "AuditEvent"
IDLE = 2.0  # seconds between two looks for events that can move on
# While some request is always at work, an event is made for so many times its processor time of other work.
REST = 99
LOOK = 0.01  # seconds between two looks whether a request is at work
AT_ONCE = 16  # events between two looks at who waits: 2 ms
PATIENCE = 2.0  # seconds that who asks for AuditEvents waits for them to move on
BEHIND = "The audit trail is being caught up with: the newest events may be missing. Search again."
# What may show events without naming their type.
WIDE = frozenset({"search-system", "history-system"})
WIDE_OPERATIONS = frozenset({"$everything", "$graph"})


def looks_at_trail(request: Request, interaction: str) -> bool:
    """Whether AuditEvents may be in the answer; a Bundle's entries are asked about one by one."""
    parts = request.parts
    if interaction in ("transaction", "batch"):
        return False
    if AUDIT_EVENT in parts or interaction in WIDE or "*" in parts or not WIDE_OPERATIONS.isdisjoint(parts):
        return True
    asked = any(AUDIT_EVENT in name or AUDIT_EVENT in value or value == "*" for name, value in request.query)
    return asked or ("_search" in parts and (AUDIT_EVENT.encode() in request.body or b"*" in request.body))


class Mover:
    """The events of one trail on their way."""

    def __init__(
        self,
        store: Store,
        context: Context,
        journal: Journal,
        event: Callable[[bytes], Resource],
        busy: Callable[[], bool],
    ) -> None:
        self._store = store
        self._context = context
        self._journal = journal
        self._event = event
        self._busy = busy
        self._lock = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._waiting = 0
        self.told = 1  # lines so far: what was left by another time is looked for once
        self._moved = 0

    async def move(self, seconds: float | None = None) -> bool:
        """Move all that is there; False when it takes longer than `seconds`. Safe to repeat."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        self._waiting += 1
        self._hurry.set()
        try:
            await asyncio.wait_for(self._lock.acquire(), seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._hurry.clear()
        try:
            return await self._move(end, rest=0)
        finally:
            self._lock.release()

    async def run(self) -> None:
        """Move events on for as long as the server lives."""
        while True:
            await asyncio.sleep(IDLE)
            if self._moved == self.told:
                continue
            try:
                async with self._lock:
                    await self._move(math.inf, rest=REST)
            except FhirError:
                continue  # they are still in the journal, and looked for again

    async def _move(self, end: float, rest: float) -> bool:
        """Link by link until none of now is open; between bits of work busy requests work `rest` times as long.

        Who does it at leisure makes way for who is in a hurry, and leaves it to one worker.
        """
        told, last = self.told, await self._journal.last()
        while links := await self._journal.open(last.number if last else 0):
            done: list[int] = []
            for link in links:
                if time.monotonic() > end or (rest and (self._hurry.is_set() or not await self._journal.lead())):
                    break
                await self._move_link(link, rest)
                done.append(link.number)
            await self._journal.close(done)
            if len(done) < len(links):
                return False
        self._moved = told
        return True

    async def _move_link(self, link: chain.Link, rest: float) -> None:
        digests: list[str] = []
        lines = link.lines
        for first in range(0, len(lines), AT_ONCE):
            digests += await self._store_events(lines[first : first + AT_ONCE], rest)
        await self._journal.append(chain.stored(link.number, digests), open=False)

    async def _store_events(self, lines: Sequence[bytes], rest: float) -> list[str]:
        """Store the events of some lines; the digests of their bodies."""
        begun = time.process_time()
        news = [self._new(self._event(line)) for line in lines]
        spent = time.process_time() - begun
        await self._store.create_missing(news)
        if rest:
            await self._nap(time.process_time() + spent * rest)
        return [chain.digest(new.body or b"") for new in news]

    async def _nap(self, until: float) -> None:
        """Let others work: until no request is at work, this process took so much, or somebody waits for events."""
        while time.process_time() < until:
            try:
                await asyncio.wait_for(self._hurry.wait(), LOOK)
            except TimeoutError:
                if self._busy():
                    continue
            return

    def _new(self, event: Resource) -> New:
        registry, base = self._context.registry, self._context.config.base
        found, patient = entries(event, registry, base), compartment(event, registry, base)
        at = datetime.fromisoformat(event["recorded"])
        return New(AUDIT_EVENT, event["id"], 1, at, encode(event), found, patient, "POST")
