"""SearchParameters that clients stored, and the work they leave: entries for what was written before them.

A stored SearchParameter counts for every write and search from the next look on (half a second in other workers). What
lies in the database already is written anew in the background, in the order of the names; how far that is stands in
the collection `state`, so that it goes on where it was after a kill, and one worker does it at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument, UpdateOne

from fhir_server.store.errors import told
from fhir_server.store.records import Document, stored_of
from fhir_server.store.store import Store
from profiles.json import parse as parse_json
from profiles.model import RESOURCE_TYPES, is_a
from profiles.outcome import FhirError
from search.clauses import Kinds
from search.entries import compartment, entries
from search.filters import compile
from search.params import Registry

POLL = 0.5  # seconds between two looks at the stored SearchParameters
BATCH = 200
LEASE = timedelta(seconds=30)  # after which another worker takes a job over
PREFIX = "reindex/"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be written anew: resources of `types`; all before the name `after` are done."""

    name: str
    types: tuple[str, ...]
    after: str = ""
    done: int = 0
    changed: int = 0
    total: int = 0
    finished: bool = False
    parameter: str = ""  # the url of the SearchParameter that made the job


class Parameters:
    """The registry as the stored SearchParameters make it."""

    def __init__(self, store: Store, base: Registry) -> None:
        self._store = store
        self._base = base
        self._versions: tuple[tuple[str, int], ...] = ()
        self._looked = 0.0
        self.registry = base
        self.pending: frozenset[str] = frozenset()
        self.faults: dict[str, str] = {}

    async def current(self) -> Registry:
        """The registry, looked at anew when half a second has passed."""
        if time.monotonic() - self._looked > POLL:
            await self.refresh()
        return self.registry

    async def refresh(self) -> Registry:
        """Look at what is stored, and leave a job for each parameter that is new."""
        self._looked = time.monotonic()
        rows = await self._store.reads.find_documents(compile(Kinds(("SearchParameter",))), projection={"v": 1})
        versions = tuple(sorted((row["_id"], row["v"]) for row in rows))
        if versions != self._versions:
            await self._take([name for name, _ in versions])
            self._versions = versions
        if versions:
            self.pending = frozenset(j.parameter for j in await jobs(self._store) if not j.finished)
        return self.registry

    async def _take(self, names: Sequence[str]) -> None:
        """Add each parameter that can be understood; one that cannot is left out and named in `faults`."""
        registry, self.faults = self._base, {}
        for row in await self._store.reads.find_documents({"_id": {"$in": list(names)}}, sort={"_id": 1}):
            stored = await self._store.fill(stored_of(row))
            resource = parse_json(stored.body or b"{}")
            try:
                registry = _with(registry, resource)
            except FhirError as error:
                self.faults[row["_id"]] = error.text
            else:
                await self._leave_job(row, resource)
        self.registry = registry

    async def _leave_job(self, row: Document, resource: Any) -> None:
        """A job for this version of the parameter, unless there is one or the official one says the same."""
        known = self._base.rows.get(resource["url"])
        if known is not None and known.expression == resource.get("expression", ""):
            return
        types = tuple(t for t in sorted(RESOURCE_TYPES) if any(is_a(t, b) for b in resource["base"]))
        name = f"{row['_id']}/{row['v']}"
        await start(self._store, Job(name, types, parameter=resource["url"]))


def _with(registry: Registry, resource: Any) -> Registry:
    """The registry and an active parameter, its expressions compiled once so that a bad one is known now."""
    if resource.get("status") not in ("active", "draft"):
        return registry
    found = registry.with_parameters([resource])
    for base in resource["base"]:
        for name in sorted(RESOURCE_TYPES) if base in ("Resource", "DomainResource") else [base]:
            found.extractor(name)
    return found


async def start(store: Store, job: Job) -> None:
    """Put a job into the database; one of the same name stays as it is."""
    total = await store.reads.count(compile(Kinds(job.types))) if job.types else 0
    fresh = _document(job) | {"total": total, "finished": total == 0, "started": datetime.now(UTC)}
    with told():
        await store.driver.send(
            store.driver.state.update_one, {"_id": PREFIX + job.name}, {"$setOnInsert": fresh}, upsert=True
        )


