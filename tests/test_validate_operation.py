"""$validate: modes, profiles, places, and that nothing is stored (http://hl7.org/fhir/R4/resource-operation-validate.html)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from profiles.json import encode
from tests.shell import ask, constraint, content, context_on, patient, text_of

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
XML = "application/fhir+xml"
NAMED = "http://p/named"
PROFILE: Json = constraint(NAMED, {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1})


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store)
    await ask(made, "PUT", "Patient/p1", patient(id="p1"))
    await ask(made, "PUT", "StructureDefinition/named", PROFILE)
    yield made


def call(**values: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": [{"name": name, **value} for name, value in values.items()]}


async def issues(context: Context, method: str, url: str, sent: Any = None, **headers: str) -> list[Json]:
    """The issues of a check that was carried out."""
    answer = await ask(context, method, url, sent, **headers)
    assert answer.status == 200, answer.body
    found: list[Json] = content(answer)["issue"]
    return found


def errors(found: list[Json]) -> list[str]:
    return [row["diagnostics"] for row in found if row["severity"] in ("error", "fatal")]


async def test_json_has_line_and_column(context: Context) -> None:
    """Of what was sent: of the resource, or of the Parameters around it; what is missing stands at its parent."""
    raw = b'{"resourceType": "Patient",\n "gender": "mail",\n "link": [{"type": "refer"}]}'
    found = await issues(context, "POST", "Patient/$validate", raw)
    assert [(row["expression"], row["location"]) for row in found] == [
        (["Patient.gender"], ["line 2, column 12"]),
        (["Patient.link[0].other"], ["line 3, column 11"]),
    ]
    around = b'{"resourceType": "Parameters", "parameter": [\n{"name": "resource", "resource":\n' + raw + b"}]}"
    found = await issues(context, "POST", "Patient/$validate", around)
    assert [row["location"] for row in found] == [["line 4, column 12"], ["line 5, column 11"]]
    assert found[0]["expression"] == ["Patient.gender"]


async def test_xml_has_line_and_column(context: Context) -> None:
    """Every fault of the text and of the content in one answer (R4 xml.html)."""
    raw = b"""<Patient xmlns="http://hl7.org/fhir">
  <active value="maybe"/>
  <nme value="x"/>
  <birthDate value="2020"/>
  <gender value="mail" lang="en"/>
