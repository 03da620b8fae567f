"""The whole server with `--auth smart`: from the discovery document to data over HTTP, on a real database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fhir_server.app import App, build_app
from fhir_server.auth.wiring import open_realm
from fhir_server.config import Config
from smart_auth import clients, tokens, users
from smart_auth.realm import Realm
from tests.hospital import condition, observation
from tests.smart_world import APP, BACKEND, CALLBACK, CHALLENGE, PASSWORD, VERIFIER, Browser, World, sent

pytestmark = pytest.mark.anyio
BASE = "http://127.0.0.1:8000/fhir"


class Running:
    """A running server, its realm, and ways to ask it."""

    def __init__(self, app: App, realm: Realm) -> None:
        self.app, self.realm = app, realm
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8000")

    async def token(self, client: str, scope: str, user: str = "", **context: str) -> dict[str, str]:
        made = await tokens.made(self.realm, client, user, scope, context)
        return {"Authorization": f"Bearer {made['access_token']}"}

    async def status(self, method: str, url: str, headers: dict[str, str], json: Any = None) -> int:
        return (await self.http.request(method, f"/fhir/{url}", headers=headers, json=json)).status_code


@pytest.fixture
async def server(mongo_url: str, database: str, tmp_path: Path, capsys: Any) -> AsyncIterator[Running]:
    """The server on an empty database, with an administrator's data in it."""
    app = build_app(Config(mongo=mongo_url, database=database, data=tmp_path, auth="smart", key="00" * 32))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.running())
        context: Any = app.fhir.context
        running = Running(app, await open_realm(app.config, context.store, context))
        await users.create(running.realm, "dora", PASSWORD, {"roles": ["Doctor"], "fhir_user": "Practitioner/D1"})
        await users.create(running.realm, "ada", PASSWORD, {"roles": ["Patient"], "fhir_user": "Patient/P1"})
        await clients.save(running.realm, "app", APP)
        await clients.save(running.realm, "backend", BACKEND | {"scope": "system/*.cruds"})
        root = await running.token("backend", "system/*.cruds")
        for name in ("P1", "P2"):
            body = {"resourceType": "Patient", "id": name, "name": [{"family": f"Family {name}"}]}
            assert await running.status("PUT", f"Patient/{name}", root, body) == 201
            assert (
                await running.status("PUT", f"Condition/c{name}", root, condition(f"c{name}", f"Patient/{name}")) == 201
            )
        yield running
        await running.http.aclose()


async def test_the_first_start_shows_a_password_once(server: Running, capsys: Any) -> None:
    """The administrator's password is printed, and no test or default password opens the account."""
    assert await users.find(server.realm, "admin")
    assert await users.by_password(server.realm, "admin", "admin") is None


async def test_public_paths_and_the_rest(server: Running) -> None:
    """Discovery and metadata are open; everything else is 401, with and without a bad token; L09 for odd paths."""
    for url in (".well-known/smart-configuration", ".well-known/openid-configuration", "metadata"):
        assert await server.status("GET", url, {}) == 200
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        for url in ("Patient/P1", "Patient", "", "_history", "Patient/$validate", "$export"):
            answer = await server.http.get(f"/fhir/{url}", headers=headers)
            assert answer.status_code == 401, url
            challenge = 'Bearer error="invalid_token"' if "nonsense" in str(headers) else 'Bearer realm="FHIR"'
            assert answer.headers["www-authenticate"] == challenge
            assert answer.json()["resourceType"] == "OperationOutcome"
    for path in ("/docs", "/openapi.json", "/debug", "/admin", "/auth/nonsense"):
        assert (await server.http.get(path)).status_code in (401, 404)
    assert await server.status("GET", "Patient/P1?access_token=x", {}) == 401


async def test_a_patients_app_from_login_to_data(server: Running) -> None:
    """Discover, log in, allow, exchange, read: the patient's own record and nothing else."""
    found = (await server.http.get("/fhir/.well-known/smart-configuration")).json()
    assert found["authorization_endpoint"] == "http://127.0.0.1:8000/auth/authorize"
    browser = Browser(server.http, World(server.realm, None, [], {}, []))  # type: ignore[arg-type]
    code = await browser.code("ada", aud=BASE, code_challenge=CHALLENGE)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    granted = (await browser.token(**form, client_id="app")).json()
    assert granted["patient"] == "P1"
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    assert await server.status("GET", "Patient/P1", bearer) == 200
    assert await server.status("GET", "Patient/P2", bearer) == 404
    page = (await server.http.get("/fhir/Condition", headers=bearer)).json()
    assert [row["resource"]["id"] for row in page["entry"]] == ["cP1"]
    events = (await server.http.get("/fhir/AuditEvent?subtype=read&outcome=0", headers=bearer)).json()
    assert [row["resource"]["agent"][0]["who"]["identifier"]["value"] for row in events["entry"]] == ["app"]


