"""SearchParameters that clients store: used at once by all workers, filled up in the background, refused when wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from fhir_server.app import build_app
from fhir_server.commands.reindex import carried_out
from fhir_server.config import Config
from fhir_server.loading.answers import Message
from fhir_server.loading.direct import Direct
from fhir_server.store import Store
from fhir_server.store.find.parameters import Parameters
from fhir_server.store.reindex import Job, jobs
from profiles.json import encode
from search.defining import faults
from search.entries import entries
from search.matches import matches
from search.params import Registry
from search.query import parse
from tests.shell import ask, content, context_on
from tests.test_serve import free_port, served

pytestmark = pytest.mark.anyio

EYES = "http://example.org/StructureDefinition/eye-colour"
BLUE = {"extension": [{"url": EYES, "valueCode": "blue"}]}


def parameter(code: str = "eye-colour", **more: Any) -> dict[str, Any]:
    """A SearchParameter on the eye colour of patients."""
    return {
        "resourceType": "SearchParameter",
        "url": f"http://example.org/SearchParameter/{code}",
        "name": code.replace("-", ""),
        "status": "active",
        "description": code,
        "code": code,
        "base": ["Patient"],
        "type": "token",
        "expression": f"Patient.extension('{EYES}').value",
        **more,
    }


@pytest.fixture
async def workers(
    mongo_url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Two workers over one database; jobs begin a second after they are left."""
    monkeypatch.setattr("fhir_server.store.reindex.GRACE", timedelta(seconds=1))
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            app = build_app(Config(mongo=mongo_url, database=database, data=tmp_path, key="0" * 64))
            await stack.enter_async_context(app.running())
            transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
            client = httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000/fhir/", timeout=30)
            clients.append(await stack.enter_async_context(client))
        yield clients


def outcome(bundle: dict[str, Any]) -> list[str]:
    return [
        issue["diagnostics"]
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    ]


async def finished(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """The jobs as `$reindex-status` shows them, once all are done."""
    for _ in range(100):
        shown = (await client.get("$reindex-status")).json().get("parameter", [])
        rows = [{part["name"]: part[next(k for k in part if k != "name")] for part in row["part"]} for row in shown]
        if all(row["finished"] for row in rows):
            return rows
        await asyncio.sleep(0.1)
    raise AssertionError(rows)


async def test_a_stored_parameter_works_at_once_everywhere(workers: list[httpx2.AsyncClient]) -> None:
    """New writes of every worker are found at once; older ones after the job; the statement names the parameter."""
    one, two = workers
    await one.put("Patient/old", json={"resourceType": "Patient", "id": "old", **BLUE})
    assert (await two.get("Patient?eye-colour=blue")).status_code == 400
    created = await one.post("SearchParameter", json=parameter())
    assert created.status_code == 201
    for number, client in enumerate(workers):
        made = {"resourceType": "Patient", "id": f"new{number}", **BLUE}
        assert (await client.put(f"Patient/new{number}", json=made)).status_code == 201
    bundle = (await two.get("Patient?eye-colour=blue")).json()
    assert {"new0", "new1"} <= {entry["resource"].get("id") for entry in bundle["entry"]}
    assert "is being indexed" in outcome(bundle)[0]
    answer = await two.post(
        "Patient", json={"resourceType": "Patient", **BLUE}, headers={"If-None-Exist": "eye-colour=x"}
    )
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    [job] = await finished(one)
    assert (job["parameter"], job["done"], job["changed"]) == (parameter()["url"], 3, 1)
    await asyncio.sleep(0.6)
    for client in workers:
        bundle = (await client.get("Patient?eye-colour=blue&_sort=eye-colour")).json()
        assert (bundle["total"], outcome(bundle)) == (3, [])
        rest = (await client.get("metadata")).json()["rest"][0]
        [patient] = [row for row in rest["resource"] if row["type"] == "Patient"]
        shown = {"name": "eye-colour", "definition": parameter()["url"], "type": "token"}
        assert shown in patient["searchParam"]


async def test_a_parameter_goes_as_it_came(workers: list[httpx2.AsyncClient]) -> None:
    """Retired or deleted, it is unknown to every worker at once; its unfinished job goes too; it can come back."""
    one, two = workers
    await one.put("Patient/p", json={"resourceType": "Patient", "id": "p", **BLUE})
    live = parameter() | {"id": "eyes"}
    await one.put("SearchParameter/eyes", json=live)
    assert (await two.get("Patient?eye-colour=blue")).status_code == 200
    await two.put("SearchParameter/eyes", json=live | {"status": "retired"})
    refused = [(await client.get("Patient?eye-colour=blue")).status_code for client in workers]
    assert refused == [400, 400]
    await two.put("SearchParameter/eyes", json=live)
    await finished(one)
    assert (await one.get("Patient?eye-colour=blue")).json()["total"] == 1
    await two.delete("SearchParameter/eyes")
    refused = [(await client.get("Patient?eye-colour=blue")).status_code for client in workers]
    assert refused == [400, 400]
    assert "eye-colour" not in (await one.get("metadata")).text


async def test_parameters_in_a_transaction(workers: list[httpx2.AsyncClient]) -> None:
    """A Bundle may bring a parameter; a composite is used together with the parts it names."""
    one, two = workers
    part = {"definition": parameter()["url"], "expression": "extension.value"}
    gender = {"definition": "http://hl7.org/fhir/SearchParameter/individual-gender", "expression": "gender"}
    entries = [{"resource": parameter(), "request": {"method": "PUT", "url": "SearchParameter/z"}}]
    entries[0]["resource"]["id"] = "z"
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await one.post("", json=bundle)).status_code == 200
    both = parameter("eyes-gender", type="composite", expression="Patient", component=[part, gender]) | {"id": "a"}
    assert (await one.put("SearchParameter/a", json=both)).status_code == 201
    await two.post("Patient", json={"resourceType": "Patient", "gender": "male", **BLUE})
    found = (await two.get("Patient?eyes-gender=blue$male")).json()
    assert found["total"] == 1
    assert (await two.get("Patient?eyes-gender=blue$female")).json()["total"] == 0


