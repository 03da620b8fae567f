"""$fhirpath, called directly on a real mongod."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.context import Context
from tests.shell import ask, content, patient, text_of
from tests.test_operations import observation, parameters

pytestmark = pytest.mark.anyio


async def test_fhirpath(context: Context) -> None:
    """Results come typed; what Parameters cannot hold comes as JSON."""
    sent = patient(birthDate="1987-02-20", contact=[{"gender": "other"}], active=True)

    async def results(expression: str) -> list[dict[str, Any]]:
        asked = parameters(expression={"valueString": expression}, resource={"resource": sent})
        rows = content(await ask(context, "POST", "$fhirpath", asked)).get("parameter", [])
        return [{key: value for key, value in row.items() if key != "name"} for row in rows]

    assert await results("Patient.birthDate") == [{"valueDate": "1987-02-20"}]
    assert await results("name.family | 'x'") == [{"valueString": "Shaw"}, {"valueString": "x"}]
    assert await results("name") == [{"valueHumanName": {"family": "Shaw"}}]
    assert await results("active and true") == [{"valueBoolean": True}]
    assert await results("1 + 1") == [{"valueInteger": 2}]
    assert await results("name.suffix") == []
    assert (await results("contact"))[0]["extension"][0]["valueString"] == '{"gender":"other"}'
    assert (await results("$this"))[0]["resource"]["resourceType"] == "Patient"
    assert await results("name.trace('n', family).exists()") == [
        {"valueBoolean": True},
        {"part": [{"name": "name", "valueString": "n"}, {"name": "value", "valueString": '"Shaw"'}]},
    ]
    alone = await ask(context, "GET", "$fhirpath?expression=1.587.lowBoundary(2)")
    assert content(alone)["parameter"] == [{"name": "result", "valueDecimal": Decimal("1.58")}]
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    stored = await ask(context, "GET", "Patient/p1/$fhirpath?expression=Patient.id")
    assert content(stored)["parameter"] == [{"name": "result", "valueId": "p1"}]
    assert (await ask(context, "GET", "Patient/p1/$fhirpath?expression=1%2B%2B")).status == 400


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("subject.resolve().name.family", ["Shaw"]),
        ("subject.resolve().managingOrganization.resolve().name", ["Acme"]),
        ("subject.resolve().name.single().family", ["Shaw"]),
        ("subject.resolve() is Patient", [True]),
        ("performer.resolve() is Practitioner", [True]),
        ("performer.resolve().name", []),
        ("subject.resolve().select(%resource.status)", ["final"]),
    ],
)
async def test_fhirpath_resolves(context: Context, expression: str, expected: list[Any]) -> None:
    """R4 fhirpath.html, resolve(): stored resources; of what is not here the type that its reference tells."""
    await ask(context, "PUT", "Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "Acme"})
    await ask(context, "PUT", "Patient/p1", patient(id="p1", managingOrganization={"reference": "Organization/o1"}))
    sent = observation(performer=[{"reference": "http://elsewhere.org/fhir/Practitioner/9"}])
    asked = parameters(expression={"valueString": expression}, resource={"resource": sent})
    answer = await ask(context, "POST", "$fhirpath", asked)
    rows = content(answer).get("parameter", [])
    assert ("Patient/p1" in answer.compartments) == ("subject" in expression), "the audit trail is told"
    assert [next(value for key, value in row.items() if key.startswith("value")) for row in rows] == expected


async def test_fhirpath_follows_few_references(context: Context) -> None:
    rows = [{"reference": f"Practitioner/{n}"} for n in range(201)]
    asked = parameters(
        expression={"valueString": "performer.resolve().count()"}, resource={"resource": observation(performer=rows)}
    )
    answer = await ask(context, "POST", "$fhirpath", asked)
    assert text_of(answer) == "The expression resolves more than 200 references."


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("nothing", "Patient has no element nothing"),
        ("(birthDate as Period).unit", "Period has no element unit"),
        ("name.as(HumanName)", "as needs a single item, not 2"),
        ("Observation.status", "The context is a Patient, not a Observation"),
        ("children().first()", "first() needs an order"),
        ("name.(", "Unexpected"),
    ],
)
async def test_fhirpath_is_strict(context: Context, expression: str, text: str) -> None:
    """What the specification calls an error is 400 (N1, Type safety and strict evaluation)."""
    sent = patient(name=[{"family": "A"}, {"family": "B"}], birthDate="1987")
    asked = parameters(expression={"valueString": expression}, resource={"resource": sent})
    answer = await ask(context, "POST", "$fhirpath", asked)
    assert (answer.status, text in text_of(answer)) == (400, True)
