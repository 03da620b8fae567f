"""References in GraphQL, narrowed by type without a fragment (http://hl7.org/fhir/R4/graphql.html#references)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, content, context_on, patient

pytestmark = pytest.mark.anyio

WEIGHT = {"resourceType": "Observation", "id": "w", "status": "final", "code": {"text": "weight"}}


@pytest.fixture
async def context(store: Store) -> Context:
    """A patient, a group, and an observation of the patient."""
    context = context_on(store)
    whole = {"resourceType": "Organization", "id": "whole", "name": "Whole"}
    ward = {"resourceType": "Organization", "id": "ward", "name": "Ward", "partOf": {"reference": "Organization/whole"}}
    who = patient(id="p", birthDate="1974-12-25", managingOrganization={"reference": "Organization/ward"})
    for row in (whole, ward, who, WEIGHT | {"subject": {"reference": "Patient/p"}}):
        await ask(context, "PUT", f"{row['resourceType']}/{row['id']}", row)
    return context


async def asked(context: Context, query: str) -> tuple[int, Any]:
    headers = {"content_type": "application/json"}
    answer = await ask(context, "POST", "Observation/w/$graphql", {"query": query}, **headers)
    return answer.status, content(answer)


DENSE = (
    ("resource(type: Patient) { birthDate }", {"birthDate": "1974-12-25"}),
    ('resource(type: "Patient") { id birthDate }', {"id": "p", "birthDate": "1974-12-25"}),
    ("resource(type: Group) { name }", None),
    ("resource(type: Group) { name } resource(type: Patient) { birthDate }", {"birthDate": "1974-12-25"}),
    (
        "resource(type: Patient) { managingOrganization { resource(type: Organization) "
        "{ name partOf { resource(type: Organization) { name } } } } }",
        {"managingOrganization": {"resource": {"name": "Ward", "partOf": {"resource": {"name": "Whole"}}}}},
    ),
)


@pytest.mark.parametrize(("part", "found"), DENSE)
async def test_a_type_narrows_as_a_fragment_does(context: Context, part: str, found: Any) -> None:
    """ "Clients can use either approach - type selection as a parameter, or using a fragment type condition"."""
    status, answer = await asked(context, f"{{ subject {{ reference {part} }} }}")
    assert (status, answer) == (200, {"data": {"subject": {"reference": "Patient/p", "resource": found}}})


async def test_what_the_type_does_not_have_is_refused(context: Context) -> None:
    """The place of the error is the field as it was written."""
    status, answer = await asked(context, "{ subject { resource(type: Patient) { shoesize } } }")
    [error] = answer["errors"]
    assert (status, error["path"]) == (400, ["subject", "resource", "shoesize"])
    assert "'shoesize' on type 'Patient'" in error["message"]
