"""docs/security.md T and S: compartments, scopes, labels, consents and roles on every path."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import labels
from profiles.json import parse
from tests.hospital import RESTRICTED, VITAL, Hospital, condition, observation, reference
from tests.shell import bundle_of, content, entry, id_of

pytestmark = pytest.mark.anyio


async def status(hospital: Hospital, caller: Any, method: str, url: str, resource: Any = None, **headers: str) -> int:
    return (await hospital.ask(caller, method, url, resource, **headers)).status


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


@pytest.mark.parametrize(
    "change",
    [
        {"subject": reference("Patient/P2")},
        {"subject": reference("Patient/P1/_history/1"), "performer": [reference("Patient/P2")]},
        {"subject": reference("http://test/fhir/Patient/P2")},
        {"subject": {"type": "Patient", "identifier": {"value": "x"}}},
        {"subject": reference("Patient?identifier=x")},
        {"subject": reference("#p"), "contained": [{"resourceType": "Patient", "id": "p"}]},
        {"subject": reference("Patient/P1"), "focus": [reference("Patient/P2")]},
    ],
)
async def test_t11_a_patient_bound_app_writes_for_its_patient_only(hospital: Hospital, change: dict[str, Any]) -> None:
    """Create, update and patch to another patient's compartment, and mentions of another patient, are refused."""
    app = hospital.app()
    bad = observation("new", "Patient/P1") | change
    for method, url, body in [
        ("POST", "Observation", {k: v for k, v in bad.items() if k != "id"}),
        ("PUT", "Observation/o1", bad | {"id": "o1"}),
        ("PUT", "Observation/new", bad),
    ]:
        answer = await hospital.ask(app, method, url, body)
        assert answer.status in (400, 403, 422), answer.body
    patch = [{"op": "replace", "path": "/subject", "value": reference("Patient/P2")}]
    answer = await hospital.ask(app, "PATCH", "Observation/o1", patch, content_type="application/json-patch+json")
    assert answer.status == 403
    assert await status(hospital, app, "PUT", "Observation/o2", observation("o2", "Patient/P1")) == 404
    good = await hospital.ask(app, "POST", "Observation", observation("x", "Patient/P1"))
    assert good.status == 201
    assert await status(hospital, app, "PUT", "Observation/o1", observation("o1", "Patient/P1", "z")) == 200
    assert b'"b"' in (await hospital.ask(hospital.admin, "GET", "Observation/o2")).body


async def test_t11_new_patients_and_shared_types(hospital: Hospital) -> None:
    """A patient-bound app creates no Patient and changes no Practitioner; it updates its own patient."""
    app = hospital.app()
    assert await status(hospital, app, "POST", "Patient", {"resourceType": "Patient"}) == 403
    assert await status(hospital, app, "PUT", "Patient/new", {"resourceType": "Patient", "id": "new"}) == 403
    assert await status(hospital, app, "PUT", "Practitioner/D1", {"resourceType": "Practitioner", "id": "D1"}) == 403
    assert await status(hospital, app, "GET", "Practitioner/D1") == 200
    assert await status(hospital, app, "PUT", "Patient/P1", {"resourceType": "Patient", "id": "P1"}) == 200


async def test_conditional_forms_see_only_what_the_caller_sees(hospital: Hospital) -> None:
    """Conditional create, update, patch and delete do not match, count or touch resources of P2."""
    app, root = hospital.app(), hospital.admin
    made = await hospital.ask(app, "POST", "Observation", observation("x", "Patient/P1", "b"), if_none_exist="code=b")
    assert made.status == 201
    again = await hospital.ask(app, "POST", "Observation", observation("x", "Patient/P1", "b"), if_none_exist="code=b")
    assert again.status == 200
    assert id_of_location(again) == id_of(made)
    update = observation(id_of(made), "Patient/P1", "b", status="amended")
    assert await status(hospital, app, "PUT", "Observation?code=b", update) == 200
    assert await status(hospital, app, "DELETE", "Observation?code=b") == 204
    assert await status(hospital, root, "GET", f"Observation/{id_of(made)}") == 410
    assert await status(hospital, root, "GET", "Observation/o2") == 200


