"""Conditions, conditional references and versions in transactions: what counts is what the transaction leaves."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from profiles.json import encode
from tests.shell import BASE, ask, bundle_of, content, context_on, entry, patient, text_of

pytestmark = pytest.mark.anyio

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
BY_ONE = "identifier=http://h|1"
PATIENT = f"Patient?{BY_ONE}"


def known(value: str = "1", **more: Any) -> dict[str, Any]:
    return patient(identifier=[{"system": "http://h", "value": value}], **more)


def observation(reference: str, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": reference}}
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **subject, **more}


def reader(reference: str) -> dict[str, Any]:
    return entry("POST", "Observation", observation(reference))


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    yield context_on(store)


async def count(context: Context, type: str) -> int:
    return int(content(await ask(context, "GET", f"{type}?_summary=count"))["total"])


async def transact(context: Context, *entries: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources that the entries left."""
    answer = await ask(context, "POST", "", bundle_of("transaction", *entries), prefer="return=representation")
    assert answer.status == 200, answer.body
    return [row.get("resource", {}) for row in content(answer)["entry"]]


async def refused(context: Context, *entries: dict[str, Any]) -> tuple[int, str]:
    before = [await count(context, type) for type in ("Patient", "Observation")]
    answer = await ask(context, "POST", "", bundle_of("transaction", *entries))
    assert [await count(context, type) for type in ("Patient", "Observation")] == before
    return answer.status, text_of(answer)


def subject(resource: dict[str, Any]) -> str:
    return str(resource["subject"]["reference"])


# Identities that overlap


@pytest.mark.parametrize("url", ["Patient/p", PATIENT])
async def test_what_a_create_finds_is_not_deleted_beside_it(context: Context, url: str) -> None:
    """The Observation would refer to a patient who is gone (R4 http.html#trules: resolved identities overlap)."""
    await ask(context, "PUT", "Patient/p", known(id="p"))
    create = entry("POST", "Patient", known(), full_url=URN, ifNoneExist=BY_ONE)
    told = "Bundle.entry[1] finds Patient/p, which Bundle.entry[0] deletes."
    assert await refused(context, entry("DELETE", url), create, reader(URN)) == (400, told)


async def test_what_a_create_finds_may_be_updated_beside_it(context: Context) -> None:
    """Its version is the one that the update makes."""
    await ask(context, "PUT", "Patient/p", known(id="p"))
    create = entry("POST", "Patient", known(), full_url=URN, ifNoneExist=BY_ONE)
    change = entry("PUT", "Patient/p", known(id="p", active=True))
    rows = await transact(context, create, change, reader(f"{URN}/_history/1"))
    assert subject(rows[2]) == "Patient/p/_history/2"


async def test_nothing_to_delete_is_nothing_found(context: Context) -> None:
    """A conditional delete without a match makes nothing that a create with the same criteria could find."""
    create = entry("POST", "Patient", known(), full_url=URN, ifNoneExist=BY_ONE)
    rows = await transact(context, entry("DELETE", PATIENT), create, reader(URN), reader(PATIENT))
    assert {subject(row) for row in rows[2:]} == {f"Patient/{rows[1]['id']}"}


@pytest.mark.parametrize(
    "other", [entry("PUT", PATIENT, known()), entry("POST", "Patient", known(), ifNoneExist=BY_ONE)]
)
async def test_an_update_with_the_criteria_of_another_entry_is_refused(context: Context, other: dict[str, Any]) -> None:
    """Where nothing matches they would make two; where one matches, the create leaves it to the update."""
    change = entry("PUT", PATIENT, known(active=True))
    status, text = await refused(context, change, other)
    assert (status, text.partition(" are ")[2]) == (400, f"about the same resource, {PATIENT}.")
    await ask(context, "PUT", "Patient/p", known(id="p"))
    if other["request"]["method"] == "POST":
        assert (await transact(context, change, other))[0]["id"] == "p"
    else:
        assert await refused(context, change, other) == (400, text.replace(PATIENT, "Patient/p"))


async def test_every_match_of_a_conditional_delete_counts(context: Context) -> None:
    """Not the first alone overlaps with the other entries."""
    for id in "abc":
        await ask(context, "PUT", f"Patient/{id}", known(id=id))
    for id in "abc":
        change = entry("PUT", f"Patient/{id}", known(id=id, active=True))
        told = f"Bundle.entry[1] and Bundle.entry[0] are about the same resource, Patient/{id}."
        assert await refused(context, entry("DELETE", PATIENT), change) == (400, told)


# Conditional references


