"""$graph: paths, reverse links, types, profiles, nesting, cardinalities, compartments, loops, caps, the gate."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from profiles.json import parse
from tests.hospital import Hospital, condition, encounter, letter, observation, open_hospital, reference
from tests.shell import ask, content, context_on, text_of

pytestmark = pytest.mark.anyio

URL = "http://x/GraphDefinition/g"
LINK: dict[str, Any] = {"target": [{"type": "Condition", "params": "patient={ref}"}]}
RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "up", "name": "Up", "partOf": reference("Organization/org")},
    {"resourceType": "Organization", "id": "org", "name": "Org", "partOf": reference("Organization/up")},
    {"resourceType": "Patient", "id": "P1", "managingOrganization": reference("Organization/org")},
    {"resourceType": "Patient", "id": "P2"},
    *(condition(f"c{number}", "Patient/P1") for number in range(3)),
    encounter("e1", "Patient/P1"),
    observation("o1", "Patient/P1", encounter=reference("Encounter/e1")),
    observation("o2", "http://test/fhir/Patient/P1", "b"),
    {
        "resourceType": "List",
        "id": "l",
        "status": "current",
        "mode": "working",
        "subject": reference("Patient/P1"),
        "entry": [
            {"item": reference(name)} for name in ("Observation/o1", "Observation/o2", "Patient/P2", "Group/none")
        ],
    },
]


@pytest.fixture
async def context(store: Store) -> Context:
    made = context_on(store)
    for resource in RESOURCES:
        assert (await ask(made, "PUT", f"{resource['resourceType']}/{resource['id']}", resource)).status == 201
    return made


def definition(*links: Any, start: str = "Patient", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "GraphDefinition",
        "id": "g",
        "url": URL,
        "name": "G",
        "status": "active",
        "start": start,
        "link": list(links),
        **more,
    }


async def graph(context: Context, at: str, *links: Any, **more: Any) -> tuple[list[str], list[str]]:
    """The names of a graph, the instance first, and its warnings."""
    stored = await ask(context, "PUT", "GraphDefinition/g", definition(*links, start=at.split("/")[0], **more))
    assert stored.status in (200, 201), stored.body
    answer = await ask(context, "GET", f"{at}/$graph?graph={URL}")
    assert answer.status == 200, answer.body
    return told(content(answer))


def told(bundle: Any) -> tuple[list[str], list[str]]:
    modes = [row["search"]["mode"] for row in bundle["entry"]]
    assert modes[0] == "match"
    assert bundle["type"] == "searchset"
    rows = [row["resource"] for row in bundle["entry"]]
    outcomes = [row for row in rows if row["resourceType"] == "OperationOutcome"]
    names = [f"{row['resourceType']}/{row['id']}" for row in rows if row not in outcomes]
    assert len(names) == len(set(names))
    return names, [issue["diagnostics"] for outcome in outcomes for issue in outcome["issue"]]


async def test_paths_and_reverse_links(context: Context) -> None:
    """A path leads to its references, params to what refers back; links go on from their targets."""
    nested = {
        "target": [
            {
                "type": "Encounter",
                "params": "patient={ref}",
                "link": [{"target": [{"type": "Observation", "params": "encounter={ref}&status=final"}]}],
            }
        ]
    }
    names, warnings = await graph(context, "Patient/P1", {"path": "Patient.managingOrganization"}, nested)
    assert names == ["Patient/P1", "Organization/org", "Encounter/e1", "Observation/o1"]
    assert warnings == []


async def test_types_of_targets(context: Context) -> None:
    """Targets of other types are not followed, Resource is any; `*` is every reference; what is missing is left out."""
    entries = {"path": "List.entry.item", "target": [{"type": "Observation"}]}
    assert (await graph(context, "List/l", entries))[0] == ["List/l", "Observation/o1", "Observation/o2"]
    entries["target"] = [{"type": "Resource"}]
    assert (await graph(context, "List/l", entries))[0] == ["List/l", "Observation/o1", "Observation/o2", "Patient/P2"]
    assert set((await graph(context, "List/l", {"path": "*"}))[0]) == {
        "List/l",
        "Observation/o1",
        "Observation/o2",
        "Patient/P1",
        "Patient/P2",
    }


async def test_loops_end(context: Context) -> None:
    """Each resource comes once, however the links run in circles."""
    up = {
        "path": "Organization.partOf",
        "target": [
            {"type": "Organization", "link": [{"path": "Organization.partOf", "target": [{"type": "Organization"}]}]}
        ],
    }
    assert (await graph(context, "Organization/up", up))[0] == ["Organization/up", "Organization/org"]


async def test_cardinality(context: Context) -> None:
    """`max` bounds what a link contributes, `min` is an expectation; both are told, and their place."""
    names, warnings = await graph(context, "Patient/P1", LINK | {"max": "2", "min": 1})
    assert len(names) == 3
    assert warnings == ["GraphDefinition.link[0] leads from Patient/P1 to 3 resources; the first 2 are here."]
    names, warnings = await graph(context, "Patient/P2", LINK | {"min": 1, "max": "*"})
    assert names == ["Patient/P2"]
    assert warnings == ["GraphDefinition.link[0] leads from Patient/P2 to 0 resources; at least 1 are expected."]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ([("requirement", "identical", "")], ["o1"]),
        ([("requirement", "matching", "")], ["o1", "o2"]),
        ([("requirement", "different", "")], ["P2"]),
        ([("requirement", "custom", "code.coding.code = 'b'")], ["o2"]),
        ([("condition", "different", ""), ("requirement", "custom", "false")], ["o1", "o2"]),
    ],
)
async def test_compartment_rules(context: Context, rules: list[tuple[str, str, str]], kept: list[str]) -> None:
    """Requirements leave out what breaks them, where all conditions hold; each is told."""
    rows = [
        {"use": use, "code": "Patient", "rule": rule, **({"expression": text} if text else {})}
        for use, rule, text in rules
    ]
    target = {"type": "Resource", "compartment": rows}
    names, warnings = await graph(context, "List/l", {"path": "List.entry.item", "target": [target]})
    assert [name.split("/")[1] for name in names[1:]] == kept
    assert len(warnings) == 3 - len(kept)


async def test_profiles_of_targets(context: Context) -> None:
    """A target without the profile is not followed."""
    vital = "http://hl7.org/fhir/StructureDefinition/vitalsigns"
    target = {"type": "Observation", "params": "patient={ref}"}
    assert len((await graph(context, "Patient/P1", {"target": [target]}))[0]) == 3
    assert (await graph(context, "Patient/P1", {"target": [target | {"profile": vital}]}))[0] == ["Patient/P1"]


@pytest.mark.parametrize(
    ("link", "status", "told"),
    [
        ({"path": "Patient.name.("}, 422, "Patient.name.(: "),
        ({"target": [{"type": "Condition"}]}, 422, "Without a path a link needs a type and params with {ref}"),
        ({"target": [{"type": "Condition", "params": "code=x"}]}, 422, "Without a path"),
        ({"target": [{"type": "Condition", "params": "shoes={ref}"}]}, 400, "shoes"),
        ({"path": "Patient.name", "sliceName": "x"}, 501, "Links on slices are not followed."),
    ],
)
async def test_definitions_that_cannot_be_followed(context: Context, link: Any, status: int, told: str) -> None:
    """A fault of the definition names its place in it."""
    await ask(context, "PUT", "GraphDefinition/g", definition(link))
    answer = await ask(context, "GET", f"Patient/P1/$graph?graph={URL}")
    assert answer.status == status
    assert told in text_of(answer)


async def test_bad_calls(context: Context) -> None:
    """No graph, one that is not known, one that starts elsewhere, an instance that is not there."""
    await ask(context, "PUT", "GraphDefinition/g", definition(LINK))
    assert (await ask(context, "GET", "Patient/P1/$graph")).status == 400
    assert text_of(await ask(context, "GET", "Patient/P1/$graph?graph=http://x/none")) == (
        "The GraphDefinition http://x/none is not known."
    )
    answer = await ask(context, "GET", f"Organization/up/$graph?graph={URL}")
    assert (answer.status, text_of(answer)) == (400, "The graph starts at Patient, not at Organization.")
    assert (await ask(context, "GET", f"Patient/none/$graph?graph={URL}")).status == 404
    assert (await ask(context, "GET", f"$graph?graph={URL}")).status == 400


async def test_versions_references_and_post(context: Context) -> None:
    """A canonical with its version, a reference or an id on this server, Parameters in a POST."""
    await ask(context, "PUT", "GraphDefinition/g", definition(LINK, version="2"))
    for name, status in ((f"{URL}|2", 200), (f"{URL}|3", 404), ("GraphDefinition/g", 200), ("g", 200), ("x", 404)):
        assert (await ask(context, "GET", f"Patient/P1/$graph?graph={name}")).status == status
    body = {"resourceType": "Parameters", "parameter": [{"name": "graph", "valueUri": URL}]}
    answer = await ask(context, "POST", "Patient/P1/$graph", body)
    assert len(told(content(answer))[0]) == 4


async def test_caps(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many resources or searches are refused."""
    await ask(context, "PUT", "GraphDefinition/g", definition(LINK))
    for name in ("MOST", "MOST_SEARCHES"):
        with monkeypatch.context() as patched:
            patched.setattr(f"fhir_server.operations.graph.{name}", 2 if name == "MOST" else 0)
            answer = await ask(context, "GET", f"Patient/P1/$graph?graph={URL}")
            assert (answer.status, content(answer)["issue"][0]["code"]) == (400, "too-costly")


