"""docs/security.md T and S: compartments, scopes, labels, consents and roles on every path."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.json import parse
from tests.hospital import RESTRICTED, Hospital, condition, denial, observation, reference, status
from tests.shell import bundle_of, content

pytestmark = pytest.mark.anyio


async def test_without_a_caller_everything_but_metadata_is_401(hospital: Hospital) -> None:
    """No token: 401 with a challenge, on every interaction; the capability statement is public."""
    for method, url in [
        ("GET", "Patient/P1"),
        ("GET", "Patient"),
        ("POST", "Patient"),
        ("GET", ""),
        ("GET", "_history"),
    ]:
        answer = await hospital.ask(None, method, url)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert await status(hospital, None, "GET", "metadata") == 200


async def test_s17_a_token_without_scopes(hospital: Hospital) -> None:
    """A token without scopes reads the metadata and nothing else."""
    nobody = hospital.caller("openid fhirUser", "Admin", user="a")
    for method, url in [("GET", "Patient/P1"), ("GET", "Patient"), ("DELETE", "Patient/P1"), ("GET", ""), ("POST", "")]:
        body = bundle_of("batch") if method == "POST" else None
        assert await status(hospital, nobody, method, url, body) == 403
    assert await status(hospital, nobody, "GET", "metadata") == 200


async def test_t01_what_is_another_patients_does_not_exist(hospital: Hospital) -> None:
    """Reading, versions and history of P2's resources look exactly like those of an id that never was."""
    app = hospital.app()
    for kind, foreign in [("Patient", "P2"), ("Observation", "o2"), ("Condition", "c2"), ("Device", "dev2")]:
        for suffix in ("", "/_history/1", "/_history"):
            there = await hospital.ask(app, "GET", f"{kind}/{foreign}{suffix}")
            nowhere = await hospital.ask(app, "GET", f"{kind}/zz{suffix}")
            assert there.status == nowhere.status == 404
            assert there.body.replace(foreign.encode(), b"zz") == nowhere.body
            assert there.headers == nowhere.headers
    for url in ("Patient/P1", "Observation/o1", "Observation/o1/_history/1", "Observation/o1/_history"):
        assert await status(hospital, app, "GET", url) == 200
    for foreign in ("Observation/o2", "Observation/zz"):
        assert await status(hospital, app, "DELETE", foreign) == 204
    assert await status(hospital, hospital.admin, "GET", "Observation/o2") == 200


async def test_searches_find_the_own_compartment_alone(hospital: Hospital) -> None:
    """Type, compartment and system searches, totals and counts stay inside."""
    app = hospital.app()
    assert await hospital.ids(app, "Observation") == {
        "Observation/o1",
        "Observation/v1",
        "Observation/mix",
        "Observation/r1",
    }
    assert await hospital.ids(app, "Patient") == {"Patient/P1"}
    assert await hospital.ids(app, "Observation?subject=Patient/P2") == set()
    assert await hospital.ids(app, "Patient/P2/Observation") == set()
    assert await hospital.ids(app, "Patient/P1/Condition") == {"Condition/c1"}
    assert await hospital.ids(app, "?_type=Condition,Encounter") == {"Condition/c1", "Encounter/e1"}
    assert await status(hospital, app, "GET", "Group") == 403
    total = content(await hospital.ask(app, "GET", "Condition?_summary=count"))["total"]
    assert total == 1
    assert content(await hospital.ask(app, "GET", "Observation?_count=1&_total=accurate"))["total"] == 4


@pytest.mark.parametrize(
    "query",
    [
        "Observation?_id=mix&_include=Observation:focus",
        "Observation?_id=mix&_include=Observation:has-member",
        "Observation?_id=mix&_include=*",
        "Observation?_id=mix&_include:iterate=Observation:has-member&_include:iterate=Observation:subject",
        "Organization?_revinclude=Patient:organization",
        "Practitioner?_revinclude=Observation:performer&_revinclude:iterate=Observation:has-member",
    ],
)
async def test_t03_includes_stay_inside(hospital: Hospital, query: str) -> None:
    """What an include would reach of P2 is absent, and the total and links are as they were."""
    app = hospital.app()
    found = await hospital.ids(app, query)
    assert not found & {"Patient/P2", "Observation/o2", "Condition/c2"}
    assert found
    plain = content(await hospital.ask(app, "GET", query.partition("&")[0]))
    assert content(await hospital.ask(app, "GET", query)).get("total") == plain.get("total")


async def test_t03_an_include_of_a_type_that_is_not_granted(hospital: Hospital) -> None:
    """With scopes for observations alone, an include brings nothing else; with the patient's scope it does."""
    narrow = hospital.app("patient/Observation.rs")
    assert await hospital.ids(narrow, "Observation?_id=o1&_include=*") == {"Observation/o1"}
    wider = hospital.app("patient/Observation.rs patient/Patient.r")
    assert await hospital.ids(wider, "Observation?_id=o1&_include=*") == {"Observation/o1", "Patient/P1"}


