"""The audit trail of a server: every interaction and login becomes an AuditEvent, durable before the answer leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog

from fhir_server.access import retention
from fhir_server.access.gate import Caller
from fhir_server.access.moving import AUDIT_EVENT, Mover
from fhir_server.access.telling import NOBODY, facts_of, opened, rows_of, who_of
from fhir_server.answers.respond import Response, instant_text
from fhir_server.context import Context, Request
from fhir_server.keyring import derived, mark
from fhir_server.secrecy import Sealed
from fhir_server.store import Store
from fhir_server.store.audit import Journal
from fhir_server.store.auth import AuthRecords
from fhir_server.store.batches import Batches
from profiles.outcome import FhirError
from smart_auth import audit, chain
from smart_auth.realm import Record

# What the operator is told at once, in the log, besides the trail.
ALARMS = frozenset({"break-glass", "token-replay", "code-replay"})
ENCODER = msgspec.json.Encoder()

# Bytes of the lines of one link: it is one document of the database, of 16 MB at most.
MOST_BYTES = 8 * 1024 * 1024

log = structlog.get_logger()


class Trail:
    """The trail of one database."""

    def __init__(self, context: Context, *keys: bytes) -> None:
        store = context.store
        if not isinstance(store, Store):
            raise FhirError("exception", "The audit trail needs a store.")
        self._store = store
        self._context = context
        self._derived = derived(keys, b"audit trail")
        self._mark = mark(keys[0])
        self._sealed = Sealed(AuthRecords(store.driver), *keys)
        self.journal = Journal(store.driver, self._derived[0])
        self.at_work = 0
        self._batches: Batches[bytes, None] = Batches(self._append, size=1_024, enough=self._is_worth_it)
        self._mover = Mover(store, context, self.journal, self._event, lambda: self.at_work > 0)

    def now(self) -> datetime:
        """The time by the server's clock."""
        return self._context.now()

    @property
    def store(self) -> Store:
        """The database whose trail it is."""
        return self._store

    async def note(self, kind: str, details: Record) -> None:
        """Record a login, a token, an emergency (`smart_auth.realm.Note`)."""
        told = {name: value for name, value in details.items() if value is not None}
        await self._batches(ENCODER.encode((instant_text(self._context.now()), kind, told)))
        if kind in ALARMS:
            log.warning("alarm", kind=kind, user=details.get("user"), client=details.get("client"))

    async def alarms(self) -> list[tuple[str, str, Record]]:
        """The emergencies and replays of the whole trail, the oldest first: when, what, details."""
        found: list[tuple[str, str, Record]] = []
        after = 0
        while links := await self.journal.walk(after):
            lines = (line for link in links if link.tells for line in link.lines)
            rows = (msgspec.json.decode(line) for line in lines)
            found += [(at, kind, details) for _, at, kind, details in rows if kind in ALARMS]
            after = links[-1].number
        return found

    def record(self, request: Request, interaction: str, answer: Response | Exception) -> asyncio.Future[Any]:
        """Record one interaction, whatever became of it; done when that is durable."""
        now = self._context.now()
        caller = request.principal
        who = NOBODY if caller is None else caller.told or self._who(caller, now)
        at = int(now.timestamp() * 1000)
        told = [self._batches(ENCODER.encode((at, "", row))) for row in rows_of(request, interaction, answer, who)]
        return told[0] if len(told) == 1 else asyncio.gather(*told)

    def _who(self, caller: Caller, now: datetime) -> msgspec.Raw:
        """Who asks, as it stands in their lines; kept for who has no emergency session, which ends by the clock."""
        who = who_of(caller.principal, now)
        if caller.principal.glass is None:
            caller.told = who
        return who

    def _is_worth_it(self, lines: int) -> bool:
        """A write to the journal costs as much as ten reads: while most requests are still at work, it waits."""
        return 2 * lines >= self.at_work

    async def _append(self, lines: list[bytes]) -> list[None]:
        """Write the lines as one link, or as several where they outgrow a document."""
        for part in _parted(lines):
            await self._append_link(part)
        return [None] * len(lines)

    async def _append_link(self, lines: Sequence[bytes]) -> None:
        """An id for all lines and a number for each cost less than ids."""
        name = self._context.new_id().encode()
        named = [b'["%b-%04d",%b' % (name, number, line[1:]) for number, line in enumerate(lines)]
        await self.journal.append(chain.told(named), open=True)
        self._mover.told += len(lines)

    def _event(self, line: bytes) -> audit.Resource:
        """The AuditEvent of a line of the journal."""
        identity, at, kind, told = opened(line)
        server = self._context.config.base
        if kind:
            return audit.security_event(kind, told, id=identity, at=at, server=server)
        return audit.event(facts_of(told), id=identity, at=at, server=server)

    async def move(self, seconds: float | None = None) -> bool:
        """Put what is still in the journal where it can be searched; False when that takes longer than `seconds`."""
        return await self._mover.move(seconds)

    async def run(self) -> None:
        """Move events on, with a small share of the time while requests come in."""
        await self._mover.run()

    # Verifying

    async def keys(self, number: int = 0) -> list[bytes]:
        """The keys that links from this number on may have, the oldest first; former ones are sealed in the database.

        After the link that ended a rotation it is the current one alone.
        """
        held = await self._sealed.get("state", "chain") or {}
        if held.get("mark") == self._mark and number >= held["rekeyed"]:
            return self._derived[:1]
        old = [bytes.fromhex(text) for text in held.get("chain", ())]
        current, *former = self._derived
        return [*dict.fromkeys(key for key in (*old, *former) if key != current), current]

    async def rekey(self) -> None:
        """Prove the chain, keep its former keys sealed, and take no link of theirs from here on; safe to repeat."""
        held = await self._sealed.get("state", "chain") or {}
        if held.get("mark") == self._mark:
            return
        async for fault in self.verify():
            raise FhirError("conflict", f"The audit trail is not whole, and its key stays: {fault}.")
        former = {"chain": [key.hex() for key in (await self.keys())[:-1]]}
        await self._sealed.put("state", "chain", former)
        link = await self.journal.append(chain.REKEYED)
        await self._sealed.put("state", "chain", former | {"mark": self._mark, "rekeyed": link.number})

    async def verify(self) -> AsyncIterator[str]:
        """Every fault of the trail in a sentence; none when it is whole. What was removed in its time is no fault."""
        await self.move()
        await retention.finish(self)
        anchor = await self.journal.anchor()
        before = anchor.cut if anchor else None
        proof = chain.Proof(await self.keys(before.number if before else 0), before)
        unmoved: set[int] = set()
        counted = 0
        while links := await self.journal.walk(before.number if before else 0):
            for fault in proof.faults(links):
                yield fault
            for link in links:
                if link.tells:
                    unmoved.add(link.number)
                    counted += len(link.lines)
                    continue
                unmoved.discard(link.of or 0)
                for fault in await self.event_faults(link):
                    yield fault
            before = links[-1]
        if before is not None and await self._is_late(before):
            yield f"link {before.number} was made with a key that is not in use any more"
        for number in sorted(unmoved):
            yield f"the events of link {number} were never stored"
        stored = await self._store.reads.count({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}})
        if stored > counted:
            yield f"{stored - counted} AuditEvents are in no link"

    async def _is_late(self, last: chain.Link) -> bool:
        """Whether the chain ends with a former key although the rotation is done."""
        held = await self._sealed.get("state", "chain") or {}
        return held.get("mark") == self._mark and not chain.fits(self._derived[0], last)

    async def event_faults(self, link: chain.Link) -> list[str]:
        """What is wrong with the events whose digests a link has."""
        told = await self.journal.link(link.of or 0)
        if told is None:
            return []
        names = retention.names(told)
        found = await asyncio.gather(*(self._store.get(AUDIT_EVENT, name) for name in names))
        digests = {each.id: chain.digest(each.body) for each in found if each is not None and each.body is not None}
        wanted = zip(names, (line.decode() for line in link.lines), strict=False)
        return list(chain.event_faults(wanted, digests))


def _parted(lines: list[bytes]) -> Iterator[list[bytes]]:
    """The lines in order, in parts that fit into a link each; nearly always it is one."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line)
        if part and size > MOST_BYTES:
            yield part
            part, size = [], len(line)
        part.append(line)
    yield part