def id_of_location(answer: Any) -> str:
    return str((answer.headers.get("Location") or answer.headers["Content-Location"]).split("/")[-3])


@pytest.mark.parametrize("verb", ["c", "u", "d"])
async def test_s01_verbs_are_kept_apart(hospital: Hospital, verb: str) -> None:
    """Each writing verb allows its own interaction and no other."""
    app = hospital.app(f"patient/Observation.{verb}")
    body = observation("o1", "Patient/P1")
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    answers = {
        "r": await status(hospital, app, "GET", "Observation/o1"),
        "s": await status(hospital, app, "GET", "Observation"),
        "c": await status(hospital, app, "POST", "Observation", body),
        "u": await status(hospital, app, "PUT", "Observation/o1", body | {"status": "amended"}),
        "p": await status(hospital, app, "PATCH", "Observation/o1", patch, content_type="application/json-patch+json"),
        "d": await status(hospital, app, "DELETE", "Observation/o1"),
    }
    allowed = {each for each, code in answers.items() if code < 300}
    assert allowed == {"c": {"c"}, "u": {"u", "p"}, "d": {"d"}}[verb]
    assert {code for each, code in answers.items() if each not in allowed} == {403}


async def test_s01_a_reader_changes_nothing(hospital: Hospital) -> None:
    """patient/Observation.rs: every write is 403, the reads are 200."""
    app = hospital.app("patient/Observation.rs")
    body = observation("o1", "Patient/P1")
    for method, url in [("POST", "Observation"), ("PUT", "Observation/o1"), ("DELETE", "Observation/o1")]:
        assert await status(hospital, app, method, url, body if method != "DELETE" else None) == 403
    for url in ("Observation?code=a", "Observation?_id=o1"):
        assert await status(hospital, app, "DELETE", url) == 403
        assert await status(hospital, app, "PUT", url, body) == 403
    assert await status(hospital, app, "GET", "Observation/o1") == 200


async def test_s19_update_as_create_needs_create(hospital: Hospital) -> None:
    """PUT to a new id with .u alone is 403, with .cu it creates."""
    body = observation("brand-new", "Patient/P1")
    assert await status(hospital, hospital.app("patient/Observation.u"), "PUT", "Observation/brand-new", body) == 403
    assert await status(hospital, hospital.app("patient/Observation.cu"), "PUT", "Observation/brand-new", body) == 201


async def test_s09_granular_scopes_judge_old_and_new_content(hospital: Hospital) -> None:
    """With laboratory only: vital signs are invisible, cannot be made, and nothing moves in or out."""
    lab = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
    app = hospital.app(f"patient/Observation.cruds?category={lab}")
    assert await status(hospital, app, "GET", "Observation/v1") == 404
    assert "Observation/v1" not in await hospital.ids(app, "Observation")
    assert await status(hospital, app, "POST", "Observation", observation("x", "Patient/P1", category=[VITAL])) == 403
    assert (
        await status(hospital, app, "PUT", "Observation/o1", observation("o1", "Patient/P1", category=[VITAL])) == 403
    )
    assert await status(hospital, app, "PUT", "Observation/v1", observation("v1", "Patient/P1")) == 404
    assert await status(hospital, app, "PUT", "Observation/o1", observation("o1", "Patient/P1", "z")) == 200
    assert await status(hospital, app, "POST", "Observation", observation("x", "Patient/P1")) == 201


