"""docs/security.md T and S: what may be written, by verb, scope, label, consent and role."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hospital import VITAL, Hospital, condition, observation, reference, status
from tests.shell import bundle_of, content, entry, id_of

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("verb", ["c", "u", "d", "ru"])
async def test_s01_verbs_are_kept_apart(hospital: Hospital, verb: str) -> None:
    """Each writing verb allows its own interaction and no other; a patch needs a look besides."""
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
    assert allowed == {"c": {"c"}, "u": {"u"}, "d": {"d"}, "ru": {"r", "u", "p"}}[verb]
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
