"""$reindex and $reindex-status: write the search entries of stored resources anew, and tell how far that is."""

from __future__ import annotations

from fhir_server import access
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.parameters import parameters
from fhir_server.store import Store
from fhir_server.store.reindex import Job, jobs, start, write_anew
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError


async def run(call: Call, context: Context) -> Response:
    """One resource at once; a type, several or all of them by a job in the background."""
    store = _store(context)
    if call.id:
        return await _one(call, store, context)
    types = [call.type] if call.type else [str(name) for name in call.all("type")]
    unknown = [name for name in types if name not in RESOURCE_TYPES]
    if unknown:
        raise FhirError("value", f"type={unknown[0]} is not a resource type of FHIR R4.", "type", status=400)
    job = await start(store, Job(f"all/{context.new_id()}", tuple(sorted(set(types) or RESOURCE_TYPES))))
    return resource_answer({"resourceType": "Parameters", "parameter": [shown(job)]}, 202)


async def _one(call: Call, store: Store, context: Context) -> Response:
    current = await store.get(call.type, call.id)
    if current is None or current.deleted or not await access.sees(call.request, context, current):
        raise FhirError("not-found", f"{call.type}/{call.id} is not known.")
    call.opened.append(current)
    rows = await store.reads.find_documents({"_id": f"{call.type}/{call.id}"})
    changed = await write_anew(store, context.registry, rows, context.config.base)
    return resource_answer(parameters([("changed", "valueInteger", changed)]))


async def status(call: Call, context: Context) -> Response:
    """Every job, the unfinished first."""
    found = sorted(await jobs(_store(context)), key=lambda job: (job.finished, job.name))
    wanted = [job for job in found if call.one("job") in (None, job.name)]
    return resource_answer({"resourceType": "Parameters", "parameter": [shown(job) for job in wanted]})


def shown(job: Job) -> Resource:
    """A job as a parameter with parts."""
    parts = [
        ("name", "valueString", job.name),
        ("parameter", "valueUri", job.parameter),
        ("done", "valueInteger", job.done),
        ("changed", "valueInteger", job.changed),
        ("total", "valueInteger", max(job.total, job.done)),
        ("finished", "valueBoolean", job.finished),
    ]
    return {"name": "job", "part": [{"name": name, key: value} for name, key, value in parts if value != ""]}


def _store(context: Context) -> Store:
    if not isinstance(context.store, Store):
        raise FhirError("not-supported", "Reindexing is asked for alone, not inside a transaction.")
    return context.store
