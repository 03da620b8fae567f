"""Finding on a real mongod: pages, totals, includes, access, snapshots, plans and stored SearchParameters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from fhir_server.store import New, Store
from fhir_server.store.driver import Driver
from fhir_server.store.find.page import find
from fhir_server.store.find.search import Found
from profiles.json import encode
from profiles.outcome import FhirError
from search.clauses import ALWAYS, NEVER, Clause, Ids
from search.entries import compartment, entries
from search.params import Registry
from search.query import parse

pytestmark = pytest.mark.anyio

REGISTRY = Registry.r4()
AT = datetime(2025, 1, 1, tzinfo=UTC)


async def put(store: Store, *resources: dict[str, Any], registry: Registry = REGISTRY) -> None:
    """Store first versions, a second apart."""
    for n, resource in enumerate(resources):
        at = AT + timedelta(seconds=n)
        written = entries(resource, registry)
        new = New(resource["resourceType"], resource["id"], 1, at, encode(resource), written, compartment(resource))
        await store.create(new)


def patient(id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, **more}


def observation(id_: str, subject: str, **more: Any) -> dict[str, Any]:
    code = {"coding": [{"system": "http://l", "code": "c"}]}
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": code,
        "subject": {"reference": subject},
        **more,
    }


async def ask(store: Store, text: str, **options: Any) -> Found:
    kind, _, rest = text.partition("?")
    pairs = [tuple(p.split("=", 1)) for p in rest.split("&") if p]
    query = parse(kind or None, pairs, options.get("registry", REGISTRY))  # type: ignore[arg-type]
    return await find(store, query, **{"registry": REGISTRY, **options})


def names(found: Found) -> list[str]:
    return [f"{m.type}/{m.id}" for m in found.matches]


def also(found: Found) -> list[str]:
    return sorted(f"{m.type}/{m.id}" for m in found.included)


async def test_pages_go_forward_and_back(store: Store) -> None:
    """Pages joined are the whole result, in either direction, with and without an order."""
    await put(store, *(patient(f"p{n:02}", birthDate=f"20{n % 5:02}-01-01") for n in range(25)))
    for sort in ("", "&_sort=-birthdate", "&_sort=birthdate,-_id", "&_sort=-_lastUpdated"):
        whole = names(await ask(store, f"Patient?_count=100{sort}"))
        forward, pages, cursor = [], [], None
        while True:
            page = await ask(store, f"Patient?_count=4{sort}", cursor=cursor)
            forward += names(page)
            pages.append(page)
            assert page.total == 25
            cursor = page.next
            if cursor is None:
                break
        assert forward == whole
        assert len(pages) == 7
        back, cursor = names(pages[-1]), pages[-1].prev
        while cursor is not None:
            page = await ask(store, f"Patient?_count=4{sort}", cursor=cursor)
            back, cursor = names(page) + back, page.prev
        assert back == whole
        assert names(await ask(store, f"Patient?_count=4{sort}", cursor=pages[3].first)) == whole[:4]


async def test_pages_show_one_state(store: Store) -> None:
    """What is written or deleted between two pages changes neither (http://hl7.org/fhir/R4/http.html#paging)."""
    await put(store, *(patient(f"p{n}") for n in range(6)))
    first = await ask(store, "Patient?_count=3")
    await store.delete("Patient", "p4", 1, AT + timedelta(hours=1))
    await put(store, patient("p3x"), patient("q"))
    second = await ask(store, "Patient?_count=3", cursor=first.next)
    assert names(first) + names(second) == [f"Patient/p{n}" for n in range(6)]
    now = ["p0", "p1", "p2", "p3", "p3x", "p5", "q"]
    assert names(await ask(store, "Patient?_count=10")) == [f"Patient/{i}" for i in now]


async def test_totals(store: Store) -> None:
    """None, estimate, accurate; by default as far as it is cheap; a count alone with _count=0 and _summary=count."""
    await put(store, *(patient(f"p{n}", gender="male" if n % 2 else "female") for n in range(7)))
    assert (await ask(store, "Patient?_count=2")).total == 7
    assert (await ask(store, "Patient?_count=2&_total=none")).total is None
    assert (await ask(store, "Patient?_count=2&_total=accurate&gender=male")).total == 3
    assert (await ask(store, "Patient?_count=2&_total=estimate")).total == 7
    for text in ("_count=0", "_summary=count"):
        found = await ask(store, f"Patient?gender=female&{text}")
        assert (found.total, found.matches, found.next) == (4, [], None)
    assert (await ask(store, "Patient?gender:text=fem&_count=0")).total == 4


async def test_includes(store: Store) -> None:
    """Forward, reverse, by target, all, iterated; each resource once, never one that is a match already."""
    await put(
        store,
        {"resourceType": "Organization", "id": "top"},
        {"resourceType": "Organization", "id": "o", "partOf": {"reference": "Organization/top"}},
        patient(
            "p", managingOrganization={"reference": "Organization/o"}, link=[{"other": {"reference": "Patient/q"}}]
        ),
        patient("q"),
        observation("b", "Patient/p", hasMember=[{"reference": "Observation/c"}]),
        observation("c", "Patient/p", hasMember=[{"reference": "Observation/b"}]),
        {"resourceType": "Library", "id": "lib", "status": "active", "url": "http://lib", "version": "1"},
        {"resourceType": "Measure", "id": "m", "status": "active", "library": ["http://lib|1"]},
    )
    assert also(await ask(store, "Observation?_id=b&_include=Observation:subject")) == ["Patient/p"]
    assert also(await ask(store, "Observation?_id=b&_include=Observation:patient:Patient")) == ["Patient/p"]
    assert also(await ask(store, "Observation?_id=b&_include=Observation:subject:Group")) == []
    assert also(await ask(store, "Observation?_include=Observation:subject")) == ["Patient/p"]
    assert also(await ask(store, "Observation?_id=b&_include=Observation:has-member")) == ["Observation/c"]
    assert also(await ask(store, "Observation?_include=Observation:has-member")) == []
    assert also(await ask(store, "Observation?_id=b&_include=*")) == ["Observation/c", "Patient/p"]
    assert also(await ask(store, "Observation?_id=b&_include=Observation:*")) == ["Observation/c", "Patient/p"]
    chain = "_include=Observation:subject&_include:iterate=Patient:organization&_include:iterate=Organization:partof"
    assert also(await ask(store, f"Observation?_id=b&{chain}")) == ["Organization/o", "Organization/top", "Patient/p"]
    assert also(await ask(store, "Observation?_id=b&_include:iterate=Observation:has-member")) == ["Observation/c"]
    assert also(await ask(store, "Patient?_id=p&_revinclude=Observation:subject")) == ["Observation/b", "Observation/c"]
    assert also(await ask(store, "Patient?_id=q&_revinclude=Patient:link")) == ["Patient/p"]
    assert "Observation/b" in also(await ask(store, "Patient?_id=p&_revinclude=*"))
    assert also(await ask(store, "Measure?_include=Measure:depends-on")) == ["Library/lib"]
    assert also(await ask(store, "Library?_revinclude=Measure:depends-on")) == ["Measure/m"]
    assert also(await ask(store, "Library?_revinclude=Measure:depends-on:Library")) == ["Measure/m"]
    assert also(await ask(store, "Library?_revinclude=Measure:depends-on:Measure")) == []


async def test_iterated_includes_go_to_the_end(store: Store) -> None:
    """However long the way is, all that lies on it is sent, or a warning says that there is more."""
    places: list[dict[str, Any]] = [{"resourceType": "Location", "id": "l0"}]
    places += (
        {"resourceType": "Location", "id": f"l{n}", "partOf": {"reference": f"Location/l{n - 1}"}} for n in range(1, 40)
    )
    await put(store, *places)
    whole = {f"Location/l{n}" for n in range(40)}
    up = await ask(store, "Location?_id=l39&_include:iterate=Location:partof")
    down = await ask(store, "Location?_id=l0&_revinclude:iterate=Location:partof")
    assert {*also(up), "Location/l39"} == {*also(down), "Location/l0"} == whole
    assert up.warnings == down.warnings == []


def _dispensed(n: int) -> dict[str, Any]:
    """A dispense of zinc that is contained or elsewhere, or of another thing."""
    inner = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"code": "zinc" if n % 3 else "lead"}]}}
    found = {"resourceType": "MedicationDispense", "id": f"d{n}", "status": "completed"}
    if n == 5:
        return found | {"medicationReference": {"reference": "Medication/m"}}
    return found | {"contained": [inner], "medicationReference": {"reference": "#m"}}


