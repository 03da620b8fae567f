"""What is asked wrongly is refused and named; what is asked in odd ways is understood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, bundle_of, content, context_on, entry, patient, text_of

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store)
    rows = [
        entry("PUT", "Patient/p", patient(id="p", managingOrganization={"reference": "Organization/o"})),
        entry("PUT", "Organization/o", {"resourceType": "Organization", "id": "o", "name": "O"}),
        entry("PUT", "Practitioner/d", {"resourceType": "Practitioner", "id": "d"}),
        entry(
            "PUT",
            "Encounter/e",
            {
                "resourceType": "Encounter",
                "id": "e",
                "status": "finished",
                "class": {"code": "AMB"},
                "subject": {"reference": "Patient/p"},
                "participant": [{"individual": {"reference": "Practitioner/d"}}],
            },
        ),
    ]
    assert (await ask(made, "POST", "", bundle_of("transaction", *rows))).status == 200
    yield made


def parameters(*rows: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(rows)}


@pytest.mark.parametrize(
    ("url", "place", "text"),
    [
        ("Patient/p/$everything?_since=x", "_since", "_since: 'x' is no instant"),
        ("Patient/p/$everything?start=2021-02-30", "start", "start: '2021-02-30' is a day that does not exist"),
        ("Patient/p/$everything?end=soon", "end", "end: 'soon' is no date"),
        ("Patient/p/$everything?_count=x", "_count", "_count=x is no integer."),
        ("Patient/p/$diff?fromVersion=9", "fromVersion", "Patient/p has no version 9."),
        ("Patient/p/$diff?fromVersion=%C2%B2", "fromVersion", "Patient/p has no version ²."),
        ("$diff?from=Patient/p", "to", "$diff needs the parameter to."),
        ("StructureDefinition/$snapshot", "url", "$snapshot needs the parameter definition or url."),
        ("Patient/p/$fhirpath?expression=", "expression", "expression: '' must not be empty"),
    ],
)
async def test_a_wrong_value_is_named(context: Context, url: str, place: str, text: str) -> None:
    """Status 400 or 404, and the parameter as the place."""
    answer = await ask(context, "GET", url)
    assert answer.status in (400, 404)
    assert text_of(answer).startswith(text)
    assert content(answer)["issue"][0]["expression"] == [place]


@pytest.mark.parametrize(
    ("url", "row", "text"),
    [
        (
            "Patient/p/$everything",
            {"name": "_count", "valueInteger": "2"},
            "_count: an integer is expected, not a string",
        ),
        ("Patient/p/$everything", {"name": "_since", "valueInstant": "now"}, "_since: 'now' is no instant"),
        ("Patient/p/$everything", {"name": "_since", "valueInstant": 5}, "_since: a string (instant) is expected"),
        ("Patient/p/$meta-add", {"name": "meta", "valueMeta": {"tag": [{"code": 5}]}}, "meta: "),
        ("Patient/p/$meta-add", {"name": "meta", "valueMeta": {"tags": []}}, "meta: "),
        ("Patient/p/$meta-add", {"name": "meta", "valueMeta": []}, "meta: "),
        ("Patient/p/$expunge", {"name": "limit", "valueInteger": 0}, "limit=0 is no whole number from 1"),
    ],
)
async def test_a_posted_value_is_checked(context: Context, url: str, row: Json, text: str) -> None:
    """By its own type, and named."""
    more = [{"name": "expungePreviousVersions", "valueBoolean": True}] if "expunge" in url else []
    answer = await ask(context, "POST", url, parameters(row, *more))
    assert (answer.status, text_of(answer)[: len(text)]) == (400, text)
    assert content(await ask(context, "GET", "Patient/p"))["meta"]["versionId"] == "1"


async def test_what_is_referred_to_can_be_asked_for_by_type(context: Context) -> None:
    """`_type` picks among all that $everything gives, not in the compartment alone."""

    async def names(url: str) -> list[str]:
        found: list[str] = []
        while url:
            page = content(await ask(context, "GET", url))
            found += [f"{row['resource']['resourceType']}/{row['resource']['id']}" for row in page.get("entry", ())]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
        return sorted(set(found))

    assert await names("Patient/p/$everything?_type=Practitioner") == ["Practitioner/d"]
    assert await names("Patient/p/$everything?_type=Encounter,Organization&_count=1") == [
        "Encounter/e",
        "Organization/o",
    ]
    assert await names("Patient/p/$everything?_type=Encounter") == ["Encounter/e"]
    plus = await ask(context, "GET", "Patient/p/$everything?_since=2020-01-01T00:00:00+02:00")
    assert (plus.status, content(plus)["total"] > 1) == (200, True)


async def test_nothing_is_lost_in_a_conversion(context: Context) -> None:
    """What XML could not hold is refused, not dropped."""
    for wrong in ({"resourceType": "Patient", "activ": True}, {"resourceType": "Patient", "active": "x"}):
        answer = await ask(context, "POST", "$convert", wrong, accept="application/fhir+xml")
        assert answer.status in (400, 422)
        assert b"Patient.activ" in answer.body


async def test_meta_is_added_beside_other_changes(context: Context) -> None:
    """Nobody's update is undone, nobody's tag is lost; If-Match is obeyed."""

    async def tag(number: int) -> int:
        row = {"name": "meta", "valueMeta": {"tag": [{"system": "u", "code": f"t{number}"}]}}
        return (await ask(context, "POST", "Patient/p/$meta-add", parameters(row))).status

    async def change(number: int) -> int:
        ops = f'[{{"op":"add","path":"/address","value":[{{"city":"c{number}"}}]}}]'.encode()
        answer = await ask(context, "PATCH", "Patient/p", ops, content_type="application/json-patch+json")
        return answer.status

    assert set(await asyncio.gather(*(tag(n) for n in range(8)), *(change(n) for n in range(4)))) == {200}
    found = content(await ask(context, "GET", "Patient/p"))
    assert len(found["meta"]["tag"]) == 8
    assert found["address"][0]["city"].startswith("c")
    row = {"name": "meta", "valueMeta": {"tag": [{"code": "late"}]}}
    old = await ask(context, "POST", "Patient/p/$meta-add", parameters(row), if_match='W/"1"')
    assert old.status == 412


async def test_a_claim_that_does_not_fit_is_not_added(context: Context) -> None:
    """$meta-add is a write: the profile that it claims is checked."""
    vitals = "http://hl7.org/fhir/StructureDefinition/vitalsigns"
    observation = {"resourceType": "Observation", "id": "v", "status": "final", "code": {"text": "x"}}
    assert (await ask(context, "PUT", "Observation/v", observation)).status == 201
    row = {"name": "meta", "valueMeta": {"profile": [vitals]}}
    assert (await ask(context, "POST", "Observation/v/$meta-add", parameters(row))).status in (400, 422)
    assert "profile" not in content(await ask(context, "GET", "Observation/v"))["meta"]
