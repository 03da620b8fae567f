"""attack T15: GraphQL passes the gate on every edge; each attack with its rightful twin."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.access.auditing import Trail
from fhir_server.access.gate import Caller
from fhir_server.store import Store
from profiles.json import parse
from tests.hospital import Hospital, open_hospital
from tests.test_access_oracle import CALLERS, generate

pytestmark = pytest.mark.anyio

EVERYTHING = "{ id performer { resource(optional: true) { id } } focus { resource(optional: true) { id } } }"


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_hospital(store)


async def asked(hospital: Hospital, caller: Caller | None, query: str, at: str = "") -> tuple[int, Any]:
    url = f"{at}/$graphql" if at else "$graphql"
    answer = await hospital.ask(caller, "POST", url, {"query": query})
    return answer.status, json.loads(answer.body)


async def test_a_token_is_needed(hospital: Hospital) -> None:
    """No token: 401; a token without scopes: 403; both in silence about what is there."""
    assert (await hospital.ask(None, "POST", "$graphql", {"query": "{ PatientList { id } }"})).status == 401
    nobody = hospital.caller("openid", "Admin", user="a")
    assert (await hospital.ask(nobody, "GET", f"$graphql?query={quote('{ PatientList { id } }')}")).status == 403


async def test_searches_stay_in_the_compartment(hospital: Hospital) -> None:
    """Lists, connections and their counts hold what REST's searches hold."""
    query = "{ PatientList { id } ObservationConnection { count edges { resource { id } } } }"
    _, mine = await asked(hospital, hospital.app(), query)
    assert mine["data"]["PatientList"] == [{"id": "P1"}]
    assert mine["data"]["ObservationConnection"]["count"] == 4
    assert {edge["resource"]["id"] for edge in mine["data"]["ObservationConnection"]["edges"]} == {
        "o1",
        "v1",
        "mix",
        "r1",
    }
    _, all_ = await asked(hospital, hospital.admin, query)
    assert all_["data"]["ObservationConnection"]["count"] == 5


async def test_what_is_another_patients_does_not_exist(hospital: Hospital) -> None:
    """By id, as the instance and behind a reference: the same answer as for an id that never was."""
    app = hospital.app()
    for query, at in [("{ Patient(id: P2) { id } }", ""), ("{ id }", "Patient/P2"), ("{ id }", "Observation/o2")]:
        there = await asked(hospital, app, query, at)
        other = at.replace("P2", "zz").replace("o2", "zz")
        nowhere = await asked(hospital, app, query.replace("P2", "zz"), other)
        assert there[0] == nowhere[0] == 404
        assert json.dumps(there).replace("P2", "zz").replace("o2", "zz") == json.dumps(nowhere)
        assert (await asked(hospital, hospital.admin, query, at))[0] == 200
    _, found = await asked(hospital, app, EVERYTHING, "Observation/mix")
    assert found["data"]["focus"] == [{"resource": None}]
    _, found = await asked(hospital, hospital.admin, EVERYTHING, "Observation/mix")
    assert found["data"]["focus"] == [{"resource": {"id": "P2"}}]
    status, found = await asked(hospital, app, "{ focus { resource { id } } }", "Observation/mix")
    assert (status, found["errors"][0]["message"]) == (
        404,
        "Patient/P2 cannot be resolved; resource(optional: true) leaves it out.",
    )


async def test_reverse_references_pass_the_gate(hospital: Hospital) -> None:
    """From a shared organization back to its patients, from a practitioner to observations: the own ones alone."""
    back = "{ PatientList(_reference: organization) { id } }"
    for caller, ids in [(hospital.app(), {"P1"}), (hospital.admin, {"P1", "P2"})]:
        _, found = await asked(hospital, caller, back, "Organization/org")
        assert {row["id"] for row in found["data"]["PatientList"]} == ids
        chain = '{ ObservationList(_filter: "subject.family eq Bell") { id } }'
        _, found = await asked(hospital, caller, chain)
        assert bool(found["data"]["ObservationList"]) == ("P2" in ids)


async def test_types_and_verbs_that_are_not_granted(hospital: Hospital) -> None:
    """403 for a type; behind a reference it looks like nothing; search without read and read without search."""
    narrow = hospital.app("patient/Observation.rs")
    assert (await asked(hospital, narrow, "{ ConditionList { id } }"))[0] == 403
    assert (await asked(hospital, narrow, "{ Patient(id: P1) { id } }"))[0] == 403
    query = "{ ObservationList { subject { resource(optional: true) { id } } } }"
    _, found = await asked(hospital, narrow, query)
    assert {json.dumps(row) for row in found["data"]["ObservationList"]} == {'{"subject": {"resource": null}}'}
    reader = hospital.app("patient/Observation.r")
    assert (await asked(hospital, reader, "{ Observation(id: o1) { id } }"))[0] == 200
    assert (await asked(hospital, reader, "{ ObservationList { id } }"))[0] == 403


async def test_hidden_elements_are_gone(hospital: Hospital) -> None:
    """What a role hides is null, in no filter, in no FHIRPath and in no search; the doctor sees it."""
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    query = "{ name { family } telecom { value } }"
    _, found = await asked(hospital, tech, query, "Patient/P1")
    assert found["data"] == {"name": [{"family": "Lovelace"}], "telecom": None}
    _, found = await asked(hospital, hospital.doctor, query, "Patient/P1")
    assert found["data"]["telecom"] == [{"value": "111"}]
    through = "{ subject { resource { ... on Patient { telecom { value } } } } }"
    _, found = await asked(hospital, tech, through, "Observation/o1")
    assert found["data"]["subject"]["resource"] == {"telecom": None}
    for arguments in ('telecom: "111"', 'phone: "111"', '_sort: "phone"', '_filter: "phone eq 111"'):
        assert (await asked(hospital, tech, f"{{ PatientList({arguments}) {{ id }} }}"))[0] in (400, 403)
        assert (await asked(hospital, hospital.doctor, f"{{ PatientList({arguments}) {{ id }} }}"))[0] == 200
    by_path = "{ PatientList(fhirpath: \"telecom.where(value = '111').exists()\") { id } }"
    assert (await asked(hospital, tech, by_path))[1]["data"] == {"PatientList": []}
    assert (await asked(hospital, hospital.doctor, by_path))[1]["data"] == {"PatientList": [{"id": "P1"}]}


