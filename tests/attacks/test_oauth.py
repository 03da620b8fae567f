"""docs/security.md O: attacks on authorize, token, sessions and discovery, each with its rightful twin."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from fhir_server.store import Store
from smart_auth import clients, principals, tokens, users
from tests.smart_world import (
    AUTH,
    CALLBACK,
    ISSUER,
    PASSWORD,
    REQUEST,
    VERIFIER,
    Browser,
    World,
    apps,
    asserted,
    assertion,
    make_world,
    sent,
)

pytestmark = pytest.mark.anyio


async def exchange(browser: Browser, code: str, **changes: Any) -> httpx2.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return await browser.token(**{**form, "client_id": "app", **changes})


@pytest.mark.parametrize(
    "uri",
    [
        f"{CALLBACK}/../evil",
        f"{CALLBACK}?x=1",
        f"{CALLBACK}#f",
        "https://app.example.evil.com/cb",
        "http://app.example/cb",
        f"{CALLBACK}/",
        "https://APP.example/cb",
        "https://app.example@evil/cb",
        "https://evil.example/cb",
        "",
        None,
    ],
)
async def test_o01_redirect_uris_match_exactly(browser: Browser, uri: str | None) -> None:
    """No redirect at all to an address that is not registered: a page with 400."""
    answer = await browser.authorize(redirect_uri=uri)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")
    assert "evil" not in answer.text


async def test_o02_an_unknown_client_and_repeated_parameters(browser: Browser) -> None:
    """RFC 6749 §4.1.2.1: a fault in client or address ends on a page, a parameter given twice goes back to the app."""
    assert (await browser.authorize(client_id="nobody")).status_code == 400
    for name in ("redirect_uri", "client_id"):
        twice = [*REQUEST.items(), (name, "https://evil.example/cb")]
        answer = await browser.http.get("/auth/authorize", params=twice)
        assert (answer.status_code, "location" in answer.headers) == (400, False)
    for name, state in (("scope", "s-123"), ("code_challenge", "s-123"), ("state", None), ("foreign", "s-123")):
        twice = [*REQUEST.items(), (name, "x"), (name, "x")]
        told = sent(await browser.http.get("/auth/authorize", params=twice))
        assert (told["error"], told.get("state")) == ("invalid_request", state)
    assert (await browser.authorize()).status_code == 200


@pytest.mark.parametrize("aud", ["https://evil.example/fhir", None, ""])
async def test_o03_the_audience(browser: Browser, aud: str | None) -> None:
    """aud must be this server; a missing one is an error too."""
    answer = await browser.authorize(aud=aud)
    assert sent(answer)["error"] == "invalid_request"
    assert sent(answer)["state"] == "s-123"
    assert (await browser.authorize(aud=ISSUER + "/")).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge_method": "S512"},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge": "x" * 42 + "="},
    ],
)
async def test_o05_pkce_is_s256(browser: Browser, changes: dict[str, Any]) -> None:
    """SMART servers SHALL support S256 and SHALL NOT support plain."""
    assert sent(await browser.authorize(**changes))["error"] == "invalid_request"


@pytest.mark.parametrize("verifier", [None, "", "w" * 43, "v" * 42, "v" * 129, "V" * 43])
async def test_o07_the_verifier_is_checked(browser: Browser, verifier: str | None) -> None:
    """The EHR SHALL ensure that the code_verifier is present and valid; a wrong one uses up the code."""
    code = await browser.code("ada")
    assert (await exchange(browser, code, code_verifier=verifier)).json()["error"] == "invalid_grant"
    assert (await exchange(browser, code)).json()["error"] == "invalid_grant"


async def test_o09_a_code_is_used_once_in_parallel(browser: Browser) -> None:
    """Fifty exchanges of one code give one token."""
    code = await browser.code("ada")
    answers = await asyncio.gather(*(exchange(browser, code) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49


async def test_o10_a_code_of_another_client_or_address_or_time(browser: Browser, world: World) -> None:
    """A code is bound to client and redirect URI and lives a minute; used again, it takes its tokens with it."""
    for change in ({"client_id": "evil"}, {"redirect_uri": "https://evil.example/cb"}, {"redirect_uri": None}):
        code = await browser.code("ada")
        assert (await exchange(browser, code, **change)).json()["error"] == "invalid_grant"
    code = await browser.code("ada")
    world.clock.pass_by(seconds=61)
    assert (await exchange(browser, code)).json()["error"] == "invalid_grant"
    code = await browser.code("ada")
    token = (await exchange(browser, code)).json()["access_token"]
    assert (await exchange(browser, code)).status_code == 400
    assert await principals.of_token(world.realm, token) is None
    assert world.noted("code-replay")


async def test_o11_a_bad_code_is_400(browser: Browser) -> None:
    """POST /token with a code that never was: 400 exactly."""
    answer = await exchange(browser, "BAD_CODE")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_o13_one_way_to_authenticate(browser: Browser, world: World) -> None:
    """A secret in header and body at once, or in the address, is refused; a wrong one is 401."""
    secrets = await apps(world)
    good = {"grant_type": "refresh_token", "refresh_token": "x"}
    both = await browser.token(**good, client_id="web", client_secret=secrets["web"], auth=("web", secrets["web"]))
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    address = await browser.http.post(f"/auth/token?client_id=web&client_secret={secrets['web']}", data=good)
    assert (address.status_code, address.json()["error"]) == (400, "invalid_request")
    wrong = await browser.token(**good, auth=("web", "wrong"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert "Basic" in wrong.headers["www-authenticate"]
    right = await browser.token(**good, auth=("web", secrets["web"]))
    assert right.json()["error"] == "invalid_grant"
    assert (await browser.token(**good, client_id="web")).json()["error"] == "invalid_client"
    assert (await browser.token(**good, client_id="app", client_secret="x")).json()["error"] == "invalid_client"
    doubled = await browser.http.post("/auth/token", content="grant_type=refresh_token&grant_type=x", headers=FORM)
    assert doubled.json()["error"] == "invalid_request"
    assert (await browser.http.post("/auth/token", json=good)).json()["error"] == "invalid_request"
    assert (await browser.token(grant_type="password", username="ada", password="x")).status_code == 400


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_o15_a_refresh_token_replayed_kills_its_family(browser: Browser, world: World) -> None:
    """R1 gives R2; R1 again is refused, and R2 and the access tokens are dead too, with an alert."""
    first = await browser.granted("ada")

    async def refresh(token: str) -> httpx2.Response:
        return await browser.token(grant_type="refresh_token", refresh_token=token, client_id="app")

    second = (await refresh(first["refresh_token"])).json()
    assert await principals.of_token(world.realm, second["access_token"])
    assert (await refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert await principals.of_token(world.realm, second["access_token"]) is None
    assert world.noted("token-replay")


async def test_o15_a_refresh_token_in_parallel_never_forks(browser: Browser) -> None:
    """Ten refreshes at once give at most one answer."""
    first = await browser.granted("ada")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "app"}
    answers = await asyncio.gather(*(browser.token(**form) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 9


async def test_o17_refresh_of_more_of_others_and_after_revocation(browser: Browser, world: World) -> None:
    """Wider scope invalid_scope, another client invalid_grant, after the patient's revocation invalid_grant."""
    found = await browser.granted("ada")
    form = {"grant_type": "refresh_token", "refresh_token": found["refresh_token"]}
    wide = await browser.token(**form, client_id="app", scope="patient/*.cruds")
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")
    other = await browser.token(**form, client_id="evil")
    assert (other.status_code, other.json()["error"]) == (400, "invalid_grant")
    await tokens.revoke_grant(world.realm, "ada", "app")
    late = await browser.token(**form, client_id="app")
    assert (late.status_code, late.json()["error"]) == (400, "invalid_grant")


