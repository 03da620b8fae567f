"""$graphql: fields, arguments, references, searches, connections, directives, mutations, introspection, refusals."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from graphql import build_client_schema, get_introspection_query

from fhir_server.answers.respond import Response
from fhir_server.context import Context
from fhir_server.store import Store
from tests.shell import ask, bundle_of, content, context_on, entry

pytestmark = pytest.mark.anyio

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


@pytest.fixture
async def context(store: Store) -> Context:
    made = context_on(store)
    for resource in (PETER, *OTHERS):
        body = json.dumps(resource).replace('"value": 1,', '"value": 70.50,').encode()
        answer = await ask(made, "PUT", f"{resource['resourceType']}/{resource['id']}", body)
        assert answer.status == 201, answer.body
    return made


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


async def test_fields_of_an_instance(context: Context) -> None:
    """R4 graphql.html#fields: names of JSON, choices and companions of primitives too; decimals keep their digits."""
    query = "{ resourceType id active birthDate _birthDate { extension { valueDateTime } } name { text given } }"
    found = await data(context, query, PATIENT)
    assert found["birthDate"] == "1974-12-25"
    assert found["_birthDate"] == {"extension": [{"valueDateTime": "1974-12-25T14:35:45-05:00"}]}
    assert found["name"][1] == {"text": None, "given": ["Jim"]}
    answer = await send(context, "{ valueQuantity { value unit } }", "Observation/weight")
    assert answer.body == b'{"data":{"valueQuantity":{"value":70.50,"unit":"kg"}}}'


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("use: official", ["Chalmers"]),
        ('use: "maiden"', ["Windsor"]),
        ("given: Jim", [None]),
        ('fhirpath: "family.exists()"', ["Chalmers", "Windsor"]),
        ("_count: 1", ["Chalmers"]),
        ("_offset: 1", [None, "Windsor"]),
        ('fhirpath: "family.exists()", _offset: 1, _count: 5', ["Windsor"]),
        ("use: nickname", []),
    ],
)
async def test_list_navigation(context: Context, argument: str, found: list[Any]) -> None:
    """R4 graphql.html#list: filters by a property, by FHIRPath, and a stretch of what they leave."""
    names = (await data(context, f"{{ name({argument}) {{ family }} }}", PATIENT))["name"]
    assert [row["family"] for row in names] == found


async def test_filters_of_other_types(context: Context) -> None:
    """Numbers are compared as numbers, aliases name the answers."""
    query = (
        '{ first: telecom(rank: 1) { value } mail: telecom(system: email) { value } ext: extension(url: "x") { id } }'
    )
    found = await data(context, query, PATIENT)
    assert found == {"first": [{"value": "1"}], "mail": [{"value": "p@x"}], "ext": None}


async def test_fragments_variables_and_conditions(context: Context) -> None:
    """Fragments with and without names, variables with defaults, @skip and @include, one operation of several."""
    query = """
        query Other { active }
        query Mine($use: String = official, $no: Boolean!) {
          name(use: $use) { ...Words ... on HumanName { use } given @skip(if: $no) }
          ... on Patient { gender @include(if: $no) birthDate }
          __typename
        }
        fragment Words on HumanName { family }"""
    found = await data(context, query, PATIENT, operationName="Mine", variables={"no": True})
    assert found == {
        "name": [{"family": "Chalmers", "use": "official"}],
        "gender": None,
        "birthDate": "1974-12-25",
        "__typename": "Patient",
    }
    found = await data(context, query, PATIENT, operationName="Mine", variables={"no": False, "use": "usual"})
    assert found["name"] == [{"family": None, "use": "usual", "given": ["Jim"]}]


async def test_references(context: Context) -> None:
    """R4 graphql.html#references: resolved, narrowed by type or fragment, contained ones too."""
    query = """{ subject { reference resource { id ... on Patient { birthDate } ... on Group { name } } }
                 other: subject { resource(type: Group) { id } } }"""
    found = await data(context, query, "Condition/c1")
    assert found["subject"]["resource"] == {"id": "peter", "birthDate": "1974-12-25"}
    assert found["other"] == {"resource": None}
    inside = await data(
        context, "{ managingOrganization { resource { ... on Organization { name } __typename } } }", PATIENT
    )
    assert inside["managingOrganization"]["resource"] == {"name": "Inside", "__typename": "Organization"}


