"""$graphql: refusals, faults with their places, limits, mutations, what is told of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from graphql import build_client_schema, get_introspection_query

from fhir_server.context import Context
from tests.graphql_world import PATIENT, data, fault, fill, send
from tests.shell import ask, content

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(context: Context) -> Context:
    return await fill(context)


async def test_refused_ways_of_asking(context: Context) -> None:
    """No query, no JSON, other formats, an unknown instance, a mutation by GET: each with the right status."""

    async def status(*arguments: Any, **headers: str) -> int:
        answer = await ask(context, *arguments, **headers)
        assert json.loads(answer.body)["errors"][0]["message"]
        return answer.status

    assert await status("GET", "$graphql") == 400
    assert await status("POST", "$graphql", b"{") == 400
    assert await status("POST", "$graphql", b"[1]") == 400
    assert await status("POST", "$graphql", {"query": 1}) == 400
    assert await status("POST", "$graphql", {"query": "{ id }", "variables": [1]}) == 400
    assert await status("POST", "$graphql", {"query": "{ id }", "variables": {}, "operationName": 1}) == 400
    assert await status("POST", "$graphql", b"{ id }", content_type="text/csv") == 415
    assert await status("POST", "$graphql", b"\xff", content_type="application/graphql") == 400
    assert await status("GET", f"Patient/none/$graphql?query={quote('{id}')}") == 404
    mutation = quote("mutation { PatientDelete(id: peter) }")
    assert await status("GET", f"$graphql?query={mutation}") == 405
    assert (await ask(context, "GET", "Patient/peter")).status == 200
    assert await status("POST", "$graphql", {"query": "subscription { x }"}) == 400


@pytest.mark.parametrize(
    ("query", "path", "told"),
    [
        (
            "{ name { famly } }",
            ["name", "famly"],
            "Cannot query field 'famly' on type 'HumanName'. Did you mean 'family' or '_family'?",
        ),
        ("{ name }", ["name"], "Field 'name' of type '[HumanName]' must have a selection of subfields."),
        ("{ id { x } }", ["id"], "Field 'id' must not have a selection since type 'ID' has no subfields."),
        ("{ name(usee: official) { use } }", ["name"], "Unknown argument 'usee' on field 'Patient.name'."),
        ("{ id @upper }", ["id"], "Unknown directive '@upper'."),
        ("{ ...F }", [], "Unknown fragment 'F'."),
        ("{ ... on Pateint { id } }", [], "Unknown type 'Pateint'. Did you mean 'Patient'?"),
        ("{ name(_count: many) { use } }", ["name"], 'Int cannot represent non-integer value: "many"'),
        (
            "query($a: Int) { name(use: $a) { use } }",
            ["name"],
            "Variable '$a' of type 'Int' used in position expecting",
        ),
        ("query($a: Strin) { name(use: $a) { use } }", [], "Unknown type 'Strin'."),
        (
            "{ id active: gender active }",
            ["active"],
            "Fields 'active' conflict because 'gender' and 'active' are different",
        ),
        ("{ name(_count: -1) { use } }", ["name"], "_count=-1 is no whole number from 0 on."),
        ('{ name(fhirpath: "family.(") { use } }', ["name"], "Unexpected '(' at offset 7 of the FHIRPath"),
    ],
)
async def test_faults_name_their_place(context: Context, query: str, path: list[str], told: str) -> None:
    """What the schema does not know is an error with its path and line."""
    status, error = await fault(context, query, PATIENT)
    assert status == 400
    assert error.get("path", []) == path
    assert error["message"].startswith(told), error["message"]
    assert error["locations"][0]["line"] == 1


async def test_syntax_and_variables(context: Context) -> None:
    """Syntax errors have line and column; variables are checked against their types."""
    status, error = await fault(context, "{\n name { 1 } }", PATIENT)
    assert (status, error["message"], error["locations"]) == (
        400,
        "Syntax Error: Expected Name, found Int '1'.",
        [{"line": 2, "column": 9}],
    )
    assert (await fault(context, "{ name { } }", PATIENT))[1]["message"] == "A selection in braces is empty."
    query = "query($n: Int!, $use: String) { name(_count: $n, use: $use) { use } }"
    for variables, told in [
        ({}, "Variable '$n'"),
        ({"n": "x"}, "Variable '$n' has invalid value"),
        ({"n": 1.5}, "Variable '$n' has invalid value"),
        ({"n": 1, "use": [1]}, "Variable '$use' has invalid value"),
    ]:
        status, error = await fault(context, query, PATIENT, variables=variables)
        assert (status, told in error["message"]) == (400, True), error["message"]
    assert len((await data(context, query, PATIENT, variables={"n": 1}))["name"]) == 1
    status, error = await fault(context, "query A { id } query B { id }", PATIENT)
    assert (status, error["message"][:40]) == (400, "Name the operation that is wanted in ope")


async def test_t15_limits(context: Context) -> None:
    """attack T15: too deep, too wide, too long, endless fragments and too many values are refused."""

    async def code(query: str, at: str = "") -> str:
        status, error = await fault(context, query, at)
        assert status == 400
        return str(error["extensions"]["resource"]["issue"][0]["code"])

    deep = "{ subject { resource { ... on Patient { ConditionList(_reference: patient) " * 12
    assert await code(deep + "{ id }" + "}}}}" * 12, "Condition/c1") == "too-costly"
    assert await code("{" + " ".join(f"a{n}: PatientList {{ id }}" for n in range(1_000)) + "}") == "too-costly"
    assert await code("{" + "id " * 101 + "}", PATIENT) == "too-costly"
    assert await code("{ id " + "#" + "x" * 100 + "\n" + "active " * 20_000 + "}", PATIENT) == "too-costly"
    assert await code("{a" * 3_000, PATIENT) == "too-costly"
    assert await code("{ ...A } fragment A on Patient { ...B } fragment B on Patient { ...A }", PATIENT) == "invalid"
    bomb = "{ ...F0 }" + "".join(f" fragment F{n} on Patient {{ ...F{n + 1} ...F{n + 1} }}" for n in range(30))
    assert await code(bomb + " fragment F30 on Patient { id }", PATIENT) == "too-costly"
    assert await code("{ __schema { types { name } } PatientList { id } }") == "not-supported"


async def test_too_many_values(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of an answer are counted while it is made."""
    monkeypatch.setattr("fhir_server.graphql.reading.MOST_VALUES", 70)
    status, error = await fault(context, "{ ConditionList { id code { text } } }")
    assert (status, error["message"]) == (
        400,
        "The answer would have more than 70 values; ask for fewer fields or shorter lists.",
    )