@pytest.mark.parametrize(
    ("query", "own"),
    [
        ("Practitioner?_has:Observation:performer:code=b", set()),
        ("Practitioner?_has:Observation:performer:code=a", {"Practitioner/D1"}),
        ("Organization?_has:Patient:organization:family=Bell", set()),
        ("Organization?_has:Patient:organization:family=Lovelace", {"Organization/org"}),
        ("Observation?focus:Patient.family=Bell", set()),
        ("Observation?has-member.code=b", set()),
        ("Observation?subject:Patient.family=Lovelace&_id=o1", {"Observation/o1"}),
        ("Observation?subject:Patient.organization.name=Clinic&_id=o1", {"Observation/o1"}),
    ],
)
async def test_t05_chains_and_has_are_no_oracles(hospital: Hospital, query: str, own: set[str]) -> None:
    """A chain or a _has over resources of P2 finds nothing, over one's own it does."""
    assert await hospital.ids(hospital.app(), query) == own


@pytest.mark.parametrize(
    "query",
    [
        "Observation?_filter=code eq b",
        "Observation?_list=l2",
        "Observation?code:not=zz&subject=Patient/P2",
        "Observation?_id=o2",
        "Observation?_lastUpdated=gt2000-01-01&code=b",
        "Observation?_security:not=zz&code=b",
        "Condition?_id=c1,c2&patient=Patient/P2",
        "Observation?subject:missing=false&code=b",
    ],
)
async def test_t07_no_parameter_reaches_beyond(hospital: Hospital, query: str) -> None:
    """_filter, _list, :not, :missing, _id, _lastUpdated, _security find nothing of P2."""
    answer = await hospital.ask(hospital.app(), "GET", query)
    assert answer.status in (200, 400, 404)
    assert b'"o2"' not in answer.body
    assert b'"c2"' not in answer.body


async def test_t09_each_version_is_judged_by_itself(hospital: Hospital) -> None:
    """A resource that moved from P2 to P1 shows P1 the second version only, P2 the first only; deletes too."""
    root = hospital.admin
    await hospital.ask(root, "PUT", "Condition/moved", condition("moved", "Patient/P2"))
    await hospital.ask(root, "PUT", "Condition/moved", condition("moved", "Patient/P1"))
    one, two = hospital.app(), hospital.app(patient="P2")
    assert await status(hospital, one, "GET", "Condition/moved/_history/1") == 404
    assert await status(hospital, one, "GET", "Condition/moved/_history/2") == 200
    assert await status(hospital, two, "GET", "Condition/moved/_history/1") == 200
    assert await status(hospital, two, "GET", "Condition/moved/_history/2") == 404
    assert await versions(hospital, one, "Condition/moved/_history") == ["2"]
    assert await versions(hospital, two, "Condition/moved/_history") == ["1"]
    await hospital.ask(root, "DELETE", "Condition/moved")
    assert await status(hospital, one, "GET", "Condition/moved") == 410
    assert await status(hospital, two, "GET", "Condition/moved") == 404
    await hospital.ask(root, "DELETE", "Condition/c2")
    for url in ("Condition/_history", "_history"):
        answer = await hospital.ask(one, "GET", url)
        assert b"Condition/c2" not in answer.body
        assert b'"id":"P2"' not in answer.body
        assert b"Condition/c1" in answer.body
    assert content(await hospital.ask(one, "GET", "Condition/_history"))["total"] == 3


async def versions(hospital: Hospital, caller: Any, url: str) -> list[str]:
    found = content(await hospital.ask(caller, "GET", url))
    assert found["total"] == len(found.get("entry", ()))
    return [row["resource"]["meta"]["versionId"] for row in found.get("entry", ())]


async def test_t09_pages_of_a_history_with_gaps(hospital: Hospital) -> None:
    """Pages of a type's history join to what the caller may see, each entry once."""
    for number in range(9):
        owner = "Patient/P2" if number % 3 else "Patient/P1"
        await hospital.ask(hospital.admin, "PUT", f"Condition/n{number}", condition(f"n{number}", owner))
    found: list[str] = []
    url = "Condition/_history?_count=2"
    while url:
        page = content(await hospital.ask(hospital.app(), "GET", url))
        assert len(page.get("entry", ())) <= 2
        found += [row["fullUrl"].rpartition("/")[2] for row in page.get("entry", ())]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    assert found == ["n6", "n3", "n0", "c1"]