async def test_a_reference_to_nothing(context: Context) -> None:
    """An error instead of the graph, unless it is optional."""
    assert await data(context, "{ performer { resource(optional: true) { id } } }", "Observation/weight") == {
        "performer": [{"resource": None}]
    }
    status, error = await fault(context, "{ performer { resource { id } } }", "Observation/weight")
    assert (status, error["path"]) == (404, ["performer", 0, "resource"])
    assert error["message"].startswith("Practitioner/nobody cannot be resolved")
    status, error = await fault(context, "{ subject { resource(type: Practioner) { id } } }", "Observation/weight")
    assert (status, error["message"]) == (400, "type: Practioner is no resource type of FHIR R4.")


async def test_searches(context: Context) -> None:
    """R4 graphql.html#searching: by id, lists by search parameters, alternatives in an array, _filter, fhirpath."""
    assert await data(context, "{ Patient(id: peter) { id active } }") == {"Patient": {"id": "peter", "active": True}}

    async def ids(arguments: str, **variables: Any) -> list[str]:
        head = "query($a: String, $b: [ID!])" if variables else ""
        found = await data(context, f"{head}{{ ConditionList{arguments} {{ id }} }}", variables=variables)
        return [row["id"] for row in found["ConditionList"]]

    assert sorted(await ids("")) == ["c0", "c1", "c2", "c3", "c4", "c9"]
    assert await ids("(clinical_status: resolved)") == ["c9"]
    assert await ids("(clinical_status: active, patient: anna)") == []
    assert sorted(await ids("(_id: [c1, c2, example])")) == ["c1", "c2"]
    assert await ids('(_filter: "subject.family co \\"shaw\\"")') == ["c9"]
    assert await ids("(fhirpath: \"code.text = 'Nr 3'\")") == ["c3"]
    assert await ids('(_sort: "-_id", _count: 2, _offset: 1)') == ["c4", "c3"]
    assert await ids("(patient: $a, _id: $b)", a="peter", b=["c4", "c9"]) == ["c4"]
    assert await ids("(_count: 0)") == []
    found = await data(context, '{ PatientList(family: "shaw, b") { id } }')
    assert found == {"PatientList": [{"id": "anna"}]}, "a comma is part of the text"


async def test_a_list_is_whole_or_an_error(store: Store, context: Context) -> None:
    """A server SHALL NOT silently filter a list that is too long."""
    small = context_on(store, max_count=3)
    status, error = await fault(small, "{ ConditionList { id } }")
    assert (status, error["extensions"]["resource"]["issue"][0]["code"]) == (400, "too-costly")
    assert "ConditionConnection" in error["message"]
    assert len((await data(small, "{ ConditionList(_count: 2) { id } }"))["ConditionList"]) == 2
    assert (await fault(small, "{ ConditionList(_count: 2, _offset: 2) { id } }"))[0] == 400