async def test_includes_are_cut_with_a_warning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More resources than may be sent along: the first ones, and an outcome that says so."""
    monkeypatch.setattr("fhir_server.store.find.includes.MOST", 3)
    await put(store, patient("p"), *(observation(f"o{n}", "Patient/p") for n in range(5)))
    found = await ask(store, "Patient?_revinclude=Observation:subject")
    assert also(found) == ["Observation/o0", "Observation/o1", "Observation/o2"]
    assert "rest were left out" in found.warnings[0].text


def only(*visible: str) -> Callable[[str], Clause]:
    """A caller who sees these resources and nothing else."""

    def access(kind: str, sought: bool = False, /) -> Clause:
        mine = tuple(name for name in visible if name.startswith(f"{kind}/"))
        return Ids(mine) if mine else NEVER

    return access


async def test_access_narrows_everything(store: Store) -> None:
    """Matches, totals, includes, chains and _has see only what the caller may see (attack T03, T05)."""
    await put(
        store,
        patient("mine", name=[{"family": "A"}]),
        patient("other", name=[{"family": "B"}]),
        observation("o1", "Patient/mine"),
        observation("o2", "Patient/other"),
        observation("o3", "Patient/mine"),
    )
    access = only("Patient/mine", "Observation/o1", "Observation/o2")
    found = await ask(store, "Observation?_include=Observation:subject", access=access)
    assert (names(found), also(found), found.total) == (["Observation/o1", "Observation/o2"], ["Patient/mine"], 2)
    assert names(await ask(store, "Observation?subject:Patient.name=b", access=access)) == []
    assert names(await ask(store, "Observation?subject:Patient.name=a", access=access)) == ["Observation/o1"]
    assert names(await ask(store, "Patient?_has:Observation:patient:_id=o3", access=access)) == []
    assert names(await ask(store, "Patient?_has:Observation:patient:_id=o1", access=access)) == ["Patient/mine"]
    assert also(await ask(store, "Patient?_revinclude=Observation:subject", access=access)) == ["Observation/o1"]
    assert (await ask(store, "Patient?_summary=count", access=access)).total == 1
    assert (await ask(store, "?_type=Patient,Observation", access=access)).total == 3
    assert (await ask(store, "Patient?_filter=_id eq other", access=access)).total == 0
    assert (await ask(store, "Patient", access=lambda kind: ALWAYS)).total == 2


async def test_an_order_across_references_sees_what_the_caller_sees(store: Store) -> None:
    """What a reference leads to counts only where the caller may see it; the rest comes last, on every page."""
    families = ("Zorn", "Adam", "Moll")
    await put(
        store,
        *(patient(f"p{n}", name=[{"family": family}]) for n, family in enumerate(families)),
        *(observation(f"o{n}", f"Patient/p{n}") for n in range(3)),
        observation("o9", "Patient/nobody"),
    )
    text = "Observation?_sort=patient.family"
    assert [n[-1] for n in names(await ask(store, text))] == ["1", "2", "0", "9"]
    access = only("Patient/p0", "Patient/p2", *(f"Observation/o{n}" for n in (0, 1, 2, 9)))
    assert [n[-1] for n in names(await ask(store, text, access=access))] == ["2", "0", "1", "9"]
    first = await ask(store, f"{text}&_count=2", access=access)
    second = await ask(store, f"{text}&_count=2", access=access, cursor=first.next)
    back = await ask(store, f"{text}&_count=2", access=access, cursor=second.prev)
    assert [n[-1] for n in names(second)] == ["1", "9"]
    assert names(back) == names(first)


async def test_links_from_the_smaller_side(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers whichever side is looked up first, and when both are too large to be written out."""
    await put(
        store,
        *(patient(f"p{n}", gender="male" if n % 2 else "female", name=[{"family": f"F{n}"}]) for n in range(12)),
        *(observation(f"o{n}", f"Patient/p{n % 12}", valueInteger=n) for n in range(40)),
        *(_dispensed(n) for n in range(6)),
        {"resourceType": "Medication", "id": "m", "code": {"text": "x", "coding": [{"code": "zinc"}]}},
        *({"resourceType": "Library", "id": f"l{n}", "url": f"http://l/{n}", "version": "1"} for n in range(5)),
        *({"resourceType": "Measure", "id": f"m{n}", "library": [f"http://l/{n}|{n % 2}"]} for n in range(5)),
    )
    texts = (
        "MedicationDispense?medication.code=zinc",
        "MedicationDispense?medication.code=zinc&status=completed",
        "Library?_has:Measure:depends-on:_id=m0,m1,m2,m3,m4,m9",
        "Observation?patient.gender=male",
        "Patient?_has:Observation:patient:code=c",
        "Patient?gender=male&_has:Observation:patient:code=c",
        "Observation?patient.gender:not=male&code=c",
    )
    expected = [sorted(names(await ask(store, f"{t}&_count=100"))) for t in texts]
    sizes = [4, 4, 2, 20, 12, 6, 20]
    assert [len(e) for e in expected] == sizes
    for few, most in ((0, 1_000), (0, 2), (200, 2)):
        monkeypatch.setattr("fhir_server.store.find.rows.BATCH", few or 5)
        monkeypatch.setattr("fhir_server.store.find.links.MOST", most)
        monkeypatch.setattr("fhir_server.store.find.links.MOST_SOURCES", most)
        assert [sorted(names(await ask(store, f"{t}&_count=100"))) for t in texts] == expected
        assert [(await ask(store, f"{t}&_summary=count")).total for t in texts] == sizes