async def test_the_gate(store: Store) -> None:
    """Behind a link there is what the caller may see; the others look like nothing, and the admin sees them."""
    hospital: Hospital = await open_hospital(store)
    links = [
        {"path": "Observation.focus"},
        {"path": "Observation.hasMember"},
        {
            "path": "Observation.subject",
            "target": [
                {
                    "type": "Patient",
                    "link": [
                        {"target": [{"type": "Observation", "params": "patient={ref}"}]},
                        {
                            "path": "Patient.managingOrganization",
                            "target": [
                                {
                                    "type": "Organization",
                                    "link": [{"target": [{"type": "Patient", "params": "organization={ref}"}]}],
                                }
                            ],
                        },
                    ],
                }
            ],
        },
    ]
    await hospital.ask(hospital.admin, "PUT", "GraphDefinition/g", definition(*links, start="Observation"))
    foreign = {"Patient/P2", "Observation/o2"}
    own = {"Observation/mix", "Patient/P1", "Observation/o1", "Observation/v1", "Observation/r1", "Organization/org"}
    url = f"Observation/mix/$graph?graph={URL}"
    for caller, names in ((hospital.admin, own | foreign), (hospital.app(), own)):
        answer = await hospital.ask(caller, "GET", url)
        assert answer.status == 200, answer.body
        assert set(told(parse(answer.body))[0]) == names
    assert (await hospital.ask(hospital.app(), "GET", url.replace("mix", "o2"))).status == 404
    tech = hospital.caller("user/*.cruds", "Lab technician", user="t")
    answer = await hospital.ask(tech, "GET", url)
    assert answer.status == 403 or b"telecom" not in answer.body
    narrow = hospital.app("patient/Observation.rs patient/GraphDefinition.rs")
    answer = await hospital.ask(narrow, "GET", url)
    assert set(told(parse(answer.body))[0]) == {"Observation/mix"}


async def test_a_document_by_a_graph(context: Context) -> None:
    """R4 $document: `graph` says what a document holds beside the Composition's own targets."""
    head = letter("List/l") | {"author": [reference("Organization/up")]}
    assert (await ask(context, "PUT", "Composition/doc", head)).status == 201
    items = {"path": "List.entry.item", "target": [{"type": "Observation"}]}
    link = {"path": "Composition.section.entry", "target": [{"type": "List", "link": [items]}]}
    await ask(context, "PUT", "GraphDefinition/g", definition(link, start="Composition"))
    answer = await ask(context, "GET", f"Composition/doc/$document?graph={URL}")
    names = [row["fullUrl"].removeprefix("http://test/fhir/") for row in content(answer)["entry"]]
    assert names[0] == "Composition/doc"
    assert set(names[1:]) == {"List/l", "Observation/o1", "Observation/o2", "Organization/up", "Patient/P1"}
    await ask(context, "PUT", "GraphDefinition/g", definition(link | {"min": 2}, start="Composition"))
    answer = await ask(context, "GET", f"Composition/doc/$document?graph={URL}")
    assert (answer.status, "at least 2 are expected" in text_of(answer)) == (422, True)