async def test_connections(context: Context) -> None:
    """Pages with a count, a place and cursors; a cursor carries the search."""
    shape = "{ count offset pagesize edges { mode score resource { id } } first previous next last }"
    first = (await data(context, f"{{ ConditionConnection(patient: peter, _count: 2) {shape} }}"))[
        "ConditionConnection"
    ]
    assert [first[name] for name in ("count", "offset", "pagesize", "previous", "last")] == [5, 0, 2, None, None]
    assert first["edges"][0]["mode"] == "match"
    pages, page = [first], first
    while page["next"]:
        query = f"query($c: String) {{ ConditionConnection(_cursor: $c) {shape} }}"
        page = (await data(context, query, variables={"c": page["next"]}))["ConditionConnection"]
        pages.append(page)
    assert [page["offset"] for page in pages] == [0, 2, 4]
    assert [len(page["edges"]) for page in pages] == [2, 2, 1]
    assert len({edge["resource"]["id"] for page in pages for edge in page["edges"]}) == 5
    query = f'{{ ConditionConnection(cursor: "{pages[1]["previous"]}") {shape} }}'
    back = (await data(context, query))["ConditionConnection"]
    assert back["edges"] == first["edges"]
    assert back["offset"] == 0
    status, error = await fault(
        context, f'{{ ConditionConnection(cursor: "{first["next"]}", patient: anna) {{ count }} }}'
    )
    assert (status, error["message"]) == (400, "A cursor carries its search; no other argument goes with it.")
    assert (await fault(context, f'{{ PatientConnection(cursor: "{first["next"]}") {{ count }} }}'))[0] == 400
    assert (await fault(context, '{ PatientConnection(cursor: "x") { count } }'))[0] == 400


async def test_reverse_references(context: Context) -> None:
    """R4 graphql.html#reverse: in the middle of a resource, as a list and as a connection."""
    query = """{ PatientList(_sort: "_id") { id
        ConditionList(_reference: patient, clinical_status: active) { id }
        ConditionConnection(_reference: subject, _count: 1) { count next edges { resource { code { text } } } } } }"""
    anna, peter = (await data(context, query))["PatientList"]
    assert anna["ConditionList"] == []
    assert len(peter["ConditionList"]) == 5
    assert peter["ConditionConnection"]["count"] == 5
    root = f'{{ ConditionConnection(_cursor: "{peter["ConditionConnection"]["next"]}") {{ offset edges {{ mode }} }} }}'
    assert await data(context, root) == {"ConditionConnection": {"offset": 1, "edges": [{"mode": "match"}]}}
    found = await data(context, "{ ObservationList(_reference: subject) { id } }", PATIENT)
    assert found == {"ObservationList": [{"id": "weight"}]}
    status, error = await fault(context, "{ ConditionList(_reference: code) { id } }", PATIENT)
    assert status == 400
    assert error["message"].startswith("_reference: Condition has no reference 'code'; it has asserter, ")
    assert (await fault(context, "{ ConditionList { id } }", PATIENT))[0] == 400
    assert (await fault(context, '{ ConditionConnection(_reference: patient, _cursor: "x") { count } }', PATIENT))[
        0
    ] == 400


FLAT = {"system": ["urn:oid:1.2.36.146.595.217.0.1"], "value": ["12345"], "active": True}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "{ identifier @flatten { system value } active name @flatten { text given family } }",
            FLAT
            | {"text": [], "given": ["Peter", "James", "Jim", "Peter", "James"], "family": ["Chalmers", "Windsor"]},
        ),
        (
            "{ identifier @flatten { system value } active name @flatten { given @first family } }",
            FLAT | {"given": ["Peter", "Jim", "Peter"], "family": ["Chalmers", "Windsor"]},
        ),
        (
            """{ identifier @flatten { system @singleton value @singleton } active
                 name @flatten @first { given family @singleton } }""",
            {
                "system": FLAT["system"][0],
                "value": "12345",
                "active": True,
                "given": ["Peter", "James"],
                "family": "Chalmers",
            },
        ),
        (
            '{ name @flatten @slice(path: "use") { given family @singleton } }',
            {
                "given.official": ["Peter", "James"],
                "family.official": "Chalmers",
                "given.usual": ["Jim"],
                "family.usual": None,
                "given.maiden": ["Peter", "James"],
                "family.maiden": "Windsor",
            },
        ),
        (
            '{ name @slice(path: "$index") @flatten { given @first @singleton family } }',
            {
                "given.0": "Peter",
                "family.0": ["Chalmers"],
                "given.1": "Jim",
                "family.1": [],
                "given.2": "Peter",
                "family.2": ["Windsor"],
            },
        ),
        (
            '{ telecom @slice(path: "system") { value } }',
            {"telecom.phone": [{"value": "1"}], "telecom.email": [{"value": "p@x"}]},
        ),
        (
            "{ name @first { ...F @include(if: true) } } fragment F on HumanName { use }",
            {"name": [{"use": "official"}]},
        ),
    ],
)
async def test_flattening(context: Context, query: str, expected: Any) -> None:
    """R4 graphql.html#flattening: the specification's examples; what is absent is null or empty."""
    assert await data(context, query, PATIENT) == expected


