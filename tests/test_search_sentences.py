"""Single sentences of http://hl7.org/fhir/R4/search.html, each asked over a server as a client would."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from fhir_server.store.find.page import find
from search.clauses import ALWAYS, Clause
from search.query import parse
from tests.shell import BASE, ask, content, context_on

pytestmark = pytest.mark.anyio

COLOURS = "http://example.org/colours"
RED = {"resourceType": "ValueSet", "id": "red", "url": "http://example.org/vs/red", "version": "2", "status": "active"}
RED["compose"] = {"include": [{"system": COLOURS, "concept": [{"code": "crimson"}, {"code": "scarlet"}]}]}


def observation(id_: str, code: str, **more: Any) -> dict[str, Any]:
    concept = {"coding": [{"system": COLOURS, "code": code}]}
    return {"resourceType": "Observation", "id": id_, "status": "final", "code": concept, **more}


@pytest.fixture
async def context(store: Store) -> Context:
    """Two observations of a patient, and a value set that holds the code of one."""
    context = context_on(store)
    who = {"resourceType": "Patient", "id": "p", "name": [{"family": "Ross", "given": ["Ann"]}], "gender": "female"}
    rows = (RED, who, observation("o1", "crimson", subject={"reference": "Patient/p"}), observation("o2", "navy"))
    for row in rows:
        answer = await ask(context, "PUT", f"{row['resourceType']}/{row['id']}", row)
        assert answer.status == 201, answer.body
    return context


async def bundle(context: Context, url: str, **headers: str) -> dict[str, Any]:
    answer = await ask(context, "GET", url, **headers)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = content(answer)
    return found


def matches(found: dict[str, Any]) -> list[str]:
    return [e["resource"]["id"] for e in found.get("entry", ()) if e["search"]["mode"] == "match"]


def outcomes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [i for e in found.get("entry", ()) if e["search"]["mode"] == "outcome" for i in e["resource"]["issue"]]


@pytest.mark.parametrize(
    "named",
    ["http://example.org/vs/red", "http://example.org/vs/red|2", "ValueSet/red", f"{BASE}/ValueSet/red"],
)
async def test_a_value_set_is_named_by_its_place_too(context: Context, named: str) -> None:
    """#token: "If the server can treat the reference as a literal URL, it does, else it tries ... ValueSet.url"."""
    assert matches(await bundle(context, f"Observation?code:in={named}")) == ["o1"]
    assert matches(await bundle(context, f"Observation?code:not-in={named}")) == ["o2"]
    assert matches(await bundle(context, f"Observation?_filter=code in {named}")) == ["o1"]


async def test_a_value_set_that_comes_with_the_server_has_a_place_too(context: Context) -> None:
    """`ValueSet/administrative-gender` can be read, so it can be named."""
    assert matches(await bundle(context, "Patient?gender:in=ValueSet/administrative-gender")) == ["p"]
    answer = await ask(context, "GET", "Patient?gender:in=ValueSet/nowhere")
    assert (answer.status, content(answer)["issue"][0]["expression"]) == (400, ["http.gender:in"])


BLANK = ("Patient?family=ross&given=", "Patient?_sort=&family=ross", "Patient?family=ross&_include=&_type=&birthdate")


@pytest.mark.parametrize("url", BLANK)
async def test_empty_parameters_are_ignored(context: Context, url: str) -> None:
    """#errors: "Empty parameters are not an error - they are just ignored"; here not in silence."""
    found = await bundle(context, url)
    assert matches(found) == ["p"]
    assert found["link"][0]["url"] == f"{BASE}/Patient?family=ross&_count=20"
    assert {i["severity"] for i in outcomes(found)} == {"warning"}
    assert all("has no value" in i["diagnostics"] for i in outcomes(found))


async def test_conditions_with_empty_parameters_are_refused(context: Context) -> None:
    """A condition without its value would hold for every patient."""
    for method, url in (("DELETE", "Patient?family="), ("PUT", "Patient?family=")):
        answer = await ask(context, method, url, {"resourceType": "Patient"} if method == "PUT" else None)
        assert answer.status in (400, 412), answer.body
    assert matches(await bundle(context, "Patient?family=ross")) == ["p"]


async def test_the_narrative_alone_comes_without_includes(context: Context) -> None:
    """#summary: "_include and _revinclude ... cannot be mixed with _summary=text"."""
    for url in ("_summary=text&_include=Observation:subject", "_revinclude=Provenance:target&_summary=text"):
        answer = await ask(context, "GET", f"Observation?{url}")
        assert answer.status == 400
        assert "cannot be mixed" in content(answer)["issue"][0]["diagnostics"]
    found = await bundle(context, "Observation?_summary=text&_include=Observation:subject", prefer="handling=lenient")
    assert [e["search"]["mode"] for e in found["entry"]] == ["match", "match", "outcome"]


async def test_the_first_part_of_a_path_is_an_element(context: Context) -> None:
    """#elements: elements are those at the root; what is asked for deeper comes with the whole of it."""
    for text in ("name", "name.family", "Patient.name.family"):
        found = await bundle(context, f"Patient?_elements={text}")
        assert set(found["entry"][0]["resource"]) == {"resourceType", "id", "meta", "name"}