# What is wrong with it, where, and what is said.
BAD: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"expression": "Patient.name.where("}, "expression", "Unexpected end"),
    ({"expression": "Patient.shoesize"}, "expression", "has no element shoesize"),
    ({"expression": "Patient.gender | Patient.shoesize"}, "expression", "Patient.shoesize: Patient has no element"),
    ({"expression": "Observation.code"}, "expression", "not a Observation"),
    ({"expression": "Patient.name.shout()"}, "expression", "Unknown function shout()"),
    ({"expression": None}, "expression", "Without an expression"),
    ({"type": "date", "expression": "Patient.gender"}, "type", "A date cannot be taken from code, but from"),
    ({"type": "number", "expression": "Patient.name"}, "type", "A number cannot be taken from HumanName"),
    ({"type": "special"}, "type", "needs a meaning of its own"),
    ({"code": "_count"}, "code", "has a meaning of its own"),
    ({"code": "_has"}, "code", "has a meaning of its own"),
    ({"code": "eye.colour"}, "code", "cannot be written in a search"),
    ({"code": "gender", "expression": "Patient.active"}, "code", "choose another code"),
    ({"type": "composite", "expression": "Patient"}, "component", "needs components"),
    (
        {"type": "composite", "component": [{"definition": "http://nowhere", "expression": "gender"}]},
        "component",
        "http://nowhere is not known",
    ),
)


@pytest.mark.parametrize(("changes", "place", "text"), BAD)
async def test_a_bad_parameter_is_refused(store: Store, changes: dict[str, Any], place: str, text: str) -> None:
    """422 with the element at fault; nothing is stored. Retired, it may be kept."""
    context = context_on(store)
    bad = {name: value for name, value in (parameter() | changes).items() if value is not None}
    answer = await ask(context, "POST", "SearchParameter", bad)
    issues = content(answer)["issue"]
    assert answer.status in (400, 422)
    assert any(i["expression"] == [f"SearchParameter.{place}"] and text in i["diagnostics"] for i in issues), issues
    assert (await ask(context, "POST", "SearchParameter", bad | {"status": "retired"})).status == 201


async def test_the_parameters_of_r4_can_be_stored(store: Store) -> None:
    """As they are published; none of them leaves anything to index, and profiles may define them once more."""
    context = context_on(store)
    for row in list(Registry.r4().rows.values())[:40]:
        official = parameter(row.code, url=row.url, type=row.type, expression=row.expression, base=list(row.bases))
        official["component"] = [{"definition": d, "expression": e} for d, e in row.components]
        kept = {name: value for name, value in official.items() if value not in ("", [])}
        assert (await ask(context, "POST", "SearchParameter", kept)).status == 201
    again = parameter("gender", expression="Patient.gender")
    assert (await ask(context, "POST", "SearchParameter", again)).status == 201


IGS = Path(os.environ.get("FHIR_SHARED", "../shared")) / "igs"


@pytest.mark.parametrize("name", ["us_core_610.tgz", "us_core_800.tgz"])
@pytest.mark.skipif(not IGS.is_dir(), reason="FHIR_SHARED names no folder with implementation guides")
def test_the_parameters_of_us_core(name: str) -> None:
    """Each of a published guide can be used, those that only repeat R4 and those on extensions."""
    with tarfile.open(IGS / name) as package:
        members = [m for m in package if "/SearchParameter-" in m.name]
        found = [json.loads(package.extractfile(m).read()) for m in members]  # type: ignore[union-attr]
    singles = [row for row in found if row["type"] != "composite"]
    registry = Registry.r4().with_parameters(singles)
    assert [(row["url"], faults(row, registry)) for row in found if faults(row, registry)] == []
    assert len(found) > 100
    race = {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}}
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
    resource = {"resourceType": "Patient", "id": "p", "extension": [{"url": url, "extension": [race]}]}
    asserted = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate"
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "extension": [{"url": asserted, "valueDateTime": "2020-01-01"}],
    }
    for row, pair in ((resource, ("race", "2106-3")), (condition, ("asserted-date", "ge2020"))):
        query = parse(row["resourceType"], [pair], registry)  # type: ignore[arg-type]
        assert matches(query.clauses, entries(row, registry), row)


