"""The small print of Bundles: what is around the resources, versions of references, places of faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import BASE, ask, bundle_of, content, context_on, entry, id_of, patient, text_of

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
        (
            entry("GET", "Patient?name=" + "x" * 70_000),
            "Bundle.entry[1]: The URL is longer",
            "Bundle.entry[1].request.url",
        ),
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


@pytest.mark.parametrize("turned", [False, True])
async def test_a_relative_reference_has_the_root_of_its_entry(context: Context, turned: bool) -> None:
    """The root of a RESTful fullUrl is put before it, whatever stands behind or before (R4 bundle.html#references)."""
    patients = [
        entry("POST", "Patient", patient(gender=gender), full_url=f"http://{host}.org/fhir/Patient/77")
        for host, gender in (("a", "male"), ("b", "female"))
    ]
    readers = [
        entry("POST", "Observation", observation(text), full_url=f"http://{host}.org/fhir/Observation/1")
        for host, text in (("a", "Patient/77"), ("b", "Patient/77#x"), ("c", "Patient/77"))
    ]
    sent = bundle_of("transaction", *(patients[::-1] if turned else patients), *readers)
    rows = content(await ask(context, "POST", "", sent, prefer="return=representation"))["entry"]
    names = {row["resource"]["gender"]: f"Patient/{row['resource']['id']}" for row in rows[:2]}
    found = [row["resource"]["subject"]["reference"] for row in rows[2:]]
    assert found == [names["male"], f"{names['female']}#x", "Patient/77"]


async def test_a_relative_reference_of_this_server_stays(context: Context) -> None:
    """Another server's Patient/77 is not the one that is stored here."""
    await ask(context, "PUT", "Patient/77", patient(id="77"))
    foreign = entry("POST", "Patient", patient(), full_url="http://elsewhere.org/fhir/Patient/77")
    text = '<div xmlns="http://www.w3.org/1999/xhtml"><a href="Patient/77">x</a></div>'
    sent = {"id": "o77", "text": {"status": "generated", "div": text}, **observation("Patient/77/_history/1")}
    reader = entry("PUT", "Observation/o77", sent, full_url=f"{BASE}/Observation/o77")
    changed = entry("PUT", "Patient/77", patient(id="77") | {"active": True}, full_url=f"{BASE}/Patient/77")
    for others in ([foreign], [foreign, changed]):
        assert await subject_of_last(context, *others, reader) == "Patient/77/_history/1"
    assert content(await ask(context, "GET", "Observation/o77"))["text"]["div"] == text


@pytest.mark.parametrize(
    "urls", [(None, None), (None, "http://a.org/fhir/Patient/77"), ("http://b/Patient/77", "http://a/Patient/77")]
)
async def test_a_name_of_two_entries_is_refused(context: Context, urls: tuple[str | None, ...]) -> None:
    """Which of the two is meant cannot be told; nothing is wrong where nobody asks."""
    two = [entry("POST", "Patient", patient(id="77")) | ({"fullUrl": url} if url else {}) for url in urls]
    answer = await ask(
        context, "POST", "", bundle_of("transaction", *two, entry("POST", "Observation", observation("Patient/77")))
    )
    assert (answer.status, text_of(answer)) == (
        400,
        "Bundle.entry[2]: several entries have the name Patient/77; a fullUrl tells them apart.",
    )
    assert (await ask(context, "POST", "", bundle_of("transaction", *two))).status == 200


async def test_only_links_of_inner_resources_are_rewritten(context: Context) -> None:
    """Strings and canonicals of contained resources and of those in Parameters stay as well (R4 http.html#trules)."""
    inner = [
        {"resourceType": "Organization", "id": "o", "identifier": [{"system": URN, "value": URN}], "name": URN},
        {
            "resourceType": "QuestionnaireResponse",
            "id": "q",
            "status": "completed",
            "questionnaire": URN,
            "source": {"reference": URN},
            "item": [{"linkId": URN, "text": URN, "answer": [{"valueString": URN}, {"valueUri": URN}]}],
        },
    ]
    referring = {"managingOrganization": {"reference": "#o"}, "generalPractitioner": [{"reference": "#q"}]}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "p", "resource": row} for row in inner]}
    sent = bundle_of(
        "transaction",
        entry("POST", "Patient", patient(contained=inner) | referring, full_url=URN),
        entry("POST", "Parameters", parameters),
    )
    rows = content(await ask(context, "POST", "", sent, prefer="return=representation"))["entry"]
    name = f"Patient/{rows[0]['resource']['id']}"
    organization = inner[0] | {"identifier": [{"system": name, "value": URN}]}
    answers = [{"valueString": URN}, {"valueUri": name}]
    items = [{"linkId": URN, "text": URN, "answer": answers}]
    wanted = [organization, inner[1] | {"source": {"reference": name}, "item": items}]
    assert rows[0]["resource"]["contained"] == wanted
    assert [row["resource"] for row in rows[1]["resource"]["parameter"]] == wanted


async def test_a_bundle_that_is_stored_stays_whole(context: Context) -> None:
    """Inside a document names are those of its own entries; what it does not name is an entry of the transaction."""
    other = URN.replace("6", "7")
    document = bundle_of(
        "collection",
        {"fullUrl": URN, "resource": patient(id="1")},
        {"fullUrl": "http://a/fhir/Patient/77", "resource": patient(id="77")},
        *(
            {"fullUrl": f"urn:uuid:{n}", "resource": observation(text)}
            for n, text in enumerate((URN, other, "Patient/77"))
        ),
    )
    sent = bundle_of(
        "transaction",
        entry("POST", "Patient", patient(), full_url=URN),
        entry("POST", "Patient", patient(), full_url=other),
        entry("POST", "Patient", patient(id="77")),
        entry("POST", "Bundle", document),
    )
    rows = content(await ask(context, "POST", "", sent, prefer="return=representation"))["entry"]
    stored = rows[-1]["resource"]["entry"]
    assert [row["fullUrl"] for row in stored] == [row["fullUrl"] for row in document["entry"]]
    found = [row["resource"]["subject"]["reference"] for row in stored[2:]]
    assert found == [URN, f"Patient/{rows[1]['resource']['id']}", "Patient/77"]
