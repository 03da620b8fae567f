"""http://hl7.org/fhir/R4/provenance.html#header: a write that tells where it came from."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.hospital import Hospital, condition, observation, open_hospital
from tests.shell import ask, bundle_of, content, context_on, entry, id_of, patient, text_of

pytestmark = pytest.mark.anyio

SOURCE = {
    "resourceType": "Provenance",
    "recorded": "2026-05-01T12:00:00Z",
    "agent": [{"who": {"display": "Dr. Dora"}}],
}
HEADER = {"x_provenance": json.dumps(SOURCE)}


async def targets(context: Context) -> list[list[str]]:
    """The targets of every stored Provenance, the oldest first."""
    found = content(await ask(context, "GET", "Provenance?_sort=_lastUpdated"))
    rows = [row["resource"] for row in found.get("entry", ())]
    return [[target["reference"] for target in row["target"]] for row in rows]


async def test_create_update_and_patch(context: Context) -> None:
    """Each version that is written is the target of its own Provenance, found by the resource."""
    id = id_of(await ask(context, "POST", "Patient", patient(), **HEADER))
    await ask(context, "PUT", f"Patient/{id}", patient(id=id, active=True), **HEADER)
    patch = [{"op": "add", "path": "/gender", "value": "other"}]
    answer = await ask(context, "PATCH", f"Patient/{id}", patch, content_type="application/json-patch+json", **HEADER)
    assert answer.status == 200
    assert await targets(context) == [[f"Patient/{id}/_history/{n}"] for n in (1, 2, 3)]
    found = content(await ask(context, "GET", f"Provenance?target=Patient/{id}"))
    assert found["total"] == 3
    assert found["entry"][0]["resource"]["agent"] == SOURCE["agent"]


async def test_conditional_forms(context: Context) -> None:
    """What a condition leaves as it is has no new Provenance."""
    mine = patient(identifier=[{"system": "http://h", "value": "1"}])
    condition = "identifier=http://h|1"
    for _ in range(2):
        await ask(context, "POST", "Patient", mine, if_none_exist=condition, **HEADER)
    for _ in range(2):
        await ask(context, "PUT", f"Patient?{condition}", {**mine, "active": True}, **HEADER)
    assert [target[0].partition("/_history/")[2] for target in await targets(context)] == ["1", "2"]


async def test_a_transaction_has_one_for_all(context: Context) -> None:
    """The targets are all the versions written; reads and deletes are none."""
    await ask(context, "PUT", "Patient/old", patient(id="old"))
    await ask(context, "PUT", "Patient/same", patient(id="same"))
    rows = [
        entry("PUT", "Patient/a", patient(id="a")),
        entry("POST", "Observation", observation("", "Patient/a") | {"id": "x"}),
        entry("PUT", "Patient/same", patient(id="same")),
        entry("DELETE", "Patient/old"),
        entry("GET", "Patient/same"),
    ]
    assert (await ask(context, "POST", "", bundle_of("transaction", *rows), **HEADER)).status == 200
    [found] = await targets(context)
    assert sorted(name.partition("/")[0] for name in found) == ["Observation", "Patient"]
    assert "Patient/a/_history/1" in found


async def test_each_entry_of_a_batch_has_its_own(context: Context) -> None:
    """Entries of a batch stand alone, and so do their Provenances."""
    rows = [entry("PUT", f"Patient/{id}", patient(id=id)) for id in "ab"]
    rows += [entry("GET", "Patient/a"), entry("PUT", "Patient/c", patient(id="other")), entry("DELETE", "Patient/z")]
    answer = content(await ask(context, "POST", "", bundle_of("batch", *rows), **HEADER))
    status = [row["response"]["status"][:3] for row in answer["entry"]]
    assert status[:2] == ["201", "201"]
    assert status[3:] == ["400", "204"]
    assert sorted(await targets(context)) == [["Patient/a/_history/1"], ["Patient/b/_history/1"]]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("nonsense", "X-Provenance: "),
        ("[]", "no Provenance"),
        ('{"resourceType": "Patient"}', "no Provenance"),
        (json.dumps(SOURCE | {"target": [{"reference": "Patient/1"}]}), "no target"),
        (json.dumps(SOURCE | {"recorded": "yesterday"}), "recorded"),
        (json.dumps({"resourceType": "Provenance", "recorded": SOURCE["recorded"]}), "agent"),
        (json.dumps(SOURCE) + ", " + json.dumps(SOURCE), "X-Provenance: "),
    ],
)
async def test_what_is_wrong_is_refused_whole(context: Context, header: str, why: str) -> None:
    """400 with the reason, and the write itself is not carried out."""
    answer = await ask(context, "PUT", "Patient/a", patient(id="a"), x_provenance=header)
    assert (answer.status, why in text_of(answer)) == (400, True), text_of(answer)
    body = bundle_of("transaction", entry("PUT", "Patient/a", patient(id="a")))
    assert (await ask(context, "POST", "", body, x_provenance=header)).status == 400
    assert (await ask(context, "GET", "Patient/a")).status == 404


async def test_a_delete_is_refused_and_a_read_takes_no_notice(context: Context) -> None:
    """The header is for PUT, POST and PATCH."""
    await ask(context, "PUT", "Patient/a", patient(id="a"))
    assert (await ask(context, "DELETE", "Patient/a", **HEADER)).status == 400
    assert (await ask(context, "GET", "Patient/a", **HEADER)).status == 200
    assert await targets(context) == []


async def test_a_write_that_fails_leaves_no_provenance(context: Context) -> None:
    """Both are stored or neither."""
    answer = await ask(context, "PUT", "Patient/a", patient(id="a", birthDate="x"), **HEADER)
    assert answer.status == 422
    assert await targets(context) == []


async def test_writers_at_once(context: Context) -> None:
    """Twenty updates of one resource at the same time: every version has its Provenance."""
    bodies = (patient(id="a", multipleBirthInteger=n) for n in range(20))
    answers = await asyncio.gather(*(ask(context, "PUT", "Patient/a", body, **HEADER) for body in bodies))
    assert {answer.status for answer in answers} <= {200, 201}
    assert sorted(int(name[0].rpartition("/")[2]) for name in await targets(context)) == list(range(1, 21))


async def test_with_referential_integrity(store: Store) -> None:
    """The target counts as there, since it is written in the same transaction."""
    strict = context_on(store, referential_integrity=True)
    assert (await ask(strict, "PUT", "Patient/a", patient(id="a"), **HEADER)).status == 201
    assert await targets(strict) == [["Patient/a/_history/1"]]


async def test_who_may_not_create_a_provenance_writes_nothing(store: Store) -> None:
    """The gate: 403 for the scope without Provenance, for both; the rightful twin writes both."""
    hospital: Hospital = await open_hospital(store)
    body: Any = condition("n1", "Patient/P1")
    narrow = hospital.caller("user/Condition.cruds", "Doctor", user="dora", fhir_user="Practitioner/D1")
    assert (await hospital.ask(narrow, "PUT", "Condition/n1", body, **HEADER)).status == 403
    assert (
        await hospital.ask(narrow, "POST", "", bundle_of("transaction", entry("PUT", "Condition/n1", body)), **HEADER)
    ).status == 403
    assert (await hospital.ask(hospital.admin, "GET", "Condition/n1")).status == 404
    wide = hospital.caller("user/Condition.cruds user/Provenance.c", "Doctor", user="dora", fhir_user="Practitioner/D1")
    assert (await hospital.ask(wide, "PUT", "Condition/n1", body, **HEADER)).status == 201
    assert await hospital.ids(hospital.admin, "Provenance?target=Condition/n1") != set()