async def test_the_picker_shows_the_patients_of_the_hospital(server: Running) -> None:
    """A doctor finds patients by name in the picker, as the roles allow, and sees the chosen name when asked."""
    browser = Browser(server.http, World(server.realm, None, [], {}, []))  # type: ignore[arg-type]
    await browser.authorize(scope="launch/patient patient/*.rs")
    shown = await browser.log_in("dora")
    assert "Family P1" in shown.text
    flow = browser.html.split('name="flow" value="')[1].split('"')[0]
    shown = await browser.open("/auth/flow", flow=flow, q="Family P2")
    assert "Family P2" in shown.text
    shown = await browser.post("/pick", id="P2")
    assert "Family P2" in shown.text
    assert sent(await browser.allow())["code"]


async def test_a_launch_takes_the_patient_from_the_encounter(server: Running) -> None:
    """However the encounter names the patient; one without a patient, or out of the token's sight, is refused."""
    bearer = await server.token("app", "user/*.cruds", "dora")
    subjects: dict[str, Any] = {
        "e1": {"reference": "Patient/P1"},
        "e2": {"reference": f"{BASE}/Patient/P2"},
        "e3": None,
    }
    for identity, subject in subjects.items():
        visit: dict[str, Any] = {
            "resourceType": "Encounter",
            "id": identity,
            "status": "planned",
            "class": {"code": "AMB"},
        }
        visit |= {"subject": subject} if subject else {}
        answer = await server.http.put(f"/fhir/Encounter/{identity}", json=visit, headers=bearer)
        assert answer.status_code == 201, answer.text

    async def launched(held: dict[str, str], **context: str) -> Any:
        made = await server.http.post("/auth/launch", json={"client_id": "app", **context}, headers=held)
        if made.status_code != 201:
            return made.status_code
        browser = Browser(server.http, World(server.realm, None, [], {}, []))  # type: ignore[arg-type]
        request = {"scope": "launch patient/*.rs", "aud": BASE, "code_challenge": CHALLENGE}
        code = await browser.code("dora", launch=made.json()["launch"], **request)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        found = (await browser.token(**form, client_id="app")).json()
        return found["patient"], found["encounter"]

    assert await launched(bearer, encounter="e1") == ("P1", "e1")
    assert await launched(bearer, encounter="e2") == ("P2", "e2")
    assert await launched(bearer, encounter="e1", patient="P2") == 404
    assert await launched(bearer, encounter="e3") == 404
    assert await launched(bearer, patient="nobody") == 404
    narrow = await server.token("app", "user/Observation.rs", "dora")
    assert await launched(narrow, patient="P1") == 404


async def test_revocation_is_seen_within_a_second(server: Running) -> None:
    """A revoked token, a changed role and a disabled user hold on a token that was in use, within a second."""
    bearer = await server.token("app", "user/*.cruds", "dora")
    assert await server.status("GET", "Patient/P1", bearer) == 200
    await users.update(server.realm, "dora", {"roles": ["Auditor"]})
    assert await within_a_second(server, bearer, 403)
    await users.update(server.realm, "dora", {"roles": ["Doctor"]})
    assert await within_a_second(server, bearer, 200)
    await tokens.revoke(server.realm, bearer["Authorization"][7:], "app")
    assert await within_a_second(server, bearer, 401)


async def within_a_second(server: Running, bearer: dict[str, str], wanted: int) -> bool:
    import asyncio

    begin = time.monotonic()
    while time.monotonic() - begin < 1.0:
        if await server.status("GET", "Patient/P1", bearer) == wanted:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_token_ends_when_it_says(server: Running) -> None:
    """An expired token that the worker knows is refused."""
    bearer = await server.token("backend", "system/Patient.rs")
    assert await server.status("GET", "Patient/P1", bearer) == 200
    assert await server.status("GET", "Condition/cP1", bearer) == 403
    gate: Any = server.app.fhir.gate
    for caller in gate._callers.values():
        caller.expires = server.realm.now()
    await server.realm.records.change_all("tokens", {}, {"expires": server.realm.now()})
    assert await server.status("GET", "Patient/P1", bearer) == 401


