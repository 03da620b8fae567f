"""Definitions that come with the server are read, found and operated on like stored ones."""

from __future__ import annotations

import pytest

from fhir_server.context import Context
from tests.shell import ask, content

pytestmark = pytest.mark.anyio

GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("ValueSet/administrative-gender", GENDER),
        ("CodeSystem/v3-ActCode", "http://terminology.hl7.org/CodeSystem/v3-ActCode"),
        ("CodeSystem/icd-10-cm", "http://hl7.org/fhir/sid/icd-10-cm"),
        ("CodeSystem/ucum", "http://unitsofmeasure.org"),
        ("ConceptMap/gem-icd10cm-icd9cm", "http://hl7.org/fhir/sid/ConceptMap/GemIcd10CmToIcd9Cm"),
        ("ConceptMap/101", "http://hl7.org/fhir/ConceptMap/101"),
        ("StructureDefinition/Patient", "http://hl7.org/fhir/StructureDefinition/Patient"),
        ("SearchParameter/individual-birthdate", "http://hl7.org/fhir/SearchParameter/individual-birthdate"),
        ("OperationDefinition/ValueSet-expand", "http://hl7.org/fhir/OperationDefinition/ValueSet-expand"),
    ],
)
async def test_shipped_definitions_are_read_and_found(context: Context, name: str, url: str) -> None:
    """By id and by canonical url."""
    answer = await ask(context, "GET", name)
    assert answer.status == 200, answer.body
    assert f"{content(answer)['resourceType']}/{content(answer)['id']}" == name
    assert content(answer)["url"] == url
    kind = name.partition("/")[0]
    found = content(await ask(context, "GET", f"{kind}?url={url}"))
    assert found["total"] == len(found["entry"]) == 1
    assert found["entry"][0]["resource"] == content(answer)
    assert content(await ask(context, "GET", f"{kind}?url={url}&status=unknown"))["total"] == 0
    assert content(await ask(context, "GET", f"{kind}?_id={name.partition('/')[2]}&_summary=count"))["total"] == 1


async def test_what_is_stored_goes_before_what_is_shipped(context: Context) -> None:
    """Under the same id; after a delete it is gone."""
    own = {"resourceType": "ValueSet", "id": "administrative-gender", "url": GENDER, "status": "draft"}
    assert (await ask(context, "PUT", "ValueSet/administrative-gender", own)).status == 201
    assert content(await ask(context, "GET", "ValueSet/administrative-gender"))["status"] == "draft"
    assert content(await ask(context, "GET", f"ValueSet?url={GENDER}"))["total"] == 1
    await ask(context, "DELETE", "ValueSet/administrative-gender")
    assert (await ask(context, "GET", "ValueSet/administrative-gender")).status == 410


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("ValueSet/administrative-gender/$expand", b'"male"'),
        ("CodeSystem/icd-10-cm/$validate-code?code=E11.65", b"true"),
        ("CodeSystem/icd-10-cm/$subsumes?codeA=E11&codeB=E11.65", b'"subsumes"'),
        ("CodeSystem/ucum/$validate-code?code=mg", b"true"),
        ("ConceptMap/gem-icd10cm-icd9cm/$translate?code=E11.65&system=http://hl7.org/fhir/sid/icd-10-cm", b"250.80"),
    ],
)
async def test_shipped_definitions_take_operations(context: Context, call: str, text: bytes) -> None:
    """On the instance (http://hl7.org/fhir/R4/operations.html)."""
    answer = await ask(context, "GET", call)
    assert answer.status == 200, answer.body
    assert text in answer.body


@pytest.mark.parametrize("name", ["CodeSystem/icd-10-cm", "StructureDefinition/Patient"])
async def test_the_meta_of_what_is_shipped_stays(context: Context, name: str) -> None:
    """It is not stored, so nothing can be changed; the answer says so."""
    tag = {"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}
    answer = await ask(context, "POST", f"{name}/$meta-add", {"resourceType": "Parameters", "parameter": [tag]})
    assert answer.status == 405
    assert "not stored here" in content(answer)["issue"][0]["diagnostics"]


async def test_shipped_definitions_among_ranked_ones(context: Context) -> None:
    """They have a score like those that are stored, and are no entries of a count."""
    own = {"resourceType": "ValueSet", "id": "mine", "status": "draft", "title": "gender of mine"}
    assert (await ask(context, "PUT", "ValueSet/mine", own)).status == 201
    url = "ValueSet?_id=administrative-gender,mine"
    answer = await ask(context, "GET", f"{url}&_content=gender&_sort=_score")
    assert answer.status == 200, answer.body
    assert {row["resource"]["id"] for row in content(answer)["entry"]} == {"mine", "administrative-gender"}
    assert all(0 < row["search"]["score"] <= 1 for row in content(answer)["entry"])
    assert "entry" not in content(await ask(context, "GET", f"{url}&_summary=count"))
