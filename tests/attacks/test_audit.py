"""docs/security.md U: every access is in the audit trail once, durable, valid and tamper-evident."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.auditing import Trail
from fhir_server.answers.respond import Response
from fhir_server.context import Request
from fhir_server.routes import handle
from fhir_server.store import Store
from profiles.json import encode
from profiles.validate import check
from smart_auth import audit, chain
from smart_auth.chain import linked
from tests.hospital import Hospital, condition, events, faults, observation, open_audited
from tests.shell import bundle_of, content, entry

KEY = bytes(32)


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_audited(store, KEY)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "url", "body", "profile", "action", "subtype"),
    [
        ("GET", "Condition/c1", None, "PatientRead", "R", "read"),
        ("GET", "Condition/c1/_history/1", None, "PatientRead", "R", "vread"),
        ("GET", "Organization/org", None, "Read", "R", "read"),
        ("GET", "Condition?patient=P1", None, "PatientQuery", "E", "search-type"),
        ("GET", "Condition", None, "Query", "E", "search-type"),
        ("POST", "Condition", condition("x", "Patient/P1"), "PatientCreate", "C", "create"),
        ("PUT", "Condition/c1", condition("c1", "Patient/P1", code={"text": "new"}), "PatientUpdate", "U", "update"),
        ("GET", "Condition/_history", None, None, "E", "history-type"),
        ("GET", "Condition/c1/$meta", None, None, "E", "operation"),
    ],
)
async def test_u01_each_interaction_is_told_once(
    hospital: Hospital, method: str, url: str, body: Any, profile: str | None, action: str, subtype: str
) -> None:
    """One valid AuditEvent by its BALP profile for each interaction, with client, server, user and patient."""
    answer = await hospital.ask(hospital.doctor, method, url, body)
    assert answer.status < 300, answer.body
    [found] = await events(hospital)
    assert [issue.text for issue in check(found, "AuditEvent") if issue.severity == "error"] == []
    assert (found["action"], found["subtype"][0]["code"], found["outcome"]) == (action, subtype, "0")
    assert [each.rpartition(".")[2] for each in found["meta"].get("profile", ())] == ([profile] if profile else [])
    assert [agent["who"]["identifier"]["value"] for agent in found["agent"]] == ["app", "http://test/fhir", "dora"]
    assert found["agent"][2]["requestor"] is True
    patients = [e["what"]["reference"] for e in found["entity"] if e["type"]["code"] == "1"]
    if profile and profile.startswith("Patient"):
        assert patients == ["Patient/P1"]
    if profile == "Query":
        assert set(patients) == {"Patient/P1", "Patient/P2"}
    assert any(e["what"]["identifier"]["value"] == "t" for e in found["entity"] if e["type"]["code"] == "XrequestId")


@pytest.mark.anyio
async def test_u01_deletes_conditionals_and_entries_of_bundles(hospital: Hospital) -> None:
    """A delete names what is gone; each entry of a batch and of a committed transaction is told once."""
    await hospital.ask(hospital.admin, "DELETE", "Condition/c1")
    [found] = await events(hospital)
    assert (found["action"], found["subtype"][0]["code"]) == ("D", "delete")
    rows = [entry("GET", "Patient/P1"), entry("GET", "Condition?code=x"), entry("GET", "Patient/nobody")]
    await hospital.ask(hospital.admin, "POST", "", bundle_of("batch", *rows))
    told = (await events(hospital))[1:]
    assert sorted((e["subtype"][0]["code"], e["outcome"]) for e in told) == [
        ("read", "0"),
        ("read", "4"),
        ("search-type", "0"),
    ]
    rows = [
        entry("PUT", "Condition/t1", condition("t1", "Patient/P1")),
        entry("POST", "Observation", observation("x", "Patient/P1")),
    ]
    answer = await hospital.ask(hospital.admin, "POST", "", bundle_of("transaction", *rows))
    assert answer.status == 200
    told = (await events(hospital))[4:]
    assert sorted(e["subtype"][0]["code"] for e in told) == ["create", "update"]
    assert {e["outcome"] for e in told} == {"0"}


@pytest.mark.anyio
async def test_a_transaction_that_fails_is_told_as_one_failure(hospital: Hospital) -> None:
    """Nothing that was rolled back is told as done."""
    rows = [entry("PUT", "Condition/t1", condition("t1", "Patient/P1")), entry("DELETE", "Observation/o2")]
    assert (await hospital.ask(hospital.nurse, "POST", "", bundle_of("transaction", *rows))).status == 403
    [found] = await events(hospital)
    assert (found["subtype"][0]["code"], found["outcome"]) == ("transaction", "4")


@pytest.mark.anyio
async def test_u01_what_a_posted_search_asked_is_told(hospital: Hospital) -> None:
    """The criteria of a form are in the trail like those of an address."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    request = Request("POST", ("Condition", "_search"), [], form, b"patient=P1", principal=hospital.doctor, id="t")
    assert (await handle(request, hospital.context)).status == 200
    told = [part["query"] for part in (await events(hospital))[-1]["entity"] if "query" in part]
    assert [base64.b64decode(text) for text in told] == [b"Condition/_search?patient=P1"]


