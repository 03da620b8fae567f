"""docs/security.md D and P: what costs much ends soon, is bounded, and leaves others alone."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from fhir_server.store import Store
from search.entries import entries
from search.params import Registry
from tests.hospital import Hospital, observation
from tests.shell import BASE, content
from tests.test_http import application, http, listening, talk

pytestmark = pytest.mark.anyio
FHIR = {"Content-Type": "application/fhir+json"}


def row(resource: dict[str, Any], version: int = 1, **more: Any) -> dict[str, Any]:
    """A document as the store keeps it."""
    name, at = f"{resource['resourceType']}/{resource['id']}", datetime.now(UTC) - timedelta(hours=1)
    body = json.dumps(resource, separators=(",", ":")).encode()
    found = entries(resource, Registry.r4(), BASE)
    return {"_id": name, "v": version, "at": at, "m": "PUT", "body": body, "s": found, "p": name, **more}


async def test_d11_an_exact_total_of_many_is_told_in_time(hospital: Hospital, store: Store) -> None:
    """_total=accurate over 40,000 resources: within a second, and exact; without it the first page does not count."""
    one = row({"resourceType": "Condition", "id": "n", "subject": {"reference": "Patient/P2"}})
    many = [one | {"_id": f"Condition/n{n}", "s": [*one["s"], "|"]} for n in range(40_000)]
    await store.driver.resources.insert_many(many, ordered=False)
    for query, total in (("_total=accurate", 40_002), ("_summary=count", 40_002), ("patient=P1&_total=accurate", 1)):
        begun = time.perf_counter()
        answer = await hospital.ask(hospital.admin, "GET", f"Condition?{query}&_count=1")
        assert (answer.status, content(answer)["total"]) == (200, total)
        assert time.perf_counter() - begun < 3
    begun = time.perf_counter()
    assert (await hospital.ask(hospital.doctor, "GET", "Condition?_count=1")).status == 200
    assert time.perf_counter() - begun < 1


CYCLE = {
    "resourceType": "CodeSystem",
    "id": "ring",
    "url": "http://ring",
    "status": "active",
    "content": "complete",
    "hierarchyMeaning": "is-a",
    "property": [{"code": "parent", "type": "code", "uri": "http://hl7.org/fhir/concept-properties#parent"}],
    "concept": [
        {"code": f"c{n}", "property": [{"code": "parent", "valueCode": f"c{(n + 1) % 50}"}]} for n in range(50)
    ],
}
SETS: list[dict[str, Any]] = [
    {
        "resourceType": "ValueSet",
        "id": f"s{n}",
        "url": f"http://set/{n}",
        "status": "active",
        "compose": {"include": [{"valueSet": [f"http://set/{1 - n}"]}]},
    }
    for n in (0, 1)
]
UNMAPPED = [{"mode": "other-map", "url": f"http://map/{1 - n}"} for n in (0, 1)]
MAPS: list[dict[str, Any]] = [
    {
        "resourceType": "ConceptMap",
        "id": f"m{n}",
        "url": f"http://map/{n}",
        "status": "active",
        "group": [
            {
                "source": "http://ring",
                "target": "http://ring",
                "element": [{"code": "c0", "target": [{"code": "c1", "equivalence": "equal"}]}],
                "unmapped": UNMAPPED[n],
            }
        ],
    }
    for n in (0, 1)
]


async def test_d15_rings_of_definitions_end(hospital: Hospital) -> None:
    """Concepts that are their own ancestors, value sets and maps that include each other: an answer within a second."""
    for resource in (CYCLE, *SETS, *MAPS):
        answer = await hospital.ask(hospital.admin, "PUT", f"{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status in (201, 400, 422), answer.body
    for url in (
        "CodeSystem/$subsumes?system=http://ring&codeA=c0&codeB=c40",
        "CodeSystem/$lookup?system=http://ring&code=c0",
        "CodeSystem/ring/$find-matches?exact=true",
        "ValueSet/$expand?url=http://set/0",
        "ValueSet/s1/$expand",
        "ValueSet/$validate-code?url=http://set/0&system=http://ring&code=c1",
        "ConceptMap/$translate?url=http://map/0&system=http://ring&code=zz&target=http://ring",
        "Observation?code:in=http://set/1",
        "Observation?code:below=http://ring|c0",
    ):
        begun = time.process_time()
        answer = await hospital.ask(hospital.admin, "GET", url)
        assert time.process_time() - begun < 1, url
        assert answer.status < 500, (url, answer.body)
    told = await hospital.ask(
        hospital.admin, "GET", "ConceptMap/$translate?url=http://map/0&system=http://ring&code=c0"
    )
    assert (told.status, b'"c1"' in told.body) == (200, True)


async def test_d19_t17_jobs_that_are_not_offered_cannot_be_piled_up(hospital: Hospital) -> None:
    """Fifty $export at once: each is refused at once, and a search goes on."""
    for caller, status in ((hospital.app(), 403), (hospital.doctor, 403), (hospital.admin, 404)):
        answers = await asyncio.gather(*(hospital.ask(caller, "GET", "$export") for _ in range(50)))
        assert {answer.status for answer in answers} == {status}
    assert await hospital.ids(hospital.doctor, "Condition") == {"Condition/c1", "Condition/c2"}


async def test_d21_many_versions_are_paged(hospital: Hospital, store: Store) -> None:
    """Of 20,000 versions a page is read, also by a caller with limits; reading the current one costs what it did."""
    versions = 20_000
    resource = observation("o1", "Patient/P1")
    old = row(resource)
    rows = [
        old | {"_id": f"Observation/o1/_history/{n}", "r": "Observation/o1", "v": n, "s": []}
        for n in range(1, versions)
    ]
    await store.driver.history.insert_many(rows, ordered=False)
    await store.driver.resources.update_one({"_id": "Observation/o1"}, {"$set": {"v": versions}})
    for caller in (hospital.admin, hospital.app()):
        begun = time.process_time()
        page = await hospital.ask(caller, "GET", "Observation/o1/_history?_count=10")
        assert (page.status, len(content(page)["entry"])) == (200, 10)
        link = next(each["url"] for each in content(page)["link"] if each["relation"] == "next")
        assert len(content(await hospital.ask(caller, "GET", link))["entry"]) == 10
        assert (await hospital.ask(caller, "GET", "Observation/o1")).status == 200
        assert time.process_time() - begun < 1
    assert (await hospital.ask(hospital.app(), "GET", f"Observation/o1/_history/{versions - 5}")).status == 200


async def test_d25_one_hot_resource_slows_nobody_else(client: httpx2.AsyncClient) -> None:
    """100 clients write one id: every version is there, no fault; others read meanwhile."""
    sent = [json.dumps(observation("hot", f"Patient/n{n}")).encode() for n in range(100)]
    await client.put("Patient/cool", content=b'{"resourceType":"Patient","id":"cool"}', headers=FHIR)
    begun = time.perf_counter()
    writes = [asyncio.create_task(client.put("Observation/hot", content=each, headers=FHIR)) for each in sent]
    waits = []
    for _ in range(30):
        start = time.perf_counter()
        assert (await client.get("Patient/cool")).status_code == 200
        waits.append(time.perf_counter() - start)
    answers = await asyncio.gather(*writes)
    assert sorted(int(answer.headers["etag"][3:-1]) for answer in answers) == list(range(1, 101))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert time.perf_counter() - begun < 20
    assert sorted(waits)[15] < 0.5


async def test_p15_long_heads_over_the_wire(mongo_url: str, database: str, tmp_path: Path) -> None:
    """5 MB of headers, 100,000 headers, a URL of 70 kB, NUL and CRLF in a path; the next client is answered."""
    async with application(mongo_url, database, tmp_path) as app, listening(app) as port:
        line = b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\n"
        for packet, statuses in (
            (line + b"X-Long: " + b"x" * 5_000_000, (431,)),
            (line + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)), (431,)),
            (http("GET", "/fhir/Patient?name=" + "x" * 70_000), (414, 431)),
            (b"GET /fhir/Pat\x00ient HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
            (b"GET /fhir/Pat\rX-A: b\r\n\r\n", (400,)),
            (http("GET", "/fhir/Patient/%0d%0aX-Injected:%20yes"), (400,)),
            (http("GET", "/fhir/Patient/%00"), (400,)),
        ):
            answer = await answered(port, packet)
            assert any(answer.startswith(b"HTTP/1.1 %d " % status) for status in statuses), answer[:100]
            assert b"\r\nx-injected" not in answer.lower()
            fine = await talk(port, http("GET", "/fhir/Patient", b"", "Connection: close"))
            assert fine.startswith(b"HTTP/1.1 200")


async def answered(port: int, packet: bytes) -> bytes:
    """What a server says that may stop reading before all is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(packet)
    try:
        return await asyncio.wait_for(reader.read(1_000), 5)
    finally:
        writer.close()


