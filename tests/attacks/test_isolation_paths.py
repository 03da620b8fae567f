"""docs/security.md T: operations, errors, page links, orders and labels tell nothing of others."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import labels
from tests.hospital import Hospital, condition, letter, observation, status
from tests.shell import bundle_of, content

pytestmark = pytest.mark.anyio


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
    document = letter("Observation/o1", "Observation/o2", "Patient/P2")
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