@pytest.mark.anyio
async def test_u03_a_refusal_is_told_without_its_target(hospital: Hospital) -> None:
    """401, 403 and 404 are recorded with a failure and name neither id nor patient nor query."""
    for caller, url in [
        (None, "Patient/P2"),
        (hospital.app(), "Condition/c2"),
        (hospital.app("patient/Patient.r"), "Condition?code=secret"),
    ]:
        assert (await hospital.ask(caller, "GET", url)).status in (401, 403, 404)
    found = await events(hospital)
    assert [each["outcome"] for each in found] == ["4", "4", "4"]
    for each in found:
        text = json.dumps(each)
        assert "Patient/P2" not in text
        assert "Condition/c2" not in text
        assert "secret" not in text
        assert [issue.text for issue in check(each, "AuditEvent") if issue.severity == "error"] == []


@pytest.mark.anyio
async def test_the_query_is_kept_for_those_who_audit(hospital: Hospital) -> None:
    """BALP: the raw search is in entity.query, base64; an auditor finds events over REST at once, others do not."""
    await hospital.ask(hospital.doctor, "GET", "Condition?patient=P1")
    auditor = hospital.caller("user/*.rs", "Auditor", user="audrey")
    found = content(await hospital.ask(auditor, "GET", "AuditEvent?patient=P1"))
    [event] = [row["resource"] for row in found["entry"]]
    query = next(e["query"] for e in event["entity"] if "query" in e)
    assert base64.b64decode(query) == b"Condition?patient=P1"
    assert (await hospital.ask(hospital.nurse, "GET", "AuditEvent")).status == 403
    mine = content(await hospital.ask(hospital.patient(), "GET", "AuditEvent"))
    assert event["id"] in [row["resource"]["id"] for row in mine["entry"]]
    assert b'"query"' not in encode(mine)
    assert content(await hospital.ask(hospital.patient(patient="P2"), "GET", "AuditEvent"))["total"] == 0


@pytest.mark.anyio
async def test_an_event_about_several_patients_is_shown_to_none_of_them(hospital: Hospital) -> None:
    """A search over everybody names them all; an auditor sees that, and a patient would learn of the others."""
    await hospital.ask(hospital.doctor, "GET", "Condition")
    auditor = hospital.caller("user/*.rs", "Auditor", user="audrey")
    assert content(await hospital.ask(auditor, "GET", "AuditEvent?patient=P1"))["total"] == 1
    assert b"Patient/P2" not in (await hospital.ask(hospital.patient(), "GET", "AuditEvent")).body


@pytest.mark.anyio
async def test_u05_nobody_writes_audit_events_over_rest(hospital: Hospital) -> None:
    """Create, update, patch and delete of an AuditEvent are 403 for the administrator too, alone and in a batch."""
    await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    [event] = await events(hospital)
    url = f"AuditEvent/{event['id']}"
    patch = [{"op": "remove", "path": "/agent"}]
    root = hospital.admin
    assert (await hospital.ask(root, "PUT", url, event | {"action": "D"})).status == 403
    assert (await hospital.ask(root, "DELETE", url)).status == 403
    assert (await hospital.ask(root, "POST", "AuditEvent", event)).status == 403
    assert (await hospital.ask(root, "PATCH", url, patch, content_type="application/json-patch+json")).status == 403
    assert (await hospital.ask(root, "DELETE", "AuditEvent?action=R")).status == 403
    batch = content(await hospital.ask(root, "POST", "", bundle_of("batch", entry("DELETE", url))))
    assert batch["entry"][0]["response"]["status"].startswith("403")
    assert (await hospital.ask(root, "GET", url)).status == 200


