"""Stored SearchParameters on a real mongod: at once for new writes, reindexed for older ones."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from fhir_server.store import Store
from fhir_server.store.find.parameters import Parameters
from fhir_server.store.reindex import Job, jobs, start, work
from tests.test_search_find import REGISTRY, ask, names, patient, put

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs need not wait for other processes here."""
    monkeypatch.setattr("fhir_server.store.reindex.GRACE", timedelta())


def parameter(id_: str, code: str, expression: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "id": id_,
        "url": f"http://example.org/SearchParameter/{id_}",
        "name": code,
        "status": "active",
        "description": code,
        "code": code,
        "base": ["Patient"],
        "type": "token",
        "expression": expression,
        **more,
    }


EYES = "http://example.org/eye-colour"
COLOUR = f"Patient.extension('{EYES}').value"


async def test_a_stored_parameter_works_at_once(store: Store) -> None:
    """New writes are found at once; older ones when the work is done, which is said until then."""
    colour = {"extension": [{"url": EYES, "valueCode": "blue"}]}
    await put(store, *(patient(f"old{n}", **colour) for n in range(3)))
    parameters = Parameters(store, REGISTRY)
    assert await parameters.refresh() is REGISTRY
    await put(store, parameter("eyes", "eye-colour", COLOUR))
    registry = await parameters.refresh()
    await put(store, patient("new", **colour), registry=registry)
    options = {"registry": registry, "pending": parameters.pending}
    found = await ask(store, "Patient?eye-colour=blue", **options)
    assert names(found) == ["Patient/new"]
    assert "is being indexed" in found.warnings[0].text
    told: list[Job] = []
    assert await work(store, lambda: registry, "w1", tell=told.append) == 4
    await parameters.refresh()
    assert parameters.pending == frozenset()
    found = await ask(store, "Patient?eye-colour=blue", registry=registry, pending=parameters.pending)
    assert (found.total, found.warnings) == (4, [])
    assert (told[-1].finished, told[-1].changed) == (True, 3)


async def test_reindexing_goes_on_after_a_kill(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is kept in the database; another worker takes over when the first one is gone."""
    monkeypatch.setattr("fhir_server.store.reindex.BATCH", 4)
    rows = [patient(f"p{n:02}", extension=[{"url": EYES, "valueCode": "blue"}]) for n in range(10)]
    await put(store, *rows, parameter("eyes", "eye-colour", COLOUR))
    parameters = Parameters(store, REGISTRY)
    registry = await parameters.refresh()

    def kill(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await work(store, lambda: registry, "first", tell=kill)
    [job] = await jobs(store)
    assert (job.done, job.finished, job.total) == (4, False, 10)
    assert await work(store, lambda: registry, "second") == 0  # the first one's lease still runs
    monkeypatch.setattr("fhir_server.store.reindex.LEASE", timedelta(seconds=-60))
    assert await work(store, lambda: registry, "first") == 6
    assert (await ask(store, "Patient?eye-colour=blue", registry=registry)).total == 10


async def test_reindexing_leaves_newer_versions_alone(store: Store) -> None:
    """A resource that is written while it is reindexed has the entries of that write."""
    await put(store, patient("p", gender="male"))
    await store.driver.resources.update_one({"_id": "Patient/p"}, {"$set": {"s": ["Pt"]}})
    await start(store, Job("all", ("Patient",)))
    await asyncio.gather(work(store, lambda: REGISTRY, "a"), work(store, lambda: REGISTRY, "b"))
    assert (await ask(store, "Patient?gender=male")).total == 1


async def test_a_broken_parameter_is_left_out(store: Store) -> None:
    """One that cannot be understood is named and changes nothing; R4's own stay."""
    await put(store, parameter("bad", "bad", "Patient.name.where("), parameter("good", "good", "Patient.gender"))
    parameters = Parameters(store, REGISTRY)
    registry = await parameters.refresh()
    assert list(parameters.faults) == ["SearchParameter/bad"]
    assert registry.lookup("Patient", "good") is not None
    assert registry.lookup("Patient", "bad") is None
