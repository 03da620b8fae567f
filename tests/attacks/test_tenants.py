"""Tenants: nothing of one is seen, matched, cached or accepted in another (docs/security.md T07, T13, T21, T23)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from fhir_server.app import App, build_app
from fhir_server.auth.wiring import open_beside_realm
from fhir_server.config import Config
from fhir_server.store.tenants import add_tenant, remove_tenant
from fhir_server.tenants import config_of
from profiles.outcome import FhirError
from smart_auth import clients, tokens, users
from smart_auth.realm import Realm
from tests.hospital import condition
from tests.smart_world import BACKEND, PASSWORD

pytestmark = pytest.mark.anyio
ROOT = "http://127.0.0.1:8000"
TENANTS = ("aa", "bb")


class Server:
    """A server with the tenants aa and bb, and a token for everything in each."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ROOT)
        self.realms: dict[str, Realm] = {}
        self.tokens: dict[str, str] = {}

    @property
    def store(self) -> Any:
        assert self.app.fhir.context is not None
        return self.app.fhir.context.store

    async def found(self, name: str) -> None:
        """Make a tenant as the command does, with a client for backend services."""
        realm = await open_beside_realm(config_of(self.app.config, name), self.store)
        assert await add_tenant(self.store, name)
        await clients.save(realm, "backend", BACKEND | {"scope": "system/*.cruds"})
        made = await tokens.made(realm, "backend", "", "system/*.cruds", {})
        self.realms[name], self.tokens[name] = realm, made["access_token"]

    async def ask(
        self, tenant: str, method: str, url: str, body: Any = None, token: str | None = None, **headers: str
    ) -> httpx2.Response:
        """A request at one tenant, with the token of another where that is asked for."""
        head = {"Authorization": f"Bearer {self.tokens[token or tenant]}"} | headers
        address = url if url.startswith("http") else f"/t/{tenant}/fhir/{url}"
        return await self.http.request(method, address, json=body, headers=head)


@pytest.fixture
def databases(mongo_url: str, database: str) -> Iterator[str]:
    yield database
    with MongoClient(mongo_url) as client:
        for name in client.list_database_names():
            if name.startswith(f"{database}_t_"):
                client.drop_database(name)


@pytest.fixture
async def server(mongo_url: str, databases: str, tmp_path: Path) -> AsyncIterator[Server]:
    app = build_app(
        Config(mongo=mongo_url, database=databases, data=tmp_path, auth="smart", key="00" * 32, tenant="bb")
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.running())
        running = Server(app)
        for name in TENANTS:
            await running.found(name)
        yield running
        await running.http.aclose()


def patient(name: str, id: str = "same") -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "name": [{"family": name}], "identifier": [{"value": "1"}]}


async def test_one_id_is_two_resources(server: Server) -> None:
    """The same id in two tenants: each has its own content, history, search results and totals."""
    for name in TENANTS:
        assert (await server.ask(name, "PUT", "Patient/same", patient(f"Of-{name}"))).status_code == 201
    assert (await server.ask("aa", "PUT", "Patient/alone", patient("Alone", "alone"))).status_code == 201
    for name, other in (TENANTS, TENANTS[::-1]):
        for url in ("Patient/same", "Patient?family=of", "Patient/same/_history", "_history", "Patient"):
            answer = await server.ask(name, "GET", url)
            assert answer.status_code == 200
            assert f"Of-{name}" in answer.text
            assert f"Of-{other}" not in answer.text
            assert f"{ROOT}/t/{other}" not in answer.text
    assert (await server.ask("bb", "GET", "Patient/alone")).status_code == 404
    assert (await server.ask("aa", "GET", "Patient?_summary=count")).json()["total"] == 2
    assert (await server.ask("bb", "GET", "Patient?_summary=count")).json()["total"] == 1
    default = await server.http.get("/fhir/Patient/same", headers={"Authorization": f"Bearer {server.tokens['aa']}"})
    assert default.status_code == 401


async def test_t23_a_token_is_good_in_its_tenant_alone(server: Server) -> None:
    """Headers, paths and addresses that claim another tenant get no further than an unknown token."""
    assert (await server.ask("bb", "GET", "Patient", token="aa")).status_code == 401
    assert (await server.ask("aa", "GET", "Patient", **{"X-Tenant": "bb", "X-Tenant-Id": "bb"})).status_code == 200
    await server.ask("bb", "PUT", "Patient/secret", patient("Secret", "secret"))
    for path in (
        "/t/aa/%2e%2e/bb/fhir/Patient/secret",
        "/t/aa/../bb/fhir/Patient/secret",
        "/t/aa/fhir/../../bb/fhir/Patient/secret",
        "/t/aa/fhir/%2e%2e/%2e%2e/bb/fhir/Patient/secret",
        "/t/aa//bb/fhir/Patient/secret",
        "/t//fhir/Patient/secret",
        "/t/AA/fhir/Patient/secret",
        "/t/bb%00/fhir/Patient/secret",
        "/t/none/fhir/Patient/secret",
        "/t/default/fhir/Patient/secret",
        "/t/aa/t/bb/fhir/Patient/secret",
    ):
        answer = await server.http.get(path, headers={"Authorization": f"Bearer {server.tokens['aa']}"})
        assert answer.status_code in (400, 401, 403, 404), path
        assert "Secret" not in answer.text
    assert (await server.ask("bb", "GET", "Patient/secret")).status_code == 200