async def test_reindexing_by_hand(workers: list[httpx2.AsyncClient], mongo_url: str, database: str) -> None:
    """`$reindex` writes one resource at once; types and everything by a job whose progress can be read."""
    one, two = workers
    for n in range(3):
        await one.put(f"Patient/p{n}", json={"resourceType": "Patient", "id": f"p{n}", "gender": "male"})
    with MongoClient[Any](mongo_url) as client:
        client[database].resources.update_many({}, {"$set": {"s": ["Pt"]}})
    assert (await one.get("Patient?gender=male")).json()["total"] == 0
    changed = (await one.post("Patient/p0/$reindex")).json()
    assert changed["parameter"] == [{"name": "changed", "valueInteger": 1}]
    assert (await one.get("Patient?gender=male")).json()["total"] == 1
    started = await one.post("Patient/$reindex")
    assert started.status_code == 202
    [job] = await finished(two)
    assert (job["done"], job["total"], job["changed"]) == (3, 3, 2)
    assert (await one.get("Patient?gender=male")).json()["total"] == 3
    assert (await one.get("$reindex")).status_code == 405
    assert (await one.post("Patient/nobody/$reindex")).status_code == 404
    assert (await one.post("$reindex?type=Nothing")).status_code == 400


async def test_the_command_goes_on_where_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run takes up the unfinished job of the first; progress is told."""
    context = context_on(store)
    for n in range(10):
        await ask(context, "PUT", f"Patient/p{n}", {"resourceType": "Patient", "id": f"p{n}", "gender": "male"})
    await store.driver.resources.update_many({}, {"$set": {"s": ["Pt"]}})
    monkeypatch.setattr("fhir_server.store.reindex.BATCH", 4)
    monkeypatch.setattr("fhir_server.store.reindex.GRACE", timedelta())

    def kill(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await carried_out(store, ("Patient",), "", kill)
    await store.driver.state.update_many({}, {"$unset": {"lease": 1}})
    told: list[Job] = []
    job = await carried_out(store, ("Patient",), "", told.append)
    assert (job.done, job.changed, job.finished) == (10, 10, True)
    assert [t.done for t in told][:2] == [8, 10]
    assert len(await jobs(store)) == 1
    assert content(await ask(context, "GET", "Patient?gender=male"))["total"] == 10


async def test_a_load_takes_up_new_parameters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long load writes after a parameter has its entries: no job would come back for it."""
    monkeypatch.setattr("fhir_server.store.find.parameters.POLL", 0)
    target = Direct(context_on(store))
    for resource in (parameter() | {"id": "eyes"}, {"resourceType": "Patient", "id": "p", **BLUE}):
        url = f"{resource['resourceType']}/{resource['id']}"
        assert (await target.send(Message("PUT", url, encode(resource)))).status == 201
    registry = await Parameters(store, Registry.r4()).refresh()
    found = content(await ask(replace(context_on(store), registry=registry), "GET", "Patient?eye-colour=blue"))
    assert found["total"] == 1


def test_the_command_through_a_server(tmp_path: Path) -> None:
    """`--base-url` asks the server and watches its job; what it refuses is told."""
    port = free_port()
    command = [sys.executable, "-c", "from fhir_server.cli import main; main()", "reindex", "--base-url"]
    with served(tmp_path, port):
        url = f"http://127.0.0.1:{port}/fhir"
        httpx2.put(f"{url}/Patient/p", json={"resourceType": "Patient", "id": "p"})
        done = subprocess.run([*command, url, "Patient"], capture_output=True, text=True, timeout=60, check=False)
        assert "1 resources looked at, 0 written anew." in done.stdout, done.stderr
        httpx2.delete(f"{url}/Patient/p")
    done = subprocess.run([*command, "nowhere"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "is no base URL" in done.stderr) == (2, True)


async def test_another_name_for_a_path_of_r4_needs_no_job(store: Store) -> None:
    """What R4's parameters write is found at once under the new name too."""
    context = context_on(store)
    await ask(context, "PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "gender": "male"})
    await ask(context, "POST", "SearchParameter", parameter("sex", expression="Patient.gender"))
    parameters = Parameters(store, Registry.r4())
    registry = await parameters.refresh()
    assert (await jobs(store), parameters.pending) == ([], frozenset())
    found = content(await ask(replace(context, registry=registry), "GET", "Patient?sex=male"))
    assert found["total"] == 1


def test_the_command_on_the_command_line(mongo_url: str, database: str) -> None:
    """`fhir-server reindex` ends with what it did; a wrong type is told."""
    environment = {**os.environ, "FHIR_MONGO": mongo_url, "FHIR_DATABASE": database}
    command = [sys.executable, "-c", "from fhir_server.cli import main; main()", "reindex"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "0 resources looked at, 0 written anew." in done.stdout, done.stderr
    done = subprocess.run(
        [*command, "Nothing"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (2, "Nothing is not a resource type of FHIR R4")
