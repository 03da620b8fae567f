"""Batches and transactions on a real mongod."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_server.context import Context
from fhir_server.store import Store
from profiles.json import encode
from tests.shell import BASE, ask, bundle_of, content, context_on, entry, patient, text_of

pytestmark = pytest.mark.anyio

OBSERVATION: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
MRN = {"identifier": [{"system": "http://h", "value": "1"}]}
URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"


def observation(reference: str) -> dict[str, Any]:
    return OBSERVATION | {"subject": {"reference": reference}}


async def total(context: Context, url: str) -> int:
    return int(content(await ask(context, "GET", url))["total"])


async def transact(context: Context, *entries: dict[str, Any], **headers: str) -> Any:
    answer = await ask(context, "POST", "", bundle_of("transaction", *entries), **headers)
    assert answer.status == 200, answer.body
    return content(answer)["entry"]


async def test_a_transaction_answers_in_the_order_sent(context: Context) -> None:
    """DELETE, POST, PUT, GET run in that order, whatever the order they were sent in (R4 http.html#trules)."""
    await ask(context, "PUT", "Patient/old", patient(id="old"))
    rows = await transact(
        context,
        entry("GET", "Patient?family=shaw"),
        entry("GET", "Patient/new"),
        entry("PUT", "Patient/new", patient(id="new")),
        entry("POST", "Patient", patient()),
        entry("DELETE", "Patient/old"),
    )
    assert [row["response"]["status"] for row in rows] == [
        "200 OK",
        "200 OK",
        "201 Created",
        "201 Created",
        "204 No Content",
    ]
    assert rows[0]["resource"]["total"] == 2
    assert rows[1]["resource"]["id"] == "new"
    assert rows[2]["response"]["location"] == f"{BASE}/Patient/new/_history/1"
    assert rows[2]["response"]["etag"] == 'W/"1"'
    assert rows[3]["response"]["lastModified"].endswith("Z")
    assert "resource" not in rows[3]


async def test_prefer_holds_for_the_entries(context: Context) -> None:
    """return=representation brings the resources, return=OperationOutcome the outcomes."""
    rows = await transact(context, entry("POST", "Patient", patient()), prefer="return=representation")
    assert rows[0]["resource"]["name"] == [{"family": "Shaw"}]
    rows = await transact(context, entry("POST", "Patient", patient()), prefer="return=OperationOutcome")
    assert rows[0]["response"]["outcome"]["resourceType"] == "OperationOutcome"


async def test_references_are_rewritten_everywhere(context: Context) -> None:
    """References, uri and url, narrative links; an identifier's value stays (R4 http.html#transaction)."""
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": URN},
        "subject": {"reference": URN},
        "content": [{"attachment": {"url": URN, "title": URN}}],
        "extension": [{"url": "http://x", "valueUri": URN}, {"url": "http://y", "valueString": URN}],
        "contained": [{"resourceType": "Observation", "id": "o", **OBSERVATION, "subject": {"reference": URN}}],
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{URN}">x</a> {URN}</div>',
        },
    }
    rows = await transact(
        context, entry("POST", "DocumentReference", document), entry("POST", "Patient", patient(), full_url=URN)
    )
    name = "/".join(rows[1]["response"]["location"].split("/")[-4:-2])
    stored = content(await ask(context, "GET", "DocumentReference"))["entry"][0]["resource"]
    assert stored["subject"]["reference"] == name
    assert stored["content"][0]["attachment"] == {"url": name, "title": URN}
    assert stored["extension"] == [{"url": "http://x", "valueUri": name}, {"url": "http://y", "valueString": URN}]
    assert stored["contained"][0]["subject"]["reference"] == name
    assert stored["masterIdentifier"]["value"] == URN
    assert f'href="{name}">x</a> {URN}' in stored["text"]["div"]


async def test_relative_absolute_and_versioned_references(context: Context) -> None:
    """An id in a RESTful fullUrl is as good a name as a UUID; fragments and versions stay behind it."""
    full_url = "http://elsewhere/fhir/Patient/77"
    rows = await transact(
        context,
        entry("POST", "Patient", patient(), full_url=full_url),
        entry("POST", "Observation", observation("Patient/77")),
        entry("POST", "Observation", observation(full_url)),
        entry("POST", "Observation", observation("Patient/77/_history/3")),
        entry("POST", "Observation", observation("Patient/78")),
        prefer="return=representation",
    )
    name = f"Patient/{rows[0]['resource']['id']}"
    found = [row["resource"]["subject"]["reference"] for row in rows[1:]]
    assert found == [name, name, f"{name}/_history/1", "Patient/78"]


