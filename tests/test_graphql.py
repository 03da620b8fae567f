"""$graphql: fields, arguments, references, searches, connections, directives, mutations, introspection, refusals."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from tests.graphql_world import PATIENT, data, fault, fill, send
from tests.shell import ask, bundle_of, content, context_on, entry

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(context: Context) -> Context:
    return await fill(context)


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


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("_count: 1", [["Peter"], ["Jim"], ["Peter"]]),
        ("_offset: 1", [["James"], [], ["James"]]),
        ("fhirpath: \"$this = 'James'\"", [["James"], [], ["James"]]),
        ("_count: 0", [[], [], []]),
    ],
)
async def test_navigation_of_primitives(context: Context, argument: str, found: list[Any]) -> None:
    """R4 graphql.html#list: an expression and a stretch also where the elements of a list are plain values."""
    names = (await data(context, f"{{ name {{ given({argument}) }} }}", PATIENT))["name"]
    assert [row["given"] for row in names] == found


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
