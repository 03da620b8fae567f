"""docs/security.md: who may see a Binary is decided by the resource it names (binary.html, securityContext)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fhir_server.store import Store
from tests.hospital import Hospital, denial, open_hospital, reference
from tests.shell import BASE, bundle_of, content, entry

pytestmark = pytest.mark.anyio
DATA = base64.b64encode(b"secret").decode()


def binary(identity: str, named: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Binary", "id": identity, "contentType": "text/plain", "data": DATA}
    return made | ({"securityContext": reference(named)} if named else {})


CONTEXTS = {
    "bare": None,
    "p1": "Patient/P1",
    "p2": "Patient/P2",
    "c1": "Condition/c1",
    "c2": "Condition/c2",
    "r1": "Observation/r1",
    "full": f"{BASE}/Condition/c2",
    "old": "Condition/c2/_history/1",
    "none": "Patient/nobody",
    "far": "https://else.example/fhir/Patient/P1",
    "loop": "Binary/bare",
}


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    made = await open_hospital(store)
    for identity, named in CONTEXTS.items():
        body = binary(identity, named)
        assert (
            await made.ask(made.caller("user/*.cruds", "Admin", user="root"), "PUT", f"Binary/{identity}", body)
        ).status == 201
    return made


async def readable(hospital: Hospital, caller: Any) -> set[str]:
    """The Binaries that a caller can read, each four ways, which agree."""
    found = set()
    for identity in CONTEXTS:
        answers = [
            await hospital.ask(caller, "GET", f"Binary/{identity}{suffix}", accept=accept)
            for suffix in ("", "/_history/1")
            for accept in ("application/fhir+json", "text/plain")
        ]
        assert len({answer.status for answer in answers}) == 1
        if answers[0].status == 200:
            found.add(identity)
        else:
            assert all(b"secret" not in a.body and DATA.encode() not in a.body for a in answers)
    return found


async def test_reads_searches_and_histories_follow_the_context(hospital: Hospital) -> None:
    """A patient's app sees what names the patient's own; a doctor what is not labelled away; all ways agree."""
    app, doctor, admin = hospital.app(), hospital.doctor, hospital.admin
    assert await readable(hospital, app) == {"p1", "c1", "r1"}
    assert "r1" not in await readable(hospital, hospital.app(role="Nurse"))
    assert await readable(hospital, doctor) >= {"bare", "p1", "p2", "c1", "c2", "full", "old"}
    for caller in (app, hospital.patient(), doctor, admin, hospital.nurse):
        seen = {f"Binary/{name}" for name in await readable(hospital, caller)}
        answer = await hospital.ask(caller, "GET", "Binary")
        if answer.status == 403:
            assert seen == set()
            continue
        assert await hospital.ids(caller, "Binary") == seen
        assert await hospital.ids(caller, "Binary?_count=2") == seen
        assert content(await hospital.ask(caller, "GET", "Binary?_summary=count"))["total"] == len(seen)
        versions = content(await hospital.ask(caller, "GET", "Binary/_history?_count=50"))
        assert {f"Binary/{row['resource']['id']}" for row in versions.get("entry", ())} == seen
    found = await hospital.ids(app, "?_type=Binary,Condition")
    assert found == {"Binary/p1", "Binary/c1", "Binary/r1", "Condition/c1"}


async def test_a_hidden_one_looks_like_none(hospital: Hospital) -> None:
    """404 with the same words as for an id that never was."""
    app = hospital.app()
    for suffix in ("", "/_history/1", "/_history"):
        there = await hospital.ask(app, "GET", f"Binary/p2{suffix}")
        nowhere = await hospital.ask(app, "GET", f"Binary/zz{suffix}")
        assert there.status == nowhere.status == 404
        assert there.body.replace(b"p2", b"zz") == nowhere.body


async def test_writes_stay_inside(hospital: Hospital) -> None:
    """Old and new content: nobody writes under a context they cannot see, nor takes one away from it."""
    app = hospital.app()
    assert (await hospital.ask(app, "PUT", "Binary/new", binary("new", "Patient/P1"))).status == 201
    assert (await hospital.ask(app, "PUT", "Binary/new", binary("new", "Condition/c1"))).status == 200
    for named in ("Patient/P2", "Condition/c2", None, "Binary/p1", "Patient/nobody"):
        assert (await hospital.ask(app, "PUT", "Binary/new", binary("new", named))).status == 403
        assert (await hospital.ask(app, "POST", "Binary", binary("x", named))).status == 403
    for identity in ("p2", "bare", "c2"):
        assert (await hospital.ask(app, "PUT", f"Binary/{identity}", binary(identity, "Patient/P1"))).status in (
            403,
            404,
        )
        await hospital.ask(app, "DELETE", f"Binary/{identity}")
        assert (await hospital.ask(hospital.admin, "GET", f"Binary/{identity}")).status == 200
    assert (await hospital.ask(app, "DELETE", "Binary/new")).status == 204
    rows = bundle_of("batch", entry("GET", "Binary/p2"), entry("GET", "Binary/p1"))
    answer = content(await hospital.ask(app, "POST", "", rows))
    assert [row["response"]["status"][:3] for row in answer["entry"]] == ["404", "200"]


async def test_each_version_by_its_own_context(hospital: Hospital) -> None:
    """A Binary that was another patient's shows its new version alone, and a delete follows what it deleted."""
    await hospital.ask(hospital.admin, "PUT", "Binary/p2", binary("p2", "Patient/P1"))
    app = hospital.app()
    assert (await hospital.ask(app, "GET", "Binary/p2")).status == 200
    assert (await hospital.ask(app, "GET", "Binary/p2/_history/1")).status == 404
    assert len(content(await hospital.ask(app, "GET", "Binary/p2/_history"))["entry"]) == 1
    await hospital.ask(hospital.admin, "DELETE", "Binary/c2")
    assert (await hospital.ask(app, "GET", "Binary/c2")).status == 404
    await hospital.ask(hospital.admin, "DELETE", "Binary/c1")
    assert (await hospital.ask(app, "GET", "Binary/c1")).status == 410