async def test_a_first_page_counts_what_matches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page and total are those of looking at everything, whether few match, many, or more than are counted."""
    people = [patient(f"p{n:02}", gender="male" if n % 3 else "female", birthDate=f"19{n + 20}") for n in range(30)]
    for n, person in enumerate(people):
        person["name"] = [{"family": f"Ab{'ce'[n % 2]}{29 - n:02}"}]
    await put(store, *people)
    texts = (
        "family=abc",
        "family:contains=e",
        "family=abc,abe1&gender=male",
        "gender=male&birthdate=gt1930",
        "gender=x",
    )
    sorts = ("", "&_sort=family", "&_sort=-gender,birthdate")
    asked = [f"Patient?{t}{s}" for t in texts for s in sorts]
    whole = [names(await ask(store, f"{t}&_count=100")) for t in asked]
    assert [len(w) for w in whole[::3]] == [15, 15, 14, 13, 0]
    for most, measured in ((5_000, 1_000), (3, 2), (14, 5)):
        monkeypatch.setattr("fhir_server.store.find.plan._MEASURES", WeakKeyDictionary())
        monkeypatch.setattr("fhir_server.store.find.plan._HABITS", WeakKeyDictionary())
        for room in ("first", "plan", "totals"):
            monkeypatch.setattr(f"fhir_server.store.find.{room}.MOST", most)
        for room in ("plan", "rows", "totals"):
            monkeypatch.setattr(f"fhir_server.store.find.{room}.MEASURED", measured)
        for text, expected in zip(asked, whole, strict=True):
            first = await ask(store, f"{text}&_count=4&_total=accurate")
            assert (names(first), first.total) == (expected[:4], len(expected)), (text, most)
            if first.next:
                assert names(await ask(store, f"{text}&_count=4", cursor=first.next)) == expected[4:8], (text, most)


async def test_large_results_are_walked_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the last update and by date, only a stretch of the order is read; the answers are those of sorting all."""
    dates = ["2020-01-01", "2019", "2021-05", "2020-01-01T10:00:00Z", "9999-12-31", "2018-03-03"]
    rows = [observation(f"o{n:02}", "Patient/p", effectiveDateTime=dates[n % 6]) for n in range(24)]
    spans = [{"start": "2020-06-01", "end": "2020-07-01"}, {"end": "2017-01-01"}]
    rows += [observation(f"s{n}", "Patient/p", effectivePeriod=spans[n % 2]) for n in range(4)]
    await put(store, *rows, observation("none", "Patient/p"))
    texts = [f"Observation?_sort={s}" for s in ("-date", "date", "-_lastUpdated", "_lastUpdated")]
    expected = [names(await ask(store, f"{t}&_count=100")) for t in texts]
    monkeypatch.setattr("fhir_server.store.find.plan.MEASURED", 5)
    monkeypatch.setattr("fhir_server.store.find.order.SOME", 2)
    for text, whole in zip(texts, expected, strict=True):
        found: list[str] = []
        cursor = None
        while True:
            page = await ask(store, f"{text}&_count=5&status=final", cursor=cursor)
            found += names(page)
            cursor = page.next
            if cursor is None:
                break
        assert found == whole


