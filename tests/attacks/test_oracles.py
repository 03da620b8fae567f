"""Operations that could tell of what their caller may not see, each with its rightful twin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server.access.gate import Caller
from fhir_server.store import Store
from profiles.json import parse
from tests.hospital import LAB, RESTRICTED, Hospital, observation, open_hospital, reference
from tests.shell import bundle_of, constraint, entry

pytestmark = pytest.mark.anyio
LAB_TOKEN = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
SECRET = {"security": [RESTRICTED]}
TAG = {"system": "http://t", "code": "seen"}


def binary(identity: str, patient: str, **meta: Any) -> dict[str, Any]:
    content = {"contentType": "text/plain", "data": "aGk=", "securityContext": reference(patient)}
    return {"resourceType": "Binary", "id": identity, "meta": meta, **content}


async def put(hospital: Hospital, *resources: dict[str, Any]) -> None:
    for each in resources:
        answer = await hospital.ask(hospital.admin, "PUT", f"{each['resourceType']}/{each['id']}", each)
        assert answer.status in (200, 201), answer.body


@pytest.mark.parametrize("place", ["Binary/$meta", "$meta"])
async def test_meta_of_binaries_is_that_of_the_callers_own(hospital: Hospital, place: str) -> None:
    """What is in use is told of Binaries whose context the caller sees, and of no other."""
    hidden = {"system": "http://t", "code": "hidden"}
    await put(hospital, binary("b1", "Patient/P1", tag=[TAG]), binary("b2", "Patient/P2", tag=[hidden]))
    for caller, tags in ((hospital.app("patient/*.rs"), ["seen"]), (hospital.admin, ["hidden", "seen"])):
        answer = await hospital.ask(caller, "GET", place)
        assert answer.status == 200, answer.body
        found: Any = parse(answer.body)
        assert sorted(tag["code"] for tag in found["parameter"][0]["valueMeta"]["tag"]) == tags


async def test_snapshot_gives_no_definition_that_a_read_would_not(hospital: Hospital) -> None:
    """By its url as by its id: a label hides the resource from a nurse and not from a doctor."""
    photo = {"id": "Patient.photo", "path": "Patient.photo", "max": "0"}
    await put(hospital, constraint("http://x/secret", photo, meta=SECRET))
    for caller, status in ((hospital.nurse, 404), (hospital.doctor, 200)):
        for path in ("StructureDefinition/$snapshot?url=http://x/secret", "StructureDefinition/secret/$snapshot"):
            assert (await hospital.ask(caller, "GET", path)).status == status, path
    shipped = "StructureDefinition/$snapshot?url=http://hl7.org/fhir/StructureDefinition/Patient"
    assert (await hospital.ask(hospital.nurse, "GET", shipped)).status == 200


async def test_t29_whether_a_delete_would_do_is_told_to_who_may_delete(store: Store) -> None:
    """What keeps a resource may be another patient's: a reader learns nothing of it by asking $validate."""
    hospital = await open_hospital(store, referential_integrity=True)
    for caller in (
        hospital.app("patient/*.rs"),
        hospital.app("patient/*.rs patient/Observation.cruds"),
        hospital.nurse,
    ):
        answer = await hospital.ask(caller, "GET", "Encounter/e1/$validate?mode=delete")
        assert answer.status == 403
    answer = await hospital.ask(hospital.app("patient/Observation.d"), "GET", "Observation/o2/$validate?mode=delete")
    assert answer.status in (403, 404)
    answer = await hospital.ask(hospital.doctor, "GET", "Observation/o1/$validate?mode=delete")
    assert b"is still referred to" in answer.body


async def versions(hospital: Hospital, caller: Caller, url: str) -> list[str]:
    answer = await hospital.ask(caller, "GET", url)
    found: Any = parse(answer.body)
    rows = found.get("entry", ())
    return [
        row["resource"]["meta"]["versionId"] for row in rows if row["fullUrl"].endswith("/late") and "resource" in row
    ]


async def test_s01_who_only_reads_does_not_search_by_conditions(hospital: Hospital) -> None:
    """Reading by id is not searching: criteria of writes and references are refused, granular ones find their part."""
    new = {"resourceType": "Patient", "name": [{"family": "Bell"}]}
    seen = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "category": [LAB]}
    about = seen | {"subject": reference("Patient?family=Bell")}
    bundle = bundle_of("transaction", entry("POST", "Observation", about))
    for scope, status in (("user/Patient.cru user/Observation.crus", 403), ("user/*.cruds", 200)):
        caller = hospital.caller(scope, "Admin", user="root")
        asked = await hospital.ask(caller, "POST", "Patient", new, if_none_exist="family=Bell")
        assert asked.status == status
        assert (await hospital.ask(caller, "POST", "", bundle)).status == status
        assert (await hospital.ask(caller, "PUT", "Patient?family=Bell", new)).status == status
    mixed = hospital.caller(f"user/Observation.cr user/Observation.s?category={LAB_TOKEN}", "Admin", user="root")
    for criteria, status in (("_id=v1", 201), ("_id=o1", 200)):
        assert (await hospital.ask(mixed, "POST", "Observation", seen, if_none_exist=criteria)).status == status


