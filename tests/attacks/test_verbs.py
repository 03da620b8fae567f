"""What each verb of a scope is for, and what it does not tell by the way (SMART 2.2, scopes)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.gate import Caller
from profiles.json import encode
from tests.hospital import VITAL, Hospital, condition, observation, reference, status
from tests.shell import bundle_of, content, entry

pytestmark = pytest.mark.anyio

LAB_ONLY = "?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
JSON_PATCH = "application/json-patch+json"
ENTRY = "urn:uuid:20000000-0000-4000-8000-000000000002"


def by(hospital: Hospital, scope: str) -> Caller:
    return hospital.caller(scope, "Admin", user="u")


async def listed(hospital: Hospital, caller: Caller, url: str) -> set[str]:
    """The ids that a history or a search lists; its total is their number."""
    told = content(await hospital.ask(caller, "GET", url))
    found = {row["fullUrl"].rpartition("/")[2] for row in told.get("entry", ())}
    assert told["total"] == len(found)
    return found


@pytest.mark.parametrize(
    ("scope", "ids"),
    [
        (f"user/Observation.r user/Observation.s{LAB_ONLY}", {"o1", "o2", "mix", "r1"}),
        ("user/Observation.s", {"o1", "o2", "v1", "mix", "r1"}),
        (f"user/Observation.s user/Observation.r{LAB_ONLY}", {"o1", "o2", "v1", "mix", "r1"}),
    ],
)
async def test_t09_the_history_of_a_type_lists_what_a_search_would_find(
    hospital: Hospital, scope: str, ids: set[str]
) -> None:
    """`s` is for the history of a type and of the server, `r` for that of an instance, deletes included."""
    caller = by(hospital, scope)
    for url in ("Observation?_total=accurate", "Observation/_history", "_history"):
        assert await listed(hospital, caller, url) == ids, url
    for id in ("o1", "v1"):
        assert await status(hospital, hospital.admin, "DELETE", f"Observation/{id}") == 204
    rows = content(await hospital.ask(caller, "GET", "Observation/_history"))["entry"]
    gone = {row["fullUrl"].rpartition("/")[2] for row in rows if "resource" not in row}
    assert gone == {"o1", "v1"} & ids


async def test_t09_the_history_of_an_instance_is_read(hospital: Hospital) -> None:
    """With `r` on part of a type the history of one resource goes by that part, whatever may be searched."""
    caller = by(hospital, f"user/Observation.s user/Observation.r{LAB_ONLY}")
    assert await listed(hospital, caller, "Observation/o1/_history") == {"o1"}
    assert await status(hospital, caller, "GET", "Observation/v1/_history") == 404
    assert await status(hospital, by(hospital, "user/Observation.r"), "GET", "Observation/_history") == 403
    assert await status(hospital, by(hospital, "user/Observation.s"), "GET", "Observation/o1/_history") == 403


async def told_of(hospital: Hospital, caller: Caller, id: str, full_url: str) -> tuple[list[str], str]:
    """The statuses where a transaction deletes a resource and refers to a version of it, and that reference."""
    about = observation("x", "Patient/P1", derivedFrom=[reference(f"{full_url}/_history/1")])
    rows = [entry("DELETE", f"Observation/{id}", full_url=full_url), entry("POST", "Observation", about)]
    answer = content(await hospital.ask(caller, "POST", "", bundle_of("transaction", *rows)))
    told = [row["response"] for row in answer["entry"]]
    made = content(await hospital.ask(hospital.admin, "GET", "Observation/" + told[1]["location"].split("/")[-3]))
    return [row["status"] for row in told], made["derivedFrom"][0]["reference"]


async def test_a_delete_in_a_transaction_does_not_tell_a_version(hospital: Hospital) -> None:
    """A reference to a version of what is hidden becomes the same as one to what never was; the own one is known."""
    narrow = by(hospital, f"user/Observation.cruds{LAB_ONLY}")
    for turn in range(3):
        body = observation("v1", "Patient/P1", str(turn), category=[VITAL])
        assert await status(hospital, hospital.admin, "PUT", "Observation/v1", body) == 200
    for url in (ENTRY, "http://elsewhere.example/fhir/Observation/v1"):
        hidden = await told_of(hospital, narrow, "v1", url)
        assert hidden == (["204 No Content", "201 Created"], "Observation/v1/_history/1")
        assert await told_of(hospital, narrow, "never", url) == (hidden[0], "Observation/never/_history/1")
    assert await status(hospital, hospital.admin, "GET", "Observation/v1") == 200
    assert (await told_of(hospital, narrow, "o1", ENTRY))[1] == "Observation/o1/_history/2"


async def patched(hospital: Hospital, caller: Caller, id: str, **test: Any) -> tuple[int, bytes]:
    patch = [{"op": "test", **test}]
    answer = await hospital.ask(caller, "PATCH", f"Observation/{id}", patch, content_type=JSON_PATCH)
    return answer.status, answer.body.replace(id.encode(), b"?")


async def test_a_patch_tells_nothing_of_what_is_not_seen(hospital: Hospital) -> None:
    """What may be updated and not seen is answered like what never was, alone and in Bundles."""
    caller = by(hospital, f"user/Observation.u user/Observation.rs{LAB_ONLY}")
    right, wrong = ({"path": "/status", "value": value} for value in ("final", "amended"))
    assert (await patched(hospital, caller, "o1", **right))[0] == 200
    missing = await patched(hospital, caller, "none", **right)
    assert missing[0] == 404
    for test in (right, wrong):
        assert await patched(hospital, caller, "v1", **test) == missing
    merge = await hospital.ask(caller, "PATCH", "Observation/v1", {}, content_type="application/merge-patch+json")
    assert merge.status == 404
    operation = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Observation.note"}]
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": operation}]}
    for kind in ("batch", "transaction"):
        bundle = bundle_of(kind, entry("PATCH", "Observation/v1", parameters))
        answer = await hospital.ask(caller, "POST", "", bundle, prefer="return=representation")
        assert b"404 Not Found" in answer.body or answer.status == 404
        assert encode(VITAL) not in answer.body


async def test_a_patch_of_what_is_seen_and_not_granted_is_refused(hospital: Hospital) -> None:
    caller = by(hospital, f"user/Observation.rs user/Observation.u{LAB_ONLY}")
    assert (await patched(hospital, caller, "v1", path="/status", value="final"))[0] == 403
    assert (await patched(hospital, caller, "o1", path="/status", value="final"))[0] == 200


async def test_a_patch_needs_to_look(hospital: Hospital) -> None:
    """With `u` alone nothing is guessed by the tests of a patch, in none of its formats; `s` or `r` lets it look."""
    blind = by(hospital, "user/Observation.u")
    for id in ("o1", "none"):
        for value in ("final", "amended"):
            assert (await patched(hospital, blind, id, path="/status", value=value))[0] == 403
    for scope in ("user/Observation.ru", "user/Observation.us"):
        assert (await patched(hospital, by(hospital, scope), "o1", path="/status", value="final"))[0] == 200
    body = observation("o1", "Patient/P1", "z")
    assert await status(hospital, blind, "PUT", "Observation/o1", body) == 200


def conditional_forms() -> list[tuple[str, str, Any, dict[str, str]]]:
    """Every interaction that looks for a match, alone and in Bundles."""
    sought = "identifier=u|dup"
    new = condition("x", "Patient/P1", identifier=[{"system": "u", "value": "dup"}])
    del new["id"]
    about = {"resourceType": "Condition", "subject": reference("Patient/P1")}
    about["evidence"] = [{"detail": [reference(f"Condition?{sought}")]}]
    rows = [entry("POST", "Condition", new, ifNoneExist=sought), entry("PUT", f"Condition?{sought}", new)]
    return [
        ("POST", "Condition", new, {"if_none_exist": sought}),
        ("POST", "Condition", new, {"if_none_exist": sought}),
        ("PUT", f"Condition?{sought}", new, {}),
        *(("POST", "", bundle_of(kind, row), {}) for kind in ("batch", "transaction") for row in rows),
        ("POST", "", bundle_of("transaction", entry("POST", "Condition", about)), {}),
        ("DELETE", f"Condition?{sought}", None, {}),
        ("POST", "", bundle_of("transaction", entry("DELETE", f"Condition?{sought}")), {}),
    ]


@pytest.mark.parametrize("verbs", ["cud", "crud"])
async def test_s01_conditions_need_search(hospital: Hospital, verbs: str) -> None:
    """Without `s` a conditional interaction is refused, not carried out without its condition; with it, it has one."""
    without, within = (by(hospital, f"user/Condition.{each}") for each in (verbs, f"{verbs}s"))
    for caller, expected in ((without, {403}), (within, {200, 201, 204})):
        for method, url, sent, headers in conditional_forms():
            answer = await hospital.ask(caller, method, url, sent, **headers)
            told = content(answer) if answer.body else {}
            batched = told["entry"][0]["response"]["status"] if told.get("type") == "batch-response" else ""
            assert int(batched[:3] or answer.status) in expected, (method, url, sent)
            found = await hospital.ids(hospital.admin, "Condition?identifier=u|dup")
            assert len(found) == (1 if caller is within and method != "DELETE" and b"DELETE" not in encode(sent) else 0)


async def test_t05_what_refers_to_something_is_searched_for(hospital: Hospital) -> None:
    """`_has` and `_revinclude` find what `s` on its type finds, part by part, and nothing by `r` alone."""
    rows: tuple[tuple[str, set[str]], ...] = (
        ("user/Observation.r", set()),
        ("user/Observation.r user/Observation.s?code=http://loinc.org|b", {"Observation/o2"}),
        ("user/Observation.s", {f"Observation/{id}" for id in ("o1", "o2", "v1", "mix", "r1")}),
    )
    for scope, found in rows:
        caller = by(hospital, f"{scope} user/Patient.rs user/Encounter.rs")
        owners = {"Patient/P1"} if "Observation/o1" in found else set()
        owners |= {"Patient/P2"} if found else set()
        assert await hospital.ids(caller, "Patient?_has:Observation:subject:status=final") == owners
        assert await hospital.ids(caller, "Patient?_has:Observation:patient:_id=o2") == (
            {"Patient/P2"} if found else set()
        )
        encounters = {f"Encounter/e{owner[-1]}" for owner in owners}
        chained = "Encounter?subject:Patient._has:Observation:subject:status=final"
        assert await hospital.ids(caller, chained) == encounters
        shown = await hospital.ids(caller, "Patient?_revinclude=Observation:subject")
        assert shown == found | {"Patient/P1", "Patient/P2"}


async def test_t05_what_a_reference_leads_to_may_be_read(hospital: Hospital) -> None:
    """Chains, includes and orders across references look at what `r` shows, since the way there is in sight."""
    caller = by(hospital, "user/Observation.rs user/Patient.r")
    assert await status(hospital, caller, "GET", "Patient?family=Bell") == 403
    assert await hospital.ids(caller, "Observation?subject:Patient.family=Bell") == {"Observation/o2"}
    assert await hospital.ids(caller, "Observation?_filter=subject.family eq Bell") == {"Observation/o2"}
    assert await hospital.ids(caller, "Observation?_id=o2&_include=*") == {"Observation/o2", "Patient/P2"}
    ordered = content(await hospital.ask(caller, "GET", "Observation?_sort=patient.family"))["entry"]
    assert ordered[0]["resource"]["id"] == "o2"
    blind = by(hospital, "user/Observation.rs")
    assert await hospital.ids(blind, "Observation?subject:Patient.family=Bell") == set()
