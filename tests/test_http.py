"""HTTP: limits, headers, compression and overload, through ASGI and over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn

from fhir_server.app import App, build_app
from fhir_server.config import Config
from fhir_server.http.headers import as_utf8
from fhir_server.http.intake import inflated
from fhir_server.http.protocol import uvicorn_settings
from fhir_server.logs import configure
from profiles.outcome import FhirError
from tests.shell import bundle_of, entry, patient

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/fhir+json"}
RAW = json.dumps(patient()).encode()


@asynccontextmanager
async def application(mongo_url: str, database: str, folder: Path, **settings: Any) -> AsyncIterator[App]:
    built = build_app(Config(**{"mongo": mongo_url, "database": database, "data": folder, **settings}))
    async with built.running():
        yield built


@pytest.fixture
async def client(mongo_url: str, database: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings: dict[str, Any] = {"max_body": 5_000, "big_body": 2_000, "max_url": 500, "max_values": 20}
    async with application(mongo_url, database, tmp_path, cors_origins=("https://app",), **settings) as app:
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://evil/fhir/") as made:
            yield made


async def test_create_and_read(client: httpx2.AsyncClient) -> None:
    """Links come from the configured base, never from Host (attack O35); every answer has the safe headers."""
    created = await client.post("Patient", content=RAW, headers=JSON)
    assert created.status_code == 201
    assert created.headers["location"].startswith("http://127.0.0.1:8000/fhir/Patient/")
    assert created.headers["x-content-type-options"] == "nosniff"
    assert "server" not in created.headers
    id = created.json()["id"]
    read = await client.get(f"Patient/{id}/")
    assert read.content == created.content
    head = await client.head(f"Patient/{id}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(read.content)))
    assert head.headers["etag"] == 'W/"1"'
    assert head.headers["content-type"] == "application/fhir+json; charset=utf-8"


async def test_early_errors_come_in_the_format_that_is_asked_for(client: httpx2.AsyncClient) -> None:
    """Too long a body, too long a URL: before anything is carried out."""
    wanted = {"Accept": "application/fhir+xml", "Content-Type": "application/fhir+json"}
    for answer in (
        await client.post("Patient", content=b" " * 6_000, headers=wanted),
        await client.get("Patient", params={"name": "x" * 600}, headers=wanted),
    ):
        assert (answer.status_code in (413, 414), b"<OperationOutcome" in answer.content) == (True, True)
    plain = await client.get("Patient", params={"name": "x" * 600}, headers={"Accept": "image/png"})
    assert plain.headers["content-type"].startswith("application/fhir+json")


async def test_request_ids(client: httpx2.AsyncClient) -> None:
    """Echoed when they are harmless, made otherwise."""
    assert (await client.get("metadata", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert len((await client.get("metadata", headers={"X-Request-Id": "a b<"})).headers["x-request-id"]) == 36
    assert (await client.get("Patient", headers={"X-Correlation-Id": "c-1"})).headers["x-correlation-id"] == "c-1"
    assert "x-correlation-id" not in (await client.get("Patient", headers={"X-Correlation-Id": "a b<"})).headers


def test_every_line_of_the_log_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What uvicorn has to say comes in the same form, and an exception without its message (docs/configuration.md)."""
    configure("info")
    told = logging.getLogger("uvicorn.error")
    told.warning("Invalid HTTP request received.")
    try:
        int("Peter Chalmers")
    except ValueError:
        told.exception("Exception in ASGI application")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"]) == ("Invalid HTTP request received.", "warning")
    assert (second["event"], second["error"]) == ("Exception in ASGI application", "ValueError")
    assert "Peter" not in str(second) and __file__ in second["place"][0]


