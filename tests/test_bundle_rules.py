"""The small print of Bundles: what is around the resources, versions of references, places of faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, bundle_of, content, context_on, entry, id_of, patient, text_of

pytestmark = pytest.mark.anyio

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
CREATE = entry("POST", "Patient", patient())
MISSPELT = "there is no such property here"


def observation(reference: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    yield context_on(store)


async def count(context: Context, type: str) -> int:
    return int(content(await ask(context, "GET", f"{type}?_summary=count"))["total"])


async def subject_of_last(context: Context, *entries: dict[str, Any]) -> str:
    """The reference that the last of the entries got."""
    answer = await ask(context, "POST", "", bundle_of("transaction", *entries), prefer="return=representation")
    assert answer.status == 200, answer.body
    return str(content(answer)["entry"][-1]["resource"]["subject"]["reference"])


@pytest.mark.parametrize("type", ["batch", "transaction"])
@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"entries": [CREATE]}, f"Bundle.entries: {MISSPELT}; did you mean entry?"),
        ({"bork": 1}, f"Bundle.bork: {MISSPELT}"),
        ({"total": "5"}, "Bundle.total: an integer is expected, not a string"),
        ({"id": "a b"}, "Bundle.id: 'a b' is no id: 1 to 64 of A-Z, a-z, 0-9, - and ."),
    ],
)
async def test_a_misspelt_bundle_is_refused(context: Context, type: str, more: dict[str, Any], text: str) -> None:
    """Nothing in a Bundle is passed over in silence: what nobody would read is an error."""
    answer = await ask(context, "POST", "", bundle_of(type, CREATE) | more)
    assert (answer.status // 100, text_of(answer)) == (4, text)
    assert await count(context, "Patient") == 0


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (CREATE | {"bork": 1}, "Bundle.entry[1].bork"),
        (CREATE | {"fullUrl": 5}, "Bundle.entry[1].fullUrl"),
        (CREATE | {"request": CREATE["request"] | {"ifNoneExists": "_id=1"}}, "Bundle.entry[1].request.ifNoneExists"),
        (CREATE | {"request": CREATE["request"] | {"ifNoneExist": 5}}, "Bundle.entry[1].request.ifNoneExist"),
    ],
)
async def test_a_misspelt_entry_is_refused(context: Context, row: dict[str, Any], place: str) -> None:
    """A misspelt `ifNoneExist` would make the patient twice; a batch refuses this entry alone."""
    refused = await ask(context, "POST", "", bundle_of("transaction", CREATE, row))
    assert refused.status == 400
    assert content(refused)["issue"][0]["expression"] == [place]
    assert await count(context, "Patient") == 0
    answer = await ask(context, "POST", "", bundle_of("batch", CREATE, row))
    told = [row["response"] for row in content(answer)["entry"]]
    assert told[0]["status"] == "201 Created"
    assert told[1]["outcome"]["issue"][0]["expression"] == [place]
    assert await count(context, "Patient") == 1


async def test_a_bundle_without_a_type(context: Context) -> None:
    """The sentence says what is missing."""
    answer = await ask(context, "POST", "", {"resourceType": "Bundle", "entry": [CREATE]})
    assert text_of(answer) == "A Bundle without a type cannot be carried out; use batch or transaction."


@pytest.mark.parametrize("full_url", [URN, "http://elsewhere/fhir/Patient/p"])
async def test_a_version_is_the_one_that_the_transaction_makes(context: Context, full_url: str) -> None:
    """References to versions are all assigned anew (R4 http.html#trules): also to what is not new."""
    for n in range(2):
        await ask(context, "PUT", "Patient/p", patient(id="p", active=bool(n)))
    changed = entry("PUT", "Patient/p", patient(id="p", gender="male"), full_url=full_url)
    reader = entry("POST", "Observation", observation(f"{full_url}/_history/9#x"))
    assert await subject_of_last(context, changed, reader) == "Patient/p/_history/3#x"
    assert await subject_of_last(context, changed, reader) == "Patient/p/_history/3#x", "nothing changed any more"
    await ask(context, "DELETE", "Patient/p")
    assert await subject_of_last(context, changed, reader) == "Patient/p/_history/5#x"


async def test_a_version_of_what_a_condition_finds(context: Context) -> None:
    """A conditional create that finds its match means the match as it is."""
    known = patient(identifier=[{"system": "http://h", "value": "1"}])
    id = id_of(await ask(context, "POST", "Patient", known))
    await ask(context, "PUT", f"Patient/{id}", known | {"id": id, "active": True})
    made = entry("POST", "Patient", known, full_url=URN, ifNoneExist="identifier=http://h|1")
    reader = entry("POST", "Observation", observation(f"{URN}/_history/1"))
    assert await subject_of_last(context, made, reader) == f"Patient/{id}/_history/2"
    changed = entry("PUT", "Patient?identifier=http://h|1", known | {"active": False}, full_url=URN)
    assert await subject_of_last(context, changed, reader) == f"Patient/{id}/_history/3"


async def test_canonicals_stay(context: Context) -> None:
    """Elements of type canonical are not replaced (R4 http.html#trules)."""
    answered = {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": URN}
    sent = bundle_of(
        "transaction",
        entry("POST", "Questionnaire", {"resourceType": "Questionnaire", "status": "draft"}, full_url=URN),
        entry("POST", "QuestionnaireResponse", answered | {"extension": [{"url": "http://x", "valueUri": URN}]}),
    )
    rows = content(await ask(context, "POST", "", sent, prefer="return=representation"))["entry"]
    stored = rows[1]["resource"]
    assert stored["questionnaire"] == URN
    assert stored["extension"][0]["valueUri"] == f"Questionnaire/{rows[0]['resource']['id']}"


@pytest.mark.parametrize(
    ("row", "start", "place"),
    [
        (
            entry("POST", "Observation", observation("Patient?bork=1")),
            "{}: Unknown",
            "Bundle.entry[1].resource.subject",
        ),
        (entry("POST", "Observation", observation("Patient?")), "{}: The crit", "Bundle.entry[1].resource.subject"),
        (entry("PUT", "Patient?bork=1", patient()), "Bundle.entry[1]: Unknown", "Bundle.entry[1].request.url"),
        (entry("PUT", "Patient", patient()), "Bundle.entry[1]: The criteria are empty", "Bundle.entry[1]"),
        (entry("DELETE", "Patient?"), "Bundle.entry[1]: The criteria are empty", "Bundle.entry[1]"),
        (entry("GET", "Patient/none"), "Bundle.entry[1]: Patient/none is not known.", "Bundle.entry[1]"),
        (entry("GET", "Patient?bork=1"), "Bundle.entry[1]: Unknown", "Bundle.entry[1].request.url"),
    ],
)
async def test_faults_of_criteria_name_the_entry(context: Context, row: dict[str, Any], start: str, place: str) -> None:
    """Whichever search fails, the error says in which entry it stands."""
    answer = await ask(context, "POST", "", bundle_of("transaction", CREATE, row))
    assert text_of(answer).startswith(start.format(place))
    assert content(answer)["issue"][0]["expression"] == [place]


async def test_an_entry_that_was_not_modified_has_no_resource(context: Context) -> None:
    """ifModifiedSince of an entry is an instant, not the date of a header (R4 bundle.html)."""
    await ask(context, "PUT", "Patient/p", patient(id="p"))
    known = [entry("GET", "Patient/p", ifModifiedSince=f"{year}-01-01T00:00:00+01:00") for year in ("2999", "1999")]
    rows = content(await ask(context, "POST", "", bundle_of("batch", *known)))["entry"]
    assert [row["response"]["status"] for row in rows] == ["304 Not Modified", "200 OK"]
    assert ["resource" in row for row in rows] == [False, True]


@pytest.mark.parametrize("type", ["batch", "transaction"])
async def test_a_head_in_a_bundle_has_no_body(context: Context, type: str) -> None:
    """The answer to HEAD is that of GET without the body (R4 http.html#head)."""
    await ask(context, "PUT", "Patient/p", patient(id="p"))
    answer = await ask(context, "POST", "", bundle_of(type, entry("HEAD", "Patient/p"), entry("GET", "Patient/p")))
    head, get = content(answer)["entry"]
    assert head["response"] == get["response"]
    assert ("resource" in head, "resource" in get) == (False, True)
