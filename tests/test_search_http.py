"""Searching as a client does it: what is refused and why, what a page link is, what an explanation tells."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import BASE, ask, content, context_on, text_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(store: Store) -> Context:
    """A server with five patients and their observations."""
    context = context_on(store)
    for n in range(5):
        name = [{"family": f"Fam{n}", "given": ["Ann"]}]
        await ask(context, "PUT", f"Patient/p{n}", {"resourceType": "Patient", "id": f"p{n}", "name": name})
        observation = {"resourceType": "Observation", "id": f"o{n}", "status": "final", "code": {"text": "c"}}
        observation |= {"subject": {"reference": f"Patient/p{n}"}, "valueQuantity": {"value": n}}
        await ask(context, "PUT", f"Observation/o{n}", observation)
    return context


async def found(context: Context, url: str, **headers: str) -> dict[str, Any]:
    """The Bundle of a search."""
    answer = await ask(context, "GET", url, **headers)
    assert answer.status == 200, answer.body
    bundle: dict[str, Any] = content(answer)
    return bundle


def names(bundle: dict[str, Any]) -> list[str]:
    return [e["resource"]["id"] for e in bundle.get("entry", ()) if e["search"]["mode"] == "match"]


def told(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """The issues of the outcome in a Bundle."""
    return [i for e in bundle.get("entry", ()) if e["search"]["mode"] == "outcome" for i in e["resource"]["issue"]]


def link(bundle: dict[str, Any], relation: str) -> str:
    return next((row["url"] for row in bundle["link"] if row["relation"] == relation), "")


# What is asked, the place in the outcome, and what its text says.
FAULTS = (
    ("Patient?foo=1", "http.foo", "known are _content, _filter, _has"),
    ("Patient?foo:exact=1", "http.foo:exact", "Unknown search parameter 'foo' for Patient"),
    ("?birthdate=2020", "http.birthdate", "a search over all types"),
    ("Patient?family:below=1", "http.family:below", "known are contains, exact"),
    ("Patient?birthdate:exact=2020", "http.birthdate:exact", "birthdate is a date and has no modifier 'exact'"),
    ("Observation?subject:Foo=1", "http.subject:Foo", "or the name of a resource type"),
    ("Patient?birthdate=2020-13", "http.birthdate", "birthdate: '2020-13' names no day"),
    ("Patient?birthdate=2023-02-29", "http.birthdate", "names no day"),
    ("Patient?birthdate=2020-01-01T25:00Z", "http.birthdate", "names no day"),
    ("Patient?birthdate=20", "http.birthdate", "is not a date such as"),
    ("Patient?birthdate=xx2020", "http.birthdate", "one of eq, ne, gt, lt, ge, le, sa, eb, ap"),
    ("Patient?birthdate=ge", "http.birthdate", "is not a date such as"),
    ("Observation?value-quantity=lots", "http.value-quantity", "Unknown prefix"),
    ("Observation?value-quantity=1.2.3", "http.value-quantity", "is not a number such as"),
    ("Observation?value-quantity=1e9999999", "http.value-quantity", "is not a number such as"),
    ("Observation?value-quantity=1|a|b|c", "http.value-quantity", "number|system|code"),
    (f"Patient?_id={','.join(str(n) for n in range(1001))}", "http._id", "more than 1000 values"),
    ("Patient?family=a,,b", "http.family", "a value between the commas is empty"),
    ("Patient?family:=x", "http.family:", "a modifier is missing"),
    ("Patient?family.name=x", "http.family.name", "is no reference"),
    ("Observation?subject.nothing=x", "http.subject.nothing", "leads nowhere"),
    ("Observation?subject:Patient.nothing=x", "http.subject:Patient.nothing", "Unknown search parameter 'nothing'"),
    ("Observation?subject:Medication.code=x", "http.subject:Medication.code", "refers to"),
    ("Patient?_has:Observation:patient=x", "http._has:Observation:patient", "write _has:Type:reference:parameter"),
    ("Patient?_has:Nothing:patient:code=x", "http._has:Nothing:patient:code", "is not a resource type"),
    ("Patient?_has:Observation:device:code=x", "http._has:Observation:device:code", "no reference to a Patient"),
    ("Patient?_sort=shoesize", "http._sort", "one of _id, _lastUpdated"),
    ("Patient?_sort=-", "http._sort", "cannot be sorted by ''"),
    ("Patient?family=a\\b", "http.family", "a backslash stands before"),
    ("Patient?_sort=name,name,name,name", "http._sort", "at most 3 keys"),
    ("Patient?_count=-1", "http._count", "whole number from 0 on"),
    ("Patient?_count=ten", "http._count", "whole number from 0 on"),
    ("Patient?_count=1&_count=2", "http._count", "more than once"),
    ("Patient?_count:exact=1", "http._count:exact", "_count has no modifiers"),
    ("Patient?_total=yes", "http._total", "one of none, estimate, accurate"),
    ("Patient?_summary=yes", "http._summary", "one of true, text, data, count, false"),
    ("Patient?_summary=true&_summary=text", "http._summary", "more than once"),
    ("Patient?_elements=shoesize", "http._elements", "is not an element of Patient"),
    ("Patient?_include=Nothing:x", "http._include", "'Nothing' is not a resource type"),
    ("Patient?_include=Patient:x", "http._include", "one of general-practitioner, link, organization"),
    ("Patient?_include=Patient:organization:Nothing", "http._include", "'Nothing' is not a resource type"),
    ("Patient?_include:twice=Patient:organization", "http._include:twice", "the only modifier"),
    ("?_type=Nothing", "http._type", "'Nothing' is not a resource type"),
    ("Patient?_contained=perhaps", "http._contained", "one of false, true, both"),
    ("Patient?_filter=name", "http._filter", "more expected at the end"),
    ("Patient?_query=nothing", "http._query", "known are"),
    ("Patient?_explain=perhaps", "http._explain", "one of true, false"),
    ("Patient?_page=abc", "_page", "not one of this server's"),
    ("Patient?=x", "http.", "Unknown search parameter ''"),
    ("Patient?_id:below=x", "http._id:below", "_id has no modifier"),
    ("Observation?code:in=http://nowhere", "http.code:in", "could not be found"),
    ("Observation?code:not-in=http://nowhere", "http.code:not-in", "could not be found"),
    ("Observation?code:below=x", "http.code:below", "a code with its system"),
    ("Location?near=1", "http.near", "latitude|longitude|distance|units"),
    ("Observation?code-value-quantity=a", "http.code-value-quantity", "is not code$value-quantity"),
)


@pytest.mark.parametrize(("url", "place", "text"), FAULTS)
async def test_faults_are_named(context: Context, url: str, place: str, text: str) -> None:
    """400 with the parameter as its place, and in words what is allowed there."""
    answer = await ask(context, "GET", url)
    [issue] = content(answer)["issue"]
    assert answer.status == 400
    assert issue["expression"] == [place]
    assert text in issue["diagnostics"]


async def test_lenient_handling_tells_what_was_left_out(context: Context) -> None:
    """With `handling=lenient` each fault is a warning, and `self` shows what was used; so does the next page."""
    url = "Patient?given=ann&foo=1&birthdate=xx&_sort=shoesize&_count=many&_include=Patient:x"
    first = await found(context, url, prefer="handling=lenient")
    assert len(names(first)) == 5
    warnings = [(i["severity"], i["expression"][0]) for i in told(first)]
    places = ("foo", "birthdate", "_sort", "_count", "_include")
    assert warnings == [("warning", f"http.{name}") for name in places]
    assert link(first, "self") == f"{BASE}/Patient?given=ann&_count=20"
    page = await found(context, "Patient?given=ann&foo=1&_count=2", prefer="handling=lenient")
    assert link(page, "self") == f"{BASE}/Patient?given=ann&_count=2"
    second = await found(context, link(page, "next"))
    assert names(page) + names(second) == ["p0", "p1", "p2", "p3"]
    assert told(second) == []


async def test_page_links_are_for_their_search_alone(context: Context) -> None:
    """A link that was changed, used on another type, or added to is refused (attack T09)."""
    page = await found(context, "Patient?family=fam&_count=2")
    following = link(page, "next")
    assert "fam" not in following.partition("_page=")[2]
    assert names(await found(context, following)) == ["p2", "p3"]
    assert names(await found(context, f"{following}&_format=json")) == ["p2", "p3"]
    for url in (following[:-4] + "AAAA", following.replace("/Patient?", "/Observation?"), following[: len(BASE) + 30]):
        answer = await ask(context, "GET", url)
        assert (answer.status, "run the search again" in text_of(answer)) == (400, True)
    answer = await ask(context, "GET", f"{following}&name=x")
    assert (answer.status, "name cannot be added" in text_of(answer)) == (400, True)


async def test_pages_of_a_state_that_is_gone(context: Context) -> None:
    """A link to a state that the database no longer keeps is 410, and says what to do."""
    cursor = {"k": [], "i": "Patient/p1", "b": False, "t": "1.1", "n": 5}
    token = context.seal.close({"query": [("_count", "2")], "cursor": cursor}, "search Patient")
    answer = await ask(context, "GET", f"Patient?_page={token}")
    assert (answer.status, "run the search again" in text_of(answer)) == (410, True)


async def test_pages_have_first_prev_next(context: Context) -> None:
    """The first page has no prev, the last no next; each link leads where it says."""
    for sort in ("", "&_sort=-family", "&_sort=birthdate,family"):
        first = await found(context, f"Patient?_count=2{sort}")
        second = await found(context, link(first, "next"))
        last = await found(context, link(second, "next"))
        assert (link(first, "prev"), link(last, "next")) == ("", "")
        assert names(await found(context, link(last, "prev"))) == names(second)
        assert names(await found(context, link(second, "prev"))) == names(first)
        assert names(await found(context, link(last, "first"))) == names(first)
        assert [p["total"] for p in (first, second, last)] == [5, 5, 5]


async def test_an_explanation_is_an_outcome_in_the_bundle(context: Context) -> None:
    """`_explain=true`: clauses with estimates, the driving one, and what the database did."""
    bundle = await found(context, "Observation?subject=Patient/p1&status=final&_explain=true")
    assert names(bundle) == ["o1"]
    texts = [i["diagnostics"] for i in told(bundle)]
    assert [t.partition(":")[0] for t in texts] == [
        "Clause 1, estimate 1, drives the search",
        "Clause 2, estimate 5",
        "Sums",
    ]
    assert '"entries examined":1,"documents fetched":1' in texts[2]
    whole = await found(context, "Observation?status=final&_sort=-value-quantity&_count=1&_explain=true")
    assert '"documents fetched":5' in told(whole)[-1]["diagnostics"]
    counted = await found(context, "Observation?status=final&_count=0&_explain=true")
    assert counted["total"] == 5
    assert len(told(counted)) == 2


async def test_scores_are_in_the_bundle(context: Context) -> None:
    """A search for words that is ordered by score tells the score of each match, from 0 to 1."""
    for n, text in enumerate(("bone", "bone and much else besides")):
        condition = {"resourceType": "Condition", "id": f"c{n}", "note": [{"text": text}]}
        await ask(context, "PUT", f"Condition/c{n}", condition | {"subject": {"reference": "Patient/p1"}})
    bundle = await found(context, "Condition?_content=bone&_sort=_score")
    scores = [e["search"]["score"] for e in bundle["entry"]]
    assert names(bundle) == ["c0", "c1"]
    assert 1 >= scores[0] > scores[1] > 0
