"""Requests of odd shape, at random: every one is answered with less than 500, soon, and the hospital is as it was."""

from __future__ import annotations

import os
import random
import time
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.operations import OPERATIONS
from tests.hospital import Hospital, observation
from tests.shell import bundle_of, content, entry

pytestmark = pytest.mark.anyio
SEED = int(os.environ.get("FHIR_SEED", "0"))
TEXTS = [
    "", "x", "-1", "0", "1.5", "1e999", "9" * 400, "NaN", "null", "true", "{}", "(", "%", "*", "$ne", "a|b|c|d",
    "a,b\\,c", "Patient/P1", "Patient/P1/_history/99999999999", "#p", "urn:uuid:x", "http://x", "2020-13-45",
    "repeat($this)", "9999-12-31T23:59:59+14:00", "\u202e", "a" * 3_000,
]  # fmt: skip
ODD: list[Any] = [None, 5, 1.5, True, "", "x", "$ne", "Patient/P1", [], [None], [5], ["x"], {}, {"a": 1}]
PARTS: list[dict[str, Any]] = [
    {},
    {"valueString": ""},
    {"valueInteger": 10**12},
    {"valueBoolean": "x"},
    {"valueCoding": {"system": 5, "code": []}},
    {"valueCodeableConcept": {"coding": [None]}},
    {"valueReference": {"reference": 5}},
    {"valuePeriod": {"start": "x"}},
    {"valueUri": "http://x|1|2"},
    {"part": [{"name": "x"}]},
    {"resource": {}},
    {"resource": {"resourceType": "Nonsense"}},
    {"resource": {"resourceType": "Patient", "name": "x"}},
    {"resource": {"resourceType": "Bundle", "type": "batch"}},
    {"resource": {"resourceType": "CodeSystem", "concept": [{"code": None}]}},
    {"resource": {"resourceType": "ConceptMap", "group": [{}]}},
    {"resource": {"resourceType": "ValueSet", "compose": {"include": [{"system": 5, "filter": [{}]}]}}},
]
NOT_HERE = frozenset({"install", "uninstall", "reindex", "expunge"})  # of the operator alone
IDS = {"Patient": "P1", "Observation": "o1", "Encounter": "e1", "Practitioner": "D1", "StructureDefinition": "Patient"}


async def survives(hospital: Hospital, method: str, url: str, body: Any = None, **headers: str) -> None:
    begun = time.process_time()
    answer = await hospital.ask(hospital.doctor, method, url, body, **headers)
    assert answer.status < 500, (method, url[:200], str(body)[:300], headers, answer.body[:200])
    assert time.process_time() - begun < 2, (method, url[:200], str(body)[:300])


def places() -> list[tuple[str, str, bool]]:
    """Where an operation is called, a parameter of it, and whether it changes something."""
    rows: list[tuple[str, str, bool]] = []
    for operation in OPERATIONS:
        names = [*(row["name"] for row in operation.inputs), "nonsense", "_count"]
        found = [f"${operation.name}"] if operation.system else []
        for kind in ("Patient" if name == "Resource" else name for name in operation.types):
            found += [f"{kind}/${operation.name}"] if operation.type else []
            found += [f"{kind}/{IDS.get(kind, 'zz')}/${operation.name}"] if operation.instance else []
        rows += [(place, name, operation.affects_state) for place in found for name in names]
    return [row for row in rows if row[0].rpartition("$")[2] not in NOT_HERE]


async def test_operations(hospital: Hospital) -> None:
    """Any parameter of any operation, as text and as part of Parameters."""
    luck, rows = random.Random(SEED), places()
    assert len(rows) > 150
    for _ in range(400):
        place, name, changes = luck.choice(rows)
        if not changes:
            await survives(hospital, "GET", f"{place}?{name}={quote(luck.choice(TEXTS))}")
        part = {"name": name, **luck.choice(PARTS)}
        await survives(hospital, "POST", place, {"resourceType": "Parameters", "parameter": [part]})


async def test_bundles(hospital: Hospital) -> None:
    """Any property of an entry, and any address, in a batch and in a transaction."""
    luck = random.Random(SEED)
    for _ in range(400):
        method, url = luck.choice(
            [("POST", "Observation"), ("PUT", "Observation/x"), ("GET", "Observation/o1"), ("x", "")]
        )
        row = entry(method, luck.choice([url, url, *TEXTS]), observation("x", "Patient/P1"))
        name = luck.choice(
            ["request", "resource", "fullUrl", "link", "response", "method", "url", "ifNoneExist", "ifMatch"]
        )
        (row if name in ("request", "resource", "fullUrl", "link", "response") else row["request"])[name] = luck.choice(
            ODD
        )
        await survives(hospital, "POST", "", bundle_of(luck.choice(["batch", "transaction"]), row))


async def test_resources_patches_and_headers(hospital: Hospital) -> None:
    """Any value for any element, any patch, any header."""
    luck, fields = (
        random.Random(SEED),
        ["meta", "subject", "code", "contained", "text", "extension", "_status", "component"],
    )
    formats = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/fhir+json",
        "application/json",
    ]
    headers = ["if_match", "if_none_match", "if_none_exist", "if_modified_since", "prefer", "accept", "idempotency_key"]
    for _ in range(250):
        odd, field = luck.choice(ODD), luck.choice(fields)
        own = observation("o9", "Patient/P1") | {field: luck.choice([odd, {"reference": odd}, {"security": [odd]}])}
        await survives(hospital, "PUT", "Observation/o9", own)
        await survives(hospital, "POST", "Observation/$validate", own)
        operation = {"op": odd, "path": luck.choice(TEXTS), "value": odd, "from": luck.choice(ODD)}
        body = luck.choice([[operation], odd, {"resourceType": "Parameters", "parameter": odd}])
        await survives(hospital, "PATCH", "Observation/o1", body, content_type=luck.choice(formats))
        named = {luck.choice(headers): luck.choice(TEXTS)}
        await survives(
            hospital, luck.choice(["GET", "PUT"]), "Observation/v1", observation("v1", "Patient/P1"), **named
        )
    stored = content(await hospital.ask(hospital.doctor, "GET", "Observation/o2"))
    assert stored["code"]["coding"][0]["code"] == "b"
