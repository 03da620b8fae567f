"""Versions: histories and their parameters, version ids, and what is only done to a certain version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import BASE, ask, bundle_of, content, context_on, entry, id_of, patient, text_of

pytestmark = pytest.mark.anyio

KNOWN = patient(identifier=[{"system": "http://h", "value": "1"}])


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store)
    for gender in ("male", "female"):
        await ask(made, "PUT", "Patient/p", patient(id="p", gender=gender))
    await ask(made, "DELETE", "Patient/p")
    yield made


async def history(context: Context, query: str, of: str = "Patient/p/_history") -> Any:
    answer = await ask(context, "GET", f"{of}?{query}")
    assert answer.status == 200, answer.body
    return content(answer)


@pytest.mark.parametrize("of", ["Patient/p/_history", "Patient/_history", "_history"])
async def test_a_history_of_subsets(context: Context, of: str) -> None:
    """_summary and _elements are for all interactions (R4 http.html#parameters), also for the next page."""
    page = await history(context, "_elements=gender&_count=2", of)
    assert page["entry"][1]["resource"]["gender"] == "female"
    assert page["entry"][1]["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert "name" not in page["entry"][1]["resource"]
    assert "resource" not in page["entry"][0], "a delete has none"
    link = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = content(await ask(context, "GET", link))
    assert rest["entry"][0]["resource"].keys() == {"resourceType", "id", "meta", "gender"}
    short = await history(context, "_summary=text", of)
    assert "gender" not in short["entry"][1]["resource"]
    counted = await history(context, "_summary=count", of)
    assert (counted["total"], "entry" in counted, len(counted["link"])) == (3, False, 1)
    assert (await ask(context, "GET", f"{of}?_summary=bork")).status == 400


@pytest.mark.parametrize("name", ["_since", "_at", "_count"])
async def test_a_parameter_of_a_history_comes_once(context: Context, name: str) -> None:
    """Each of them SHALL NOT appear more than once (R4 http.html#history)."""
    answer = await ask(context, "GET", f"Patient/p/_history?{name}=2000&{name}=2001")
    assert (answer.status, text_of(answer)) == (400, f"{name} is given more than once.")


@pytest.mark.parametrize("of", ["Patient/p/_history", "Patient/_history", "_history"])
async def test_the_pages_of_a_history_tell_one_total(context: Context, of: str) -> None:
    """What is written while somebody pages belongs to none of the pages, nor to their total."""
    page = await history(context, "_count=1", of)
    seen = [page]
    while link := next((link["url"] for link in page["link"] if link["relation"] == "next"), ""):
        await ask(context, "PUT", "Patient/p", patient(id="p", birthDate=f"200{len(seen)}"))
        page = content(await ask(context, "GET", link))
        seen.append(page)
    assert [page["total"] for page in seen] == [3, 3, 3]
    assert [page["entry"][0]["response"]["etag"] for page in seen] == ['W/"3"', 'W/"2"', 'W/"1"']


@pytest.mark.parametrize("query", ["", "_count=1", "_since=2000"])
@pytest.mark.parametrize("of", ["Patient/p/_history", "Patient/_history", "_history"])
async def test_a_history_tells_what_was_created(context: Context, of: str, query: str) -> None:
    """An update that brings a deleted resource back is answered 201 (R4 http.html#update), and so says its history."""
    for born in ("1980", "1981"):
        await ask(context, "PUT", "Patient/p", patient(id="p", birthDate=born))
    page = await history(context, query, of)
    rows = page["entry"]
    while link := next((link["url"] for link in page["link"] if link["relation"] == "next"), ""):
        page = content(await ask(context, "GET", link))
        rows += page["entry"]
    told = [int(row["response"]["status"][:3]) for row in rows]
    assert told == [200, 201, 204, 200, 201]
    assert {row["request"]["method"] for row in rows} == {"PUT", "DELETE"}


async def test_a_history_leaves_out_what_it_does_not_know_where_asked_to(context: Context) -> None:
    """A lenient client sees in the link to the page itself what counted (R4 search.html#errors)."""
    url = "Patient/p/_history?_count=2&nonsense=1"
    assert text_of(await ask(context, "GET", url)) == "nonsense is no parameter of history."
    unable = await ask(context, "GET", "Patient/_history?_list=1")
    assert (unable.status, text_of(unable)) == (400, "_list is not supported in a history.")
    page = content(await ask(context, "GET", url, prefer="handling=lenient"))
    assert page["link"][0] == {"relation": "self", "url": f"{BASE}/Patient/p/_history?_count=2"}
    assert len(page["entry"]) == 2


async def test_a_history_comes_newest_first(context: Context) -> None:
    """Another order is refused rather than ignored."""
    assert len((await history(context, "_sort=-_lastUpdated"))["entry"]) == 3
    answer = await ask(context, "GET", "Patient/p/_history?_sort=_lastUpdated")
    assert text_of(answer) == "_sort=_lastUpdated is not possible: a history comes newest first."


@pytest.mark.parametrize("query", ["_at=1999", "_since=2999", "_at=1999&_summary=count"])
async def test_a_time_without_versions_is_an_empty_history(context: Context, query: str) -> None:
    """404 is for what never was, whichever time is asked for."""
    assert (await history(context, query))["total"] == 0
    assert (await ask(context, "GET", f"Patient/never/_history?{query}")).status == 404


async def test_a_version_id_is_what_it_was_given_as(context: Context) -> None:
    """The versionId of the answer is the one in the URL (R4 http.html#vread), so 01 is none."""
    assert (await ask(context, "GET", "Patient/p/_history/1")).status == 200
    assert (await ask(context, "GET", "Patient/p/_history/01")).status == 404


async def test_if_match_is_for_what_there_is(context: Context) -> None:
    """A conditional update that finds nothing has no version to match (RFC 9110 §13.1.1); nothing is made."""
    url = "Patient?identifier=http://h|1"
    for tag in ('W/"1"', "*"):
        assert (await ask(context, "PUT", url, KNOWN, if_match=tag)).status == 412
    assert content(await ask(context, "GET", url))["total"] == 0
    id = id_of(await ask(context, "PUT", url, KNOWN))
    changed = await ask(context, "PUT", url, KNOWN | {"active": True}, if_match='W/"1"')
    assert (changed.status, content(changed)["id"]) == (200, id)


async def test_if_none_match_is_for_what_there_is_not(context: Context) -> None:
    """`*` creates only, and a version is the one that must not be current (RFC 9110 §13.1.2)."""
    again = patient(id="p", birthDate="1980")
    for tag, status in (("*", 201), ("*", 412), ('W/"4"', 412), ('"3", W/"4"', 412), ('W/"3"', 200)):
        assert (await ask(context, "PUT", "Patient/p", again, if_none_match=tag)).status == status
        again = again | {"gender": "other"}


@pytest.mark.parametrize("in_bundle", ["", "batch", "transaction"])
@pytest.mark.parametrize(
    ("id", "tag", "status"),
    [
        ("never", 'W/"1"', 412),
        ("never", "*", 412),
        ("p", 'W/"2"', 412),
        ("p", "*", 412),
        ("p", 'W/"3"', 204),
        ("q", 'W/"2"', 412),
        ("q", 'W/"1"', 204),
    ],
)
async def test_if_match_guards_a_delete(context: Context, in_bundle: str, id: str, tag: str, status: int) -> None:
    """A version that is not there is none that matches (RFC 9110 §13.1.1): never was, deleted, or another one."""
    await ask(context, "PUT", "Patient/q", patient(id="q"))
    if in_bundle:
        sent = bundle_of(in_bundle, entry("DELETE", f"Patient/{id}", ifMatch=tag))
        answer = await ask(context, "POST", "", sent)
        said = answer.status if answer.status > 200 else int(content(answer)["entry"][0]["response"]["status"][:3])
    else:
        said = (await ask(context, "DELETE", f"Patient/{id}", if_match=tag)).status
    assert said == status


@pytest.mark.parametrize("bundle", ["", "batch", "transaction"])
async def test_if_match_guards_a_conditional_delete(context: Context, bundle: str) -> None:
    """What was changed since the client looked is not deleted; where nothing is left, all is well."""
    url = "Patient?identifier=http://h|1"
    await ask(context, "POST", "Patient", KNOWN)

    async def deleted(tag: str) -> int:
        if not bundle:
            return (await ask(context, "DELETE", url, if_match=tag)).status
        answer = await ask(context, "POST", "", bundle_of(bundle, entry("DELETE", url, ifMatch=tag)))
        return answer.status if answer.status > 200 else int(content(answer)["entry"][0]["response"]["status"][:3])

    assert await deleted('W/"2"') == 412
    assert content(await ask(context, "GET", url))["total"] == 1
    assert [await deleted('W/"1"'), await deleted('W/"1"')] == [204, 204]
    assert content(await ask(context, "GET", url))["total"] == 0


async def test_the_statement_has_an_etag(context: Context) -> None:
    """An ETag SHOULD be returned, and it changes with the statement (R4 http.html#capabilities)."""
    whole = await ask(context, "GET", "metadata")
    tag = whole.headers["ETag"]
    assert tag.startswith('W/"')
    assert (await ask(context, "GET", "metadata")).headers["ETag"] == tag
    again = await ask(context, "GET", "metadata", if_none_match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert (await ask(context, "GET", "metadata", if_none_match='W/"1"')).status == 200


async def test_the_statement_comes_in_parts(context: Context) -> None:
    """_summary and _elements are encouraged (R4 http.html#capabilities)."""
    whole = await ask(context, "GET", "metadata")
    part = await ask(context, "GET", "metadata?_elements=software")
    assert content(part)["software"]["name"] == "fhir-server"
    assert content(part)["fhirVersion"] == "4.0.1", "what is mandatory stays"
    assert "rest" not in content(part)
    assert part.headers["ETag"] != whole.headers["ETag"]
    assert len((await ask(context, "GET", "metadata?_summary=true")).body) < len(whole.body)