async def test_search_faults(context: Context) -> None:
    """A search is refused as REST refuses it, and unknown parameters by the schema."""
    status, error = await fault(context, '{ PatientList(birthdate: "soon") { id } }')
    assert (status, error["path"]) == (400, ["PatientList"])
    status, error = await fault(context, "{ PatientList(shoe_size: 46) { id } }")
    assert error["message"] == "Unknown argument 'shoe_size' on field 'Query.PatientList'."
    assert (await fault(context, "{ Patient(id: nobody) { id } }"))[0] == 404
    assert (await fault(context, "{ PatientList(_include: x) { id } }"))[0] == 400


async def test_introspection(context: Context) -> None:
    """The schema describes itself; tools can read all of it."""
    found = await data(context, '{ __type(name: "Patient") { name fields { name } interfaces { name } } }')
    names = {row["name"] for row in found["__type"]["fields"]}
    assert {"birthDate", "_birthDate", "name", "ConditionList", "ObservationConnection"} <= names
    assert found["__type"]["interfaces"] == [{"name": "Resource"}]
    schema = build_client_schema(await data(context, get_introspection_query()))
    assert schema.query_type is not None
    assert schema.query_type.fields.keys() >= {"Patient", "PatientList", "PatientConnection"}
    assert schema.mutation_type is not None
    assert "PatientCreate" in schema.mutation_type.fields


async def test_mutations(context: Context) -> None:
    """R4 graphql.html#mutations: create, update and delete, one after the other."""
    query = """mutation($p: PatientInput!) {
        PatientCreate(res: $p) { id name { family } birthDate _birthDate { id }
                                 managingOrganization { resource { id } } } }"""
    given = {
        "name": [{"family": "Nova"}],
        "birthDate": "2001-02-03",
        "_birthDate": {"id": "b"},
        "contained": [{"resourceType": "Organization", "id": "o", "name": "X"}],
        "managingOrganization": {"reference": "#o"},
    }
    made = (await data(context, query, variables={"p": given}))["PatientCreate"]
    assert made.pop("id")
    assert made == {
        "name": [{"family": "Nova"}],
        "birthDate": "2001-02-03",
        "_birthDate": {"id": "b"},
        "managingOrganization": {"resource": {"id": "o"}},
    }
    update = """mutation { PatientUpdate(id: anna, res: {id: "anna", gender: male, active: null}) {
                             gender meta { versionId } }
                           PatientDelete(id: peter) }"""
    assert await data(context, update) == {
        "PatientUpdate": {"gender": "male", "meta": {"versionId": "2"}},
        "PatientDelete": True,
    }
    assert (await ask(context, "GET", "Patient/peter")).status == 410
    literal = """mutation { ObservationCreate(res: {status: final, code: {text: "x"}, valueQuantity: {value: 1.50}})
                 { valueQuantity { value } } }"""
    assert b'"value":1.50' in (await send(context, literal)).body