async def test_content_itself_with_its_header(hospital: Hospital) -> None:
    """`X-Security-Context` of native content is the context: it narrows, and names nothing that is not seen."""
    app = hospital.app()
    mine = {"content_type": "text/plain", "x_security_context": "Patient/P1"}
    answer = await hospital.ask(app, "PUT", "Binary/native", "note", **mine)
    assert answer.status == 201, answer.body
    answer = await hospital.ask(app, "GET", "Binary/native", accept="text/plain")
    assert (answer.status, answer.headers["X-Security-Context"]) == (200, "Patient/P1")
    assert (await hospital.ask(hospital.app(patient="P2"), "GET", "Binary/native")).status == 404
    foreign = {"content_type": "text/plain", "x_security_context": "Patient/P2"}
    assert (await hospital.ask(app, "PUT", "Binary/native", "note", **foreign)).status == 403
    wrong = {"content_type": "text/plain", "x_security_context": "root"}
    assert (await hospital.ask(app, "PUT", "Binary/native", "note", **wrong)).status == 400
    assert (await hospital.ask(app, "PUT", "Binary/native", "note", content_type="text/plain")).status == 403


async def test_a_consent_on_what_it_names_counts(hospital: Hospital) -> None:
    """A patient who denies hides the Binaries that name the record, without a rule for Binaries."""
    consent = denial("k", "P2")
    assert "c2" in await readable(hospital, hospital.doctor)
    await hospital.ask(hospital.admin, "PUT", "Consent/k", consent)
    await hospital.gate.refresh()
    found = await readable(hospital, hospital.doctor)
    assert not {"p2", "c2", "full", "old"} & found
    assert {"bare", "p1", "c1"} <= found