async def test_o21_a_token_in_the_address_is_no_token(browser: Browser) -> None:
    """?access_token= is ignored: 401."""
    found = await browser.granted("ada")
    assert (await browser.http.get(f"/auth/userinfo?access_token={found['access_token']}")).status_code == 401
    header = {"Authorization": f"Bearer {found['access_token']}"}
    assert (await browser.http.get("/auth/userinfo", headers=header)).status_code == 200


async def test_o23_introspection(browser: Browser, world: World) -> None:
    """401 without authentication, 403 without the right, active false and nothing else for what is no token."""
    found = await browser.granted("ada")
    token = {"token": found["access_token"]}
    secrets = await apps(world)
    assert (await browser.http.post("/auth/introspect", data=token)).status_code == 401
    assert (await browser.http.post("/auth/introspect", data={**token, "client_id": "app"})).status_code == 401
    web = ("web", secrets["web"])
    assert (await browser.http.post("/auth/introspect", data=token, auth=web)).status_code == 403
    await world.realm.records.change("clients", "web", {"rights": ["introspect"]})
    answer = await browser.http.post("/auth/introspect", data={"token": "garbage"}, auth=web)
    assert (answer.status_code, answer.json()) == (200, {"active": False})
    live = (await browser.http.post("/auth/introspect", data=token, auth=web)).json()
    assert {"active", "scope", "client_id", "exp", "patient", "iss", "sub", "fhirUser"} <= live.keys()
    assert (live["active"], live["client_id"], live["patient"]) == (True, "app", "P1")
    world.clock.pass_by(hours=1)
    late = await browser.http.post("/auth/introspect", data=token, auth=web)
    assert late.json() == {"active": False}


