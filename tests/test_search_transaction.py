"""Searches inside a transaction: the database takes fewer kinds of requests there, and the answer is the same."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, bundle_of, content, context_on, entry, patient

pytestmark = pytest.mark.anyio

UNITS = "http://unitsofmeasure.org"
SHAW = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Shaw</div>'}
WORLD: tuple[dict[str, Any], ...] = (
    {"resourceType": "Organization", "id": "o", "name": "Acme", "partOf": {"reference": "Organization/top"}},
    {"resourceType": "Organization", "id": "top", "name": "Top"},
    patient(
        id="p1",
        text=SHAW,
        gender="female",
        birthDate="1970-01-01",
        managingOrganization={"reference": "Organization/o"},
    ),
    patient(id="p2", gender="male", birthDate="1980-01-01", name=[{"family": "Adams"}]),
    {
        "resourceType": "CodeSystem",
        "id": "c",
        "url": "http://c",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "z"}],
    },
    {
        "resourceType": "ValueSet",
        "id": "v",
        "url": "http://v",
        "status": "active",
        "compose": {"include": [{"system": "http://c", "concept": [{"code": "b"}]}]},
    },
    *(
        {
            "resourceType": "Observation",
            "id": f"x{n}",
            "status": "final",
            "code": {"coding": [{"system": "http://c", "code": code}], "text": "bone of the arm"},
            "subject": {"reference": f"Patient/{subject}"},
            "effectiveDateTime": f"202{n}-01-01",
            "valueQuantity": {"value": n, "unit": "mg", "system": UNITS, "code": "mg"},
            "note": [{"text": "bone " * n + "broken"}],
        }
        for n, (code, subject) in enumerate([("a", "p1"), ("b", "p2"), ("z", "p1"), ("b", "p1")])
    ),
    {
        "resourceType": "Observation",
        "id": "within",
        "status": "final",
        "code": {"text": "y"},
        "contained": [patient(id="in", name=[{"family": "Inner"}])],
        "subject": {"reference": "#in"},
    },
    {"resourceType": "Location", "id": "l", "position": {"longitude": 10, "latitude": 50}},
    {
        "resourceType": "List",
        "id": "list",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": "Patient/p2"}}],
    },
)
SEARCHES = (
    "Observation?subject:Patient.name=adams",
    "Observation?subject:Patient.name=inner",
    "Observation?patient.organization.name=acme",
    "Observation?patient.organization.partof.name=top",
    "Observation?subject:Patient.gender:not=male",
    "Observation?subject:Patient.name=adams,inner&_total=accurate",
    "Observation?_sort=subject:Patient.name,-date",
    "Observation?_sort=-date&_count=2",
    "Observation?_sort=-_lastUpdated",
    "Observation?_sort=patient.organization.name&_count=2",
    "Observation?_include=Observation:subject&_include:iterate=Patient:organization",
    "Patient?_revinclude=Observation:subject",
    "Patient?_has:Observation:patient:code=b",
    "Patient?_has:Observation:patient:subject:Patient.name=adams",
    "Observation?_content=bone",
    "Observation?_content=bone&_sort=_score",
    "Patient?_text=shaw",
    "Patient?_list=list",
    "Observation?code-value-quantity=http://c|b$gt2",
    "Observation?value-quantity=lt0.0025|http://unitsofmeasure.org|g",
    "Location?near=50|10|5|km",
    "Patient?organization:missing=true",
    "Patient?organization:below=Organization/top",
    "Organization?partof:below=top",
    "Observation?code:in=http://v",
    "Observation?code:in=ValueSet/v",
    "Observation?code:not-in=http://v",
    "Observation?code:below=http://c|a",
    "Observation?code:above=http://c|b",
    "Observation?_filter=code+in+http://v+and+subject.name+eq+'adams'",
    "Patient?_contained=true",
    "Patient?_contained=both&_containedType=contained&name=inner",
    "Observation?_summary=count",
    "Observation?_count=0&subject:Patient.name=adams",
    "Patient?_elements=name",
    "?_type=Patient,Organization&_total=accurate",
    "Patient/p1/Observation?code=a",
    "Patient/p1/*",
)


@pytest.fixture
async def context(store: Store, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A server with a little of everything, some of it too large for a document."""
    monkeypatch.setattr("fhir_server.store.records.INLINE_LIMIT", 500)
    made = context_on(store, auth="none")
    entries = [entry("PUT", f"{row['resourceType']}/{row['id']}", row) for row in WORLD]
    answer = await ask(made, "POST", "", bundle_of("transaction", *entries))
    assert answer.status == 200, answer.body
    return made


def told(bundle: Any) -> tuple[Any, ...]:
    """What a searchset tells: the number, and each resource with its part in it."""
    rows = [(row["search"]["mode"], row["resource"]) for row in bundle.get("entry", ())]
    return bundle.get("total"), rows


async def test_a_search_in_a_transaction_finds_what_it_finds_alone(context: Context) -> None:
    """Whatever is asked: chains, orders, includes, lists, words, places, terminology, what is contained."""
    answer = await ask(context, "POST", "", bundle_of("transaction", *(entry("GET", url) for url in SEARCHES)))
    assert answer.status == 200, answer.body
    for url, row in zip(SEARCHES, content(answer)["entry"], strict=True):
        alone = content(await ask(context, "GET", url))
        assert (url, told(row["resource"])) == (url, told(alone))
        assert alone.get("total") or alone.get("entry"), f"{url} finds nothing, which proves nothing"


CRITERIA = (
    "patient.organization.name=acme&code=a",
    "subject:Patient.name=inner",
    "code:not-in=http://v&code:below=http://c|a&patient.gender=female",
    "code:in=http://v&subject:Patient.name=shaw",
    "code:above=http://c|b&value-quantity=0&patient.name=shaw",
    "_filter=subject.name+eq+'adams'",
)


@pytest.mark.parametrize("criteria", CRITERIA)
async def test_conditions_take_every_criterion(context: Context, criteria: str) -> None:
    """What finds one resource alone is the one that conditional interactions mean."""
    [match] = content(await ask(context, "GET", f"Observation?{criteria}"))["entry"]
    own = match["resource"]
    new = {"resourceType": "Observation", "status": "final", "code": {"text": "never made"}}
    made = await ask(context, "POST", "Observation", new, if_none_exist=criteria)
    assert (made.status, content(made)["id"]) == (200, own["id"])
    updated = await ask(context, "PUT", f"Observation?{criteria}", own | {"issued": "2026-01-01T00:00:00Z"})
    assert (updated.status, content(updated)["id"]) == (200, own["id"])
    basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": f"Observation?{criteria}"}}
    named = await ask(
        context, "POST", "", bundle_of("transaction", entry("POST", "Basic", basic)), prefer="return=representation"
    )
    assert content(named)["entry"][0]["resource"]["subject"] == {"reference": f"Observation/{own['id']}"}
    assert (await ask(context, "DELETE", f"Observation?{criteria}")).status == 204