async def test_gzip_both_ways(client: httpx2.AsyncClient) -> None:
    """Compressed requests are inflated within the limit, answers are compressed when asked and worthwhile."""
    packed = await client.post("Patient", content=gzip.compress(RAW), headers=JSON | {"Content-Encoding": "gzip"})
    assert packed.status_code == 201
    bomb = gzip.compress(b'{"a":"' + b"x" * 10_000_000)
    refused = await client.post("Patient", content=bomb[:4_000] * 1, headers=JSON | {"Content-Encoding": "gzip"})
    assert refused.status_code in (400, 413)
    broken = await client.post("Patient", content=b"no gzip", headers=JSON | {"Content-Encoding": "gzip"})
    assert broken.status_code == 400
    cut = await client.post("Patient", content=gzip.compress(RAW)[:-20], headers=JSON | {"Content-Encoding": "gzip"})
    assert cut.status_code == 400
    strange = await client.post("Patient", content=RAW, headers=JSON | {"Content-Encoding": "br"})
    assert strange.status_code == 415
    large = await client.get("metadata", headers={"Accept-Encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip"
    small = await client.get("Patient/none", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


async def test_gzip_in_several_members(client: httpx2.AsyncClient) -> None:
    """A gzip stream is one member or more (RFC 1952 §2.2); what follows it is not passed over in silence."""
    parts = [gzip.compress(RAW[at : at + 10]) for at in range(0, len(RAW), 10)]
    headers = JSON | {"Content-Encoding": "gzip"}
    for body, status in (
        (b"".join(parts), 201),
        (b"".join(parts)[:-9], 400),
        (gzip.compress(RAW) + b"junk", 400),
        (gzip.compress(RAW) + gzip.compress(b"{}"), 400),
    ):
        assert (await client.post("Patient", content=body, headers=headers)).status_code == status
    with pytest.raises(FhirError, match="more than 4096 members"):
        list(inflated(gzip.compress(b"") * 4097))


async def test_limits_of_bodies_and_urls(client: httpx2.AsyncClient) -> None:
    """413 for a body that is declared or turns out too long, 414 for a URL, 400 for too many values."""
    long = b'{"resourceType":"Patient","language":"' + b"x" * 6_000 + b'"}'
    assert (await client.post("Patient", content=long, headers=JSON)).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield long[:1_000]

    assert (await client.post("Patient", content=chunks(), headers=JSON)).status_code == 413
    bomb = gzip.compress(b"x" * 1_000_000)
    answer = await client.post("Patient", content=bomb, headers=JSON | {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (413, "too-long")
    assert (await client.get("Patient?name=" + "x" * 600)).status_code == 414
    assert (await client.get("Patient?" + "&".join(["name=a"] * 30))).status_code == 400


async def test_a_big_body_is_read_in_a_thread(client: httpx2.AsyncClient) -> None:
    """Between the two limits it is a request like any other."""
    sent = patient(address=[{"text": "x" * 900, "line": ["y" * 900]} for _ in range(2)])
    assert (await client.post("Patient", json=sent, headers=JSON)).status_code == 201


async def test_cors(client: httpx2.AsyncClient) -> None:
    """Only configured origins, and anybody for the capability statement (attack O33)."""
    known = await client.get("Patient", headers={"Origin": "https://app"})
    assert known.headers["access-control-allow-origin"] == "https://app"
    evil = await client.get("Patient", headers={"Origin": "https://evil"})
    assert "access-control-allow-origin" not in evil.headers
    discovery = await client.get("metadata", headers={"Origin": "https://evil"})
    assert discovery.headers["access-control-allow-origin"] == "*"
    preflight = await client.options(
        "Patient", headers={"Origin": "https://app", "Access-Control-Request-Method": "PUT"}
    )
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    allowed = set(preflight.headers["access-control-allow-headers"].split(", "))
    assert {"x-security-context", "x-provenance", "idempotency-key", "if-match", "content-encoding"} <= allowed
    exposed = set(known.headers["access-control-expose-headers"].split(", "))
    limits = {f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")}
    assert {"retry-after", "www-authenticate", "etag", "location"} | limits <= exposed


async def test_other_paths(client: httpx2.AsyncClient) -> None:
    """Health answers, everything else is 404."""
    assert (await client.get("http://evil/health/live")).json() == {"status": "alive"}
    assert (await client.get("http://evil/")).json()["capabilities"].endswith("/fhir/metadata")
    assert (await client.get("http://evil/health/ready")).json() == {"status": "ready"}
    assert (await client.get("http://evil/fhirx/Patient")).status_code == 404


async def test_overload(mongo_url: str, database: str, tmp_path: Path) -> None:
    """503 with Retry-After for a request too many; health still answers (docs/security.md)."""
    async with application(mongo_url, database, tmp_path, max_requests=2) as app:
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://x/fhir/") as client:
            await client.post("Patient", content=RAW, headers=JSON)
            answers = await asyncio.gather(*(client.get("Patient?name=shaw") for _ in range(20)))
            statuses = {answer.status_code for answer in answers}
            assert statuses == {200, 503}
            busy = next(answer for answer in answers if answer.status_code == 503)
            assert busy.headers["retry-after"] == "1"
            assert busy.json()["issue"][0]["code"] == "throttled"
            assert (await client.get("http://x/health/live")).status_code == 200
            assert (await client.get("Patient")).status_code == 200


# Over real sockets


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[int]:
    settings = uvicorn_settings(app.config) | {"lifespan": "off", "loop": "asyncio"}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **settings))
    server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(5):
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.fixture
async def port(mongo_url: str, database: str, tmp_path: Path) -> AsyncIterator[int]:
    limits: dict[str, Any] = {"max_headers": 4_000, "max_url": 1_000, "max_body": 50_000, "header_seconds": 0.5}
    async with application(mongo_url, database, tmp_path, **limits) as app, listening(app) as number:
        yield number


async def talk(port: int, *packets: bytes, pause: float = 0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for packet in packets:
        writer.write(packet)
        await asyncio.sleep(pause)
    try:
        return await asyncio.wait_for(reader.read(200_000), 3)
    finally:
        writer.close()


def http(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("packet", "status"),
    [
        (http("GET", "/fhir/Patient", b"", "X-Long: " + "x" * 5_000), 431),
        (b"GET /fhir/Patient HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(2_000)), 431),
        (http("GET", "/fhir/Patient?name=" + "x" * 2_000), 414),
        (b"no http at all\r\n\r\n", 400),
        (b"GET /fhir/Pat\x00ient HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /fhir/Pati\xc3\xa4nt HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (http("POST", "/fhir/Patient", b"x" * 60_000), 413),
    ],
)
async def test_what_is_no_request_is_refused(port: int, packet: bytes, status: int) -> None:
    """431, 414, 400, 413 with an OperationOutcome, and the connection closes (attack P15)."""
    answer = await talk(port, packet)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b'"resourceType":"OperationOutcome"' in answer


@pytest.mark.parametrize("url", ["/fhir/Patient?name=Müller", "/fhir/Patient?name=a b", "/fhir/Patiént"])
async def test_a_url_that_is_not_encoded_is_told_so(port: int, url: str) -> None:
    """Who types a name into curl reads what is wrong with it."""
    answer = await talk(port, http("GET", url))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "percent-encoded, such as %C3%BC for ü".encode() in answer
    assert b"is no HTTP" in await talk(port, b"GET /fhir/Patient\xc3\r\n\r\n")


async def test_the_pages_of_a_long_search_that_was_posted(mongo_url: str, database: str, tmp_path: Path) -> None:
    """1,000 ids fit into no URL, and their page links are as long as it takes; a form has its own limit."""
    ids = [str(uuid4()) for _ in range(1_000)]
    async with (
        application(mongo_url, database, tmp_path) as app,
        listening(app) as number,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{number}/fhir/") as client,
    ):
        for id in ids[:3]:
            assert (await client.put(f"Patient/{id}", json=patient(id=id))).status_code == 201
        page = await client.post("Patient/_search", data={"_id": ",".join(ids), "_count": "2"})
        link = next(link["url"] for link in page.json()["link"] if link["relation"] == "next")
        following = await client.get(link.partition("/fhir/")[2])
        assert (following.status_code, len(following.json()["entry"])) == (200, 1), following.text[:200]
        long = await client.post("Patient/_search", data={"name": "x" * 70_000})
        assert (long.status_code, long.json()["issue"][0]["code"]) == (413, "too-long")
        endless = await talk(number, http("GET", "/fhir/Patient?_page=" + "x" * 140_000))
        assert endless.startswith(b"HTTP/1.1 414 "), endless[:100]


async def test_criteria_beyond_ascii(client: httpx2.AsyncClient) -> None:
    """If-None-Exist in plain UTF-8, as curl sends it, finds what it made before."""
    value = {"identifier": [{"system": "http://h", "value": "Ü1"}]}
    for spelt in ("Ü1", "%C3%9C1"):
        headers = [
            (b"Content-Type", b"application/fhir+json"),
            (b"If-None-Exist", f"identifier=http://h|{spelt}".encode()),
        ]
        made = [await client.post("Patient", json=patient(**value), headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in made][1:] == [200]
    assert (await client.get("Patient?identifier=http://h|%C3%9C1")).json()["total"] == 1
    assert as_utf8("\xdc1") == "\xdc1", "latin-1 stays what it is"


async def test_the_next_request_on_the_connection_works(port: int) -> None:
    """A bad body spoils one request only."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body, status in ((b"{", 400), (b'{"resourceType":"Patient","id":1}', 400), (RAW, 201), (RAW, 201)):
        writer.write(http("POST", "/fhir/Patient", body, "Content-Type: application/fhir+json"))
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(size)
        assert int(head.split()[1]) in (status, 422)
    writer.close()


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    """Three requests in one packet, one after a body."""
    packets = http("POST", "/fhir/Patient", RAW, "Content-Type: application/fhir+json") + http("GET", "/fhir/Patient")
    answer = await talk(port, packets + http("GET", "/health/live", b"", "Connection: close"), pause=0.5)
    assert [part[:4] for part in answer.split(b"HTTP/1.1")[1:]] == [b" 201", b" 200", b" 200"]


async def test_half_open_connections_are_cut(port: int) -> None:
    """Header lines that do not come to an end within the time (docs/security.md)."""
    assert (await talk(port, b"")).startswith(b"HTTP/1.1 408")
    assert (await talk(port, b"GET /fhir/Pat")).startswith(b"HTTP/1.1 408")
    slow = [b"GET /fhir/Patient HTTP/1.1\r\n", *[b"X-A: 1\r\n"] * 4]
    assert (await talk(port, *slow, pause=0.08)).startswith(b"HTTP/1.1 408")


async def test_chunked_bodies_are_counted(port: int) -> None:
    """413 without reading on, whatever the client goes on to send."""
    head = b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    assert (await talk(port, head, *[chunk] * 4)).startswith(b"HTTP/1.1 413")


async def test_requests_at_work_end_before_the_server(mongo_url: str, database: str, tmp_path: Path) -> None:
    """A graceful stop aborts nothing (docs/security.md)."""
    async with application(mongo_url, database, tmp_path) as app, httpx2.AsyncClient() as client:
        async with listening(app) as number:
            url = f"http://127.0.0.1:{number}/fhir"
            sent = bundle_of("batch", *[entry("POST", "Patient", patient())] * 20)
            posts = [asyncio.create_task(client.post(url, json=sent, headers=JSON)) for _ in range(20)]
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {200}


async def test_a_header_sent_twice_is_one_list(client: httpx2.AsyncClient) -> None:
    """Several lines of one name are one list, in their order (RFC 9110 §5.3)."""
    wanted = [("Accept", "image/png"), ("Accept", "application/fhir+xml"), ("Accept", "application/fhir+json;q=0.5")]
    sent = [("Content-Type", "application/fhir+json"), ("Prefer", "return=minimal"), ("Prefer", "handling=lenient")]
    assert (await client.get("metadata", headers=wanted)).headers["content-type"].startswith("application/fhir+xml")
    assert (await client.post("Patient", content=RAW, headers=sent)).content == b""
    lenient = [("Prefer", "handling=lenient"), ("Prefer", "respond-sometime")]
    assert (await client.get("Patient", params={"nonsense": "1"}, headers=lenient)).status_code == 200
    tags = [("If-None-Match", 'W/"1"'), ("If-None-Match", 'W/"7"')]
    created = await client.put("Patient/twice", json=patient(id="twice"), headers=JSON)
    assert created.status_code == 201
    assert (await client.get("Patient/twice", headers=tags)).status_code == 304


async def test_a_header_that_is_no_list_is_refused_twice(client: httpx2.AsyncClient) -> None:
    """One If-Match and one Content-Type are allowed; none of two is chosen in silence."""
    await client.put("Patient/twice", json=patient(id="twice"), headers=JSON)
    both = [("If-Match", 'W/"7"'), ("If-Match", 'W/"1"'), *JSON.items()]
    assert (await client.put("Patient/twice", json=patient(id="twice"), headers=both)).status_code == 412
    types = [("Content-Type", "application/fhir+xml"), ("Content-Type", "application/fhir+json")]
    assert (await client.post("Patient", content=RAW, headers=types)).status_code == 415
