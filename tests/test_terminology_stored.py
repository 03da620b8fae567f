"""Terminology that clients stored: operations and searches use it, and a change takes effect at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.coding import checking, completion
from fhir_server.context import Context
from fhir_server.store import open_store, terms
from fhir_server.store.find import codes as find_codes
from profiles.outcome import FhirError
from tests.shell import ask, content, context_on, id_of
from tests.terminology_world import ANIMALS, ICD10, SETS, codes, concept, system, value, value_set

pytestmark = pytest.mark.anyio


async def stored(context: Context, resource: Any) -> str:
    answer = await ask(context, "POST", resource["resourceType"], resource)
    assert answer.status == 201, answer.body
    return id_of(answer)


async def checked_by(body: bytes, context: Context) -> Any:
    """The answer to a list of codes, which arrives in parts."""

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    return await checking(parts(), context)


async def expand(context: Context, query: str) -> list[str]:
    answer = await ask(context, "GET", f"ValueSet/$expand?{query}")
    assert answer.status == 200, answer.body
    return codes(content(answer))


async def test_a_change_takes_effect_at_once_in_every_worker(context: Context, mongo_url: str, database: str) -> None:
    """A second worker on the same database sees it with the next request."""
    first = await stored(context, system("1", concept("dog")))
    await stored(context, value_set("x", {"system": ANIMALS}))
    other_store = await open_store(mongo_url, context.store.driver.database.name)
    other = context_on(other_store)
    assert await expand(other, f"url={SETS}x") == ["dog"]
    changed = {**system("1", concept("dog"), concept("cat")), "id": first}
    assert (await ask(context, "PUT", f"CodeSystem/{first}", changed)).status == 200
    assert await expand(other, f"url={SETS}x") == ["dog", "cat"]
    assert await expand(context, f"url={SETS}x") == ["dog", "cat"]
    assert (await ask(context, "DELETE", f"CodeSystem/{first}")).status in (200, 204)
    assert (await ask(other, "GET", f"ValueSet/$expand?url={SETS}x")).status == 404
    await other_store.close()


async def test_an_answer_is_kept_as_long_as_it_is_true(context: Context) -> None:
    """The same question is worked on once, until a definition that its answer rests on changes."""
    id = await stored(context, system("1", concept("dog")))
    question = f"CodeSystem/$lookup?system={ANIMALS}&code=dog"
    first = await ask(context, "GET", question)
    assert (await ask(context, "GET", question)).body == first.body
    changed = system("1", concept("dog", display="Hound")) | {"id": id}
    assert (await ask(context, "PUT", f"CodeSystem/{id}", changed)).status == 200
    assert value(content(await ask(context, "GET", question)), "display") == "Hound"
    assert value(content(await ask(context, "GET", question, accept_language="de")), "display") == "Hound"
    await ask(context, "DELETE", f"CodeSystem/{id}")
    assert (await ask(context, "GET", question)).status == 404


async def test_kept_answers_that_are_pushed_out_while_they_are_looked_up(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many questions at once, each asked again, with room for few answers: every one is answered."""
    monkeypatch.setattr(terms, "_KEPT_ANSWERS", 2)
    old, new = (
        [f"CodeSystem/$lookup?system={ICD10}&code={code}" for code in codes]
        for codes in (("I10", "I11"), ("E10", "E11", "J45", "C50"))
    )
    for question in old:
        await ask(context, "GET", question)
    answers = await asyncio.gather(*(ask(context, "GET", question) for question in [*new, *old]))
    assert {answer.status for answer in answers} == {200}