async def test_o23_introspection_by_bearer(browser: Browser, world: World) -> None:
    """SMART token introspection: a client that may is allowed to authenticate with a bearer token."""
    await world.realm.records.change("clients", "backend", {"rights": ["introspect"]})
    system = (await browser.http.post("/auth/token", data=asserted(assertion(world, "backend")))).json()
    found = await browser.granted("ada")
    header = {"Authorization": f"Bearer {system['access_token']}"}
    answer = await browser.http.post("/auth/introspect", data={"token": found["access_token"]}, headers=header)
    assert answer.json()["active"] is True
    mine = {"Authorization": f"Bearer {found['access_token']}"}
    refused = await browser.http.post("/auth/introspect", data={"token": found["access_token"]}, headers=mine)
    assert refused.status_code == 403


async def test_o27_forms_of_other_sessions_and_frames(browser: Browser, world: World) -> None:
    """A form without this session's CSRF token is 403; the pages forbid frames and foreign scripts."""
    await browser.authorize()
    shown = await browser.log_in("ada")
    assert shown.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert f"form-action 'self' {CALLBACK.removesuffix('/cb')}" in shown.headers["content-security-policy"]
    other = world.browser()
    await other.authorize()
    theirs = other.html.split('name="csrf" value="')[1].split('"')[0]
    for token in (None, "", theirs):
        answer = await browser.post("/consent", csrf=token, action="allow", scope=["patient/*.rs"])
        assert answer.status_code == 403
        await browser.authorize()
    flow = browser.html.split('name="flow" value="')[1].split('"')[0]
    stolen = await other.post("/consent", flow=flow, action="allow", scope=["patient/*.rs"])
    assert stolen.status_code == 400
    assert sent(await browser.allow())["code"]


