"""docs/security.md F, I and X: nothing that a client sends makes the server call out, run or redirect."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from fhir_server.auth.outside import allowed, fetcher
from smart_auth import keys
from tests.hospital import Hospital, observation, reference
from tests.shell import bundle_of, constraint, entry
from tests.smart_world import Browser, World

pytestmark = pytest.mark.anyio
FHIR = {"Content-Type": "application/fhir+json"}


@dataclass
class Canary:
    """A listener on loopback that must see no connection."""

    port: int
    calls: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    made = Canary(0)

    async def seen(_reader: Any, writer: asyncio.StreamWriter) -> None:
        made.calls += 1
        writer.close()

    server = await asyncio.start_server(seen, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


def subscription(endpoint: str) -> dict[str, Any]:
    channel = {"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json"}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "x",
        "criteria": "Observation?code=a",
        "channel": channel,
    }


async def test_f01_t19_f09_f11_a_subscription_calls_nobody(hospital: Hospital, canary: Canary) -> None:
    """Subscriptions are kept and not delivered: whatever their endpoint is, nothing is connected to."""
    for url in (canary.url, f"http://localhost:{canary.port}/", f"http://0x7f.1:{canary.port}/", "file:///etc/passwd"):
        answer = await hospital.ask(hospital.admin, "POST", "Subscription", subscription(url))
        assert answer.status in (201, 422)
    assert (await hospital.ask(hospital.doctor, "POST", "Observation", observation("x", "Patient/P1"))).status == 201
    await asyncio.sleep(0.3)
    assert canary.calls == 0


async def test_f07_no_address_in_a_resource_is_followed(hospital: Hospital, canary: Canary) -> None:
    """References, canonicals, attachments, endpoints, code systems and profiles elsewhere are not fetched."""
    url = canary.url
    profile = constraint("http://own/p", {"id": "Patient", "path": "Patient"}, baseDefinition=url)
    coded = {"coding": [{"system": url, "code": "a"}]}
    resources: list[dict[str, Any]] = [
        observation("x", "Patient/P1", focus=[reference(f"{url}/Patient/1")], meta={"profile": [url]}),
        observation("x", "Patient/P1", valueCodeableConcept=coded, extension=[{"url": url, "valueString": "x"}]),
        {"resourceType": "Patient", "photo": [{"contentType": "image/png", "url": url}], "implicitRules": url},
        {
            "resourceType": "Endpoint",
            "status": "active",
            "connectionType": {"code": "x"},
            "payloadType": [{"text": "x"}],
            "address": url,
        },
        {
            "resourceType": "ValueSet",
            "url": "http://own/v",
            "status": "active",
            "compose": {"include": [{"valueSet": [url]}, {"system": url}]},
        },
        {
            "resourceType": "CodeSystem",
            "url": "http://own/c",
            "status": "active",
            "content": "supplement",
            "supplements": url,
        },
        {
            "resourceType": "Questionnaire",
            "status": "active",
            "item": [{"linkId": "1", "type": "choice", "answerValueSet": url}],
        },
        profile,
    ]
    for resource in resources:
        for path in (resource["resourceType"], f"{resource['resourceType']}/$validate"):
            body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": resource}]}
            answer = await hospital.ask(hospital.admin, "POST", path, body if "$" in path else resource)
            assert answer.status < 500, (path, answer.body)
    at = quote(url, safe="")
    for query in (
        f"Patient/P1/$validate?profile={at}",
        f"ValueSet/$expand?url={at}",
        "ValueSet/$expand?url=http://own/v",
        f"CodeSystem/$lookup?system={at}&code=a",
        f"Observation?code:in={at}",
        "Observation?_include=Observation:focus&_include=*",
        f"Patient/P1/$graph?graph={at}",
        f"Observation?focus={at}",
        f"Observation/$lastn?patient={at}",
        '$graphql?query={ObservationList(code: "a") {focus {resource(optional: true) {resourceType}}}}',
    ):
        assert (await hospital.ask(hospital.admin, "GET", query)).status < 500, query
    body = {"resourceType": "Parameters", "parameter": [{"name": "packageUrl", "valueUri": url}]}
    assert (await hospital.ask(hospital.admin, "POST", "ImplementationGuide/$install", body)).status in (400, 422)
    bundle = bundle_of("batch", entry("GET", f"{url}/Patient/P1"), entry("GET", "http://169.254.169.254/Patient/P1"))
    answer = await hospital.ask(hospital.admin, "POST", "", bundle)
    assert b"Lovelace" not in answer.body
    await asyncio.sleep(0.3)
    assert canary.calls == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "::1", "::", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "fd00::1", "fe80::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1",
        "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
async def test_f01_addresses_inside_are_never_connected_to(address: str) -> None:
    """What the server fetches itself (key sets, login providers) is never inside, whatever the scheme."""
    assert not allowed(address, "https", loopback=False)
    assert not allowed(address, "http", loopback=False)
    assert allowed("1.1.1.1", "https", loopback=False)
    assert not allowed("1.1.1.1", "http", loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/", "http://localhost:{}/", "http://2130706433:{}/", "http://0x7f.1:{}/", "http://0:{}/",
        "https://127.0.0.1:{}/", "http://localhost.:{}/", "http://user@127.0.0.1:{}/", "http://[::ffff:127.0.0.1]:{}/",
        "gopher://127.0.0.1:{}/", "ftp://127.0.0.1:{}/", "file:///etc/passwd", "http://[", "http://127.0.0.1:99999/",
    ],
)  # fmt: skip
async def test_f01_names_that_lead_inside(canary: Canary, url: str) -> None:
    """Decimal, hexadecimal, dotted, mapped or with a user: no connection; on loopback itself its own is reached."""
    with pytest.raises((OSError, ValueError)):
        await fetcher(loopback=False)(url.format(canary.port))
    assert canary.calls == 0
    with pytest.raises(OSError):
        await fetcher(loopback=True)(canary.url)
    assert canary.calls == 1


async def test_f03_redirects_are_not_followed_and_slow_answers_are_cut(canary: Canary) -> None:
    """A key set that redirects inside, or is larger than it may be, is not taken."""
    large = b"x" * 300_000
    for answer in (
        b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % canary.url.encode(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + large,
        b"no http\r\n\r\n",
    ):

        async def say(reader: Any, writer: asyncio.StreamWriter, text: bytes = answer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(say, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            found = await fetcher(loopback=True)(f"http://127.0.0.1:{port}/jwks")
            assert found.status == 302
        except OSError:
            assert answer[9:12] != b"302"
        server.close()
        await server.wait_closed()
    assert canary.calls == 0


async def test_f05_an_answer_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then holds no thread for longer than the whole answer may take."""
    monkeypatch.setattr("fhir_server.auth.outside.ALTOGETHER", 0.5)
    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: "):
        ended = asyncio.Event()

        async def drip(
            reader: Any, writer: asyncio.StreamWriter, text: bytes = head, ended: asyncio.Event = ended
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
            with suppress(OSError):
                gone = asyncio.ensure_future(reader.read())
                while not gone.done():
                    writer.write(b"x")
                    await asyncio.wait([gone], timeout=0.1)
                gone.exception()
                writer.close()
                await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        begun = time.perf_counter()
        with suppress(OSError):
            found = await fetcher(loopback=True)(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks")
            assert found.body == b""
        assert time.perf_counter() - begun < 3
        await asyncio.wait_for(ended.wait(), 3)
        server.close()
        await server.wait_closed()


BOMBS = ("(1 | 2 | 3).repeat($this + 1)", "repeat(repeat(repeat($this)))", "('a' & '((a+)+)+').matches('(a+)+$')")


async def test_i05_stored_expressions_run_in_their_cage(hospital: Hospital) -> None:
    """Expressions of search parameters, graphs and profiles reach nothing but the resource, and end."""
    base = {"resourceType": "SearchParameter", "status": "active", "description": "x", "type": "token"}
    expressions = [
        *BOMBS,
        "__import__('os').system('true')",
        "Observation.code.`__class__`",
        "%resource.trace('x', %env)",
    ]
    for number, expression in enumerate(expressions):
        name = f"evil{number}"
        more = {
            "url": f"http://x/{name}",
            "name": name,
            "code": name,
            "base": ["Observation"],
            "expression": expression,
        }
        begun = time.process_time()
        assert (await hospital.ask(hospital.admin, "POST", "SearchParameter", base | more)).status in (201, 400, 422)
        wrote = await hospital.ask(
            hospital.admin, "PUT", "Observation/o1", observation("o1", "Patient/P1", f"n{number}")
        )
        assert (wrote.status, time.process_time() - begun < 3) == (200, True), expression
        graph = {"resourceType": "GraphDefinition", "url": f"http://g/{number}", "status": "active", "name": "G"}
        graph |= {"start": "Observation", "link": [{"path": expression, "target": [{"type": "Patient"}]}]}
        assert (await hospital.ask(hospital.admin, "POST", "GraphDefinition", graph)).status in (201, 400, 422)
        begun = time.process_time()
        answer = await hospital.ask(hospital.admin, "GET", f"Observation/o1/$graph?graph=http://g/{number}")
        assert (answer.status < 500, time.process_time() - begun < 3) == (True, True), expression
    assert await hospital.ids(hospital.doctor, "Observation?code=n5") == {"Observation/o1"}


@pytest.mark.parametrize("kind", ["text/csv", "application/pdf", "application/vnd.ms-excel"])
async def test_i07_i09_reports_that_are_not_made(client: httpx2.AsyncClient, kind: str) -> None:
    """No CSV, no PDF, no page is made of data: 406 for each; the formula comes back as the text it is."""
    formula = '=HYPERLINK("http://169.254.169.254","x")'
    told = {"resourceType": "Patient", "name": [{"family": formula}]}
    made = await client.post("Patient", content=json.dumps(told).encode(), headers=FHIR)
    place = f"Patient/{made.json()['id']}"
    for url in (place, "Patient", "Patient/$everything"):
        assert (await client.get(url, headers={"Accept": kind})).status_code in (404, 406)
        assert (await client.get(f"{url}?_format={quote(kind)}")).status_code in (400, 404, 406)
    found = await client.get(place)
    assert found.json()["name"][0]["family"] == formula
    assert found.headers["content-type"].startswith("application/fhir+json")


@pytest.mark.parametrize(
    "kind",
    ["text/html", "image/svg+xml", "application/xhtml+xml", "application/javascript", "model/gltf+json", "a/b;x=y"],
)
async def test_x03_x09_content_is_never_shown_in_place(client: httpx2.AsyncClient, kind: str) -> None:
    """What somebody stored as a page, a script or a model is a download in a sandbox, byte for byte."""
    evil = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>{"buffers":[{"uri":"http://169.254.169.254/"}]}'
    made = await client.post("Binary", content=evil, headers={"Content-Type": kind})
    answer = await client.get(made.headers["location"].split("/_history")[0], headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.content) == (200, evil)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    bad = {"resourceType": "Binary", "contentType": "text/html\r\nX-Injected: yes", "data": "AAAA"}
    stored = await client.post("Binary", content=json.dumps(bad).encode(), headers=FHIR)
    if stored.status_code == 201:
        answer = await client.get(stored.headers["location"].split("/_history")[0])
        assert (answer.headers["content-type"], "x-injected" in answer.headers) == ("application/octet-stream", False)


EVIL = "https://evil.example/"


@pytest.mark.parametrize(
    "path",
    [
        "/auth/logout?post_logout_redirect_uri={}",
        "/auth/logout?post_logout_redirect_uri={}&client_id=app",
        "/auth/account?next={0}&return_to={0}&RelayState={0}",
        "/auth/login?next={}",
        "/auth/flow?flow={0}&redirect_uri={0}",
        "/auth/external?provider={0}&iss={0}",
        "/auth/external/back?state=x&iss={}",
        "/auth/apps?client={}",
        "/auth/reset?token={}",
        "/auth/authorize?client_id=app&redirect_uri={}",
        "/auth/authorize?parked={}",
    ],
)
async def test_x07_no_parameter_is_a_way_elsewhere(browser: Browser, world: World, path: str) -> None:
    """No address that was not registered is ever redirected to, before and after a login."""
    for _ in range(2):
        answer = await browser.http.get(path.format(quote(EVIL, safe="")))
        assert "evil.example" not in answer.headers.get("location", "")
        assert answer.status_code < 500
        assert f'href="{EVIL}' not in answer.text
        await browser.granted("ada")


async def test_x07_a_logout_goes_to_a_registered_address(browser: Browser, world: World) -> None:
    """Exactly the registered one, and with a hint of this server for this session."""
    for client, target, goes in (
        ("app", "https://app.example/bye", True),
        ("app", "https://app.example/bye/", False),
        ("app", "https://app.example/bye?x", False),
        ("app", EVIL, False),
    ):
        hint = (await browser.granted("ada", client_id=client))["id_token"]
        answer = await browser.http.get(
            "/auth/logout", params={"id_token_hint": hint, "post_logout_redirect_uri": target, "state": "s"}
        )
        assert (answer.headers.get("location") == f"{target}?state=s") is goes
    forged = await keys.read(world.realm, hint[:-4] + "AAAA")
    assert forged is None