async def test_kept_codes_that_are_pushed_out_while_they_are_looked_up(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for searches."""
    monkeypatch.setattr(terms, "_KEPT_CODES", 3)
    known = terms.terms_of(context.store, context.registry)
    old, *new = [f"{ICD10}?fhir_vs=isa/{code}" for code in ("I10", "I11", "I12", "I13")]
    await known.codes("in", old)
    assert all(await asyncio.gather(*(known.codes("in", url) for url in [*new, old])))


async def test_a_batch_asks_different_questions(context: Context) -> None:
    """By POST, each entry with parameters of its own."""
    entries = [
        {
            "request": {"method": "POST", "url": "CodeSystem/$lookup"},
            "resource": {
                "resourceType": "Parameters",
                "parameter": [{"name": "system", "valueUri": ICD10}, {"name": "code", "valueCode": code}],
            },
        }
        for code in ("E11.65", "I10", "nope")
    ]
    answer = await ask(context, "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    told = content(answer)["entry"]
    assert [row["response"]["status"][:3] for row in told] == ["200", "200", "404"]
    assert [value(row["resource"], "code") for row in told[:2]] == ["E11.65", "I10"]


async def test_operations_work_on_instances(context: Context) -> None:
    """By GET and by POST, as the OperationDefinitions say."""
    animals = await stored(context, system("1", concept("animal", concept("dog"))))
    made = await stored(context, value_set("x", {"system": ANIMALS}))
    assert codes(content(await ask(context, "GET", f"ValueSet/{made}/$expand"))) == ["animal", "dog"]
    answer = content(await ask(context, "GET", f"ValueSet/{made}/$validate-code?system={ANIMALS}&code=dog"))
    assert value(answer, "result") is True
    answer = content(await ask(context, "GET", f"CodeSystem/{animals}/$subsumes?codeA=animal&codeB=dog"))
    assert value(answer, "outcome") == "subsumes"
    answer = content(await ask(context, "GET", f"CodeSystem/{animals}/$validate-code?code=cat"))
    assert value(answer, "result") is False


async def test_a_posted_value_set_is_expanded(context: Context) -> None:
    """The resource alone stands for the parameter `valueSet`."""
    sent = value_set("y", {"system": "http://hl7.org/fhir/administrative-gender"})
    assert len(codes(content(await ask(context, "POST", "ValueSet/$expand", sent)))) == 4


async def test_a_closure_table_is_kept(context: Context) -> None:
    """Between calls, for all workers."""
    await stored(context, system("1", concept("animal", concept("dog"))))
    name = {"name": "name", "valueString": "t"}
    rows = [{"name": "concept", "valueCoding": {"system": ANIMALS, "code": c}} for c in ("animal", "dog")]
    assert (await ask(context, "POST", "$closure", {"resourceType": "Parameters", "parameter": [name]})).status == 200
    answer = content(await ask(context, "POST", "$closure", {"resourceType": "Parameters", "parameter": [name, *rows]}))
    assert answer["group"][0]["element"][0]["code"] == "dog"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"code:below={ICD10}|E11", {"E11.65", "E11.9"}),
        (f"code:in={SETS}diabetes", {"E11.65", "E11.9", "E10.9"}),
        (f"code:not-in={SETS}diabetes", {"I10"}),
        (f"code:above={ICD10}|E11.65", {"E11.65"}),
    ],
)
async def test_searches_know_what_codes_mean(context: Context, query: str, expected: set[str]) -> None:
    """`:in`, `:not-in`, `:below` and `:above` (http://hl7.org/fhir/R4/search.html#token)."""
    block = {"system": ICD10, "filter": [{"property": "concept", "op": "is-a", "value": "E08-E13"}]}
    await stored(context, value_set("diabetes", block))
    for code in ("E11.65", "E11.9", "E10.9", "I10"):
        await stored(
            context,
            {
                "resourceType": "Condition",
                "subject": {"display": "x"},
                "code": {"coding": [{"system": ICD10, "code": code}]},
            },
        )
    answer = await ask(context, "GET", f"Condition?{query}")
    assert answer.status == 200, answer.body
    found = {e["resource"]["code"]["coding"][0]["code"] for e in content(answer).get("entry", ())}
    assert found == expected


@pytest.mark.parametrize("steps", [4_000, 2])
@pytest.mark.parametrize("also", ["", "&subject:missing=false"])
async def test_value_sets_of_any_size_are_searched(
    context: Context, monkeypatch: pytest.MonkeyPatch, steps: int, also: str
) -> None:
    """Of 98,505 codes, and of 3,000 listed ones, those in use are found; where they are many, candidates are asked."""
    monkeypatch.setattr(find_codes, "MOST_STEPS", steps)
    concepts = [concept(f"x{n}") for n in range(3_000)]
    await stored(context, system("1", *concepts))
    await stored(context, value_set("listed", {"system": ANIMALS, "concept": [{"code": c["code"]} for c in concepts]}))
    pairs = [(ICD10, "E11.65"), (ICD10, "I10"), (ICD10, "nope"), (ANIMALS, "x7"), (ANIMALS, "X2999"), (ANIMALS, "z")]
    pairs += [(f"{ANIMALS}/other", "x7"), *((f"{ANIMALS}/other", f"x1{n}") for n in range(40))]
    for uri, code in pairs:
        row = {"resourceType": "Condition", "subject": {"display": "x"}, "code": {"coding": [{"system": uri}]}}
        row["code"]["coding"][0]["code"] = code  # type: ignore[index]
        await stored(context, row)
    expected = {f"{ICD10}?fhir_vs": {"E11.65", "I10"}, f"{SETS}listed": {"x7", "X2999"}}
    for url, known in expected.items():
        answer = content(await ask(context, "GET", f"Condition?code:in={url}{also}&_total=accurate"))
        assert {e["resource"]["code"]["coding"][0]["code"] for e in answer["entry"]} == known
        assert answer["total"] == 2
        others = content(await ask(context, "GET", f"Condition?code:not-in={url}{also}&_total=accurate&_count=2"))
        assert others["total"] == len(pairs) - 2
    changed = value_set("listed", {"system": ANIMALS, "concept": [{"code": c["code"]} for c in concepts[10:]]})
    names = content(await ask(context, "GET", f"ValueSet?url={SETS}listed"))["entry"]
    name = names[0]["resource"]["id"]
    assert (await ask(context, "PUT", f"ValueSet/{name}", changed | {"id": name})).status == 200
    answer = content(await ask(context, "GET", f"Condition?code:in={SETS}listed{also}"))
    assert [e["resource"]["code"]["coding"][0]["code"] for e in answer["entry"]] == ["X2999"]


async def test_large_definitions_are_kept(context: Context) -> None:
    """A value set that lists 30,000 codes, searched by one of them, asked for one of them and for a page."""
    rows = [{"code": f"c{n}"} for n in range(30_000)]
    await stored(context, value_set("large", {"system": "http://example.org/none", "concept": rows}))
    assert content(await ask(context, "GET", "ValueSet?code=c29999"))["total"] == 1
    assert await expand(context, f"url={SETS}large&offset=29999&count=5") == ["c29999"]
    assert await expand(context, f"url={SETS}large&filter=c29998&count=5") == ["c29998"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f"code.memberOf('{ICD10}?fhir_vs=isa/E11')", True),
        (f"code.coding.first().memberOf('{ICD10}?fhir_vs=isa/E10')", False),
        (f"code.memberOf('{SETS}animals')", True),
        ("code.coding[0].subsumes(code.coding[1])", False),
        ("code.coding[1].subsumes(code)", True),
        ("code.coding[0].subsumedBy(code.coding[1])", True),
        ("code.coding[0].subsumes(code.coding[2])", None),
    ],
)
async def test_fhirpath_asks_the_terminology(context: Context, expression: str, expected: bool | None) -> None:
    """memberOf(), subsumes() and subsumedBy() (http://hl7.org/fhir/R4/fhirpath.html), stored value sets too."""
    await stored(context, system("1", concept("dog")))
    await stored(context, value_set("animals", {"system": ANIMALS}))
    coding = [{"system": ICD10, "code": "E11.65"}, {"system": ICD10, "code": "E11"}, {"system": ANIMALS, "code": "dog"}]
    rows = [
        {"name": "expression", "valueString": expression},
        {"name": "resource", "resource": {"resourceType": "Condition", "code": {"coding": coding}}},
    ]
    answer = await ask(context, "POST", "$fhirpath", {"resourceType": "Parameters", "parameter": rows})
    found = [row["valueBoolean"] for row in content(answer).get("parameter", ())]
    assert found == ([] if expected is None else [expected])


