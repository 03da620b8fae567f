"""The privacy consents of a database as a worker holds them: read as they are written, forgotten as they are erased."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from fhir_server.access.membership import SHARED_ACTORS, patients_by
from fhir_server.context import Resource
from fhir_server.ids import local_name
from fhir_server.store import Store, Stored, stored_of
from profiles.json import decode
from search.params import Registry
from smart_auth.consents import in_force

LATE = timedelta(seconds=10)  # a write is visible at most so long after the instant it carries
NAMED_FOR = 5.0  # seconds after which the patients that consents name by identifier are looked up again
CONSENTS = {"$gte": "Consent/", "$lt": "Consent0"}


class Consents:
    """Active consents by id; those that name their patient by identifier alone once for each patient who has it."""

    def __init__(self, store: Store, base: str) -> None:
        self._store = store
        self._base = base
        self._literal: dict[str, Resource] = {}
        self._logical: dict[str, Resource] = {}
        self._named: list[Resource] = []
        self._looked = 0.0
        self._versions: dict[str, int] = {}
        self._seen: datetime | None = None
        self.shared = False  # one of them has an actor that stands for several people

    def live(self, now: datetime) -> Iterator[Resource]:
        """Those in force."""
        return (consent for held in (self._literal.values(), self._named) for consent in held if in_force(consent, now))

    async def refresh(self, registry: Registry, *, erased: bool) -> bool:
        """Take in what was written since the last look, or look at all where some were erased; whether any changed."""
        changed = await self._read(all_of_them=erased or self._seen is None)
        if self._logical or self._named:
            changed |= await self._name(registry, again=changed)
        if changed:
            held = (*self._literal.values(), *self._logical.values())
            self.shared = any(names_several(consent.get("provision")) for consent in held)
        return changed

    async def _read(self, *, all_of_them: bool) -> bool:
        filter: dict[str, Any] = {"_id": CONSENTS}
        if not all_of_them and self._seen is not None:
            filter["at"] = {"$gt": self._seen - LATE}
        rows = await self._store.reads.find_documents(filter, hint="at" if "at" in filter else None)
        found = [stored_of(row) for row in rows]
        fresh = [stored for stored in found if self._versions.get(stored.id) != stored.version]
        gone = self._versions.keys() - {stored.id for stored in found} if all_of_them else ()
        for stored in fresh:
            await self._take(stored)
        for id in gone:
            self._drop(id)
        return bool(fresh or gone)

    async def _take(self, stored: Stored) -> None:
        whole = await self._store.fill(stored) if stored.blob else stored
        resource = decode(whole.body) if whole.body else None
        self._drop(stored.id)
        self._seen = max(stored.at, self._seen) if self._seen else stored.at
        self._versions[stored.id] = stored.version
        if isinstance(resource, dict) and resource.get("status") == "active":
            made = localized(resource, self._base)
            (self._logical if identifier_of(made) else self._literal)[stored.id] = made

    def _drop(self, id: str) -> None:
        for held in (self._versions, self._literal, self._logical):
            held.pop(id, None)

    async def _name(self, registry: Registry, *, again: bool) -> bool:
        """Look up the patients that are named by identifier; whether they are others than before."""
        if not again and time.monotonic() - self._looked < NAMED_FOR:
            return False
        held = self._logical.values()
        known = await patients_by({pair for consent in held if (pair := identifier_of(consent))}, self._store, registry)
        before, self._named = self._named, list(_of(known, held))
        self._looked = time.monotonic()
        return self._named != before


def _of(known: Mapping[tuple[str, str], list[str]], consents: Iterable[Resource]) -> Iterator[Resource]:
    for consent in consents:
        pair = identifier_of(consent)
        for id in known.get(pair, ()) if pair else ():
            yield consent | {"patient": {"reference": f"Patient/{id}"}}


def identifier_of(consent: Resource) -> tuple[str, str] | None:
    """System and value by which a consent names its patient, where it has no literal reference."""
    patient = consent.get("patient") or {}
    identifier = patient.get("identifier") or {}
    if "reference" in patient or not identifier.get("value"):
        return None
    return identifier.get("system", ""), identifier["value"]


def localized(node: Any, base: str) -> Any:
    """The same with references to this server as `Patient/123`, whether they were absolute or named a version."""
    if isinstance(node, list):
        return [localized(item, base) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: localized(value, base) for key, value in node.items()}
    text = node.get("reference")
    return made | {"reference": local_name(text, base) or text} if isinstance(text, str) else made


def names_several(provision: Any) -> bool:
    """Whether a provision or one inside it has an actor that stands for several people."""
    rule = provision or {}
    names = (str(actor.get("reference", {}).get("reference", "")) for actor in rule.get("actor", ()))
    return any(name.startswith(SHARED_ACTORS) for name in names) or any(map(names_several, rule.get("provision", ())))