async def test_granular_scopes_per_verb(hospital: Hospital) -> None:
    """Reading all but updating laboratory only: updating a vital sign is 403, since it is visible."""
    lab = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
    app = hospital.app(f"patient/Observation.rs patient/Observation.ud?category={lab}")
    assert await status(hospital, app, "GET", "Observation/v1") == 200
    assert await status(hospital, app, "PUT", "Observation/v1", observation("v1", "Patient/P1")) == 403
    assert await status(hospital, app, "DELETE", "Observation/v1") == 403
    assert await status(hospital, app, "DELETE", "Observation?_id=v1") == 403
    assert await status(hospital, app, "DELETE", "Observation?_id=o1") == 204
    batch = bundle_of("transaction", entry("DELETE", "Observation?_id=v1"))
    assert await status(hospital, app, "POST", "", batch) == 403


async def test_s05_entries_of_a_batch_are_judged_alone(hospital: Hospital) -> None:
    """Each entry of a batch gets its own answer, and none runs as the system; odd addresses are refused."""
    app = hospital.app("patient/Patient.rs patient/Observation.rs")
    rows = [
        entry("GET", "Patient/P1"),
        entry("GET", "Patient/P2"),
        entry("GET", "http://test/fhir/Observation/o2"),
        entry("GET", "Observation/../Patient/P2"),
        entry("GET", "//evil.example/Patient/P1"),
        entry("GET", "%50atient/P2"),
        entry("POST", "Observation", observation("x", "Patient/P1")),
        entry("DELETE", "Observation/o1"),
        entry("GET", "Observation?code=b"),
        entry("GET", "$export"),
        entry("POST", "Subscription", {"resourceType": "Subscription"}),
    ]
    answer = content(await hospital.ask(app, "POST", "", bundle_of("batch", *rows)))
    found = [row["response"]["status"][:3] for row in answer["entry"]]
    assert found[0] == "200"
    assert found[1:3] == ["404", "404"]
    assert set(found[3:8]) <= {"400", "403", "404"}
    assert found[6:8] == ["403", "403"]
    assert found[8] == "200"
    assert answer["entry"][8]["resource"]["total"] == 0
    assert all(code in ("403", "404") for code in found[9:])
    assert b'"P2"' not in (await hospital.ask(app, "POST", "", bundle_of("batch", *rows))).body


async def test_s05_a_transaction_with_one_foreign_entry_does_nothing(hospital: Hospital) -> None:
    """A transaction that touches P2 is refused whole; one about P1 is carried out."""
    app = hospital.app()
    mine = entry("PUT", "Observation/t1", observation("t1", "Patient/P1"))
    foreign = entry("PUT", "Observation/o2", observation("o2", "Patient/P1"))
    assert await status(hospital, app, "POST", "", bundle_of("transaction", mine, foreign)) == 404
    assert await status(hospital, app, "GET", "Observation/t1") == 404
    assert await status(hospital, app, "POST", "", bundle_of("transaction", mine)) == 200
    assert await status(hospital, app, "GET", "Observation/t1") == 200


async def test_transaction_references_to_strangers(hospital: Hospital) -> None:
    """A conditional reference inside a transaction does not find what the caller may not see."""
    app = hospital.app()
    row = entry("POST", "Condition", condition("x", "Patient?family=Bell"))
    answer = await hospital.ask(app, "POST", "", bundle_of("transaction", row))
    assert answer.status in (403, 404, 412, 422)
    own = entry("POST", "Condition", condition("x", "Patient?family=Lovelace"))
    assert await status(hospital, app, "POST", "", bundle_of("transaction", own)) == 200


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
    consent = {
        "resourceType": "Consent",
        "id": "no",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "59284-0"}]}],
        "patient": reference("Patient/P2"),
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": {
            "type": "deny",
            "actor": [{"role": {"text": "nurse"}, "reference": reference("Practitioner/N1")}],
        },
    }
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


