"""Operations, called directly on a real mongod."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from profiles.validate import check
from tests.shell import ask, bundle_of, constraint, content, context_on, entry, patient, text_of

pytestmark = pytest.mark.anyio

CODE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}


def observation(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": CODE,
        "subject": {"reference": "Patient/p1"},
        **more,
    }


def parameters(**values: Any) -> dict[str, Any]:
    rows = [{"name": name, **value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": rows}


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store)
    await ask(made, "PUT", "Patient/p1", patient(id="p1"))
    yield made


async def test_validate_names_faults_and_stores_nothing(context: Context) -> None:
    """200 whatever is found; resource alone or in Parameters, or the stored one (R4 resource-operation-validate)."""
    bad = {"resourceType": "Patient", "birthDate": "never"}
    for sent in (bad, parameters(resource={"resource": bad}, mode={"valueCode": "create"})):
        answer = await ask(context, "POST", "Patient/$validate", sent)
        assert answer.status == 200
        assert content(answer)["issue"][0]["expression"] == ["Patient.birthDate"]
    fine = await ask(context, "POST", "Patient/$validate", patient())
    assert content(fine)["issue"][0]["severity"] == "information"
    assert content(await ask(context, "GET", "Patient/p1/$validate"))["issue"][0]["severity"] == "information"
    wrong = await ask(context, "POST", "Observation/$validate", patient())
    assert content(wrong)["issue"][0]["severity"] == "error"
    assert content(await ask(context, "GET", "Patient"))["total"] == 1


@pytest.mark.parametrize(
    ("method", "url", "sent", "status", "text"),
    [
        ("POST", "Patient/$validate", {"resourceType": "Parameters"}, 400, "$validate needs the parameter resource."),
        ("GET", "Patient/$validate?mode=maybe", None, 400, "mode=maybe is not one of create, update, delete, profile."),
        (
            "GET",
            "Patient/$validate?x=1",
            None,
            400,
            "$validate has no parameter x; it has resource, mode, profile, tx-resource.",
        ),
        ("GET", "Patient/p1/$meta-add", None, 405, "$meta-add changes things: use POST."),
        ("POST", "$meta-add", parameters(), 400, "$meta-add is not offered here: /[type]/[id]/$meta-add."),
        ("GET", "Observation/$everything", None, 400, None),
        ("GET", "$convert", None, 400, "$convert needs the parameter input."),
    ],
)
async def test_calls_that_do_not_fit(
    context: Context, method: str, url: str, sent: Any, status: int, text: str | None
) -> None:
    """Errors name the parameter, the level or the method."""
    answer = await ask(context, method, url, sent)
    assert answer.status == status
    assert text is None or text_of(answer) == text


async def test_meta_of_a_type_and_of_the_server(context: Context) -> None:
    """What is in use: profiles, labels and tags, each once (R4 resource-operation-meta)."""
    assert content(await ask(context, "GET", "$meta"))["parameter"][0]["valueMeta"] == {}
    long = f"http://p/{'x' * 300}"
    fast = {"system": "http://T", "code": "Fast", "display": "Quick"}
    bare, only = {"code": "fast"}, {"system": "http://T"}
    secret = {"system": "http://s", "code": "R"}
    metas = [
        {"tag": [fast, bare], "profile": [long]},
        {"tag": [fast], "security": [secret]},
        {"profile": ["http://p|2"]},
    ]
    for number, meta in enumerate(metas):
        await ask(context, "PUT", f"Patient/m{number}", patient(id=f"m{number}", meta=meta))
    await ask(context, "POST", "Observation", observation(meta={"tag": [only, fast]}))
    for method, url, tags in (("GET", "Patient/$meta", [fast, bare]), ("POST", "$meta", [fast, only, bare])):
        found = content(await ask(context, method, url))["parameter"]
        assert [row["name"] for row in found] == ["return"]
        shown = found[0]["valueMeta"]
        assert sorted(shown.pop("profile")) == sorted([long, "http://p|2"])
        assert sorted(map(str, shown.pop("tag"))) == sorted(map(str, tags))
        assert shown == {"security": [secret]}
    shown = content(await ask(context, "GET", "Observation/$meta"))["parameter"][0]["valueMeta"]
    assert shown.keys() == {"tag"}
    assert content(await ask(context, "GET", "Account/$meta"))["parameter"][0]["valueMeta"] == {}
    await ask(context, "DELETE", "Patient/m1")
    shown = content(await ask(context, "GET", "$meta"))["parameter"][0]["valueMeta"]
    assert "security" not in shown


async def test_meta(context: Context) -> None:
    """Tags, profiles and labels are added and taken away as a new version; the content stays."""
    tag = {"tag": [{"system": "http://t", "code": "a"}], "profile": ["http://p"]}
    added = await ask(context, "POST", "Patient/p1/$meta-add", parameters(meta={"valueMeta": tag}))
    found = content(added)["parameter"][0]["valueMeta"]
    assert (found["tag"], found["profile"], found["versionId"]) == (tag["tag"], tag["profile"], "2")
    again = await ask(context, "POST", "Patient/p1/$meta-add", parameters(meta={"valueMeta": tag}))
    assert content(again)["parameter"][0]["valueMeta"]["versionId"] == "2"
    assert content(await ask(context, "GET", "Patient?_tag=http://t|a"))["total"] == 1
    await ask(context, "POST", "Patient/p1/$meta-delete", parameters(meta={"valueMeta": {"profile": ["http://p"]}}))
    shown = content(await ask(context, "GET", "Patient/p1/$meta"))["parameter"][0]["valueMeta"]
    assert "profile" not in shown and shown["tag"] == tag["tag"]
    old = content(await ask(context, "GET", "Patient/p1/_history/1/$meta"))["parameter"][0]["valueMeta"]
    assert "tag" not in old


async def test_convert(context: Context) -> None:
    """JSON in, XML out, and back; nothing is stored."""
    xml = await ask(context, "POST", "$convert", patient(id="x"), accept="application/fhir+xml")
    assert xml.body.endswith(b"</Patient>")
    back = await ask(context, "POST", "$convert", xml.body, content_type="application/fhir+xml")
    assert content(back) == patient(id="x")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (5, "Parameters.parameter must be an array."),
        (["x"], "Parameters.parameter[0] must be an object."),
        ([{"name": "expression", "part": 5}], "Parameters.parameter[0].part must be an array."),
        ([{"name": "expression", "part": [{"name": "a", "part": [3]}]}], "part[0].part[0] must be an object."),
    ],
)
async def test_misshapen_parameters_are_named(context: Context, rows: Any, text: str) -> None:
    for url in ("$fhirpath", "Patient/p1/$meta-add", "ValueSet/$expand", "Observation/$lastn", "$convert"):
        answer = await ask(context, "POST", url, {"resourceType": "Parameters", "parameter": rows})
        assert (answer.status, text in text_of(answer)) == (400, True), (url, answer.body)


async def test_diff(context: Context) -> None:
    """The patch between versions turns the older into the newer."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1", active=True))
    answer = content(await ask(context, "GET", "Patient/p1/$diff"))
    assert "active" in str(answer["parameter"])
    await ask(context, "PUT", "Patient/p2", patient(id="p2"))
    other = await ask(context, "GET", "$diff?from=Patient/p1/_history/1&to=Patient/p2")
    assert other.status == 200
    assert (await ask(context, "GET", "Patient/p2/$diff")).status == 404
    assert (await ask(context, "GET", "$diff?from=nonsense&to=Patient/p2")).status == 400