async def test_a_search_has_a_time_limit(store: Store) -> None:
    """Beyond it the answer is 400 too-costly with a hint (attack D07)."""
    await put(store, patient("p"))
    with pytest.raises(FhirError) as caught:
        await ask(store, "Patient?gender:text=x&_count=0", limit=-1)
    assert (caught.value.code, caught.value.status) == ("too-costly", 400)
    assert "more selective" in caught.value.text


async def test_explain(store: Store) -> None:
    """The clauses with estimates, the one that drives, and what the database examined."""
    await put(store, patient("p"), *(observation(f"o{n}", f"Patient/p{n % 3}") for n in range(9)))
    found = await ask(store, "Observation?patient=p1&code=http://l|c&_explain=true")
    assert found.explanation is not None
    drivers = [c["clause"] for c in found.explanation["clauses"] if c["drives"]]
    assert drivers == [{"one of": ["subject: 'Ptp1'"], "values": 1}]
    assert [c["estimate"] for c in found.explanation["clauses"]] == ["3", "9"]
    assert found.explanation["documents fetched"] == 3
    assert not found.explanation["decided on bodies"]


async def test_pages_of_a_state_that_is_gone(store: Store) -> None:
    """A link to a state the database no longer has is 410 and says what to do."""
    await put(store, patient("a"), patient("b"))
    cursor = (await ask(store, "Patient?_count=1")).next
    assert cursor is not None
    with pytest.raises(FhirError) as caught:
        await ask(store, "Patient?_count=1", cursor={**cursor, "t": "1.1"})
    assert caught.value.status == 410
    assert "run the search again" in caught.value.text