async def test_s07_operations_are_refused_unless_granted(hospital: Hospital) -> None:
    """An operation without a row is for callers without limits; $meta asks for the right of the instance."""
    app = hospital.app("patient/Observation.rs")
    assert await status(hospital, app, "GET", "Observation/o1/$meta") == 200
    assert await status(hospital, app, "GET", "Observation/o2/$meta") == 404
    assert await status(hospital, app, "GET", "Patient/P1/$meta") == 403
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    assert await status(hospital, app, "POST", "Observation/o1/$meta-add", meta) == 403
    writer = hospital.app("patient/Observation.rus")
    assert await status(hospital, writer, "POST", "Observation/o1/$meta-add", meta) == 200
    assert await status(hospital, writer, "POST", "Observation/o2/$meta-add", meta) == 404
    assert await status(hospital, app, "GET", "Patient/P1/$everything") == 403
    for name in ("$export", "$reindex", "$expunge", "Patient/$export", "Patient/P1/$nonsense"):
        assert await status(hospital, app, "GET", name) in (403, 404)


@pytest.mark.parametrize(
    ("url", "finds"),
    [
        ("Patient/P1/$everything", b"Condition/c1"),
        ("Patient/$everything", b"Condition/c1"),
        ("Observation/$lastn?patient=P1,P2", b"Observation/r1"),
        ("Composition/doc/$document", b"Observation/o1"),
        ("Observation/o1/$fhirpath?expression=code.coding.code", b'"a"'),
    ],
)
async def test_operations_stay_inside(hospital: Hospital, url: str, finds: bytes) -> None:
    """$everything, $lastn, $document and $fhirpath show what a read would show, and nothing of P2."""
    document = {
        "resourceType": "Composition",
        "id": "doc",
        "status": "final",
        "type": {"text": "letter"},
        "subject": reference("Patient/P1"),
        "date": "2026-05-01",
        "author": [reference("Practitioner/D1")],
        "title": "Letter",
        "section": [{"entry": [reference("Observation/o1"), reference("Observation/o2"), reference("Patient/P2")]}],
    }
    assert await status(hospital, hospital.admin, "PUT", "Composition/doc", document) == 201
    answer = await hospital.ask(hospital.app(), "GET", url)
    assert answer.status == 200, answer.body
    assert finds in answer.body
    for foreign in (b'"id":"P2"', b'"id":"o2"', b'"id":"c2"'):
        assert foreign not in answer.body
    other = url.replace("P1", "P2").replace("/o1", "/o2")
    if other != url and "lastn" not in url:
        assert await status(hospital, hospital.app(), "GET", other) == 404


async def test_t25_errors_tell_nothing_of_others(hospital: Hospital) -> None:
    """412 for several matches, 409, 400 and Location of a caller name nothing of P2."""
    app = hospital.app()
    for answer in (
        await hospital.ask(app, "PUT", "Observation?code=a,b", observation("x", "Patient/P1")),
        await hospital.ask(app, "PUT", "Observation/o2", observation("o2", "Patient/P1"), if_match='W/"9"'),
        await hospital.ask(app, "GET", "Observation/o2", if_none_match='W/"1"'),
        await hospital.ask(app, "HEAD", "Observation/o2"),
    ):
        assert b"P2" not in answer.body
        assert "P2" not in str(answer.headers)
        assert answer.status in (404, 412)


async def test_page_links_belong_to_their_caller(hospital: Hospital) -> None:
    """A page link of an administrator, with a total that only the administrator may know, opens for nobody else."""
    page = content(await hospital.ask(hospital.admin, "GET", "Observation?_count=1&_total=accurate"))
    link = next(each["url"] for each in page["link"] if each["relation"] == "next")
    assert (await hospital.ask(hospital.admin, "GET", link)).status == 200
    assert (await hospital.ask(hospital.app(), "GET", link)).status in (400, 403, 404, 410)