SUBJECT = "Bundle.entry[0].resource.subject"


async def test_conditional_references_are_resolved(context: Context) -> None:
    """Patient?identifier=... becomes the one match; none or several refuse the transaction."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1", **MRN))
    sent = observation("Patient?identifier=http://h|1")
    rows = await transact(context, entry("POST", "Observation", sent), prefer="return=representation")
    assert rows[0]["resource"]["subject"]["reference"] == "Patient/p1"
    none = bundle_of("transaction", entry("POST", "Observation", observation("Patient?identifier=http://h|2")))
    answer = await ask(context, "POST", "", none)
    assert (answer.status, text_of(answer)) == (
        412,
        f"{SUBJECT}: the conditional reference Patient?identifier=http://h|2 matches no resource.",
    )
    await ask(context, "POST", "Patient", patient(**MRN))
    answer = await ask(context, "POST", "", bundle_of("transaction", entry("POST", "Observation", sent)))
    assert answer.status == 412


async def test_conditional_entries(context: Context) -> None:
    """Conditional create, update and delete in a transaction; references follow the match."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1", **MRN))
    await ask(context, "PUT", "Patient/p3", patient(id="p3", gender="other"))
    rows = await transact(
        context,
        entry("POST", "Patient", patient(**MRN), full_url=URN, ifNoneExist="identifier=http://h|1"),
        entry("POST", "Observation", observation(URN)),
        entry("PUT", "Patient?identifier=http://h|2", patient(id="p2"), full_url="urn:uuid:2"),
        entry("POST", "Observation", observation("urn:uuid:2")),
        entry("DELETE", "Patient?gender=other"),
        prefer="return=representation",
    )
    assert [row["response"]["status"][:3] for row in rows] == ["200", "201", "201", "201", "204"]
    assert rows[1]["resource"]["subject"]["reference"] == "Patient/p1"
    assert rows[3]["resource"]["subject"]["reference"] == "Patient/p2"
    assert (await ask(context, "GET", "Patient/p3")).status == 410