async def test_p17_ten_thousand_ranges(client: httpx2.AsyncClient) -> None:
    """Range is not offered, and costs nothing: the whole Binary, once."""
    made = await client.post("Binary", content=b"abc" * 1_000, headers={"Content-Type": "application/pdf"})
    place = made.headers["location"].split("/_history")[0]
    begun = time.process_time()
    answer = await client.get(place, headers={"Range": "bytes=" + ",".join(["0-"] * 10_000)})
    assert time.process_time() - begun < 0.2
    assert (answer.status_code, answer.content) == (200, b"abc" * 1_000)


async def test_p19_what_is_longer_than_a_document_of_the_database(client: httpx2.AsyncClient) -> None:
    """A Binary of 17 MB is kept whole, one beyond the limit is 413, and 180 levels are a 400."""
    big = b"\x01" * 17_000_000
    made = await client.post("Binary", content=big, headers={"Content-Type": "application/octet-stream"})
    assert made.status_code == 201, made.content[:300]
    assert (await client.get(made.headers["location"].split("/_history")[0])).content == big
    data = b64encode(b"\x01" * 24_000_000).decode()
    refused = await client.post(
        "Binary",
        content=json.dumps({"resourceType": "Binary", "contentType": "a/b", "data": data}).encode(),
        headers=FHIR,
    )
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (413, "too-long")
    deep: Any = {"url": "http://x", "valueString": "x"}
    for _ in range(180):
        deep = {"url": "http://x", "extension": [deep]}
    body = {"resourceType": "Patient", "extension": [deep]}
    assert (await client.post("Patient", content=json.dumps(body).encode(), headers=FHIR)).status_code == 400