@pytest.fixture
async def chart(context: Context) -> Context:
    rows = [
        entry("PUT", "Patient/p2", patient(id="p2")),
        entry("PUT", "Practitioner/d1", {"resourceType": "Practitioner", "id": "d1"}),
        entry("PUT", "Encounter/e1", encounter("e1", "p1")),
        entry("PUT", "Encounter/e2", encounter("e2", "p2")),
        *(
            entry(
                "PUT",
                f"Observation/o{n}",
                observation(id=f"o{n}", effectiveDateTime=f"202{n}-01-01", encounter={"reference": "Encounter/e1"}),
            )
            for n in range(5)
        ),
        entry("PUT", "Group/g1", group("p1", "p2")),
    ]
    assert (await ask(context, "POST", "", bundle_of("transaction", *rows))).status == 200
    return context


def encounter(id: str, subject: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{subject}"},
        "participant": [{"individual": {"reference": "Practitioner/d1"}}],
        "period": {"start": "2021-01-01", "end": "2021-01-02"},
    }


def group(*members: str) -> dict[str, Any]:
    rows = [{"entity": {"reference": f"Patient/{name}"}} for name in members]
    return {"resourceType": "Group", "id": "g1", "type": "person", "actual": True, "member": rows}


async def names(context: Context, url: str) -> list[str]:
    """The resources of all pages."""
    found: list[str] = []
    following: str | None = url
    while following:
        answer = await ask(context, "GET", following)
        assert answer.status == 200, answer.body
        page = content(answer)
        found += [f"{row['resource']['resourceType']}/{row['resource']['id']}" for row in page.get("entry", ())]
        following = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