HOLDER = {
    "resourceType": "Patient",
    "id": "holder",
    "contained": [
        {"resourceType": "Organization", "id": "in", "name": "Inside", "partOf": {"reference": "Organization/whole"}},
        {**observation("oc", "scarlet"), "subject": {"reference": "Patient/p"}},
    ],
    "managingOrganization": {"reference": "#in"},
    "extension": [{"url": "http://example.org/seen", "valueReference": {"reference": "#oc"}}],
}
CONTAINED = (
    ("Organization?partof.name=whole", ["holder"]),
    ("Organization?partof.name=other", []),
    ("Organization?partof:below=whole", ["holder"]),
    ("Observation?code:in=ValueSet/red", ["holder"]),
    ("Observation?code:not-in=ValueSet/red", []),
    ("Observation?patient.family=ross&code=scarlet", ["holder"]),
    ("Observation?patient.family=nobody", []),
    ("Observation?patient._has:Observation:patient:code=crimson", ["holder"]),
)


@pytest.mark.parametrize(("url", "found"), CONTAINED)
async def test_what_others_decide_is_asked_of_contained_resources_too(
    context: Context, url: str, found: list[str]
) -> None:
    """#contained: "return only contained resources" for which the criteria hold: chains, value sets, trees."""
    for row in ({"resourceType": "Organization", "id": "whole", "name": "Whole"}, HOLDER):
        answer = await ask(context, "PUT", f"{row['resourceType']}/{row['id']}", row)
        assert answer.status == 201, answer.body
    assert matches(await bundle(context, f"{url}&_contained=true")) == found
    both = matches(await bundle(context, f"{url}&_contained=both"))
    assert ("holder" in both) is bool(found)
    shown = await bundle(context, f"{url}&_contained=true&_containedType=contained")
    assert matches(shown) == ["oc" if url.startswith("Obs") else "in" for _ in found]


async def included(context: Context, url: str) -> list[tuple[str, str]]:
    """The names and versions of what a search includes."""
    rows = [e["resource"] for e in (await bundle(context, url))["entry"] if e["search"]["mode"] == "include"]
    return [(f"{r['resourceType']}/{r['id']}", r["meta"]["versionId"]) for r in rows]


async def test_the_version_that_a_reference_names_is_included(context: Context) -> None:
    """#versions: "If a resource has a reference that is versioned and _include is performed, the specified version
    SHOULD be provided"; others get the one of today.
    """
    ross = {"resourceType": "Patient", "id": "p", "name": [{"family": "Ross"}], "gender": "female"}
    for family in ("Poe", "Ash"):
        await ask(context, "PUT", "Patient/p", ross | {"name": [{"family": family}]})
    for id_, reference in (
        ("v1", "Patient/p/_history/1"),
        ("v3", f"{BASE}/Patient/p/_history/3"),
        ("v9", "p/_history/9"),
    ):
        subject = {"subject": {"reference": reference if "Patient" in reference else f"Patient/{reference}"}}
        answer = await ask(context, "PUT", f"Observation/{id_}", observation(id_, "ochre", **subject))
        assert answer.status == 201, answer.body
    include = "_include=Observation:subject"
    assert await included(context, f"Observation?_id=v1&{include}") == [("Patient/p", "1")]
    assert await included(context, f"Observation?_id=v3&{include}") == [("Patient/p", "3")]
    assert await included(context, f"Observation?_id=v9&{include}") == [("Patient/p", "3")]
    assert await included(context, f"Observation?_id=o1&{include}") == [("Patient/p", "3")]
    assert await included(context, f"Observation?_id=o1,v1&{include}") == [("Patient/p", "3"), ("Patient/p", "1")]

    for family, version in (("ash", 3), ("ash,ross", 1)):  # of what the caller may see
        seen = {"Patient": parse("Patient", [("family", family)], context.registry).where}
        query = parse("Observation", [("_id", "v1"), ("_include", "Observation:subject")], context.registry)

        def access(kind: str, sought: bool = False, /, seen: dict[str, Clause] = seen) -> Clause:
            return seen.get(kind, ALWAYS)

        found = await find(context.store, query, registry=context.registry, access=access)
        assert [stored.version for stored in found.included] == [version]


def document(id_: str, title: str, subject: str) -> dict[str, Any]:
    """A document whose Composition has no life outside it."""
    inner: dict[str, Any] = {"resourceType": "Composition", "id": "inner", "status": "final", "title": title}
    inner |= {"type": {"coding": [{"system": COLOURS, "code": "ode"}]}, "date": "2020-01-01"}
    inner |= {"author": [{"display": "Poe"}], "subject": {"reference": subject}}
    rows = [{"fullUrl": "urn:uuid:0e2b8d43-5b6a-4d47-9f0c-1d3a5d2c7e11", "resource": inner}]
    about = {"identifier": {"system": "urn:x", "value": id_}, "timestamp": "2020-01-01T00:00:00Z"}
    return {"resourceType": "Bundle", "id": id_, "type": "document", **about, "entry": rows}


INSIDE = (
    ("composition.title=raven", ["d1"]),
    ("composition:Composition.type=ode", ["d1", "d2"]),
    ("composition.type=ode&composition.title=bells", ["d2"]),
    ("composition.subject=Patient/p", ["d1"]),
    ("composition.patient.family=ross", ["d1"]),
    ("composition.type=psalm", []),
    ("composition=inner", ["d1", "d2"]),
    ("_filter=composition.title eq raven", ["d1"]),
)


@pytest.mark.parametrize(("asked", "found"), INSIDE)
async def test_what_a_document_begins_with_can_be_searched(context: Context, asked: str, found: list[str]) -> None:
    """Bundle-composition "provides access to search its contents" (http://hl7.org/fhir/R4/bundle.html#search)."""
    for row in (document("d1", "Raven", "Patient/p"), document("d2", "Bells", "Patient/nobody")):
        answer = await ask(context, "PUT", f"Bundle/{row['id']}", row)
        assert answer.status == 201, answer.body
    assert matches(await bundle(context, f"Bundle?{asked}")) == found
