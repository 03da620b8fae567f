"""docs/security.md U01: the audit trail leaves out no patient, and names what was read, changed or deleted."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from fhir_server.access import telling
from fhir_server.store import Store
from profiles.validate import check
from tests.hospital import Hospital, condition, events, faults, letter, open_audited
from tests.shell import bundle_of, entry

KEY = bytes(32)


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_audited(store, KEY)


def patients_in(event: dict[str, Any]) -> list[str]:
    return [each["what"]["reference"] for each in event["entity"] if each["type"]["code"] == "1"]


def target_of(event: dict[str, Any]) -> Any:
    """What the one entity of data is about: its reference, or its kind."""
    [what] = [each["what"] for each in event["entity"] if each.get("role", {}).get("code") == "4"]
    return what.get("reference") or what["display"]


def profile_of(event: dict[str, Any]) -> str:
    return ",".join(each.rpartition(".")[2] for each in event["meta"].get("profile", ()))


@pytest.mark.anyio
async def test_u01_no_patient_of_a_search_is_left_out(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that shows more patients than one event names makes more events, and each patient is found by one."""
    monkeypatch.setattr(telling, "MOST_PATIENTS", 2)
    for number in range(3):
        identity = f"M{number}"
        await hospital.ask(hospital.admin, "PUT", f"Patient/{identity}", {"resourceType": "Patient", "id": identity})
    before = len(await events(hospital))
    await hospital.ask(hospital.doctor, "GET", "Patient?_count=10")
    told = (await events(hospital))[before:]
    assert [len(patients_in(each)) for each in told] == [2, 2, 1]
    assert sorted(name for each in told for name in patients_in(each)) == [
        f"Patient/{identity}" for identity in ("M0", "M1", "M2", "P1", "P2")
    ]
    assert {base64.b64decode(part["query"]) for each in told for part in each["entity"] if "query" in part} == {
        b"Patient?_count=10"
    }
    assert [issue.text for each in told for issue in check(each, "AuditEvent") if issue.severity == "error"] == []
    assert await faults(hospital) == []


STATS = "Observation/$stats?subject=Patient/P1&system=http://loinc.org&code=a&statistic=count"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "url", "patients"),
    [
        ("GET", "Condition/c1/_history", {"P1"}),
        ("GET", "Condition/_history", {"P1", "P2"}),
        ("GET", "_history", {"P1", "P2"}),
        ("GET", "Condition/_history?_summary=count", set()),
        ("GET", STATS, {"P1"}),
        ("GET", "Observation/$lastn?subject=Patient/P1", {"P1"}),
        ("GET", "Condition/c1/$meta", {"P1"}),
        ("GET", "Condition/c1/$validate", {"P1"}),
        ("GET", "$diff?from=Condition/c1&to=Condition/c2", {"P1", "P2"}),
        ("GET", "Condition/c1/$fhirpath?expression=id", {"P1"}),
        ("GET", "Patient/P1/$everything", {"P1", "P2"}),
        ("GET", "Patient/P1/$summary", {"P1", "P2"}),
        ("POST", "Condition/c1/$reindex", {"P1"}),
        ("POST", "Condition/c1/$expunge?expungePreviousVersions=true", {"P1"}),
        ("GET", "Composition/doc/$document", {"P1", "P2"}),
        ("GET", "Composition/$document?id=doc", {"P1", "P2"}),
    ],
)
async def test_u01_whatever_shows_content_names_the_patients(
    hospital: Hospital, method: str, url: str, patients: set[str]
) -> None:
    """Histories and operations name the patients of all that they show or change, like reads and searches."""
    await hospital.ask(hospital.admin, "PUT", "Composition/doc", letter("Condition/c1", "Condition/c2"))
    before = len(await events(hospital))
    answer = await hospital.ask(hospital.admin, method, url)
    assert answer.status == 200, answer.body
    told = (await events(hospital))[before:]
    assert {name.removeprefix("Patient/") for each in told for name in patients_in(each)} == patients


@pytest.mark.anyio
async def test_u01_a_comparison_names_both_sides(hospital: Hospital) -> None:
    """Each of two resources that are compared has an event of its own."""
    await hospital.ask(hospital.admin, "GET", "$diff?from=Condition/c1&to=Condition/c2")
    assert [target_of(each) for each in await events(hospital)] == [
        "Condition/c1/_history/1",
        "Condition/c2/_history/1",
    ]


@pytest.mark.anyio
async def test_u01_a_read_that_is_answered_304_names_the_patient(hospital: Hospital) -> None:
    """The client is told that what it has is still so."""
    answer = await hospital.ask(hospital.doctor, "GET", "Condition/c1", None, if_none_match='W/"1"')
    assert answer.status == 304
    [found] = await events(hospital)
    assert (profile_of(found), patients_in(found)) == ("PatientRead", ["Patient/P1"])


@pytest.mark.anyio
@pytest.mark.parametrize("integrity", [False, True])
async def test_u01_a_delete_names_what_is_gone(hospital: Hospital, integrity: bool) -> None:
    """With its patient; a conditional one has an event for each; one that finds nothing is no delete of anything."""
    changes = {"referential_integrity": integrity, "conditional_delete": "multiple"}
    hospital.context = replace(hospital.context, config=hospital.context.config.model_copy(update=changes))
    await hospital.ask(hospital.admin, "DELETE", "Encounter/e1")
    await hospital.ask(hospital.admin, "DELETE", "Condition?_id=c1,c2")
    told = await events(hospital)
    assert [(profile_of(each), each["action"]) for each in told] == [("PatientDelete", "D")] * 3
    assert sorted((target_of(each), *patients_in(each)) for each in told) == [
        ("Condition/c1/_history/2", "Patient/P1"),
        ("Condition/c2/_history/2", "Patient/P2"),
        ("Encounter/e1/_history/2", "Patient/P1"),
    ]
    for url in ("Encounter/e1", "Encounter/never", "Encounter?_id=never"):
        assert (await hospital.ask(hospital.admin, "DELETE", url)).status == 204
    told = (await events(hospital))[3:]
    assert [(profile_of(each), each["action"], target_of(each)) for each in told] == [("", "E", "Encounter")] * 3
    assert {each["outcomeDesc"] for each in told} == {"Nothing was deleted."}
    assert [issue.text for each in told for issue in check(each, "AuditEvent") if issue.severity == "error"] == []


@pytest.mark.anyio
async def test_u01_a_conditional_create_that_finds_its_match_is_a_read(hospital: Hospital) -> None:
    """Nothing was made, alone and in a transaction."""
    made = condition("x", "Patient/P1")
    await hospital.ask(hospital.doctor, "POST", "Condition", made, if_none_exist="_id=c1")
    row = entry("POST", "Condition", made, ifNoneExist="_id=c1")
    answer = await hospital.ask(hospital.doctor, "POST", "", bundle_of("transaction", row))
    assert answer.status == 200, answer.body
    for found in await events(hospital):
        assert (profile_of(found), found["action"], found["subtype"][0]["code"]) == ("PatientRead", "R", "read")
        assert (target_of(found), patients_in(found)) == ("Condition/c1/_history/1", ["Patient/P1"])