async def test_o28_the_session_changes_at_the_login(browser: Browser) -> None:
    """No session fixation: the cookie before the login is worth nothing after it; it is HttpOnly and SameSite."""
    await browser.authorize()
    before = browser.http.cookies["fhir-default-8000"]
    answer = await browser.http.post("/auth/login", data=_hidden(browser) | {"username": "ada", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert browser.http.cookies["fhir-default-8000"] != before
    fixed = {"Cookie": f"fhir-default-8000={before}"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=browser.world.app)) as thief:
        shown = await thief.get(f"{AUTH}/account", headers=fixed)
    assert "Log in" in shown.text


def _hidden(browser: Browser) -> dict[str, str]:
    part = browser.html.split('name="csrf" value="')[1]
    return {"csrf": part.split('"')[0], "flow": part.split('name="flow" value="')[1].split('"')[0]}


async def test_o29_prompt_max_age_and_hint(browser: Browser, world: World) -> None:
    """prompt=none needs a session, max_age and prompt=login ask again, a foreign hint is refused."""
    assert sent(await browser.authorize(prompt="none"))["error"] == "login_required"
    ada = await browser.granted("ada")
    assert sent(await browser.authorize(prompt="none"))["code"]
    world.clock.pass_by(seconds=5)
    assert "password" in (await browser.authorize(max_age="1")).text
    assert sent(await browser.authorize(max_age="1", prompt="none"))["error"] == "login_required"
    assert "password" in (await browser.authorize(prompt="login")).text
    assert sent(await browser.log_in("ada"))["code"]
    assert sent(await browser.authorize(max_age="999", id_token_hint=ada["id_token"]))["code"]
    bob = world.browser()
    await bob.granted("bob")
    assert sent(await bob.authorize(id_token_hint=ada["id_token"]))["error"] == "access_denied"
    assert sent(await bob.authorize(id_token_hint="x.y.z"))["error"] == "invalid_request"
    assert sent(await bob.authorize(prompt="none login"))["error"] == "invalid_request"


async def test_o31_request_objects(browser: Browser, world: World) -> None:
    """request_uri and request are not supported, and nothing is fetched."""
    uri = await browser.authorize(request_uri="http://127.0.0.1:28017/")
    assert sent(uri)["error"] == "request_uri_not_supported"
    assert sent(await browser.authorize(request="e30.e30."))["error"] == "request_not_supported"
    assert world.fetched == []


async def test_o35_the_host_header_changes_nothing(world: World) -> None:
    """Addresses are built from the configuration, not from Host or X-Forwarded-Host."""
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=world.app), base_url="http://evil.example"
    ) as http:
        for path in ("/fhir/.well-known/smart-configuration", "/fhir/.well-known/openid-configuration"):
            assert "evil" not in (await http.get(path, headers=evil)).text
        for client_id in ("nobody", "app"):
            answer = await http.get("/auth/authorize", params={**REQUEST, "client_id": client_id}, headers=evil)
            assert "evil" not in answer.text
            assert "evil" not in answer.headers.get("location", "")


async def test_s03_scope_tricks_at_authorize(browser: Browser) -> None:
    """Undefined scopes are not granted, thousands of them are refused, and one good scope still is."""
    for scope in ("patient/Observation.dus", "patient/*.*extra", "x " * 10_000, "patient/Nothing.rs", ""):
        found = sent(await browser.authorize(scope=scope))
        assert found["error"] == "invalid_scope"
    found = await browser.granted("ada", scope="patient/Observation.dus patient/Observation.rs")
    assert found["scope"] == "patient/Observation.rs"


async def test_s15_a_login_has_no_system_scopes(browser: Browser) -> None:
    """A system scope asked for in a login is invalid_scope."""
    assert sent(await browser.authorize(scope="openid system/*.rs"))["error"] == "invalid_scope"


async def test_patient_scopes_always_have_a_patient(browser: Browser) -> None:
    """If patient/ scopes are granted the EHR SHALL establish a patient in context, launch/patient or not."""
    assert (await browser.granted("ada", scope="patient/*.rs"))["patient"] == "P1"
    await browser.open("/auth/account")
    await browser.post("/logout")
    await browser.authorize(scope="patient/*.rs")
    assert "Choose a patient" in (await browser.log_in("dora")).text