@pytest.mark.anyio
async def test_u05_tampering_in_the_database_is_named(hospital: Hospital) -> None:
    """An event edited, removed, added or put in another order, and a link taken out or changed: each is found."""
    store: Any = hospital.context.store
    database = store.driver.database
    for _ in range(3):
        await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    found = await events(hospital)
    assert await faults(hospital) == []
    name = f"AuditEvent/{found[1]['id']}"
    kept = await database["resources"].find_one({"_id": name})
    await database["resources"].update_one({"_id": name}, {"$set": {"body": kept["body"].replace(b"dora", b"nora")}})
    assert await faults(hospital) == [f"{name} was changed"]
    await database["resources"].delete_one({"_id": name})
    assert await faults(hospital) == [f"{name} was removed"]
    await database["resources"].insert_one(kept)
    await database["resources"].insert_one({**kept, "_id": "AuditEvent/forged"})
    assert await faults(hospital) == ["1 AuditEvents are in no link"]
    await database["resources"].delete_one({"_id": "AuditEvent/forged"})
    assert await faults(hospital) == []
    link = await database["audit"].find_one({"_id": 2})
    await database["audit"].delete_one({"_id": 2})
    told = await faults(hospital)
    assert "links 2 to 2 are missing" in told
    assert "1 AuditEvents are in no link" in told
    await database["audit"].insert_one(link)
    await database["audit"].update_one({"_id": 2}, {"$set": {"text": link["text"].replace(b"dora", b"nora")}})
    assert "link 2 was changed" in await faults(hospital)
    await database["audit"].replace_one({"_id": 2}, link)
    assert await faults(hospital) == []
    await database["audit"].delete_one({"_id": 4})
    assert "the events of link 1 were never stored" in await faults(hospital)


@pytest.mark.anyio
async def test_workers_share_one_chain(hospital: Hospital, store: Store) -> None:
    """Two workers that write at once make one chain without gap; moving events on twice changes nothing."""
    other = Trail(replace(hospital.context, trail=None), KEY)
    trails = [hospital.context.trail, other]
    notes = (trails[n % 2].note("login", {"user": f"u{n}", "outcome": "refused"}) for n in range(60))
    await asyncio.gather(*notes)
    await asyncio.gather(*(trail.move() for trail in trails))
    assert len(await events(hospital)) == 60
    assert await faults(hospital) == []
    strange = Trail(replace(hospital.context, trail=None), b"another key")
    assert [fault async for fault in strange.verify()] != []


@pytest.mark.anyio
async def test_an_event_is_durable_before_the_answer_leaves(hospital: Hospital, store: Store) -> None:
    """When an answer is there its event is in the journal, whatever becomes of this process."""
    await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    fresh = Trail(replace(hospital.context, trail=None), KEY)
    batches = await fresh.journal.open(10)
    assert len(batches) == 1
    await fresh.move()
    assert await faults(hospital) == []


@pytest.mark.parametrize("kind", audit.SECURITY)
def test_security_events_are_valid(kind: str) -> None:
    """Logins, tokens, alerts and emergencies make valid AuditEvents, replays serious ones."""
    details = {"user": "ada", "client": "app", "address": "127.0.0.1", "reason": "cardiac arrest", "outcome": None}
    made = audit.security_event(kind, details, id="x", at="2026-05-01T12:00:00.000Z", server="http://test/fhir")
    assert [issue.text for issue in check(made, "AuditEvent") if issue.severity == "error"] == []
    if kind.endswith("replay"):
        assert made["outcome"] == "8"


def proven(links: list[chain.Link]) -> Iterator[str]:
    return chain.Proof((KEY,)).faults(links)


TEXTS = st.lists(st.binary(max_size=9), min_size=2, max_size=6)


@given(TEXTS, st.data())
def test_any_change_of_a_chain_is_found(texts: list[bytes], data: st.DataObject) -> None:
    """A link dropped, exchanged, changed or forged is a fault; the chain itself is none."""
    links: list[chain.Link] = []
    for text in texts:
        links.append(linked(KEY, links[-1] if links else None, text))
    assert list(proven(links)) == []
    at = data.draw(st.integers(0, len(links) - 2))
    assert list(proven(links[:at] + links[at + 1 :]))
    swapped = [*links]
    swapped[at], swapped[at + 1] = links[at + 1], links[at]
    assert list(proven(swapped))
    assert list(proven([*links[:at], replace(links[at], text=b"forged text"), *links[at + 1 :]]))
    forged = linked(b"guess", links[at - 1] if at else None, texts[at])
    assert list(proven([*links[:at], forged, *links[at + 1 :]]))


@pytest.mark.anyio
async def test_u01_many_long_lines_at_once_are_all_told(hospital: Hospital) -> None:
    """What arrives together goes into one link while that fits into a document: 20 MB of questions do not."""
    trail, before = hospital.context.trail, len(await events(hospital))
    assert trail is not None
    request = Request("GET", ("Observation",), [("code", "x" * 60_000)], principal=hospital.doctor, id="t")
    await asyncio.gather(*(trail.record(request, "search-type", Response(200)) for _ in range(350)))
    assert len(await events(hospital)) == before + 350
    assert await faults(hospital) == []