async def test_t23_conveniences_are_the_tenants_own(server: Server) -> None:
    """Completion, introspection and userinfo of a tenant know nothing of another's token."""
    for place in ("/t/{}/terminology/icd10/search?q=diab", "/t/{}/auth/userinfo"):
        assert (await server.ask("aa", "GET", ROOT + place.format("aa"), token="bb")).status_code == 401
        assert (await server.ask("aa", "GET", ROOT + place.format("aa"))).status_code in (200, 403)
    asked = await server.http.post(
        "/t/aa/auth/introspect",
        content=f"token={server.tokens['bb']}",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {server.tokens['bb']}"},
    )
    assert asked.status_code == 401


async def test_absolute_addresses_stay_in_their_tenant(server: Server) -> None:
    """Entries and references with the other tenant's address are foreign: not read, not resolved, not included."""
    await server.ask("bb", "PUT", "Patient/secret", patient("Secret", "secret"))
    there = f"{ROOT}/t/bb/fhir/Patient/secret"
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": there}}]}
    told = (await server.ask("aa", "POST", "", batch)).json()["entry"][0]["response"]["status"]
    assert told[:3] in ("400", "404")
    assert (await server.ask("aa", "PUT", "Condition/c", condition("c", there))).status_code == 201
    found = await server.ask("aa", "GET", "Condition?_include=*&_id=c")
    assert [row["resource"]["id"] for row in found.json()["entry"]] == ["c"]
    assert (await server.ask("aa", "GET", "Condition?subject:Patient.family=secret")).json()["total"] == 0
    graph = {"query": '{Condition(id:"c"){subject{resource(type:Patient){name{family}}}}}'}
    answer = await server.ask("aa", "POST", "$graphql", graph)
    assert "Secret" not in answer.text


async def test_page_links_are_good_in_their_tenant_alone(server: Server) -> None:
    """A page link carried over to another tenant is no link."""
    for name in TENANTS:
        for number in range(3):
            await server.ask(name, "PUT", f"Patient/p{number}", patient(f"Of-{name}", f"p{number}"))
    page = (await server.ask("aa", "GET", "Patient?_count=1")).json()
    link = next(row["url"] for row in page["link"] if row["relation"] == "next")
    assert link.startswith(f"{ROOT}/t/aa/fhir/Patient")
    assert (await server.ask("aa", "GET", link)).status_code == 200
    assert (await server.ask("bb", "GET", link.replace("/t/aa/", "/t/bb/"))).status_code == 400


async def test_t13_the_same_condition_in_both_at_once(server: Server) -> None:
    """A conditional create with the same criteria in both tenants at once: both 201, and both 200 again."""
    for expected in (201, 200):
        asked = (
            server.ask(name, "POST", "Patient", {"resourceType": "Patient", "identifier": [{"value": "one"}]}, **IF)
            for name in TENANTS
        )
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [expected, expected]


IF = {"If-None-Exist": "identifier=one"}


async def test_t21_definitions_and_parameters_are_the_tenants_own(server: Server) -> None:
    """Code systems, value sets and search parameters of one tenant are unknown in the other, cached or not."""
    codes = {
        "resourceType": "CodeSystem",
        "id": "cs",
        "url": "http://bb/cs",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "x", "display": "Secret word"}],
    }
    values = {"resourceType": "ValueSet", "id": "vs", "url": "http://bb/vs", "status": "active"}
    values["compose"] = {"include": [{"system": "http://bb/cs"}]}  # type: ignore[assignment]
    parameter = {
        "resourceType": "SearchParameter",
        "id": "shade",
        "url": "http://bb/shade",
        "name": "shade",
        "status": "active",
        "description": "x",
        "code": "shade",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.gender",
    }
    for body in (codes, values, parameter):
        answer = await server.ask("bb", "PUT", f"{body['resourceType']}/{body['id']}", body)
        assert answer.status_code == 201
    lookup = "CodeSystem/$lookup?system=http://bb/cs&code=x"
    for _ in range(2):
        assert "Secret word" in (await server.ask("bb", "GET", lookup)).text
        assert "Secret word" in (await server.ask("bb", "GET", "ValueSet/$expand?url=http://bb/vs")).text
        for url in (lookup, "ValueSet/$expand?url=http://bb/vs", "CodeSystem?url=http://bb/cs"):
            answer = await server.ask("aa", "GET", url)
            assert answer.status_code == 404 or answer.json().get("total") == 0
            assert "Secret word" not in answer.text
    for _ in range(100):
        if (await server.ask("bb", "GET", "Patient?shade=male")).status_code == 200:
            break
        await asyncio.sleep(0.1)
    assert (await server.ask("bb", "GET", "Patient?shade=male")).status_code == 200
    assert (await server.ask("aa", "GET", "Patient?shade=male")).status_code == 400
    assert "http://bb/shade" not in (await server.ask("aa", "GET", "metadata")).text
    assert f"{ROOT}/t/aa/fhir" in (await server.ask("aa", "GET", "metadata")).text