async def test_what_a_search_does_not_know_is_an_error(context: Context) -> None:
    """400 that names the value set."""
    answer = await ask(context, "GET", f"Condition?code:in={SETS}none")
    assert answer.status == 400
    assert "none" in content(answer)["issue"][0]["diagnostics"]


async def test_icd10_is_completed_and_checked_without_fhir(context: Context) -> None:
    """The two conveniences, and their errors."""
    found = await completion({"q": "diab", "count": "3"}, context)
    assert len(found["matches"]) == 3
    checked = await checked_by(b'{"codes": ["E11.65", "E10.9"], "sex": "female"}', context)
    assert [row["billable"] for row in checked["codes"]] == [True, True]
    assert checked["excluded"]
    assert await checked_by(b'["E11.65", "E10.9"]', context) == await checked_by(
        b'{"codes": ["E11.65", "E10.9"]}', context
    )
    child = await checked_by(b'{"codes": ["Z00.129", "Z00.110", "P07.00"], "age": 3}', context)
    assert [len(row["problems"]) for row in child["codes"]] == [0, 1, 1]
    newborn = await checked_by(b'{"codes": ["Z00.129", "Z00.110", "P07.00"], "ageDays": 5}', context)
    assert [len(row["problems"]) for row in newborn["codes"]] == [1, 0, 0]
    for wrong in (completion({"q": ""}, context), completion({"q": "x", "count": "0"}, context)):
        with pytest.raises(FhirError):
            await wrong
    for body in (b"{}", b'{"codes": [1]}', b'{"codes": ["A00"], "sex": "x"}', b'{"codes": ["A00"], "height": 1}'):
        with pytest.raises(FhirError):
            await checked_by(body, context)
    with pytest.raises(FhirError, match="2026"):
        await completion({"q": "x", "version": "1999"}, context)
