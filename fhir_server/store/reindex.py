"""Reindexing: entries for what was written before a search parameter, in the background.

A job goes through its types in the order of the names, two hundred resources at a time. How far it is stands in the
collection `state`, so that it goes on where it was after a kill; a lease keeps two workers off the same job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pymongo import ReturnDocument, UpdateOne

from fhir_server.store.errors import told
from fhir_server.store.records import Document, stored_of
from fhir_server.store.store import Store
from profiles.json import decode
from search.clauses import Kinds
from search.entries import compartment, entries
from search.filters import NONE, Filter, compile
from search.params import Registry

BATCH = 200
LEASE = timedelta(seconds=30)  # after which another worker takes a job over
# Before a job begins: workers look for new parameters every half second, and writes that are under way meanwhile end.
GRACE = timedelta(seconds=2)
PREFIX = "reindex/"
ALL = {"_id": {"$gte": PREFIX, "$lt": "reindex0"}}


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


Current = Callable[[], Registry]


async def start(store: Store, job: Job) -> Job:
    """Put a job into the database, with the number of its resources; one of the same name stays as it is."""
    total = await store.reads.count(compile(Kinds(job.types))) if job.types else 0
    counted = replace(job, total=total, finished=not job.types)
    fresh = _document(counted) | {"started": datetime.now(UTC)}
    with told():
        await store.driver.send(
            store.driver.state.update_one, {"_id": PREFIX + job.name}, {"$setOnInsert": fresh}, upsert=True
        )
    return counted


async def jobs(store: Store) -> list[Job]:
    """All jobs, finished ones too."""
    return [_job(row) for row in await store.reads.find_documents(ALL, collection="state")]


async def drop(store: Store, names: list[str]) -> None:
    """Take jobs back: their parameter is not used any more."""
    with told():
        await store.driver.send(store.driver.state.delete_many, {"_id": {"$in": [PREFIX + name for name in names]}})


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
    store: Store, current: Current, owner: str, base: str = "", tell: Callable[[Job], None] = lambda job: None
) -> int:
    """Carry out every job that no other worker has in hand; how many resources were looked at.

    `current` gives the parameters as they are known at each step.
    """
    seen = 0
    while True:
        job = await _claim(store, owner)
        if job is None:
            return seen
        while not job.finished:
            before = job.done
            job = await _step(store, current(), job, base)
            if not await _save(store, job, owner):
                break
            seen += job.done - before
            tell(job)


async def _claim(store: Store, owner: str) -> Job | None:
    now = datetime.now(UTC)
    free = {"$or": [{"lease": {"$exists": False}}, {"lease": {"$lt": now}}, {"owner": owner}]}
    unfinished = {**ALL, "finished": False, "started": {"$lte": now - GRACE}, **free}
    with told():
        row = await store.driver.send(
            store.driver.state.find_one_and_update,
            unfinished,
            {"$set": {"owner": owner, "lease": now + LEASE}},
            sort={"_id": 1},
            return_document=ReturnDocument.AFTER,
        )
    return _job(row) if row else None


async def _save(store: Store, job: Job, owner: str) -> bool:
    """Keep the place and the lease; False when the job was taken back or taken over meanwhile."""
    update = {"$set": _document(job) | {"lease": datetime.now(UTC) + LEASE}}
    with told():
        kept = await store.driver.send(
            store.driver.state.update_one, {"_id": PREFIX + job.name, "owner": owner}, update
        )
    return bool(kept.matched_count)


async def _step(store: Store, registry: Registry, job: Job, base: str) -> Job:
    """The next two hundred resources; one that is written meanwhile has its entries from that write."""
    ranges: list[Filter] = [{"_id": {"$gte": f"{t}/", "$lt": f"{t}0"}} for t in job.types if f"{t}0" > job.after]
    filter = {"$and": [{"$or": ranges or [NONE]}, {"_id": {"$gt": job.after}}]}
    rows = await store.reads.find_documents(filter, sort={"_id": 1}, limit=BATCH)
    changed = await write_anew(store, registry, rows, base)
    seen = sum(bool(row.get("s")) for row in rows)
    after, finished = (rows[-1]["_id"] if rows else job.after), len(rows) < BATCH
    return replace(job, after=after, done=job.done + seen, changed=job.changed + changed, finished=finished)


async def write_anew(store: Store, registry: Registry, rows: list[Document], base: str) -> int:
    """Give documents the entries they should have; how many had others."""
    updates = [u for row in rows if (u := await _update(store, registry, row, base)) is not None]
    if updates:
        with told():
            await store.driver.send(store.driver.resources.bulk_write, updates, ordered=False)
    return len(updates)


async def _update(store: Store, registry: Registry, row: Document, base: str) -> UpdateOne | None:
    """What changes in a document, only if it is still this version and nobody else has written it anew."""
    if not row.get("s"):
        return None
    stored = await store.fill(stored_of(row))
    resource = decode(stored.body or b"{}")
    assert isinstance(resource, dict)
    fresh = {"s": entries(resource, registry, base), "p": compartment(resource, registry, base)}
    if fresh["s"] == row["s"] and fresh["p"] == row.get("p"):
        return None
    return UpdateOne({"_id": row["_id"], "v": row["v"], "s": row["s"]}, {"$set": fresh})