@pytest.mark.parametrize("policy", ["off", "token", "open"])
async def test_registration_follows_the_policy(store: Store, policy: str) -> None:
    """RFC 7591: refused when off, with an initial access token once, or open; never backend access."""
    from smart_auth import registration

    world = await make_world(store, registration=policy)
    browser = world.browser()
    app = {"redirect_uris": ["https://new.example/cb"], "token_endpoint_auth_method": "none", "client_name": "New"}
    plain = await browser.http.post("/auth/register", json=app)
    assert plain.status_code == {"off": 403, "token": 401, "open": 201}[policy]
    if policy == "token":
        header = {"Authorization": f"Bearer {await registration.invite(world.realm)}"}
        plain = await browser.http.post("/auth/register", json=app, headers=header)
        assert plain.status_code == 201
        assert (await browser.http.post("/auth/register", json=app, headers=header)).status_code == 401
    if policy == "open":
        assert await clients.find(world.realm, plain.json()["client_id"])
        for change in BAD_REGISTRATIONS:
            answer = await browser.http.post("/auth/register", json=app | change)
            assert answer.status_code == 400, change
            assert answer.json()["error"] in ("invalid_redirect_uri", "invalid_client_metadata", "invalid_request")


BAD_REGISTRATIONS: list[dict[str, Any]] = [
    {"redirect_uris": []},
    {"redirect_uris": ["http://new.example/cb"]},
    {"redirect_uris": ["https://new.example/cb#x"]},
    {"redirect_uris": ["https://user@new.example/cb"]},
    {"redirect_uris": ["https://*.example/cb"]},
    {"redirect_uris": ["javascript:alert(1)"]},
    {"redirect_uris": ["data:text/html,x"]},
    {"redirect_uris": [{"$ne": 1}]},
    {"redirect_uris": "https://new.example/cb"},
    {"grant_types": ["client_credentials"], "token_endpoint_auth_method": "private_key_jwt"},
    {"grant_types": ["password"]},
    {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://169.254.169.254/"},
    {"token_endpoint_auth_method": "private_key_jwt"},
    {"token_endpoint_auth_method": {"$ne": 1}},
]


async def test_l07_disabled_users_and_changed_roles(browser: Browser, world: World) -> None:
    """A disabled user's tokens are dead, and a changed role holds for tokens that are there."""
    found = await browser.granted("dora", scope="user/*.cruds")
    principal, _ = await principals.of_token(world.realm, found["access_token"]) or (None, None)
    assert principal is not None
    assert [policy.name for policy in principal.policies] == ["Doctor"]
    await users.update(world.realm, "dora", {"roles": ["Auditor"]})
    principal, _ = await principals.of_token(world.realm, found["access_token"]) or (None, None)
    assert principal is not None
    assert [policy.name for policy in principal.policies] == ["Auditor"]
    await users.update(world.realm, "dora", {"disabled": True})
    assert await principals.of_token(world.realm, found["access_token"]) is None


async def test_strange_bodies_are_never_a_fault_of_the_server(browser: Browser, world: World) -> None:
    """Bytes, operators, deep JSON and odd types in every endpoint: 4xx and OAuth error JSON, or a page."""
    bodies: list[tuple[bytes, dict[str, str]]] = [
        (b"\xff\xfe=\x00", FORM),
        (b"client_id[$ne]=x&grant_type[$ne]=y", FORM),
        (b"grant_type=authorization_code&code[$ne]=x&client_id=app", FORM),
        (b"[" * 50_000, {"Content-Type": "application/json"}),
        (b'{"client_id": {"$ne": 1}}', {"Content-Type": "application/json"}),
        (b"null", {"Content-Type": "application/json"}),
        (b"x" * 100_000, FORM),
        (b"", {}),
    ]
    paths = [r.path for r in Starlette(routes=world.app.routes).routes if "POST" in (r.methods or ())]  # type: ignore[attr-defined]
    assert len(paths) > 20
    for path in paths:
        for content, headers in bodies:
            answer = await browser.http.post(path, content=content, headers=headers)
            assert answer.status_code < 500, (path, content[:40])
            assert "Traceback" not in answer.text