async def test_an_operation_is_granted_alike_by_get_and_by_post(hospital: Hospital) -> None:
    """`$everything` reads and `$lastn` searches, whatever the method: neither shows less or more for it."""
    reader = hospital.app("patient/*.r")
    mixed = hospital.app(f"patient/Observation.r patient/Observation.s?category={LAB_TOKEN}")
    rows = (
        (reader, "Patient/P1/$everything", {"P1", "org", "D1", "o1", "v1", "mix", "r1", "c1", "e1"}),
        (reader, "Encounter/e1/$everything", {"e1", "P1"}),
        (mixed, "Observation/$lastn?patient=P1&max=9", {"o1", "mix", "r1"}),
    )
    for caller, url, ids in rows:
        for method in ("GET", "POST"):
            found: Any = parse((await hospital.ask(caller, method, url)).body)
            assert {row["resource"]["id"] for row in found["entry"]} == ids, (method, url)


async def test_pages_of_a_history_do_not_tell_what_lies_between(hospital: Hospital) -> None:
    """However small the pages: none is empty because of others' versions, and the count is that of the own ones."""
    ward = [observation("busy", "Patient/P2", note=[{"text": str(number)}]) for number in range(60)]
    await put(hospital, observation("own1", "Patient/P1"), *ward, observation("own2", "Patient/P1"))
    app = hospital.app("patient/*.rs")
    url, sizes = "Observation/_history?_count=1&_since=2000-01-01", []
    while url:
        answer: Any = parse((await hospital.ask(app, "GET", url)).body)
        sizes.append(len(answer.get("entry", ())))
        url = next((link["url"] for link in answer["link"] if link["relation"] == "next"), "")
    assert sizes == [1] * len(sizes)
    for place, total in (("Observation/_history", len(sizes)), ("Observation/own1/_history", 1)):
        answer = parse((await hospital.ask(app, "GET", f"{place}?_count=0")).body)
        assert (answer["total"], answer.get("entry")) == (total, None)
    everything: Any = parse((await hospital.ask(hospital.admin, "GET", "Observation/busy/_history?_count=0")).body)
    assert everything["total"] == 60
    assert (await hospital.ask(app, "GET", "Observation/busy/_history?_count=0")).status == 404


async def test_t09_a_label_that_is_set_later_hides_the_versions_before(hospital: Hospital) -> None:
    """R4 resource-operation-meta-add.html: labels "apply access rules to existing versions of resources"."""
    early = observation("late", "Patient/P1", "secret")
    label = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": SECRET}]}
    glass = hospital.caller("user/*.rs", "Nurse", user="nora", glass=datetime(2999, 1, 1, tzinfo=UTC))
    urls = ("Observation/late/_history", "Observation/_history", "_history")
    await put(hospital, early, early | {"status": "amended"})
    for url in urls:
        assert await versions(hospital, hospital.nurse, url) == ["2", "1"]
    assert (await hospital.ask(hospital.doctor, "POST", "Observation/late/$meta-add", label)).status == 200
    for path in ("", "/_history", "/_history/1", "/_history/2", "/_history/1/$meta", "/$diff?fromVersion=1"):
        answer = await hospital.ask(hospital.nurse, "GET", f"Observation/late{path}")
        missing = await hospital.ask(hospital.nurse, "GET", f"Observation/none{path}")
        assert (answer.status, answer.body) == (404, missing.body.replace(b"none", b"late"))
        for caller in (hospital.doctor, glass, hospital.patient("patient/*.rs")):
            assert (await hospital.ask(caller, "GET", f"Observation/late{path}")).status == 200, path
    for url in urls:
        assert await versions(hospital, hospital.doctor, url) == ["3", "2", "1"]
        assert b'"id":"late"' not in (await hospital.ask(hospital.nurse, "GET", url)).body
    assert (await hospital.ask(hospital.admin, "DELETE", "Observation/late")).status == 204
    assert (await hospital.ask(hospital.nurse, "GET", "Observation/late/_history/1")).status == 404
    assert (await hospital.ask(hospital.doctor, "GET", "Observation/late/_history/1")).status == 200
    await put(hospital, early)
    assert await versions(hospital, hospital.nurse, urls[0]) == ["5", "2", "1"]