async def test_directives_that_do_not_fit(context: Context) -> None:
    """More than one value for a singleton, and values of different types, are errors."""
    status, error = await fault(context, "{ name @flatten { family @singleton } }", PATIENT)
    assert (status, error["message"]) == (400, "The directives do not fit: family would have more than one value.")
    status, error = await fault(context, "{ name @flatten { x: family } telecom @flatten { x: rank } }", PATIENT)
    assert (status, "types String and Int" in error["message"]) == (400, True)


async def test_ways_of_asking(context: Context) -> None:
    """GET, a GraphQL document, Parameters; the answer is application/json; in a Bundle it is a Binary."""
    expected = b'{"data":{"id":"peter"}}'
    variables = quote('{"a":true}')
    for answer in (
        await ask(context, "GET", f"{PATIENT}/$graphql?query={quote('{id}')}"),
        await ask(
            context,
            "GET",
            f"{PATIENT}/$graphql?query={quote('query($a:Boolean!){id @include(if:$a)}')}&variables={variables}",
        ),
        await ask(context, "POST", f"{PATIENT}/$graphql", b"{ id }", content_type="application/graphql; charset=utf-8"),
        await ask(
            context,
            "POST",
            f"{PATIENT}/$graphql",
            {"resourceType": "Parameters", "parameter": [{"name": "query", "valueString": "{ id }"}]},
            content_type="application/fhir+json",
        ),
        await ask(context, "POST", f"{PATIENT}/$graphql?query={quote('{id}')}"),
    ):
        assert (answer.status, answer.body, answer.media) == (200, expected, "application/json")
    batch = bundle_of("batch", entry("GET", f"{PATIENT}/$graphql?query={quote('{id}')}"))
    row = content(await ask(context, "POST", "", batch))["entry"][0]
    assert row["response"]["status"] == "200 OK"
    assert b64decode(row["resource"]["data"]) == expected
    version = await ask(context, "GET", f"{PATIENT}/_history/1/$graphql?query={quote('{id}')}")
    assert version.body == expected


async def test_on_the_answer_of_another_operation(context: Context) -> None:
    """R4 graphql.html#operations: `_graphql` selects from what an operation answers; its faults stay as they are."""
    query = quote("{ result: parameter(name: result) { valueString } }")
    answer = await ask(context, "GET", f"{PATIENT}/$fhirpath?expression=name.family&_graphql={query}")
    found = [{"valueString": "Chalmers"}, {"valueString": "Windsor"}]
    assert json.loads(answer.body) == {"data": {"result": found}}
    query = quote("{ total entry { resource { ... on Condition { code { text } } } } }")
    answer = await ask(context, "GET", f"{PATIENT}/$everything?_type=Condition&_graphql={query}")
    assert len(json.loads(answer.body)["data"]["entry"]) == 5
    answer = await ask(context, "GET", f"Patient/none/$everything?_graphql={query}")
    assert (answer.status, content(answer)["resourceType"]) == (404, "OperationOutcome")
    assert (await ask(context, "GET", f"{PATIENT}/$everything?_graphql=x")).status == 400


async def test_warnings_stand_beside_the_data(store: Store, context: Context) -> None:
    """A parameter that does not see older resources yet is told in the extensions."""
    url = context.registry.lookup("Patient", "family")
    assert url is not None
    made = replace(context, pending=frozenset({url.url}))
    told = json.loads((await send(made, "{ PatientList(family: shaw) { id } }")).body)
    assert told["data"] == {"PatientList": [{"id": "anna"}]}
    assert "is being indexed" in told["extensions"]["resource"]["issue"][0]["diagnostics"]


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
