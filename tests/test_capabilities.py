"""The capability statement claims what runs, and all of it."""

from __future__ import annotations

import pytest

from fhir_server.context import Context
from fhir_server.operations import OPERATIONS
from fhir_server.routes import INTERACTIONS
from fhir_server.store import Store
from profiles.model import RESOURCE_TYPES
from profiles.validate import check
from tests.shell import BASE, ask, content, context_on

pytestmark = pytest.mark.anyio


async def test_the_statement_is_generated_from_the_tables(context: Context) -> None:
    """Every type, with the interactions, parameters and operations of the tables; valid FHIR itself."""
    answer = await ask(context, "GET", "metadata")
    assert answer.status == 200
    found = content(answer)
    assert check(found) == []
    assert found["fhirVersion"] == "4.0.1"
    assert found["implementation"]["url"] == BASE
    rest = found["rest"][0]
    assert {row["type"] for row in rest["resource"]} == RESOURCE_TYPES
    patient = next(row for row in rest["resource"] if row["type"] == "Patient")
    assert {row["code"] for row in patient["interaction"]} <= INTERACTIONS
    assert {"identifier", "name", "_id", "_lastUpdated"} <= {row["name"] for row in patient["searchParam"]}
    assert "Patient:general-practitioner" in patient["searchInclude"]
    assert "Observation:subject" in patient["searchRevInclude"]
    assert {"name": "validate", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate"} in patient[
        "operation"
    ]
    offered = {row["name"] for row in rest.get("operation", ())}
    assert offered == {row.name for row in OPERATIONS if row.system}


async def test_every_parameter_of_a_type_can_be_searched(context: Context) -> None:
    """What the statement lists is accepted by a search."""
    found = content(await ask(context, "GET", "metadata"))
    patient = next(row for row in found["rest"][0]["resource"] if row["type"] == "Patient")
    values = {"date": "2020", "reference": "Patient/1", "uri": "http://x", "quantity": "1", "number": "1"}
    for row in patient["searchParam"]:
        if row["type"] in ("special", "composite") or row["name"].startswith("_"):
            continue
        answer = await ask(context, "GET", f"Patient?{row['name']}={values.get(row['type'], 'x')}")
        assert answer.status == 200, (row, answer.body)


async def test_settings_show(store: Store) -> None:
    """What can be switched is told as it is."""
    context = context_on(store, update_create=False, conditional_delete="single")
    row = content(await ask(context, "GET", "metadata"))["rest"][0]["resource"][0]
    assert (row["updateCreate"], row["conditionalDelete"]) == (False, "single")


async def test_modes(context: Context) -> None:
    """An unknown mode is an error."""
    assert (await ask(context, "GET", "metadata?mode=full")).status == 200
    assert (await ask(context, "GET", "metadata?mode=none")).status == 400