async def test_mutations_pass_the_gate(hospital: Hospital) -> None:
    """Writing needs the verb, and both contents inside the compartment."""
    reader, app = hospital.app("patient/*.rs"), hospital.app()
    fields = 'status: final, code: {text: "x"}, subject: {reference: "Patient/%s"}'
    create = "mutation { ObservationCreate(res: {%s}) { id } }"
    assert (await asked(hospital, reader, create % (fields % "P1")))[0] == 403
    assert (await asked(hospital, app, create % (fields % "P2")))[0] == 403
    assert (await asked(hospital, app, create % (fields % "P1")))[0] == 200
    update = 'mutation { ObservationUpdate(id: %s, res: {id: "%s", %s}) { id } }'
    assert (await asked(hospital, app, update % ("o2", "o2", fields % "P1")))[0] == 404
    assert (await asked(hospital, app, update % ("o1", "o1", fields % "P2")))[0] == 403
    assert (await asked(hospital, reader, "mutation { ObservationDelete(id: o1) }"))[0] == 403
    assert (await asked(hospital, app, "mutation { ObservationDelete(id: o2) }"))[0] == 200
    assert (await hospital.ask(hospital.admin, "GET", "Observation/o2")).status == 200


async def test_cursors_belong_to_their_caller(hospital: Hospital) -> None:
    """Another caller's cursor is refused; the own one goes on."""
    query = "{ ObservationConnection(_count: 1) { next } }"
    _, found = await asked(hospital, hospital.admin, query)
    cursor = found["data"]["ObservationConnection"]["next"]
    follow = f'{{ ObservationConnection(_cursor: "{cursor}") {{ edges {{ resource {{ id }} }} }} }}'
    assert (await asked(hospital, hospital.app(), follow))[0] == 400
    assert (await asked(hospital, hospital.admin, follow))[0] == 200


async def test_the_audit_trail_tells(hospital: Hospital) -> None:
    """A query is told once with the patients it showed, each write of a mutation once with its own verb."""
    trail = Trail(hospital.context, bytes(32))
    await trail.journal.prepare()
    hospital.context = replace(hospital.context, trail=trail)
    query = "{ ConditionList { id subject { resource { id } } } }"
    assert (await asked(hospital, hospital.admin, query))[0] == 200
    create = 'mutation { ConditionCreate(res: {subject: {reference: "Patient/P1"}}) { id } ConditionDelete(id: c2) }'
    assert (await asked(hospital, hospital.admin, create))[0] == 200
    assert (await asked(hospital, hospital.app("patient/*.rs"), create))[0] == 403
    await trail.move()
    store: Any = hospital.context.store
    rows = await store.reads.find_documents({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}}, sort={"_id": 1})
    events: list[Any] = [parse(row["body"]) for row in rows]
    told = [(event["subtype"][0]["code"], event["outcome"] == "0") for event in events]
    assert told == [
        ("operation", True),
        ("create", True),
        ("delete", True),
        ("operation", True),
        ("create", False),
        ("operation", False),
    ]
    patients = {entity.get("what", {}).get("reference") for entity in events[0]["entity"]}
    assert {"Patient/P1", "Patient/P2"} <= patients


@pytest.mark.parametrize("name", CALLERS)
async def test_the_oracle(store: Store, name: str) -> None:
    """Every edge shows what the caller may see and nothing else: lists, references, what refers back, counts."""
    make, sees = CALLERS[name]
    everything = generate(sum(map(ord, name)))
    hospital = await open_hospital(store, everything)
    caller, luck = make(hospital), random.Random(name)
    visible = {f"{each['resourceType']}/{each['id']}": each for each in everything if sees(each)}

    def of(kind: str) -> dict[str, Any]:
        return {key.partition("/")[2]: each for key, each in visible.items() if key.startswith(f"{kind}/")}

    for kind in ("Patient", "Observation", "Condition", "Encounter"):
        query = f"{{ {kind}List {{ id }} {kind}Connection(_count: 2) {{ count }} }}"
        status, found = await asked(hospital, caller, query)
        if status == 403:
            assert not of(kind)
            continue
        assert {row["id"] for row in found["data"][f"{kind}List"]} == of(kind).keys()
        assert found["data"][f"{kind}Connection"]["count"] == len(of(kind))
    query = "{ ObservationList { id hasMember { reference resource(optional: true) { id } } } }"
    _, found = await asked(hospital, caller, query)
    for row in (found["data"] or {"ObservationList": []})["ObservationList"]:
        for member in row["hasMember"] or ():
            assert (member["resource"] is not None) == (member["reference"] in visible)
    for patient in luck.sample(["P1", "P2", "P3"], 3):
        back = "{ ObservationList(_reference: patient) { id } }"
        status, found = await asked(hospital, caller, back, f"Patient/{patient}")
        assert (status != 404) == (f"Patient/{patient}" in visible)
        if status == 200:
            mine = {k for k, each in of("Observation").items() if each["subject"]["reference"] == f"Patient/{patient}"}
            assert mine <= {row["id"] for row in found["data"]["ObservationList"]} <= of("Observation").keys()