OBSERVATIONS = [f"Observation/o{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Patient/p1/$everything", ["Patient/p1", "Practitioner/d1", "Encounter/e1", "Group/g1", *OBSERVATIONS]),
        ("Patient/p1/$everything?_type=Observation,Patient", ["Patient/p1", *OBSERVATIONS]),
        ("Patient/p1/$everything?_type=Observation&start=2021-06-01&end=2023-06-01", OBSERVATIONS[2:4]),
        ("Patient/p1/$everything?_type=Observation&_since=2099-01-01", []),
        ("Encounter/e1/$everything?_type=Encounter,Observation", ["Encounter/e1", *OBSERVATIONS]),
        ("Practitioner/d1/$everything?_type=Encounter", ["Encounter/e1", "Encounter/e2"]),
        (
            "Group/g1/$everything?_type=Patient,Encounter&_count=1",
            ["Patient/p1", "Patient/p2", "Encounter/e1", "Encounter/e2"],
        ),
        ("Patient/$everything?_type=Patient", ["Patient/p1", "Patient/p2"]),
    ],
)
async def test_everything(chart: Context, url: str, expected: list[str]) -> None:
    """The compartment and what it refers to, by type, time of care and time of change (R4 *-operation-everything)."""
    found = await names(chart, url)
    assert sorted(set(found)) == sorted(expected)


async def test_everything_comes_in_pages(chart: Context) -> None:
    """Each match once, however small the pages."""
    found = await names(chart, "Patient/p1/$everything?_type=Observation&_count=2")
    assert sorted(found) == OBSERVATIONS
    found = await names(chart, "Patient/p1/$everything?_count=2")
    inside = [name for name in found if not name.startswith("Practitioner/")]
    assert sorted(inside) == sorted(["Patient/p1", "Encounter/e1", "Group/g1", *OBSERVATIONS])
    assert (await ask(chart, "GET", "Patient/none/$everything")).status == 404
    assert (await ask(chart, "GET", "Patient/p1/$everything?start=soon")).status == 400


async def test_lastn(chart: Context) -> None:
    """The latest of each code (R4 observation-operation-lastn)."""
    other = observation(id="x", code={"text": "other"}, effectiveDateTime="2001-01-01")
    await ask(chart, "PUT", "Observation/x", other)
    assert await names(chart, "Observation/$lastn?patient=p1") == ["Observation/o4", "Observation/x"]
    assert await names(chart, "Observation/$lastn?patient=p1&max=2&code=8867-4") == ["Observation/o4", "Observation/o3"]
    assert (await ask(chart, "GET", "Observation/$lastn")).status == 400
    assert (await ask(chart, "GET", "Observation/$lastn?patient=p1&max=x")).status == 400


async def test_document(chart: Context) -> None:
    """The Composition first, then everything it leads to; kept on request."""
    composition = {
        "resourceType": "Composition",
        "id": "c1",
        "status": "final",
        "type": {"text": "note"},
        "subject": {"reference": "Patient/p1"},
        "date": "2021-01-01",
        "author": [{"reference": "Practitioner/d1"}],
        "title": "Note",
        "section": [{"entry": [{"reference": "Observation/o1"}, {"reference": "Observation/none"}]}],
    }
    await ask(chart, "PUT", "Composition/c1", composition)
    made = content(await ask(chart, "GET", "Composition/c1/$document"))
    names = [f"{row['resource']['resourceType']}/{row['resource']['id']}" for row in made["entry"]]
    assert names[0] == "Composition/c1"
    assert sorted(names[1:]) == ["Encounter/e1", "Observation/o1", "Patient/p1", "Practitioner/d1"]
    assert check(made) == []
    kept = content(await ask(chart, "GET", "Composition/c1/$document?persist=true"))
    assert (await ask(chart, "GET", f"Bundle/{kept['id']}")).status == 200


PROFILE = constraint("http://p/named", {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1})