async def test_what_tells_about_others_is_for_the_unlimited(hospital: Hospital) -> None:
    """Explanations count what the caller may not see, and jobs of reindexing name it: 403, also in a batch."""
    for method, url in [
        ("GET", "Observation?_explain=true"),
        ("GET", "Observation?_count=0&_explain=true"),
        ("POST", "$reindex"),
        ("POST", "Observation/o1/$reindex"),
        ("GET", "$reindex-status"),
    ]:
        assert await status(hospital, hospital.app(), method, url) == 403, url
        assert await status(hospital, hospital.admin, method, url) in (200, 202), url
    batch = bundle_of("batch", {"request": {"method": "GET", "url": "Observation?_explain=true"}})
    answer = content(await hospital.ask(hospital.app(), "POST", "", batch))
    assert answer["entry"][0]["response"]["status"].startswith("403")


async def test_an_order_does_not_tell_what_is_hidden(hospital: Hospital) -> None:
    """Sorted across references, what leads to another patient stands where it would without a value."""
    found = []
    for sort in ("focus:Patient.birthdate", "-focus:Patient.birthdate", "has-member.code", "_id"):
        bundle = content(await hospital.ask(hospital.app(), "GET", f"Observation?_sort={sort}"))
        found.append([entry["resource"]["id"] for entry in bundle["entry"]])
    assert found == [found[-1]] * 4


async def test_i05_a_search_parameter_does_not_blind_the_gate(hospital: Hospital) -> None:
    """What labels and compartments rest on cannot be redefined over REST; new parameters and wider ones can be made."""
    root = hospital.admin
    base = {"resourceType": "SearchParameter", "status": "active", "description": "x", "name": "x", "type": "token"}
    bad = [
        {"url": "http://x/1", "code": "_security", "base": ["Resource"], "expression": "Resource.id"},
        {
            "url": "http://x/2",
            "code": "subject",
            "base": ["Observation"],
            "expression": "Observation.device",
            "type": "reference",
        },
        {"url": "http://hl7.org/fhir/SearchParameter/Resource-security", "code": "_security", "base": ["Resource"]},
    ]
    for each in bad:
        assert await status(hospital, root, "POST", "SearchParameter", base | each) in (403, 422)
    new = base | {"url": "http://x/3", "code": "shade", "base": ["Observation"], "expression": "Observation.code"}
    assert await status(hospital, root, "POST", "SearchParameter", new) == 201


@pytest.mark.parametrize("walked", [5_000, 0])
async def test_meta_tells_labels_of_what_is_seen(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, walked: int
) -> None:
    """$meta of a type and of the server: what is in use only on what is hidden from the caller is not told."""
    monkeypatch.setattr(labels, "MOST_WALKED", walked)
    for id, number in (("c1", "1"), ("c2", "2")):
        tagged = condition(id, f"Patient/P{number}", meta={"tag": [{"code": f"of-P{number}"}]})
        assert await status(hospital, hospital.doctor, "PUT", f"Condition/{id}", tagged) == 200

    async def told(caller: Any, url: str) -> set[str]:
        answer = await hospital.ask(caller, "GET", url)
        assert answer.status == 200, answer.body
        meta = content(answer)["parameter"][0]["valueMeta"]
        return {row["code"] for name in ("tag", "security") for row in meta.get(name, ())}

    for url, seen in (("$meta", {"of-P1"}), ("Condition/$meta", {"of-P1"}), ("Observation/$meta", set())):
        assert await told(hospital.patient(), url) - {"R"} == seen
        assert await told(hospital.app("patient/*.rs"), url) - {"R"} == seen
    both = {"of-P1", "of-P2"}
    assert await told(hospital.nurse, "$meta") == both
    assert await told(hospital.doctor, "$meta") == {*both, "R"}
    assert await told(hospital.doctor, "Observation/$meta") == {"R"}
    few = hospital.app("patient/Observation.rs")
    assert await status(hospital, few, "GET", "Condition/$meta") == 403
    assert await told(few, "$meta") <= {"R"}
    assert await status(hospital, None, "GET", "$meta") == 401
