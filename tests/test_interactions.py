"""Interactions called directly on a real mongod: status, headers and text of every answer."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import BASE, ask, bundle_of, content, context_on, entry, id_of, patient, text_of

pytestmark = pytest.mark.anyio


async def test_create_answers_with_the_resource_as_stored(context: Context) -> None:
    """201 with Location, ETag and Last-Modified, and the body that a read returns (R4 http.html#create)."""
    answer = await ask(context, "POST", "Patient", patient(id="mine"))
    assert answer.status == 201
    id = id_of(answer)
    assert id != "mine"
    assert answer.headers["Location"] == f"{BASE}/Patient/{id}/_history/1"
    assert answer.headers["ETag"] == 'W/"1"'
    read = await ask(context, "GET", f"Patient/{id}")
    assert (read.status, read.body) == (200, answer.body)
    assert read.headers["Last-Modified"] == answer.headers["Last-Modified"]
    assert content(read)["meta"].keys() == {"versionId", "lastUpdated"}


async def test_decimals_keep_their_digits(context: Context) -> None:
    """1.50 is not 1.5, and 1.0e3 is not 1000 (R4 datatypes.html#decimal)."""
    raw = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"component":[{"code":{"text":"a"},"valueQuantity":{"value":1.50}},'
        b'{"code":{"text":"b"},"valueQuantity":{"value":1.0e3}}]}'
    )
    id = id_of(await ask(context, "POST", "Observation", raw))
    body = (await ask(context, "GET", f"Observation/{id}")).body
    assert b'"value":1.50' in body
    assert b'"value":1.0e3' in body


@pytest.mark.parametrize(
    ("preferred", "starts"),
    [
        ("minimal", b""),
        ("representation", b'{"resourceType":"Patient"'),
        ("OperationOutcome", b'{"resourceType":"OperationOutcome"'),
    ],
)
async def test_prefer_chooses_the_content(context: Context, preferred: str, starts: bytes) -> None:
    """Prefer: return=... (R4 http.html#ops)."""
    answer = await ask(context, "POST", "Patient", patient(), prefer=f"return={preferred}")
    assert answer.body.startswith(starts)
    assert bool(answer.body) == bool(starts)


async def test_a_bad_resource_is_refused_with_every_fault(context: Context) -> None:
    """422 or 400 with an expression for each fault, and nothing is stored."""
    bad = patient(gender="unknownn", birthDate="1987-13-40", contact=[{}], nonsense=1)
    answer = await ask(context, "POST", "Patient", bad)
    assert answer.status in (400, 422)
    places = {place for issue in content(answer)["issue"] for place in issue.get("expression", ())}
    assert {"Patient.gender", "Patient.birthDate", "Patient.nonsense"} <= places
    assert content(await ask(context, "GET", "Patient"))["total"] == 0


async def test_a_missing_resource_is_404_and_a_deleted_one_410(context: Context) -> None:
    """After a delete versions go on, and earlier ones are still readable (R4 http.html#delete)."""
    assert (await ask(context, "GET", "Patient/none")).status == 404
    id = id_of(await ask(context, "POST", "Patient", patient()))
    gone = await ask(context, "DELETE", f"Patient/{id}")
    assert (gone.status, gone.body, gone.headers["ETag"]) == (204, b"", 'W/"2"')
    assert (await ask(context, "GET", f"Patient/{id}")).status == 410
    assert (await ask(context, "GET", f"Patient/{id}/_history/2")).status == 410
    assert (await ask(context, "GET", f"Patient/{id}/_history/1")).status == 200
    assert (await ask(context, "DELETE", f"Patient/{id}")).headers["ETag"] == 'W/"2"'
    again = await ask(context, "PUT", f"Patient/{id}", patient(id=id))
    assert (again.status, again.headers["ETag"]) == (201, 'W/"3"')


async def test_vread_of_a_version_that_is_not_there(context: Context) -> None:
    """404 for versions beyond the last, and for what is no number."""
    id = id_of(await ask(context, "POST", "Patient", patient()))
    for version in ("2", "0", "x", "99999999999999999999"):
        assert (await ask(context, "GET", f"Patient/{id}/_history/{version}")).status == 404


async def test_update_creates_then_changes_then_stays(context: Context) -> None:
    """201, 200 with the next version, 200 with the same version when nothing changes (R4 http.html#update)."""
    first = await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    assert (first.status, first.headers["ETag"]) == (201, 'W/"1"')
    second = await ask(context, "PUT", "Patient/p1", patient(id="p1", active=True))
    assert (second.status, second.headers["ETag"]) == (200, 'W/"2"')
    same = await ask(context, "PUT", "Patient/p1", {"active": True, **patient(id="p1")})
    assert (same.status, same.headers["ETag"], same.body) == (200, 'W/"2"', second.body)
    assert content(await ask(context, "GET", "Patient/p1/_history"))["total"] == 2


async def test_update_needs_the_id_of_the_url(context: Context) -> None:
    """400 for a missing or another id, and for another type."""
    assert (await ask(context, "PUT", "Patient/p1", patient())).status == 400
    other = await ask(context, "PUT", "Patient/p1", patient(id="p2"))
    assert (other.status, text_of(other)) == (400, "The id in the body is p2, and in the URL it is p1.")
    wrong = await ask(context, "PUT", "Observation/p1", patient(id="p1"))
    assert text_of(wrong) == "The body is of type Patient, and the URL of type Observation."


@pytest.mark.parametrize("id", [".", ".."])
async def test_steps_of_a_path_are_no_ids(context: Context, id: str) -> None:
    """A client's URL library would take them away (RFC 3986 §5.2.4), and nobody could read the resource."""
    for url in (f"Patient/{id}", "Patient?identifier=http://h|1"):
        answer = await ask(context, "PUT", url, patient(id=id))
        assert answer.status == 400
        assert text_of(answer).startswith(f"{id!r} cannot be an id: ")
    assert (await ask(context, "PUT", "Patient/...", patient(id="..."))).status == 201


async def test_update_as_create_can_be_switched_off(store: Store) -> None:
    """405, as R4 asks of servers that do not let clients choose ids."""
    strict = context_on(store, update_create=False)
    assert (await ask(strict, "PUT", "Patient/p1", patient(id="p1"))).status == 405


async def test_if_match_protects_a_version(context: Context) -> None:
    """412 when the version is another one (R4 http.html#concurrency)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    stale = await ask(context, "PUT", "Patient/p1", patient(id="p1", active=True), if_match='W/"7"')
    assert (stale.status, text_of(stale)) == (412, 'If-Match is W/"7", and the current version is 1.')
    fine = await ask(context, "PUT", "Patient/p1", patient(id="p1", active=True), if_match='W/"1"')
    assert fine.status == 200
    assert (await ask(context, "DELETE", "Patient/p1", if_match='W/"1"')).status == 412
    assert (await ask(context, "PUT", "Patient/p9", patient(id="p9"), if_match='W/"1"')).status == 412
    assert (await ask(context, "PUT", "Patient/p1", patient(id="p1"), if_none_match="*")).status == 412


async def test_of_parallel_updates_with_one_etag_one_wins(context: Context) -> None:
    """100 parallel PUT with the same ETag: 1 × 200, 99 × 412 (docs/security.md)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    puts = [
        ask(context, "PUT", "Patient/p1", patient(id="p1", birthDate=f"19{n:02}"), if_match='W/"1"') for n in range(100)
    ]
    statuses = sorted(answer.status for answer in await asyncio.gather(*puts))
    assert statuses == [200] + [412] * 99


async def test_parallel_updates_of_one_id_all_get_a_version(context: Context) -> None:
    """200 parallel PUT: versions 1..200 and no fault (docs/security.md)."""
    puts = [ask(context, "PUT", "Patient/p1", patient(id="p1", birthDate=f"{1800 + n}")) for n in range(200)]
    answers = await asyncio.gather(*puts)
    assert {answer.status for answer in answers} == {200, 201}
    assert sorted(int(answer.headers["ETag"][3:-1]) for answer in answers) == list(range(1, 201))


async def test_conditional_read(context: Context) -> None:
    """304 for If-None-Match and If-Modified-Since (R4 http.html#cread)."""
    created = await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    known = await ask(context, "GET", "Patient/p1", if_none_match='W/"1"')
    assert (known.status, known.body) == (304, b"")
    since = created.headers["Last-Modified"]
    assert (await ask(context, "GET", "Patient/p1", if_modified_since=since)).status == 304
    assert (await ask(context, "GET", "Patient/p1", if_none_match='W/"2"', if_modified_since=since)).status == 200
    assert (await ask(context, "GET", "Patient/p1", if_modified_since="yesterday")).status == 200


async def test_conditional_create(context: Context) -> None:
    """201 without a match, 200 with one, 412 with several (R4 http.html#ccreate)."""
    mrn = {"identifier": [{"system": "http://h", "value": "1"}]}
    first = await ask(context, "POST", "Patient", patient(**mrn), if_none_exist="identifier=http://h|1")
    assert first.status == 201
    second = await ask(context, "POST", "Patient", patient(**mrn), if_none_exist="identifier=http://h|1")
    assert (second.status, second.body) == (200, first.body)
    await ask(context, "POST", "Patient", patient(**mrn))
    third = await ask(context, "POST", "Patient", patient(**mrn), if_none_exist="identifier=http://h|1")
    assert (third.status, text_of(third)) == (412, "The criteria match more than one Patient.")
    empty = await ask(context, "POST", "Patient", patient(), if_none_exist="")
    assert empty.status == 412
    unknown = await ask(context, "POST", "Patient", patient(), if_none_exist="nonsense=1", prefer="handling=lenient")
    assert unknown.status == 400


async def test_of_parallel_conditional_creates_one_creates(context: Context) -> None:
    """100 parallel: 1 × 201, 99 × 200 (docs/security.md)."""
    mrn = patient(identifier=[{"system": "http://h", "value": "1"}])
    posts = [ask(context, "POST", "Patient", mrn, if_none_exist="identifier=http://h|1") for _ in range(100)]
    statuses = sorted(answer.status for answer in await asyncio.gather(*posts))
    assert statuses == [200] * 99 + [201]


async def test_conditional_update(context: Context) -> None:
    """Creates, then updates the match; another id is refused, several matches are 412 (R4 http.html#cond-update)."""
    mrn = {"identifier": [{"system": "http://h", "value": "1"}]}
    url = "Patient?identifier=http://h|1"
    first = await ask(context, "PUT", url, patient(**mrn))
    assert first.status == 201
    second = await ask(context, "PUT", url, patient(active=True, **mrn))
    assert (second.status, second.headers["ETag"]) == (200, 'W/"2"')
    assert content(second)["id"] == id_of(first)
    other = await ask(context, "PUT", url, patient(id="other", **mrn))
    assert other.status == 400
    await ask(context, "POST", "Patient", patient(**mrn))
    assert (await ask(context, "PUT", url, patient(**mrn))).status == 412
    assert (await ask(context, "PUT", "Patient", patient(**mrn))).status == 412
    named = await ask(context, "PUT", "Patient?identifier=http://h|2", patient(id="chosen"))
    assert (named.status, id_of(named)) == (201, "chosen")


@pytest.mark.parametrize("bundle", ["", "batch", "transaction"])
async def test_a_conditional_update_overwrites_nothing_that_does_not_match(context: Context, bundle: str) -> None:
    """Nothing matches and the id is taken: 409; one that was deleted is brought back (R5 http.html#cond-update)."""
    url, new = "Patient?identifier=http://h|2", patient(id="taken", active=True)
    await ask(context, "PUT", "Patient/taken", patient(id="taken"))

    async def put() -> tuple[int, str]:
        if not bundle:
            answer = await ask(context, "PUT", url, new)
            return answer.status, answer.body.decode()
        answer = await ask(context, "POST", "", bundle_of(bundle, entry("PUT", url, new)))
        row = content(answer)["entry"][0]["response"] if answer.status == 200 else {"status": str(answer.status)}
        return int(row["status"][:3]), answer.body.decode()

    status, body = await put()
    assert status == 409
    assert "The criteria match nothing, and Patient/taken, the id in the body, is there already." in body
    assert content(await ask(context, "GET", "Patient/taken"))["meta"]["versionId"] == "1"
    await ask(context, "DELETE", "Patient/taken")
    assert (await put())[0] == 201


async def test_conditional_delete(store: Store) -> None:
    """One or several up to the cap, all or none; 412 beyond, and without criteria (R4 http.html#3.1.0.7.1)."""
    context = context_on(store, max_conditional_delete=3)
    for _ in range(4):
        await ask(context, "POST", "Patient", patient(active=True))
    assert (await ask(context, "DELETE", "Patient?active=true")).status == 412
    assert content(await ask(context, "GET", "Patient"))["total"] == 4
    assert (await ask(context, "DELETE", "Patient")).status == 412
    assert (await ask(context, "DELETE", "Patient?active=false")).status == 204
    told = await ask(context_on(store), "DELETE", "Patient?active=true", prefer="return=OperationOutcome")
    assert (told.status, text_of(told)) == (200, "4 deleted.")
    single = context_on(store, conditional_delete="single")
    for _ in range(2):
        await ask(context, "POST", "Patient", patient(active=True))
    assert (await ask(single, "DELETE", "Patient?active=true")).status == 412


async def test_history_lists_versions_and_pages(context: Context) -> None:
    """Newest first, deletes without resource, pages by sealed links (R4 http.html#history)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    for year in range(2000, 2004):
        await ask(context, "PUT", "Patient/p1", patient(id="p1", birthDate=str(year)))
    await ask(context, "DELETE", "Patient/p1")
    page = content(await ask(context, "GET", "Patient/p1/_history?_count=4"))
    assert page["total"] == 6
    assert page["entry"][0]["request"] == {"method": "DELETE", "url": "Patient/p1"}
    assert "resource" not in page["entry"][0]
    link = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = content(await ask(context, "GET", link))
    versions = [row["response"]["etag"] for row in [*page["entry"], *rest["entry"]]]
    assert versions == [f'W/"{n}"' for n in range(6, 0, -1)]
    assert rest["entry"][-1]["response"]["status"] == "201 Created"
    assert (await ask(context, "GET", "Patient/none/_history")).status == 404
    assert content(await ask(context, "GET", "_history"))["total"] == 6
    assert (await ask(context, "GET", "Patient/_history?_since=then")).status == 400
    assert (await ask(context, "GET", "Patient/_history?x=1")).status == 400
    assert content(await ask(context, "GET", "Patient/_history?_since=2099-01-01"))["total"] == 0


async def test_page_links_cannot_be_changed_or_moved(context: Context) -> None:
    """A link is sealed for the search that it came from."""
    for _ in range(3):
        await ask(context, "POST", "Patient", patient())
    page = content(await ask(context, "GET", "Patient?_count=2"))
    link = next(link["url"] for link in page["link"] if link["relation"] == "next")
    assert (await ask(context, "GET", link)).status == 200
    assert (await ask(context, "GET", link[:-2] + ("BB" if link.endswith("AA") else "AA"))).status == 400
    assert (await ask(context, "GET", link.replace("Patient?", "Observation?"))).status == 400


async def test_summaries_and_elements(context: Context) -> None:
    """All five summaries, and elements with what is mandatory; marked SUBSETTED (R4 search.html#summary)."""
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Amy</div>'}
    photo = [{"contentType": "image/png"}]
    await ask(context, "PUT", "Patient/p1", patient(id="p1", text=text, photo=photo, gender="female"))

    async def keys(query: str) -> set[str]:
        found = content(await ask(context, "GET", f"Patient/p1?{query}"))
        assert ("tag" in found["meta"]) == (query != "_summary=false")
        return set(found) - {"resourceType", "id", "meta"}

    assert await keys("_summary=true") == {"name", "gender"}
    assert await keys("_summary=text") == {"text"}
    assert await keys("_summary=data") == {"name", "gender", "photo"}
    assert await keys("_summary=false") == {"name", "gender", "photo", "text"}
    assert await keys("_elements=gender,Patient.photo") == {"gender", "photo"}
    count = content(await ask(context, "GET", "Patient?_summary=count"))
    assert (count["total"], "entry" in count) == (1, False)
    assert (await ask(context, "GET", "Patient/p1?_summary=some")).status == 400
    searched = content(await ask(context, "GET", "Patient?_elements=gender"))["entry"][0]["resource"]
    assert set(searched) == {"resourceType", "id", "meta", "gender"}


async def test_search_by_get_post_and_compartment(context: Context) -> None:
    """The three ways to search (R4 http.html#search)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    await ask(context, "POST", "Observation", observation | {"subject": {"reference": "Patient/p1"}})
    await ask(context, "POST", "Observation", observation)
    form = {"content_type": "application/x-www-form-urlencoded"}
    posted = await ask(context, "POST", "Patient/_search?_count=5", b"family=shaw", **form)
    assert content(posted)["total"] == 1
    assert content(posted)["link"][0]["url"] == f"{BASE}/Patient?family=shaw&_count=5"
    assert content(await ask(context, "GET", "Patient/p1/Observation"))["total"] == 1
    assert content(await ask(context, "POST", "Patient/p1/Observation/_search", b"", **form))["total"] == 1
    everything = content(await ask(context, "GET", "Patient/p1/*"))
    assert {row["resource"]["resourceType"] for row in everything["entry"]} <= {"Patient", "Observation"}
    assert (await ask(context, "POST", "Patient/_search", b"{}", content_type="application/json")).status == 415


async def test_unknown_parameters_are_errors_unless_lenient(context: Context) -> None:
    """400, or a warning in the bundle and nothing of it in the self link."""
    strict = await ask(context, "GET", "Patient?nonsense=1")
    assert strict.status == 400
    lenient = await ask(context, "GET", "Patient?nonsense=1&family=x", prefer="handling=lenient")
    found = content(lenient)
    assert found["entry"][0]["search"] == {"mode": "outcome"}
    assert "nonsense" not in found["link"][0]["url"]
