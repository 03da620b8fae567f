"""The audit trail of a server: every interaction and login becomes an AuditEvent, durable before the answer leaves."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fhir_server.context import Context, Request
from fhir_server.respond import Response, instant_text
from fhir_server.store import New, Store
from fhir_server.store.audit import Journal
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

IDLE = 2.0  # seconds between two looks for events that can move on
AUDIT_EVENT = "AuditEvent"
MOST_PATIENTS = 50


@dataclass(frozen=True, slots=True)
class Written:
    """An event as it will be stored."""

    id: str
    body: bytes


class Trail:
    """The trail of one database."""

    def __init__(self, context: Context, key: bytes) -> None:
        store = context.store
        if not isinstance(store, Store):
            raise FhirError("exception", "The audit trail needs a store.")
        self._store = store
        self._context = context
        self._key = hmac.digest(key, b"audit trail", "sha256")
        self.journal = Journal(store.driver, self._key)
        self._batches: Batches[Written, None] = Batches(self._append, size=512)
        self._moving = asyncio.Lock()
        self._unmoved = False

    async def note(self, kind: str, details: Record) -> None:
        """Record a login, a token, an emergency (`smart_auth.realm.Note`)."""
        at, identity = self._stamp()
        await self._write(audit.security_event(kind, details, id=identity, at=at, server=self._context.config.base))

    async def record(self, request: Request, interaction: str, answer: Response | Exception) -> None:
        """Record one interaction, whatever became of it."""
        at, identity = self._stamp()
        facts = facts_of(request, interaction, answer)
        await self._write(audit.event(facts, id=identity, at=at, server=self._context.config.base))

    def _stamp(self) -> tuple[str, str]:
        return instant_text(self._context.now()), self._context.new_id()

    async def _write(self, event: audit.Resource) -> None:
        self._unmoved = True
        await self._batches(Written(event["id"], encode(event)))

    async def _append(self, items: list[Written]) -> list[None]:
        await self.journal.append([(i.id, chain.digest(i.body)) for i in items], [i.body for i in items])
        return [None] * len(items)

    # Moving on

    async def move(self) -> None:
        """Put the events that are still in the journal where they can be searched; safe to repeat."""
        async with self._moving:
            self._unmoved = False
            while batches := await self.journal.open():
                await asyncio.gather(*(self._store_event(body) for _, bodies in batches for body in bodies))
                await self.journal.close([number for number, _ in batches])

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

    async def verify(self) -> AsyncIterator[str]:
        """Every fault of the trail in a sentence; none when it is whole."""
        await self.move()
        before, counted = None, 0
        while links := await self.journal.walk(before.number if before else 0):
            for fault in chain.faults(self._key, links, before):
                yield fault
            for link in links:
                counted += len(link.rows)
                for fault in chain.event_faults(link.rows, await self._digests([row[0] for row in link.rows])):
                    yield fault
            before = links[-1]
        stored = await self._store.reads.count({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}})
        if stored > counted:
            yield f"{stored - counted} AuditEvents are in no link"

    async def _digests(self, identities: list[str]) -> dict[str, str]:
        found = await asyncio.gather(*(self._store.get(AUDIT_EVENT, identity) for identity in identities))
        return {each.id: chain.digest(each.body) for each in found if each is not None and each.body is not None}


def facts_of(request: Request, interaction: str, answer: Response | Exception) -> Facts:
    """What is to be told of an interaction."""
    parts = request.parts
    stored = answer.stored if isinstance(answer, Response) else None
    kind = stored.type if stored else next((part for part in reversed(parts) if part in RESOURCE_TYPES), "")
    identity = (
        stored.id if stored else parts[1] if len(parts) > 1 and parts[0] == kind and parts[1][:1] not in "_$" else ""
    )
    operation = parts[-1].removeprefix("$") if parts and parts[-1].startswith("$") else ""
    return Facts(
        interaction=interaction,
        status=_status(answer),
        type=kind,
        id=identity,
        version=str(stored.version) if stored else "",
        patients=_patients(answer),
        query=("/".join(parts) + "?" + urlencode(request.query)).encode() if "search" in interaction else b"",
        operation=operation,
        peer=request.peer,
        request=request.id,
        **_who(request.principal.principal if request.principal is not None else None),
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


def _who(principal: Principal | None) -> Mapping[str, Any]:
    if principal is None:
        return {}
    return {
        "client": principal.client,
        "user": principal.user,
        "fhir_user": principal.fhir_user,
        "name": principal.name if principal.user else "",
        "roles": tuple(policy.name for policy in principal.policies),
        "purpose": "BTG" if principal.glass is not None else principal.purpose,
    }