async def test_ranked(store: Store) -> None:
    """The best match first, page by page, each with its score; without words there is nothing to rank by."""
    texts = ["bone", "bone bone and marrow", "a long story about many things and one bone at the end of it", "none"]
    rows = [{"resourceType": "Condition", "id": f"c{n}", "note": [{"text": t}]} for n, t in enumerate(texts)]
    await put(store, *rows)
    whole = await ask(store, "Condition?_content=bone&_sort=_score")
    assert sorted(names(whole)) == [f"Condition/c{n}" for n in range(3)]
    assert names(whole)[-1] == "Condition/c2"
    assert list(whole.scores) == names(whole)
    assert list(whole.scores.values()) == sorted(whole.scores.values(), reverse=True)
    first = await ask(store, "Condition?_content=bone&_sort=_score&_count=2")
    second = await ask(store, "Condition?_content=bone&_sort=_score&_count=2", cursor=first.next)
    assert names(first) + names(second) == names(whole)
    back = await ask(store, "Condition?_content=bone&_sort=_score&_count=2", cursor=second.prev)
    assert names(back) == names(first)
    with pytest.raises(FhirError, match="needs a search for words"):
        await ask(store, "Condition?_sort=_score")


async def test_alternatives_of_a_chain_share_their_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`encounter.patient` goes by Encounter and EpisodeOfCare; the patients are looked up once for both."""
    await put(
        store,
        patient("p", name=[{"family": "Fam"}]),
        {"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/p"}},
        {"resourceType": "EpisodeOfCare", "id": "c", "patient": {"reference": "Patient/p"}},
        observation("o1", "Patient/p", encounter={"reference": "Encounter/e"}),
        observation("o2", "Patient/p", encounter={"reference": "EpisodeOfCare/c"}),
    )
    asked: list[str] = []
    command = Driver.command

    async def counted(self: Driver, sent: dict[str, Any], *rest: Any, **options: Any) -> dict[str, Any]:
        asked.append(str(sent.get("pipeline", [])[:1]))  # what may contain them is asked about beside it
        return await command(self, sent, *rest, **options)

    monkeypatch.setattr(Driver, "command", counted)
    assert names(await ask(store, "Observation?encounter.patient.family=fam")) == ["Observation/o1", "Observation/o2"]
    assert len([sent for sent in asked if "fam" in sent]) == 1
    assert len(asked) == 4