async def test_refused_mutations(context: Context) -> None:
    """If these operations fail, an HTTP error is returned: from the validator, the schema, or the id."""
    status, error = await fault(context, "mutation { ObservationCreate(res: {status: final}) { id } }")
    assert (status, error["path"]) == (422, ["ObservationCreate"])
    assert error["extensions"]["resource"]["issue"][0]["expression"] == ["Observation.code"]
    status, error = await fault(context, "mutation { PatientCreate(res: {shoes: 1}) { id } }")
    assert (status, "not to include unknown field 'shoes'" in error["message"]) == (400, True)
    status, error = await fault(context, 'mutation { PatientUpdate(id: anna, res: {id: "x"}) { id } }')
    assert (status, error["message"]) == (400, "The id in the body is x, and in the URL it is anna.")
    status, error = await fault(context, "mutation { PatientCreate(res: {resourceType: Group}) { id } }")
    assert status == 400
    assert (await fault(context, "mutation { PatientDelete(id: anna) }", PATIENT))[0] == 400


NUMBER = """mutation { ObservationCreate(res: {status: final, code: {text: "x"}, valueQuantity: {value: %s}})
            { valueQuantity { value } } }"""


@pytest.mark.parametrize("number", ["1.50e3", "0.00000001", "-1E-10", "100"])
async def test_numbers_in_the_query_keep_their_digits(context: Context, number: str) -> None:
    """As in JSON."""
    assert b'"value":%b}' % number.encode() in (await send(context, NUMBER % number)).body


@pytest.mark.parametrize("number", ["1e3000", "1.0e-999999", "9" * 5000])
async def test_absurd_numbers_in_the_query_are_refused(context: Context, number: str) -> None:
    """The limits of JSON."""
    status, error = await fault(context, NUMBER % number)
    assert (status, "is beyond the limits (400 digits, exponent 400)" in error["message"]) == (400, True)


async def test_a_mutation_is_no_deeper_than_a_body(context: Context) -> None:
    """64 levels, wherever they are written."""
    nested = '{url: "u", extension: [' * 32 + '{url: "u"}' + "]}" * 32
    status, error = await fault(context, f"mutation {{ PatientCreate(res: {{extension: [{nested}]}}) {{ id }} }}")
    assert (status, error["message"]) == (400, "The resource is nested deeper than 64 levels of JSON")


async def test_a_mutation_that_fails_half_way(context: Context) -> None:
    """What came before the fault is done and told, what comes after it is not carried out."""
    query = "mutation { PatientDelete(id: anna) GroupCreate(res: {}) { id } ConditionDelete(id: c1) }"
    answer = await send(context, query)
    errors = json.loads(answer.body)["errors"]
    assert (answer.status, [error.get("path") for error in errors]) == (
        422,
        [["GroupCreate"], ["ConditionDelete"], None],
    )
    assert errors[1]["message"] == "This was not carried out, as a part before it failed."
    assert errors[2]["message"] == "Before that was carried out: delete Patient/anna."
    assert (await ask(context, "GET", "Patient/anna")).status == 410
    assert (await ask(context, "GET", "Condition/c1")).status == 200


async def test_the_capability_statement_tells(context: Context) -> None:
    """Servers SHALL indicate that they support GraphQL."""
    rest = content(await ask(context, "GET", "metadata"))["rest"][0]
    row = {"name": "graphql", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-graphql"}
    assert row in rest["operation"]
    assert row in next(each for each in rest["resource"] if each["type"] == "Patient")["operation"]


async def test_an_unexpected_error_tells_nothing(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the server's own has its request id and no word of what happened."""

    async def broken(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr("fhir_server.access.views.find", broken)
    status, error = await fault(context, "{ PatientList { id } }")
    assert status == 500
    assert error["message"] == "An unexpected error occurred; its id is test."
    assert "secret" not in json.dumps(error)