async def jobs(store: Store) -> list[Job]:
    """All jobs, finished ones too."""
    found = await store.reads.find_documents({"_id": {"$gte": PREFIX, "$lt": "reindex0"}}, collection="state")
    return [_job(row) for row in found]


def _document(job: Job) -> Document:
    return {
        "types": list(job.types),
        "after": job.after,
        "done": job.done,
        "changed": job.changed,
        "total": job.total,
        "finished": job.finished,
        "parameter": job.parameter,
    }


def _job(row: Document) -> Job:
    fields = {name: row[name] for name in _document(Job("", ()))}
    return Job(name=row["_id"].removeprefix(PREFIX), **(fields | {"types": tuple(row["types"])}))


async def work(
    store: Store, registry: Registry, owner: str, base: str = "", tell: Callable[[Job], None] = print
) -> int:
    """Carry out every job that no other worker has in hand; how many resources were looked at."""
    seen = 0
    while True:
        job = await _claim(store, owner)
        if job is None:
            return seen
        while not job.finished:
            before = job.done
            job = await _step(store, registry, job, base)
            await _save(store, job, owner)
            seen += job.done - before
            tell(job)


async def _claim(store: Store, owner: str) -> Job | None:
    now = datetime.now(UTC)
    free = {"$or": [{"lease": {"$exists": False}}, {"lease": {"$lt": now}}, {"owner": owner}]}
    unfinished = {"_id": {"$gte": PREFIX, "$lt": "reindex0"}, "finished": False, **free}
    with told():
        row = await store.driver.send(
            store.driver.state.find_one_and_update,
            unfinished,
            {"$set": {"owner": owner, "lease": now + LEASE}},
            sort={"_id": 1},
            return_document=ReturnDocument.AFTER,
        )
    return _job(row) if row else None


async def _save(store: Store, job: Job, owner: str) -> None:
    update = {"$set": _document(job) | {"owner": owner, "lease": datetime.now(UTC) + LEASE}}
    with told():
        await store.driver.send(store.driver.state.update_one, {"_id": PREFIX + job.name}, update)


async def _step(store: Store, registry: Registry, job: Job, base: str) -> Job:
    """The next two hundred resources; one that is written meanwhile has its entries from that write."""
    ranges = [{"_id": {"$gte": f"{t}/", "$lt": f"{t}0"}} for t in job.types if f"{t}0" > job.after]
    if not ranges:
        return _finished(job, job.after, 0, 0)
    filter = {"$and": [{"$or": ranges}, {"_id": {"$gt": job.after}}]}
    rows = await store.reads.find_documents(filter, sort={"_id": 1}, limit=BATCH)
    updates = [u for row in rows if (u := await _update(store, registry, row, base)) is not None]
    if updates:
        with told():
            await store.driver.send(store.driver.resources.bulk_write, updates, ordered=False)
    if len(rows) < BATCH:
        return _finished(job, rows[-1]["_id"] if rows else job.after, len(rows), len(updates))
    return Job(
        job.name,
        job.types,
        rows[-1]["_id"],
        job.done + len(rows),
        job.changed + len(updates),
        job.total,
        False,
        job.parameter,
    )


def _finished(job: Job, after: str, seen: int, changed: int) -> Job:
    done = job.done + seen
    return Job(job.name, job.types, after, done, job.changed + changed, max(done, job.total), True, job.parameter)


async def _update(store: Store, registry: Registry, row: Document, base: str) -> UpdateOne | None:
    """What changes in a document, only if it is still this version."""
    if not row.get("s"):
        return None
    stored = await store.fill(stored_of(row))
    resource = parse_json(stored.body or b"{}")
    assert isinstance(resource, dict)
    fresh = {"s": entries(resource, registry, base), "p": compartment(resource, registry, base)}
    if fresh["s"] == row["s"] and fresh["p"] == row.get("p"):
        return None
    return UpdateOne({"_id": row["_id"], "v": row["v"]}, {"$set": fresh})