async def test_people_keys_and_apps_are_the_tenants_own(server: Server) -> None:
    """A user and a client of one tenant are unknown in the other; discovery, keys and cookies differ."""
    await users.create(server.realms["aa"], "dora", PASSWORD, {"roles": ["Doctor"]})
    assert await users.by_password(server.realms["aa"], "dora", PASSWORD) is not None
    assert await users.by_password(server.realms["bb"], "dora", PASSWORD) is None
    await clients.save(server.realms["aa"], "mine", BACKEND)
    assert await clients.find(server.realms["bb"], "mine") is None
    found = {}
    for name in TENANTS:
        document = (await server.http.get(f"/t/{name}/fhir/.well-known/smart-configuration")).json()
        assert document["token_endpoint"] == f"{ROOT}/t/{name}/auth/token"
        found[name] = (await server.http.get(f"/t/{name}/auth/jwks")).json()["keys"][0]["kid"]
    assert found["aa"] != found["bb"]
    login = await server.http.get("/t/aa/auth/account")
    assert all("fhir-aa" in cookie for cookie in login.headers.get_list("set-cookie"))
    refused = await server.http.post("/t/bb/auth/introspect", data={"token": server.tokens["aa"]})
    assert refused.status_code == 401


async def test_audit_trails_are_the_tenants_own(server: Server) -> None:
    """What happens in one tenant is told in its own trail, which verifies under its own key."""
    await server.ask("aa", "PUT", "Patient/same", patient("Of-aa"))
    await server.ask("bb", "GET", "Patient")
    for name, count in (("aa", 1), ("bb", 0)):
        events = (await server.ask(name, "GET", "AuditEvent?action=U")).json()
        assert events["total"] == count
        app = await server.app.tenants.find(name)
        assert app is not None
        assert app.fhir.context is not None
        assert [fault async for fault in app.fhir.context.trail.verify()] == []


async def test_a_deleted_tenant_is_gone_and_a_new_one_is_empty(server: Server) -> None:
    """After a delete: 404 within a second, no database, and a tenant of the same name starts from nothing."""
    await server.ask("bb", "PUT", "Patient/same", patient("Of-bb"))
    own = config_of(server.app.config, "bb").database
    assert await remove_tenant(server.store, "bb", own)
    for _ in range(30):
        if (await server.ask("bb", "GET", "Patient/same")).status_code == 404:
            break
        await asyncio.sleep(0.1)
    assert (await server.ask("bb", "GET", "Patient/same")).status_code == 404
    assert (await server.ask("aa", "GET", "Patient")).status_code == 200
    old = server.tokens["bb"]
    await server.found("bb")
    await asyncio.sleep(0.6)
    assert (await server.ask("bb", "GET", "Patient/same")).status_code == 404
    headers = {"Authorization": f"Bearer {old}"}
    assert (await server.http.get("/t/bb/fhir/Patient", headers=headers)).status_code == 401


async def test_a_namesake_born_between_two_looks_is_another(server: Server) -> None:
    """A tenant deleted and made again before a worker looks: the old one's tokens and caches are not the new one's."""
    old = {"Authorization": f"Bearer {server.tokens['bb']}"}
    assert (await server.ask("bb", "GET", "Patient")).status_code == 200
    assert await remove_tenant(server.store, "bb", config_of(server.app.config, "bb").database)
    assert await add_tenant(server.store, "bb")
    await asyncio.sleep(0.6)
    assert (await server.http.get("/t/bb/fhir/Patient", headers=old)).status_code == 401


async def test_the_command(server: Server, tmp_path: Path) -> None:
    """create makes an administrator, export leaves secrets out, delete takes all; odd and taken names are refused."""
    from fhir_server.commands.tenants import Desk, created, deleted, exported

    assert server.app.fhir.context is not None
    desk = Desk(server.app.config, server.store, server.app.fhir.context.trail)
    told = await created(desk, "ward-1")
    assert "/t/ward-1/fhir" in told
    assert "First user admin, password" in told
    for name in ("ward-1", "default", "A", "x_y", "", "-a", "a" * 40, "../x"):
        with pytest.raises(FhirError):
            await created(desk, name)
    await server.ask("aa", "PUT", "Patient/same", patient("Of-aa"))
    await users.create(server.realms["aa"], "dora", PASSWORD, {"roles": ["Doctor"]})
    assert await exported(desk, "aa", tmp_path / "out") > 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "Patient.ndjson").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ["same"]
    text = (tmp_path / "out" / "users.json").read_text()
    assert "dora" in text
    assert "argon2" not in text
    with pytest.raises(FhirError, match="name another folder"):
        await exported(desk, "aa", tmp_path / "out")
    await deleted(desk, "ward-1")
    with pytest.raises(FhirError):
        await exported(desk, "ward-1", tmp_path / "out2")
