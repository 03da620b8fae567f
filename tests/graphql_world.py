"""A small clinic for $graphql, and ways to ask it."""

from __future__ import annotations

import json
from typing import Any

from fhir_server.answers.respond import Response
from fhir_server.context import Context
from tests.shell import ask

PETER: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "peter",
    "identifier": [{"system": "urn:oid:1.2.36.146.595.217.0.1", "value": "12345"}],
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "telecom": [{"system": "phone", "value": "1", "rank": 1}, {"system": "email", "value": "p@x", "rank": 2}],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://x/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "contained": [{"resourceType": "Organization", "id": "org", "name": "Inside"}],
    "managingOrganization": {"reference": "#org"},
}


def condition(number: int, patient: str = "peter", status: str = "active") -> dict[str, Any]:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status}
    return {
        "resourceType": "Condition",
        "id": f"c{number}",
        "clinicalStatus": {"coding": [coding]},
        "code": {"text": f"Nr {number}"},
        "subject": {"reference": f"Patient/{patient}"},
    }


OTHERS: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "anna", "name": [{"family": "Shaw, Bell"}], "gender": "female"},
    *(condition(number) for number in range(5)),
    condition(9, "anna", "resolved"),
    {
        "resourceType": "Observation",
        "id": "weight",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": "Patient/peter"},
        "performer": [{"reference": "Practitioner/nobody"}],
        "valueQuantity": {"value": 1, "unit": "kg"},
    },
]


async def fill(context: Context) -> Context:
    """The clinic in a database; one value keeps its digits."""
    for resource in (PETER, *OTHERS):
        body = json.dumps(resource).replace('"value": 1,', '"value": 70.50,').encode()
        answer = await ask(context, "PUT", f"{resource['resourceType']}/{resource['id']}", body)
        assert answer.status == 201, answer.body
    return context


async def send(context: Context, query: str, at: str = "", **more: Any) -> Response:
    return await ask(context, "POST", f"{at}/$graphql" if at else "$graphql", {"query": query, **more})


async def data(context: Context, query: str, at: str = "", **more: Any) -> Any:
    answer = await send(context, query, at, **more)
    assert answer.status == 200, answer.body
    assert answer.media == "application/json"
    return json.loads(answer.body)["data"]


async def fault(context: Context, query: str, at: str = "", **more: Any) -> tuple[int, Any]:
    """Status and first error."""
    answer = await send(context, query, at, **more)
    told = json.loads(answer.body)
    assert told["data"] is None
    assert answer.media == "application/json"
    outcome = told["errors"][0]["extensions"]["resource"]
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["diagnostics"] == told["errors"][0]["message"]
    return answer.status, told["errors"][0]


PATIENT = "Patient/peter"
