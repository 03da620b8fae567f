"""Terminology that clients stored: operations and searches use it, and a change takes effect at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.coding import checking, completion
from fhir_server.context import Context
from fhir_server.store import Store, open_store
from profiles.outcome import FhirError
from tests.shell import ask, content, context_on, id_of
from tests.terminology_world import ANIMALS, ICD10, SETS, codes, concept, system, value, value_set

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    yield context_on(store)


async def stored(context: Context, resource: Any) -> str:
    answer = await ask(context, "POST", resource["resourceType"], resource)
    assert answer.status == 201, answer.body
    return id_of(answer)


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


async def test_what_a_search_does_not_know_is_an_error(context: Context) -> None:
    """400 that names the value set."""
    answer = await ask(context, "GET", f"Condition?code:in={SETS}none")
    assert answer.status == 400
    assert "none" in content(answer)["issue"][0]["diagnostics"]


async def test_icd10_is_completed_and_checked_without_fhir(context: Context) -> None:
    """The two conveniences, and their errors."""
    found = await completion({"q": "diab", "count": "3"}, context)
    assert len(found["matches"]) == 3
    checked = await checking(b'{"codes": ["E11.65", "E10.9"], "sex": "female"}', context)
    assert [row["billable"] for row in checked["codes"]] == [True, True]
    assert checked["excluded"]
    for wrong in (completion({"q": ""}, context), completion({"q": "x", "count": "0"}, context)):
        with pytest.raises(FhirError):
            await wrong
    for body in (b"{}", b'{"codes": [1]}', b'{"codes": ["A00"], "sex": "x"}', b'{"codes": ["A00"], "height": 1}'):
        with pytest.raises(FhirError):
            await checking(body, context)
    with pytest.raises(FhirError, match="2026"):
        await completion({"q": "x", "version": "1999"}, context)