async def test_p21_one_resource_with_everything(client: httpx2.AsyncClient) -> None:
    """100,000 identifiers or a name of a megabyte are stored or refused, never a fault; others are found at once."""
    await client.post("Patient", content=b'{"resourceType":"Patient","name":[{"family":"Small"}]}', headers=FHIR)
    many = {"resourceType": "Patient", "identifier": [{"system": "http://s", "value": f"v{n}"} for n in range(100_000)]}
    long = {"resourceType": "Patient", "name": [{"family": "a" * 1_000_000}], "identifier": [{"value": "long"}]}
    for resource in (many, long):
        answer = await client.post("Patient", content=json.dumps(resource).encode(), headers=FHIR)
        assert answer.status_code in (201, 422), answer.content[:300]
        assert len(answer.content) < 30_000_000
    for query, total in (("name=small", 1), ("identifier=long", 1), ("identifier=http://s|v70000", None)):
        found = (await client.get(f"Patient?{query.replace('|', quote('|'))}&_elements=id")).json()
        assert total is None or found["total"] == total


POST = b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
BODY = b'{"resourceType":"Patient"}'
HIDDEN = b"GET /fhir/SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLING = {
    "two lengths": POST + b"Content-Length: 26\r\nContent-Length: 5\r\n\r\n" + BODY + HIDDEN,
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a blank before the colon": POST + b"Content-Length : 26\r\n\r\n" + BODY,
    "a signed length": POST + b"Content-Length: +26\r\n\r\n" + BODY,
    "a length below nothing": POST + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length beyond everything": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "a chunk beyond everything": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" + BODY,
    "a folded line": b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
    "lines without CR": b"GET /fhir/Patient HTTP/1.1\nHost: x\n\n",
    "no host": b"GET /fhir/Patient HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nHost: evil\r\n\r\n",
}


async def test_p15_one_request_is_not_two(mongo_url: str, database: str, tmp_path: Path) -> None:
    """Requests that a proxy and this server might divide differently are 400, and the connection ends."""
    async with application(mongo_url, database, tmp_path) as app, listening(app) as port:
        for name, packet in SMUGGLING.items():
            answer = await answered(port, packet)
            assert answer.startswith(b"HTTP/1.1 400 "), name
            assert (answer.count(b"HTTP/1.1 4"), b"HTTP/1.1 2" in answer, b"SMUGGLED" in answer) == (1, False, False), (
                name
            )
        fine = POST + b"Content-Length: 26\r\nConnection: close\r\n\r\n" + BODY
        assert (await talk(port, fine)).startswith(b"HTTP/1.1 201 ")
        assert (await talk(port, b"GET /fhir/metadata HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