async def test_criteria_in_the_url_of_a_create_count_in_a_transaction(context: Context) -> None:
    """What refers to the entry refers to the resource that was found, and to nothing that was never made."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1", **MRN))
    rows = await transact(
        context,
        entry("POST", "Patient?identifier=http://h|1", patient(**MRN), full_url=URN),
        entry("POST", "Observation", observation(URN)),
        prefer="return=representation",
    )
    assert [row["response"]["status"][:3] for row in rows] == ["200", "201"]
    assert rows[1]["resource"]["subject"]["reference"] == "Patient/p1"


async def test_the_same_conditional_create_twice_makes_one(context: Context) -> None:
    """The second entry finds what the first one made."""
    create = {"resource": patient(**MRN), "ifNoneExist": "identifier=http://h|1"}
    rows = await transact(
        context,
        entry("POST", "Patient", create["resource"], full_url="urn:uuid:1", ifNoneExist="identifier=http://h|1"),
        entry("POST", "Patient", create["resource"], full_url="urn:uuid:2", ifNoneExist="identifier=http://h|1"),
        entry("POST", "Observation", observation("urn:uuid:2")),
        prefer="return=representation",
    )
    assert [row["response"]["status"][:3] for row in rows] == ["201", "200", "201"]
    assert rows[2]["resource"]["subject"]["reference"] == f"Patient/{rows[0]['resource']['id']}"
    assert await total(context, "Patient") == 1


@pytest.mark.parametrize("type", ["transaction", "batch"])
async def test_of_parallel_conditional_creates_in_bundles_one_creates(context: Context, type: str) -> None:
    """Exactly once of 50 parallel bundles (docs/security.md)."""
    sent = bundle_of(type, entry("POST", "Patient", patient(**MRN), ifNoneExist="identifier=http://h|1"))
    answers = await asyncio.gather(*(ask(context, "POST", "", sent) for _ in range(50)))
    statuses = Counter(content(answer)["entry"][0]["response"]["status"][:3] for answer in answers)
    assert statuses == {"201": 1, "200": 49}


@pytest.mark.parametrize(
    ("entries", "status", "text"),
    [
        (
            [entry("PUT", "Patient/a", patient(id="a")), entry("DELETE", "Patient/a")],
            400,
            "Bundle.entry[1] and Bundle.entry[0] are about the same resource, Patient/a.",
        ),
        (
            [entry("POST", "Patient", patient(), full_url=URN), entry("POST", "Patient", patient(), full_url=URN)],
            400,
            f"Bundle.entry[1] and Bundle.entry[0] are about the same resource, {URN}.",
        ),
        ([{"resource": patient()}], 400, "Bundle.entry[0] has no request."),
        ([entry("FETCH", "Patient")], 400, "Bundle.entry[0]: 'FETCH' is no HTTP verb."),
        (
            [entry("GET", "http://evil/fhir/Patient/1")],
            400,
            "Bundle.entry[0]: http://evil/fhir/Patient/1 is not on this server.",
        ),
        ([entry("GET", "Patient/../x")], 400, "Bundle.entry[0]: Patient/../x is no URL of this server."),
        ([entry("PUT", "Patient/a")], 400, "Bundle.entry[0]: PUT needs a resource."),
        ([entry("POST", "Patient")], 400, "Bundle.entry[0]: POST needs a resource."),
        (
            [entry("POST", "Patient", OBSERVATION)],
            400,
            "Bundle.entry[0]: The body is of type Observation, and the URL of type Patient.",
        ),
        ([entry("GET", "Patient/none")], 404, "Bundle.entry[0]: Patient/none is not known."),
    ],
)
async def test_a_broken_transaction_names_the_entry(
    context: Context, entries: list[dict[str, Any]], status: int, text: str
) -> None:
    """The error says which entry, and nothing of the Bundle is stored."""
    sent = bundle_of("transaction", *entries, entry("POST", "Patient", patient()))
    answer = await ask(context, "POST", "", sent)
    assert (answer.status, text_of(answer)) == (status, text)
    assert await total(context, "Patient") == 0


async def test_every_fault_of_a_transaction_is_named(context: Context) -> None:
    """All resources are checked before anything is written."""
    sent = bundle_of(
        "transaction",
        entry("POST", "Patient", patient()),
        entry("POST", "Patient", patient(birthDate="never")),
        entry("POST", "Observation", {"resourceType": "Observation"}),
    )
    answer = await ask(context, "POST", "", sent)
    assert answer.status in (400, 422)
    places = {place for issue in content(answer)["issue"] for place in issue["expression"]}
    assert {"Bundle.entry[1].resource.birthDate", "Bundle.entry[2].resource.status"} <= places
    assert await total(context, "Patient") == 0


async def test_overlapping_conditional_identities_are_refused(context: Context) -> None:
    """A named and a conditional update of the same resource collide (R4 http.html#trules)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1", **MRN))
    sent = bundle_of(
        "transaction",
        entry("PUT", "Patient/p1", patient(id="p1", active=True)),
        entry("PUT", "Patient?identifier=http://h|1", patient(**MRN)),
    )
    answer = await ask(context, "POST", "", sent)
    assert answer.status == 400
    assert (await ask(context, "GET", "Patient/p1")).headers["ETag"] == 'W/"1"'


async def test_if_match_holds_for_entries(context: Context) -> None:
    """A stale ifMatch refuses the whole transaction."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    sent = bundle_of(
        "transaction",
        entry("POST", "Patient", patient()),
        entry("PUT", "Patient/p1", patient(id="p1", active=True), ifMatch='W/"9"'),
    )
    answer = await ask(context, "POST", "", sent)
    assert answer.status == 412
    assert content(answer)["issue"][0]["expression"][0].startswith("Bundle.entry[1]")
    assert await total(context, "Patient") == 1


async def test_parallel_transactions_on_one_resource_all_succeed(context: Context) -> None:
    """Write conflicts are retried inside."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    sent = [
        bundle_of("transaction", entry("PUT", "Patient/p1", patient(id="p1", birthDate=str(1900 + n))))
        for n in range(10)
    ]
    answers = await asyncio.gather(*(ask(context, "POST", "", bundle) for bundle in sent))
    assert {answer.status for answer in answers} == {200}
    assert (await ask(context, "GET", "Patient/p1")).headers["ETag"] == 'W/"11"'


