"""The audit trail of a server: every interaction and login becomes an AuditEvent, durable before the answer leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog

from fhir_server.access import retention
from fhir_server.answers.respond import Response, instant_text
from fhir_server.context import Context, Request
from fhir_server.keyring import derived, mark
from fhir_server.secrecy import Sealed
from fhir_server.store import New, Store
from fhir_server.store.audit import Journal
from fhir_server.store.auth import AuthRecords
from fhir_server.store.batches import Batches
from profiles.json import encode
from profiles.json import parse as parse_json
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.entries import compartment, entries
from smart_auth import audit, chain
from smart_auth.access import Principal
from smart_auth.audit import Facts
from smart_auth.realm import Record

# What the operator is told at once, in the log, besides the trail.
ALARMS = frozenset({"break-glass", "token-replay", "code-replay"})
IDLE = 2.0  # seconds between two looks for events that can move on
AUDIT_EVENT = "AuditEvent"

log = structlog.get_logger()
MOST_PATIENTS = 50


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
        self._batches: Batches[bytes, None] = Batches(self._append, size=1_024)
        self._moving = asyncio.Lock()
        self._unmoved = True

    def now(self) -> datetime:
        """The time by the server's clock."""
        return self._context.now()

    @property
    def store(self) -> Store:
        """The database whose trail it is."""
        return self._store

    async def note(self, kind: str, details: Record) -> None:
        """Record a login, a token, an emergency (`smart_auth.realm.Note`)."""
        await self._tell(kind, {name: value for name, value in details.items() if value is not None})
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

    async def record(self, request: Request, interaction: str, answer: Response | Exception) -> None:
        """Record one interaction, whatever became of it."""
        await self._tell("", facts_of(request, interaction, answer, self._context.now()))

    async def _tell(self, kind: str, facts: Facts | Record) -> None:
        self._unmoved = True
        line = (self._context.new_id(), instant_text(self._context.now()), kind, facts)
        await self._batches(msgspec.json.encode(line))

    async def _append(self, lines: list[bytes]) -> list[None]:
        await self.journal.append(chain.told(lines), open=True)
        return [None] * len(lines)

    def _event(self, line: bytes) -> audit.Resource:
        """The AuditEvent of a line of the journal."""
        identity, at, kind, facts = msgspec.json.decode(line)
        server = self._context.config.base
        if kind:
            return audit.security_event(kind, facts, id=identity, at=at, server=server)
        return audit.event(msgspec.convert(facts, Facts), id=identity, at=at, server=server)

    # Moving on

    async def move(self) -> None:
        """Put the events that are still in the journal where they can be searched; safe to repeat."""
        async with self._moving:
            self._unmoved = False
            while links := await self.journal.open():
                for link in links:
                    bodies = [encode(self._event(line)) for line in link.lines]
                    await asyncio.gather(*map(self._store_event, bodies))
                    await self.journal.append(chain.stored(link.number, list(map(chain.digest, bodies))), open=False)
                await self.journal.close([link.number for link in links])

    async def _store_event(self, body: bytes) -> None:
        resource: Any = parse_json(body)
        registry, base = self._context.registry, self._context.config.base
        found, patient = entries(resource, registry, base), compartment(resource, registry, base)
        at = datetime.fromisoformat(resource["recorded"])
        try:
            await self._store.create(New(AUDIT_EVENT, resource["id"], 1, at, body, found, patient, "POST"))
        except FhirError as error:
            if error.code != "duplicate":
                raise

    async def run(self) -> None:
        """Move events on whenever there are some and nobody is in a hurry."""
        while True:
            await asyncio.sleep(IDLE)
            if self._unmoved:
                try:
                    await self.move()
                except FhirError:
                    self._unmoved = True

    # Verifying

    async def keys(self) -> list[bytes]:
        """The keys of the chain, the oldest first; those of former master keys are sealed in the database."""
        held = await self._sealed.get("state", "chain") or {}
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
        await self.journal.append(chain.REKEYED)
        await self._sealed.put("state", "chain", former | {"mark": self._mark})

    async def verify(self) -> AsyncIterator[str]:
        """Every fault of the trail in a sentence; none when it is whole. What was removed in its time is no fault."""
        await self.move()
        await retention.finish(self)
        anchor = await self.journal.anchor()
        before = anchor.cut if anchor else None
        proof = chain.Proof(await self.keys(), before)
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
        names: list[str] = [msgspec.json.decode(line)[0] for line in told.lines]
        found = await asyncio.gather(*(self._store.get(AUDIT_EVENT, name) for name in names))
        digests = {each.id: chain.digest(each.body) for each in found if each is not None and each.body is not None}
        wanted = zip(names, (line.decode() for line in link.lines), strict=False)
        return list(chain.event_faults(wanted, digests))


def facts_of(request: Request, interaction: str, answer: Response | Exception, now: datetime) -> Facts:
    """What is to be told of an interaction."""
    parts = request.parts
    stored = answer.stored if isinstance(answer, Response) else None
    kind = stored.type if stored else next((part for part in reversed(parts) if part in RESOURCE_TYPES), "")
    fine = _status(answer) < 400
    named = fine and len(parts) > 1 and parts[0] == kind and parts[1][:1] not in "_$"
    identity = stored.id if stored else parts[1] if named else ""
    operation = parts[-1].removeprefix("$") if parts and parts[-1].startswith("$") else ""
    return Facts(
        interaction=interaction,
        status=_status(answer),
        type=kind,
        id=identity,
        version=str(stored.version) if stored else "",
        patients=_patients(answer),
        query="/".join(parts) + "?" + urlencode(request.query) if fine and "search" in interaction else "",
        operation=operation,
        peer=request.peer,
        request=request.id,
        **_who(request.principal.principal if request.principal is not None else None, now),
    )


def _status(answer: Response | Exception) -> int:
    if isinstance(answer, Response):
        return answer.status
    return answer.status if isinstance(answer, FhirError) else 500


def _patients(answer: Response | Exception) -> tuple[str, ...]:
    if not isinstance(answer, Response):
        return ()
    named = [answer.stored.compartment] if answer.stored else answer.compartments
    found = dict.fromkeys(name[8:] for name in named if name.startswith("Patient/"))
    return tuple(found)[:MOST_PATIENTS]


def _who(principal: Principal | None, now: datetime) -> Mapping[str, Any]:
    if principal is None:
        return {}
    return {
        "client": principal.client,
        "user": principal.user,
        "fhir_user": principal.fhir_user,
        "name": principal.name if principal.user else "",
        "roles": tuple(policy.name for policy in principal.policies),
        "purpose": "BTG" if principal.breaks_glass(now) else principal.purpose,
    }