@pytest.mark.parametrize("row", [entry("POST", "Patient", known()), entry("PUT", "Patient/p", known(id="p"))])
async def test_a_conditional_reference_means_what_is_made_beside_it(context: Context, row: dict[str, Any]) -> None:
    """Conditional references are resolved after the writes (R4 http.html#trules)."""
    rows = await transact(context, reader(PATIENT), row)
    assert subject(rows[0]) == f"Patient/{rows[1]['id']}"


async def test_a_conditional_reference_does_not_mean_what_goes(context: Context) -> None:
    """A patient who is deleted, or has another identifier now, is not found; a second one is one too many."""
    await ask(context, "PUT", "Patient/p", known(id="p"))
    place = "Bundle.entry[1].resource.subject"
    told = f"{place}: the conditional reference {PATIENT} matches"
    for row in (entry("DELETE", "Patient/p"), entry("DELETE", PATIENT), entry("PUT", "Patient/p", known("2", id="p"))):
        assert await refused(context, row, reader(PATIENT)) == (412, f"{told} no resource.")
    second = entry("POST", "Patient", known())
    assert await refused(context, second, reader(PATIENT)) == (412, f"{told} more than one resource.")


async def test_conditional_references_in_a_row(context: Context) -> None:
    """What a conditional reference means may itself wait for one, wherever the entries stand."""
    organization = {"resourceType": "Organization", "identifier": [{"value": "o"}]}
    managed = known(managingOrganization={"reference": "Organization?identifier=o"})
    rows = await transact(
        context, reader(PATIENT), entry("POST", "Patient", managed), entry("POST", "Organization", organization)
    )
    assert subject(rows[0]) == f"Patient/{rows[1]['id']}"
    assert rows[1]["managingOrganization"]["reference"] == f"Organization/{rows[2]['id']}"


async def test_conditional_references_with_the_base(context: Context) -> None:
    """The base of this server before the criteria changes nothing; another server is not asked."""
    await ask(context, "PUT", "Patient/p", known(id="p"))
    rows = await transact(context, reader(f"{BASE}/{PATIENT}"), reader(f"http://elsewhere/fhir/{PATIENT}"))
    assert [subject(row) for row in rows] == ["Patient/p", f"http://elsewhere/fhir/{PATIENT}"]


def json_patch(*values: str) -> dict[str, Any]:
    rows = [{"op": "add", "path": "/performer/-", "value": {"reference": value}} for value in values]
    data = base64.b64encode(encode(rows)).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


async def test_a_patch_brings_conditional_references(context: Context) -> None:
    """As in Parameters, so in a Binary; one that was stored before is nobody's question."""
    stored = observation(f"{PATIENT}5", id="o", performer=[{"display": "x"}])
    assert (await ask(context, "PUT", "Observation/o", stored)).status == 201
    change = entry("PATCH", "Observation/o", json_patch(PATIENT, f"{BASE}/{PATIENT}"))
    told = f"Bundle.entry[0]: the conditional reference {PATIENT} matches no resource."
    assert await refused(context, change) == (412, told)
    rows = await transact(context, change, entry("POST", "Patient", known()))
    name = {"reference": f"Patient/{rows[1]['id']}"}
    assert rows[0]["performer"] == [{"display": "x"}, name, name]
    assert subject(rows[0]) == f"{PATIENT}5"


# Versions


async def test_the_version_of_a_patch_that_changes_nothing(context: Context) -> None:
    """It stays, and with it what refers to it."""
    await ask(context, "PUT", "Patient/p", patient(id="p"))
    nothing = {"resourceType": "Parameters"}
    something = {
        "resourceType": "Binary",
        "contentType": "application/merge-patch+json",
        "data": "eyJhY3RpdmUiOnRydWV9",
    }
    for patch, version in ((nothing, 1), (something, 2)):
        rows = await transact(context, reader(f"{URN}/_history/1"), entry("PATCH", "Patient/p", patch, full_url=URN))
        assert subject(rows[0]) == f"Patient/p/_history/{version}"


async def test_versions_of_each_other(context: Context) -> None:
    """Entries that wait for each other's versions get the ones that they make."""
    for id in "ab":
        await ask(context, "PUT", f"Patient/{id}", patient(id=id))
    rows = []
    for id, other in ("ab", "ba"):
        link = [{"type": "seealso", "other": {"reference": f"urn:uuid:{other}/_history/1"}}]
        rows.append(entry("PUT", f"Patient/{id}", patient(id=id, link=link), full_url=f"urn:uuid:{id}"))
    made = await transact(context, *rows, reader("urn:uuid:a/_history/1"))
    found = [row["link"][0]["other"]["reference"] for row in made[:2]]
    assert [*found, subject(made[2])] == ["Patient/b/_history/2", "Patient/a/_history/2", "Patient/a/_history/2"]