async def test_writes_are_audited_and_the_chain_holds(server: Running) -> None:
    """What was written over HTTP is in the trail with the address of the peer, and the trail verifies."""
    bearer = await server.token("app", "user/*.cruds", "dora")
    made = await server.http.post("/fhir/Observation", headers=bearer, json=observation("x", "Patient/P1"))
    assert made.status_code == 201
    context: Any = server.app.fhir.context
    assert [fault async for fault in context.trail.verify()] == []
    admin = await server.token("backend", "system/AuditEvent.rs")
    found = (await server.http.get("/fhir/AuditEvent?action=C&_count=100", headers=admin)).json()
    creates = [
        row["resource"] for row in found["entry"] if row["resource"]["agent"][0]["who"]["identifier"]["value"] == "app"
    ]
    assert len(creates) == 1
    assert creates[0]["agent"][0]["network"]["address"] == "127.0.0.1"
    assert creates[0]["agent"][2]["who"]["reference"] == "Practitioner/D1"


async def test_o33_cors_of_the_api(server: Running) -> None:
    """A registered app's origin may call token endpoint and API from a browser; a stranger's may not."""
    bearer = await server.token("app", "user/*.cruds", "dora")
    for origin, fine in (("https://app.example", True), ("https://evil.example", False)):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        for path in ("/fhir/Patient/P1", "/auth/token"):
            before = await server.http.options(path, headers=asked)
            assert (before.headers.get("access-control-allow-origin") == origin) is fine
        answer = await server.http.get("/fhir/Patient/P1", headers={**bearer, "Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is fine
        token = await server.http.post("/auth/token", data={"client_id": "app"}, headers={"Origin": origin})
        assert (token.headers.get("access-control-allow-origin") == origin) is fine
        assert "access-control-allow-credentials" not in answer.headers
    for path in ("/fhir/metadata", "/fhir/.well-known/smart-configuration"):
        answer = await server.http.get(path, headers={"Origin": "https://evil.example"})
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_limits_are_told_and_kept(mongo_url: str, database: str, tmp_path: Path) -> None:
    """X-RateLimit headers count down; beyond the limit 429 with Retry-After, for the caller who went beyond alone."""
    settings: dict[str, Any] = {"rate_data": 5, "rate_general": 8}
    app = build_app(Config(mongo=mongo_url, database=database, data=tmp_path, auth="smart", key="00" * 32, **settings))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.running())
        context: Any = app.fhir.context
        limits: Any = app.fhir.limits
        began = datetime.now(UTC)
        limits.now = lambda: began  # the minute does not end meanwhile
        server = Running(app, await open_realm(app.config, context.store, context))
        await clients.save(server.realm, "backend", BACKEND)
        await clients.save(server.realm, "other", BACKEND)
        bearer = await server.token("backend", "system/*.rs")
        left = []
        for _ in range(7):
            answer = await server.http.get("/fhir/Patient", headers=bearer)
            left.append((answer.status_code, answer.headers["x-ratelimit-remaining"]))
        assert left == [(200, "4"), (200, "3"), (200, "2"), (200, "1"), (200, "0"), (429, "0"), (429, "0")]
        assert int(answer.headers["retry-after"]) <= 60
        assert answer.json()["issue"][0]["code"] == "throttled"
        assert await server.status("GET", "Patient", await server.token("other", "system/*.rs")) == 200
        codes = [(await server.http.get("/auth/jwks")).status_code for _ in range(10)]
        assert codes == [200] * 8 + [429] * 2
        assert (await server.http.get("/health/live")).status_code == 200
        await server.http.aclose()


async def test_limits_are_shared_by_workers(server: Running) -> None:
    """Two workers learn of each other's counts within a second."""
    from fhir_server.http.limiting import Limits

    workers = [Limits(server.realm.records, server.realm.now, {"data": 10}) for _ in range(2)]
    for worker in workers:
        for _ in range(4):
            worker.take("data", "me", "10.0.0.1")
        await worker._flush(worker._window)
    left = workers[1].take("data", "me", "10.0.0.1")
    assert left is not None
    assert left.headers["X-RateLimit-Remaining"] == "1"
    for worker in workers:
        await worker.close()


async def test_l09_conveniences_are_behind_the_gate(server: Running) -> None:
    """Completion and checking of ICD-10 codes need a token that may read code systems."""
    for method, url in (("GET", "/terminology/icd10/search?q=diab"), ("POST", "/terminology/icd10/validate")):
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            assert (await server.http.request(method, url, headers=headers, json={"codes": []})).status_code == 401
    narrow = await server.token("backend", "system/Patient.rs")
    assert (await server.http.get("/terminology/icd10/search?q=diab", headers=narrow)).status_code == 403
    wide = await server.token("backend", "system/*.rs")
    assert (await server.http.get("/terminology/icd10/search?q=diab", headers=wide)).status_code == 200