</Patient>"""
    found = await issues(context, "POST", "Patient/$validate", raw, content_type=XML)
    assert {(row["expression"][0], row["location"][0].partition(",")[0]) for row in found} == {
        ("Patient.active", "line 2"),
        ("Patient.nme", "line 3"),
        ("Patient.gender", "line 5"),
    }
    told = errors(found)
    for text in ("has no element nme", "is out of order", "no attribute lang", "'mail' is not one of", "true or false"):
        assert any(text in each for each in told), text
    around = b'<Parameters xmlns="http://hl7.org/fhir">\n<parameter><name value="resource"/><resource>\n'
    around += raw.replace(b' xmlns="http://hl7.org/fhir"', b"") + b"</resource></parameter></Parameters>"
    found = await issues(context, "POST", "Patient/$validate", around, content_type=XML)
    assert ("Patient.nme", "line 5, column 1") in {(row["expression"][0], row["location"][0]) for row in found}


async def test_a_text_that_cannot_be_read_is_a_broken_request(context: Context) -> None:
    """400 with the place, for JSON and XML."""
    for raw, type in ((b'{"resourceType": "Patient",\n "active": tru}', "application/fhir+json"), (b"<Patient", XML)):
        answer = await ask(context, "POST", "Patient/$validate", raw, content_type=type)
        assert answer.status == 400
        assert content(answer)["issue"][0]["location"]


async def test_modes(context: Context) -> None:
    """A write needs what is required here, an update its id, a delete an instance, a profile its name."""
    asked = "Patient/$validate?mode="
    strict = context_on(context.store, required_profiles={"Patient": (NAMED,)})
    assert any("birthDate" in text for text in errors(await issues(strict, "POST", asked + "create", patient())))
    assert errors(await issues(strict, "POST", "Patient/$validate", patient())) == []
    assert errors(await issues(context, "POST", asked + "create", patient())) == []
    assert errors(await issues(context, "POST", asked + "update", patient())) == ["Patient: an update needs an id."]
    wrong = await issues(context, "POST", "Patient/p1/$validate?mode=update", patient(id="p2"))
    assert errors(wrong) == ["Patient.id: the id must be p1, as in the URL."]
    assert errors(await issues(context, "POST", "Patient/p1/$validate?mode=update", patient(id="p1"))) == []
    assert errors(await issues(context, "GET", "Patient/p1/$validate?mode=delete")) == []
    by_profile = await issues(context, "GET", f"Patient/p1/$validate?mode=profile&profile={NAMED}")
    assert any("birthDate" in text for text in errors(by_profile))
    named = call(mode={"valueCode": "profile"}, profile={"valueUri": NAMED})
    assert await issues(context, "POST", "Patient/p1/$validate", named) == by_profile


async def test_a_delete_that_would_be_refused(context: Context) -> None:
    """With referential integrity what is referred to stays; asking deletes nothing."""
    careful = context_on(context.store, referential_integrity=True)
    await ask(context, "PUT", "Observation/o1", observation())
    found = await issues(careful, "GET", "Patient/p1/$validate?mode=delete")
    assert errors(found) == ["Patient/p1 is still referred to by other resources."]
    await ask(context, "DELETE", "Observation/o1")
    assert errors(await issues(careful, "GET", "Patient/p1/$validate?mode=delete")) == []
    assert (await ask(context, "GET", "Patient/p1")).status == 200


def observation() -> Json:
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    subject = {"reference": "Patient/p1"}
    return {"resourceType": "Observation", "id": "o1", "status": "final", "code": code, "subject": subject}


@pytest.mark.parametrize(
    ("method", "url", "sent", "status", "parameter"),
    [
        ("POST", "Patient/$validate", call(mode={"valueCode": "maybe"}), 400, "mode"),
        ("GET", "Patient/$validate?mode=delete", None, 400, "mode"),
        ("GET", "Patient/p1/$validate?mode=profile", None, 400, "profile"),
        ("GET", "Patient/$validate", None, 400, "resource"),
        ("POST", "Patient/$validate", call(profle={"valueUri": NAMED}), 400, "profle"),
        ("POST", "Patient/$validate", call(profile={"valueInteger": 1}), 400, "Parameters.parameter[0]"),
        ("GET", "Patient/none/$validate", None, 404, None),
    ],
)
async def test_a_broken_request_is_told_its_parameter(
    context: Context, method: str, url: str, sent: Any, status: int, parameter: str | None
) -> None:
    """4xx only where nothing could be checked."""
    answer = await ask(context, method, url, sent)
    assert answer.status == status
    assert content(answer)["issue"][0].get("expression", [None]) == [parameter]


async def test_parameters_are_content_too(context: Context) -> None:
    """`Parameters/$validate` checks any Parameters but those that are its own."""
    other: Json = call(one={"valueString": ""})
    found = await issues(context, "POST", "Parameters/$validate", other)
    assert [row["expression"] for row in found] == [["Parameters.parameter[0].value"]]
    inside = call(resource={"resource": other})
    found = await issues(context, "POST", "Parameters/$validate", inside)
    assert [row["expression"] for row in found] == [["Parameters.parameter[0].value"]]


async def test_a_profile_that_is_not_known(context: Context) -> None:
    """The check cannot be done, and the answer says so as an error."""
    found = await issues(context, "POST", "Patient/$validate?profile=http://none", patient())
    assert errors(found) == ["Patient: the profile http://none is not known"]
    claimed = await issues(context, "POST", "Patient/$validate", patient(meta={"profile": ["http://none"]}))
    assert [row["severity"] for row in claimed] == ["warning"]


async def test_the_terminology_is_asked(context: Context) -> None:
    """Required bindings are errors, extensible ones warnings; unknown codes of a known system, wrong displays."""
    system = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
    other = {"coding": [{"system": "urn:mine", "code": "x"}]}
    found = await issues(context, "POST", "Patient/$validate", patient(maritalStatus=other))
    assert [(row["severity"], row["expression"]) for row in found] == [("warning", ["Patient.maritalStatus"])]
    unknown = {"coding": [{"system": system, "code": "MMM"}]}
    found = await issues(context, "POST", "Patient/$validate", patient(maritalStatus=unknown))
    assert any("MMM" in text for text in errors(found))
    shown = {"coding": [{"system": system, "code": "M", "display": "Merry"}]}
    found = await issues(context, "POST", "Patient/$validate", patient(maritalStatus=shown))
    assert [(row["severity"], row["expression"]) for row in found] == [("warning", ["Patient.maritalStatus.coding[0]"])]
    assert await issues(context, "POST", "Patient/$validate", patient(maritalStatus={"text": "so so"})) == [FINE]
    photo = [{"contentType": "no type", "url": "http://x.org/p"}]
    assert errors(await issues(context, "POST", "Patient/$validate", patient(photo=photo)))


FINE = {
    "severity": "information",
    "code": "informational",
    "details": {"text": "No faults were found."},
    "diagnostics": "No faults were found.",
}


async def test_nothing_is_stored(context: Context) -> None:
    """Neither the resource nor a version of the instance."""
    await issues(context, "POST", "Patient/$validate", patient(active=True))
    await issues(context, "POST", "Patient/p1/$validate?mode=update", patient(id="p1", active=True))
    assert content(await ask(context, "GET", "Patient"))["total"] == 1
    assert content(await ask(context, "GET", "Patient/p1"))["meta"]["versionId"] == "1"


async def test_a_write_has_line_and_column(context: Context) -> None:
    """A refused write says where in the text it was wrong."""
    answer = await ask(context, "POST", "Patient", b'{"resourceType": "Patient",\n  "gender": "mail"}')
    assert (answer.status, content(answer)["issue"][0]["location"]) == (422, ["line 2, column 13"])
    assert "mail" in text_of(answer)


async def test_many_references_are_looked_up_together(context: Context) -> None:
    """Targets, definitions and value sets of a bundle are found in a few rounds."""
    rows = [{**observation(), "id": f"o{n}", "subject": {"reference": f"Patient/q{n}"}} for n in range(300)]
    entries = [{"fullUrl": f"http://x.org/Observation/{row['id']}", "resource": row} for row in rows]
    sent = encode({"resourceType": "Bundle", "type": "collection", "entry": entries})
    found = await asyncio.wait_for(issues(context, "POST", "Bundle/$validate", sent), 20)
    assert errors(found) == []


async def test_what_cannot_be_read_is_told_with_its_place(context: Context) -> None:
    """The expression is that of the last element that began before the fault."""
    for raw, type, place in (
        (b'// a comment\n{"resourceType": "Patient"}', "application/fhir+json", "Patient"),
        (
            b'{"resourceType": "Patient",\n "name": [{"given": ["x",,]}]}',
            "application/fhir+json",
            "Patient.name[0].given[0]",
        ),
        (
            b'<Patient xmlns="http://hl7.org/fhir">\n<name>\n<given value="x"/></nam></Patient>',
            XML,
            "Patient.name[0].given[0]",
        ),
    ):
        answer = await ask(context, "POST", "Patient/$validate", raw, content_type=type)
        assert content(answer)["issue"][0]["expression"] == [place]
