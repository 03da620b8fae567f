"""Apps that attack: what they register, send and repeat (docs/security.md O), each with its rightful twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fhir_server.auth.wiring import open_realm
from fhir_server.store import Store
from smart_auth import clients, principals, tokens
from tests.attacks.test_oauth import exchange
from tests.smart_world import BACKEND, CALLBACK, CHALLENGE, ISSUER, VERIFIER, Browser, World, make_world, sent
from tests.test_http import application

pytestmark = pytest.mark.anyio
NEW = {"redirect_uris": ["https://new.example/cb"], "token_endpoint_auth_method": "none", "client_name": "New"}


@pytest.mark.parametrize(
    "change",
    [
        {"jwks": {"keys": 5}},
        {"jwks": {"keys": [{"kid": {"a": 1}}]}},
        {"post_logout_redirect_uris": 5},
        {"post_logout_redirect_uris": "https://evil.example"},
        {"redirect_uris": ["https://[::1"]},
        {"redirect_uris": ["https://new.example:99999/cb"]},
        {"redirect_uris": ["http://127.0.0.1.evil.example/cb"]},
        {"redirect_uris": ["https://new.example\\@evil.example/cb"]},
        {"redirect_uris": [f"https://new.example/{n}" for n in range(30)]},
        {"jwks_uri": "https://[", "token_endpoint_auth_method": "private_key_jwt"},
    ],
)
async def test_a_registration_of_odd_shape_is_refused(store: Store, change: dict[str, Any]) -> None:
    """400 with an error of RFC 7591, never a fault of the server; the same app without the oddity is registered."""
    made = await make_world(store, registration="open")
    asked = made.browser()
    answer = await asked.http.post("/auth/register", json=NEW | change)
    assert (answer.status_code, answer.json()["error"].startswith("invalid_")) == (400, True)
    assert (await asked.http.post("/auth/register", json=NEW)).status_code == 201


async def test_a_registration_gives_itself_no_rights(store: Store) -> None:
    """Fields that only the operator sets are not taken over, and a name shows what it is."""
    made = await make_world(store, registration="open")
    wish: dict[str, Any] = {"trusted": True, "policies": ["Admin"], "rights": ["introspect"], "origins": ["https://e"]}
    wish |= {"client_name": "Bank\u202eelpmaxe\u0000", "scope": "system/*.cruds user/*.rs", "purpose": "BTG"}
    wish |= {"initiate_login_uri": "javascript:alert(1)", "post_logout_redirect_uris": ["javascript:alert(1)"]}
    answer = await made.browser().http.post("/auth/register", json=NEW | wish)
    held = await clients.find(made.realm, answer.json()["client_id"])
    assert held is not None
    assert not held.keys() & {"trusted", "policies", "rights", "origins", "purpose"}
    assert (held["name"], held["scope"]) == ("Bankelpmaxe", "user/*.rs")
    assert held["launch_uris"] == held["logout_uris"] == []


@pytest.mark.parametrize("header", ["Basic é", "Basic YWRh", "Basic", "Basic d2ViOv8=", "Basic Ojo=", "Bearer x", "x"])
async def test_o13_a_header_that_is_no_authentication(browser: Browser, header: str) -> None:
    """An Authorization header of any bytes is refused as OAuth says; a right one is accepted."""
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": CALLBACK}
    answer = await browser.http.post("/auth/token", data=form, headers={"Authorization": header.encode()})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert (await exchange(browser, await browser.code())).status_code == 200


async def test_o02_too_many_parameters(browser: Browser) -> None:
    """A thousand parameters at authorize are a page with a sentence; a login goes on."""
    answer = await browser.http.get("/auth/authorize?" + "&".join(f"a{n}=1" for n in range(1_000)))
    assert (answer.status_code, "Traceback" in answer.text, "location" in answer.headers) == (400, False, False)
    assert await browser.code()


@pytest.mark.parametrize(
    "change",
    [
        {"resource": "https://evil.example/fhir"},
        {"aud": f"{ISSUER}#x"},
        {"aud": ISSUER.replace("/fhir", "/FHIR")},
        {"nonce": "n" * 3_000},
        {"state": "s" * 3_000},
        {"code_challenge": CHALLENGE + "="},
        {"code_challenge": CHALLENGE[:-1] + "\n"},
        {"response_type": "code token"},
        {"response_type": "token"},
        {"response_mode": "fragment"},
        {"prompt": "none login"},
        {"max_age": "-1"},
        {"scope": "patient/*.rs " * 3_000},
        {"scope": ""},
    ],
)
async def test_o03_o05_authorize_answers_no_odd_request(browser: Browser, change: dict[str, str]) -> None:
    """An error at the registered address, with state and issuer, and never a code; the plain request gets one."""
    answer = await browser.authorize(**change)
    told = sent(answer)
    assert answer.headers["location"].startswith(f"{CALLBACK}?")
    assert (told["error"][:7] in ("invalid", "unsuppo"), "code" in told, told["iss"]) == (True, False, ISSUER)
    assert told["state"] == change.get("state", "s-123")
    assert await browser.code()


async def test_o07_the_challenge_is_no_verifier(browser: Browser) -> None:
    """PKCE is not brought down to plain: what was shown at authorize opens nothing."""
    for verifier in (CHALLENGE, "", VERIFIER[:-1], VERIFIER + "v", VERIFIER.upper()):
        assert (await exchange(browser, await browser.code(), code_verifier=verifier)).status_code == 400
    assert (await exchange(browser, await browser.code())).status_code == 200


async def test_tokens_are_not_taken_for_each_other(browser: Browser, world: World) -> None:
    """A refresh token, an id_token or a code opens no data; an access token refreshes nothing."""
    code = await browser.code()
    found = (await exchange(browser, code)).json()
    for token in (found["refresh_token"], found["id_token"], code, "", " "):
        assert await principals.of_token(world.realm, token) is None
    for token in (found["access_token"], found["id_token"], code):
        refused = await browser.token(grant_type="refresh_token", refresh_token=token, client_id="app")
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
        assert (await exchange(browser, token)).status_code == 400
    found = await browser.granted()
    assert await principals.of_token(world.realm, found["access_token"])
    again = await browser.token(grant_type="refresh_token", refresh_token=found["refresh_token"], client_id="app")
    assert again.status_code == 200


async def test_o17_a_narrow_refresh_ends_nothing_and_widens_nothing(browser: Browser) -> None:
    """RFC 6749 §6: less for one access token; the refresh token keeps what was granted, and never gets more."""
    found = await browser.granted()
    for scope, granted in (
        ("patient/Patient.rs", "patient/Patient.rs"),
        ("patient/Observation.r?category=laboratory", "patient/Observation.r?category=laboratory"),
        (None, found["scope"]),
    ):
        answer = await browser.token(
            grant_type="refresh_token", refresh_token=found["refresh_token"], client_id="app", scope=scope
        )
        assert set(answer.json()["scope"].split()) == set(granted.split())
        assert answer.json()["patient"] == "P1"
        found["refresh_token"] = answer.json()["refresh_token"]
    wide = ("patient/*.cruds", "user/*.rs", "system/*.rs", "patient/*.rs online_access", "launch patient/*.rs")
    for scope in (*wide, "patient/Observation.rs?subject.family=x", "patient/Observation.rs?nonsense=1"):
        answer = await browser.token(
            grant_type="refresh_token", refresh_token=found["refresh_token"], client_id="app", scope=scope
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_s21_a_consent_form_gives_no_more_than_it_offered(browser: Browser, world: World) -> None:
    """Scopes that were added to the posted form are not granted; a patient is not chosen for somebody else."""
    await browser.authorize(scope="launch/patient patient/Observation.rs")
    await browser.log_in("ada")
    assert (await browser.post("/pick", what="patient", id="P2")).status_code == 403
    await browser.authorize(scope="launch/patient patient/Observation.rs")
    wish = ["patient/*.cruds", "patient/Observation.rs", "offline_access", "system/*.rs", "user/*.cruds"]
    answer = await browser.post("/consent", action="allow", scope=wish)
    found = (await exchange(browser, sent(answer)["code"])).json()
    assert (set(found["scope"].split()), found["patient"]) == ({"launch/patient", "patient/Observation.rs"}, "P1")
    assert "refresh_token" not in found


async def test_o27_a_flow_belongs_to_its_browser(browser: Browser, world: World) -> None:
    """Nobody goes on with, allows or reads the login of another browser; its own goes on."""
    await browser.authorize()
    await browser.log_in("bob")
    flow = browser.html.split('name="flow" value="')[1].split('"')[0]
    other = world.browser()
    await other.granted("ada")
    assert (await other.http.get("/auth/flow", params={"flow": flow})).status_code == 400
    await other.open("/auth/account")
    for path in ("/consent", "/cancel", "/pick"):
        refused = await other.post(path, flow=flow, action="allow", scope=["patient/*.rs"], what="patient", id="P1")
        assert (refused.status_code in (400, 403), "location" in refused.headers) == (True, False)
    assert "code" in sent(await browser.allow())


async def test_o27_pages_over_tls(store: Store) -> None:
    """On https the cookie is bound to the host and the browser is told to stay on https; on loopback neither."""
    for issuer, secure in (("https://fhir.example/fhir", True), ("http://127.0.0.1:8000/fhir", False)):
        made = await make_world(store)
        realm = replace(made.realm, issuer=issuer, auth=issuer.replace("/fhir", "/auth").replace("//auth", "//fhir"))
        made.realm = realm
        answer = await made.browser().http.get("/auth/account")
        assert ("strict-transport-security" in answer.headers) is secure
        cookie = answer.headers["set-cookie"]
        assert (cookie.startswith("__Host-"), "Secure" in cookie) == (secure, secure)
        assert ("HttpOnly" in cookie, "SameSite=lax" in cookie) == (True, True)
        assert answer.headers["x-frame-options"] == "DENY"


async def test_guessing_tokens_is_slowed_down(mongo_url: str, database: str, tmp_path: Path) -> None:
    """Tokens that are no good are counted by address, and so are the ICD-10 conveniences; a good token goes on."""
    settings: dict[str, Any] = {"auth": "smart", "key": "00" * 32, "rate_general": 5, "rate_data": 8}
    async with application(mongo_url, database, tmp_path, **settings) as app:
        context: Any = app.fhir.context
        limits: Any = app.fhir.limits
        began = datetime.now(UTC)
        limits.now = lambda: began  # the minute does not end meanwhile
        realm = await open_realm(app.config, context.store, context)
        await clients.save(realm, "backend", BACKEND | {"scope": "system/*.rs"})
        made = await tokens.made(realm, "backend", "", "system/*.rs", {})
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8000"
        ) as http:

            async def statuses(path: str, token: str) -> list[int]:
                headers = {"Authorization": f"Bearer {token}"}
                return [(await http.get(path, headers=headers)).status_code for _ in range(7)]

            assert await statuses("/fhir/Patient", "guess") == [401] * 5 + [429] * 2
            assert await statuses("/terminology/icd10/search?q=a", "guess") == [429] * 7
            assert await statuses("/fhir/Patient", made["access_token"]) == [200] * 7
            assert (await statuses("/terminology/icd10/search?q=a", made["access_token"]))[-6:] == [429] * 6


async def test_p15_a_convenience_reads_no_more_than_it_takes(mongo_url: str, database: str, tmp_path: Path) -> None:
    """60 MB to the ICD-10 check: refused while it arrives, and before it is read where no token comes with it."""
    for auth, status in (("smart", 401), ("none", 413)):
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(60):
                taken += 1
                yield b" " * 1_000_000

        async with application(mongo_url, database, tmp_path, auth=auth, key="00" * 32) as app:
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                answer = await http.post("/terminology/icd10/validate", content=endless())
                assert (answer.status_code, taken < 5) == (status, True)
                if auth == "none":
                    fine = await http.post("/terminology/icd10/validate", json=["E11.9"])
                    assert fine.status_code == 200


async def test_s13_a_token_for_one_patient_opens_no_other(browser: Browser, world: World) -> None:
    """An app with a doctor's token for P1 cannot make itself a launch for P2; the doctor's own system can."""
    bound = await browser.granted("dora", scope="openid launch/patient patient/*.rs")
    system = await browser.granted("dora", scope="openid user/*.rs")
    for token, patient, status in (
        (bound, "P2", 403),
        (bound, "P1", 403),
        (system, "P2", 201),
    ):
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        answer = await browser.http.post("/auth/launch", json={"client_id": "app", "patient": patient}, headers=bearer)
        assert answer.status_code == status, answer.text
    found = await browser.granted("dora", scope="launch patient/*.rs", launch=answer.json()["launch"])
    assert found["patient"] == "P2"