async def test_profiles_are_checked(context: Context) -> None:
    """When they are asked for, claimed or required; a claim of what is not installed is no fault."""
    claim = patient(id="p7", meta={"profile": ["http://p/named"]})
    assert (await ask(context, "PUT", "Patient/p7", claim)).status == 201
    assert (await ask(context, "PUT", "StructureDefinition/named", PROFILE)).status == 201
    asked = parameters(resource={"resource": patient()}, profile={"valueUri": "http://p/named"})
    found = content(await ask(context, "POST", "Patient/$validate", asked))["issue"]
    assert any("birthDate" in issue["diagnostics"] and issue["severity"] == "error" for issue in found)
    other = context_on(context.store, required_profiles={"Patient": ("http://p/named",)})  # type: ignore[arg-type]
    assert (await ask(other, "POST", "Patient", patient())).status == 422
    assert (await ask(other, "POST", "Patient", patient(birthDate="1987"))).status == 201
    assert (await ask(context, "PUT", "Patient/p7", {**claim, "active": True})).status == 422
    sent = bundle_of("transaction", entry("POST", "Patient", patient(meta={"profile": ["http://p/named"]})))
    assert (await ask(context, "POST", "", sent)).status == 422
    data = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    assert (
        await ask(context, "POST", "", bundle_of("transaction", entry("PATCH", "Patient/p7", binary)))
    ).status == 422


async def test_stats(chart: Context) -> None:
    """Mean, median and the rest over the values of a code (R4 observation-operation-stats)."""
    for number, value in enumerate((60, 70, 80, 90)):
        quantity = {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        row = observation(id=f"v{number}", valueQuantity=quantity, effectiveDateTime=f"2024-01-0{number + 1}")
        await ask(chart, "PUT", f"Observation/v{number}", row)
    names = ("average", "median", "minimum", "maximum", "count", "std-dev", "total-count")
    url = "Observation/$stats?subject=Patient/p1&code=8867-4&system=http://loinc.org&period=x"
    assert (await ask(chart, "GET", url)).status == 400
    asked = "&".join(f"statistic={name}" for name in names)
    found = content(await ask(chart, "GET", f"Observation/$stats?subject=Patient/p1&code=8867-4&{asked}"))
    made = found["parameter"][0]["resource"]
    assert check(made) == []
    values = [float(row["valueQuantity"]["value"]) for row in made["component"]]
    assert values == [75, 75, 60, 90, 4, 12.90994449, 9]
    assert made["component"][0]["valueQuantity"]["code"] == "/min"
    assert (await ask(chart, "GET", "Observation/$stats?subject=Patient/p1&code=x&statistic=nonsense")).status == 400
    assert (await ask(chart, "GET", "Observation/$stats?code=x&statistic=count")).status == 400


async def test_snapshot(context: Context) -> None:
    """The differential laid over the base, for what is sent, stored or named."""
    sent = content(await ask(context, "POST", "StructureDefinition/$snapshot", PROFILE))
    elements = {row["id"]: row for row in sent["snapshot"]["element"]}
    assert elements["Patient.birthDate"]["min"] == 1
    assert "Patient.name" in elements
    official = "http://hl7.org/fhir/StructureDefinition/Patient"
    assert (await ask(context, "GET", f"StructureDefinition/$snapshot?url={official}")).status == 200
    assert (await ask(context, "GET", "StructureDefinition/$snapshot?url=http://none")).status == 404


async def test_expunge(context: Context) -> None:
    """What is erased is as if it had never been; the current version stays unless it is deleted."""
    for year in range(2000, 2004):
        await ask(context, "PUT", "Patient/p1", patient(id="p1", birthDate=str(year)))
    assert (await ask(context, "POST", "Patient/p1/$expunge", parameters())).status == 400
    asked = parameters(expungePreviousVersions={"valueBoolean": True})
    done = content(await ask(context, "POST", "Patient/p1/$expunge", asked))
    assert done["parameter"] == [{"name": "count", "valueInteger": 4}]
    assert (await ask(context, "GET", "Patient/p1/_history/2")).status == 404
    assert (await ask(context, "GET", "Patient/p1")).headers["ETag"] == 'W/"5"'
    deleted = parameters(expungeDeletedResources={"valueBoolean": True})
    await ask(context, "POST", "Patient/p1/$expunge", deleted)
    assert (await ask(context, "GET", "Patient/p1")).status == 200
    await ask(context, "DELETE", "Patient/p1")
    await ask(context, "POST", "Patient/p1/$expunge", deleted)
    assert (await ask(context, "GET", "Patient/p1")).status == 404
    assert (await ask(context, "PUT", "Patient/p1", patient(id="p1"))).headers["ETag"] == 'W/"1"'
    assert (await ask(context, "GET", "Patient/p1/$expunge?expungeEverything=true")).status == 405