async def test_a_batch_answers_each_entry_alone(context: Context) -> None:
    """Faults of one entry do not touch the others (R4 http.html#transaction)."""
    sent = bundle_of(
        "batch",
        entry("POST", "Patient", patient()),
        entry("POST", "Patient", patient(birthDate="never")),
        entry("GET", "Patient/none"),
        {"resource": patient()},
        entry("GET", "metadata"),
        entry("POST", "/", bundle_of("batch")),
        entry("DELETE", "Patient/none"),
    )
    rows = content(await ask(context, "POST", "", sent))["entry"]
    statuses = [row["response"]["status"][:3] for row in rows]
    assert statuses[0] == "201"
    assert statuses[1] in ("400", "422")
    assert statuses[2:] == ["404", "400", "200", "400", "204"]
    assert rows[2]["response"]["outcome"]["issue"][0]["code"] == "not-found"
    assert rows[4]["resource"]["resourceType"] == "CapabilityStatement"
    assert await total(context, "Patient") == 1


async def test_patches_in_bundles(context: Context) -> None:
    """A Binary carries a JSON Patch (R4 http.html#patch)."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    data = (
        "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="  # [{"op":"add","path":"/active","value":true}]
    )
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    rows = await transact(context, entry("PATCH", "Patient/p1", binary))
    assert rows[0]["response"]["etag"] == 'W/"2"'
    assert content(await ask(context, "GET", "Patient/p1"))["active"] is True


async def test_a_patch_refers_to_what_the_same_transaction_makes(context: Context) -> None:
    """R4 http.html#trules: links to a fullUrl are replaced, in what a patch brings as well."""
    await ask(context, "PUT", "Patient/p1", patient(id="p1"))
    change = [{"op": "add", "path": "/managingOrganization", "value": {"reference": URN}}]
    binary = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(json.dumps(change).encode()).decode(),
    }
    rows = await transact(
        context,
        entry("POST", "Organization", {"resourceType": "Organization", "name": "O"}, URN),
        entry("PATCH", "Patient/p1", binary),
    )
    made = rows[0]["response"]["location"].partition("/_history")[0].removeprefix(f"{BASE}/")
    assert content(await ask(context, "GET", "Patient/p1"))["managingOrganization"] == {"reference": made}


async def test_limits_and_types_of_bundles(store: Store) -> None:
    """413 for too many entries, 400 for a type that cannot be carried out."""
    context = context_on(store, max_entries=2, max_transaction=1)
    three = [entry("GET", "Patient")] * 3
    assert (await ask(context, "POST", "", bundle_of("batch", *three))).status == 413
    assert (await ask(context, "POST", "", bundle_of("transaction", *three[:2]))).status == 413
    wrong = await ask(context, "POST", "", bundle_of("collection"))
    assert text_of(wrong) == "A Bundle of type collection cannot be carried out; use batch or transaction."
    assert (await ask(context, "POST", "", patient())).status == 400
    empty = await ask(context, "POST", "", {"resourceType": "Bundle", "type": "transaction"})
    assert content(empty)["type"] == "transaction-response"


async def test_a_request_with_a_key_is_carried_out_once(context: Context) -> None:
    """The second transaction with the same Idempotency-Key is refused, and stores nothing."""
    sent = bundle_of("transaction", entry("POST", "Patient", patient()))
    answers = await asyncio.gather(*(ask(context, "POST", "", sent, idempotency_key="k") for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    assert await total(context, "Patient") == 1


async def test_real_bundles_read_back_equal(context: Context) -> None:
    """A Synthea bundle: every resource is there, equal but for id, meta and rewritten references."""
    folder = Path(os.environ.get("FHIR_SHARED", "../shared")) / "data" / "synthea"
    if not folder.is_dir():
        pytest.skip("no shared bundles here (FHIR_SHARED)")
    raw = gzip.decompress((folder / "bundle-002.json.gz").read_bytes())
    answer = await ask(context, "POST", "", raw)
    assert answer.status == 200
    sent = json.loads(raw, parse_float=str)["entry"]
    names = {
        row["fullUrl"]: "/".join(reply["response"]["location"].split("/")[-4:-2])
        for row, reply in zip(sent, content(answer)["entry"], strict=True)
    }
    for row in sent:
        wanted = _renamed(row["resource"], names)
        found = json.loads((await ask(context, "GET", names[row["fullUrl"]])).body, parse_float=str)
        for resource in (wanted, found):
            resource.pop("id", None)
            resource.pop("meta", None)
        assert found == wanted


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(child, names) for key, child in value.items()}
    if isinstance(value, list):
        return [_renamed(child, names) for child in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_the_patch_of_the_test_is_what_it_says() -> None:
    """The base64 above is this JSON Patch."""
    from base64 import b64encode

    patch = b64encode(encode([{"op": "add", "path": "/active", "value": True}])).decode()
    assert patch == "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="