async def test_labels_hide_on_every_path(hospital: Hospital) -> None:
    """A restricted observation is not there for a nurse on any path, and is there for a doctor."""
    nurse, doctor = hospital.nurse, hospital.doctor
    assert await status(hospital, nurse, "GET", "Observation/r1") == 404
    assert await status(hospital, doctor, "GET", "Observation/r1") == 200
    assert "Observation/r1" not in await hospital.ids(nurse, "Observation")
    assert "Observation/r1" in await hospital.ids(doctor, "Observation")
    assert await hospital.ids(nurse, "Patient?_has:Observation:patient:code=c") == set()
    assert await hospital.ids(doctor, "Patient?_has:Observation:patient:code=c") == {"Patient/P1"}
    assert b'"r1"' not in (await hospital.ask(nurse, "GET", "Observation/_history")).body
    relabel = observation("o1", "Patient/P1", meta={"security": [RESTRICTED]})
    assert await status(hospital, nurse, "PUT", "Observation/o1", relabel) == 403
    assert await status(hospital, nurse, "PUT", "Observation/r1", observation("r1", "Patient/P1")) == 404


async def test_consents_hold_from_the_moment_they_are_stored(hospital: Hospital) -> None:
    """A denial stored over REST hides the patient's compartment from the next request on; revoked, it is back."""
    nurse = hospital.nurse
    assert await status(hospital, nurse, "GET", "Condition/c2") == 200
    actor = {"role": {"text": "nurse"}, "reference": reference("Practitioner/N1")}
    consent = denial("no", "P2", actor=[actor])
    assert await status(hospital, hospital.doctor, "PUT", "Consent/no", consent) == 201
    await hospital.gate.refresh()
    nurse = hospital.nurse
    assert await status(hospital, nurse, "GET", "Condition/c2") == 404
    assert await status(hospital, nurse, "GET", "Patient/P2") == 404
    assert await hospital.ids(nurse, "Condition") == {"Condition/c1"}
    assert await status(hospital, hospital.doctor, "GET", "Condition/c2") == 200
    assert await status(hospital, hospital.patient(patient="P2"), "GET", "Condition/c2") == 200
    consent["status"] = "inactive"
    assert await status(hospital, hospital.doctor, "PUT", "Consent/no", consent) == 200
    await hospital.gate.refresh()
    assert await status(hospital, hospital.nurse, "GET", "Condition/c2") == 200


async def test_hidden_elements_are_gone_from_answer_and_search(hospital: Hospital) -> None:
    """A lab technician sees no telecom on read, search, history and include, and cannot search, sort or chain by it."""
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    for url in (
        "Patient/P1",
        "Patient?_id=P1",
        "Patient/P1/_history",
        "Observation?_id=o1&_include=Observation:subject",
    ):
        answer = await hospital.ask(tech, "GET", url)
        assert answer.status == 200
        assert b"Lovelace" in answer.body
        assert b"telecom" not in answer.body
        assert b"SUBSETTED" in answer.body
    for url in (
        "Patient?telecom=111",
        "Patient?phone=111",
        "Patient?phone:missing=false",
        "Patient?_sort=phone",
        "Observation?subject:Patient.phone=111",
        "Organization?_has:Patient:organization:phone=111",
        "Patient?_content=111",
        "Patient?address=x",
        "Patient?_filter=phone eq 111",
    ):
        assert await status(hospital, tech, "GET", url) in (400, 403), url
    assert await hospital.ids(tech, "Patient?family=Lovelace") == {"Patient/P1"}
    body: Any = parse((await hospital.ask(hospital.admin, "GET", "Patient/P1")).body)
    assert await status(hospital, tech, "PUT", "Patient/P1", body) == 403


async def test_roles_are_limits_whatever_the_scopes_say(hospital: Hospital) -> None:
    """user/*.cruds is full access relative to the user's own rights: each role keeps to its rows."""
    clerk = hospital.caller("user/*.cruds", "Receptionist", user="r")
    auditor = hospital.caller("user/*.cruds", "Auditor", user="x")
    assert await status(hospital, clerk, "GET", "Patient/P1") == 200
    assert await status(hospital, clerk, "GET", "Observation/o1") == 403
    assert await hospital.ids(clerk, "Patient?_id=P1&_revinclude=Observation:patient") == {"Patient/P1"}
    assert await status(hospital, auditor, "GET", "Patient/P1") == 403
    assert await status(hospital, auditor, "GET", "AuditEvent") == 200
    assert await status(hospital, clerk, "GET", "AuditEvent") == 403
    assert await status(hospital, hospital.admin, "POST", "AuditEvent", {"resourceType": "AuditEvent"}) == 403


async def test_a_patient_sees_the_own_record_whatever_the_scope(hospital: Hospital) -> None:
    """A patient's user/ scopes and patient/ scopes both end at the own compartment."""
    for scope in ("user/*.cruds", "patient/*.cruds"):
        me = hospital.patient(scope)
        assert await hospital.ids(me, "Condition") == {"Condition/c1"}
        assert await status(hospital, me, "GET", "Patient/P2") == 404
        assert await status(hospital, me, "POST", "Condition", condition("x", "Patient/P1")) == 403
    assert await status(hospital, hospital.patient("patient/*.rs", "P2"), "GET", "Condition/c2") == 200
