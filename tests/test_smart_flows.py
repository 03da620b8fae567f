"""SMART App Launch 2.2 over HTTP: authorize, token, refresh, launch, discovery, on a real database."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.smart_world import (
    ASSERTION_TYPE,
    AUTH,
    CALLBACK,
    ISSUER,
    REQUEST,
    VERIFIER,
    Browser,
    World,
    apps,
    assertion,
    sent,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(world: World) -> World:
    await world.realm.records.prepare()  # type: ignore[attr-defined]
    return world


async def exchange(browser: Browser, code: str, **changes: Any) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return await browser.token(**{**form, "client_id": "app", **changes})


async def test_standalone_launch_of_a_patient(browser: Browser) -> None:
    """A patient logs in, allows the app, and gets token, id_token, refresh token and the own record as context."""
    shown = await browser.authorize()
    assert shown.status_code == 200
    assert "Growth chart" in shown.text
    shown = await browser.log_in("ada")
    assert "See all data, of kinds stored later too, about this patient" in shown.text
    assert "Ada Lovelace" in shown.text
    answer = await browser.allow()
    assert answer.headers["location"].startswith(f"{CALLBACK}?")
    assert sent(answer)["state"] == "s-123"
    assert sent(answer)["iss"] == ISSUER
    found = (await exchange(browser, sent(answer)["code"])).json()
    assert found["patient"] == "P1"
    assert found["token_type"] == "Bearer"
    assert found["scope"] == "openid fhirUser launch/patient offline_access patient/*.rs"
    assert found["refresh_token"]
    assert 0 < found["expires_in"] <= 3600
    keys = KeySet.import_key_set((await browser.open("/auth/jwks")).json())
    claims = jwt.decode(found["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == ISSUER
    assert claims["aud"] == "app"
    assert claims["fhirUser"] == f"{ISSUER}/Patient/P1"


async def test_standalone_launch_with_a_patient_picker(browser: Browser) -> None:
    """A doctor searches and chooses the patient; the token carries it."""
    await browser.authorize(scope="launch/patient launch/encounter patient/Observation.rs")
    shown = await browser.log_in("dora")
    assert "Choose a patient" in shown.text
    assert "Bob Bell" in shown.text
    flow = browser.html.split('name="flow" value="')[1].split('"')[0]
    shown = await browser.open("/auth/flow", flow=flow, q="ada")
    assert "Bob Bell" not in shown.text
    shown = await browser.post("/pick", id="P1")
    assert "Choose a visit" in shown.text
    await browser.post("/pick", id="E1")
    found = (await exchange(browser, sent(await browser.allow())["code"])).json()
    assert (found["patient"], found["encounter"]) == ("P1", "E1")
    assert "id_token" not in found
    assert "refresh_token" not in found


async def test_a_patient_who_is_not_in_the_list_cannot_be_picked(browser: Browser) -> None:
    """An id that the picker would not show is refused."""
    await browser.authorize(scope="launch/patient patient/Observation.rs")
    await browser.log_in("dora")
    assert (await browser.post("/pick", id="P9")).status_code == 404
    await browser.authorize(scope="launch/patient patient/Observation.rs")
    assert "consent" in (await browser.post("/pick", id="P2")).text


async def test_ehr_launch(browser: Browser) -> None:
    """The EHR makes a launch for app, patient and encounter; the app gets them, the banner and the style."""
    ehr = await browser.granted("dora", scope="openid user/*.rs")
    bearer = {"Authorization": f"Bearer {ehr['access_token']}"}
    context = {"client_id": "app", "patient": "P2", "encounter": "E2", "need_patient_banner": False, "intent": "growth"}
    context["fhirContext"] = [{"reference": "DiagnosticReport/1"}]
    made = await browser.http.post("/auth/launch", json=context, headers=bearer)
    assert made.status_code == 201
    assert made.json()["url"].startswith("https://app.example/launch?iss=http")
    launch = made.json()["launch"]
    code = await browser.code("dora", scope="launch patient/*.rs", launch=launch)
    found = (await exchange(browser, code)).json()
    assert (found["patient"], found["encounter"], found["need_patient_banner"]) == ("P2", "E2", False)
    assert found["fhirContext"] == [{"reference": "DiagnosticReport/1"}]
    assert found["intent"] == "growth"
    assert (await browser.open(found["smart_style_url"])).json()["color_text"]


async def test_a_launch_with_an_encounter_is_for_its_patient(browser: Browser) -> None:
    """SMART 2.2, launch context: patient and encounter belong together; what nobody sees here is not launched."""
    ehr = await browser.granted("dora", scope="openid user/*.rs")
    bearer = {"Authorization": f"Bearer {ehr['access_token']}"}

    async def made(**context: Any) -> httpx2.Response:
        return await browser.http.post("/auth/launch", json={"client_id": "app", **context}, headers=bearer)

    launch = (await made(encounter="E2")).json()["launch"]
    found = (await exchange(browser, await browser.code("dora", scope="launch patient/*.rs", launch=launch))).json()
    assert (found["patient"], found["encounter"]) == ("P2", "E2")
    for wrong in ({"patient": "P2", "encounter": "E1"}, {"patient": "P9"}, {"encounter": "E9"}):
        assert (await made(**wrong)).status_code == 404
    assert (await made(patient="P1/..")).json()["error"] == "invalid_request"
    await browser.open("/auth/apps", client="app", patient="P1")
    launch = sent(await browser.post("/apps", client="app", encounter="E2"))["launch"]
    found = (await exchange(browser, await browser.code("dora", scope="launch patient/*.rs", launch=launch))).json()
    assert (found["patient"], found["encounter"]) == ("P2", "E2")


async def test_an_app_is_opened_from_the_pages_of_the_house(browser: Browser) -> None:
    """A doctor logs in, chooses app, patient and visit, and lands at the app with a launch that gives the context."""
    await browser.open("/auth/apps")
    shown = await browser.log_in("dora")
    assert "Open an app" in shown.text
    assert "Ada Lovelace" in (await browser.open("/auth/apps", client="app")).text
    shown = await browser.open("/auth/apps", client="app", patient="P1")
    assert "form-action 'self' https://app.example" in shown.headers["content-security-policy"]
    answer = await browser.post("/apps", client="app", patient="P1", encounter="E1")
    assert answer.headers["location"].startswith("https://app.example/launch?iss=http")
    launch = sent(answer)["launch"]
    code = await browser.code("dora", scope="launch patient/*.rs", launch=launch)
    found = (await exchange(browser, code)).json()
    assert (found["patient"], found["encounter"]) == ("P1", "E1")


async def test_only_who_may_opens_apps_and_only_for_patients_in_sight(browser: Browser, world: World) -> None:
    """A patient has no such page; an unknown patient, another's visit, an unknown app or a strange form are refused."""
    await browser.open("/auth/apps")
    await browser.log_in("dora")
    await browser.open("/auth/apps", client="app", patient="P1")
    assert (await browser.http.get("/auth/apps?client=backend")).status_code == 404
    wrong: list[dict[str, str]] = [{"patient": "P9"}, {"patient": "P2", "encounter": "E1"}, {"client": "nothing"}]
    for fields in wrong:
        await browser.open("/auth/apps", client="app", patient="P1")
        assert (await browser.post("/apps", **{"client": "app", **fields})).status_code == 404
    assert (await browser.http.post("/auth/apps", data={"client": "app", "csrf": "x"})).status_code == 403
    ada = world.browser()
    await ada.open("/auth/apps")
    assert (await ada.log_in("ada")).status_code == 403


async def test_o25_a_launch_is_used_once_by_its_client_and_user(browser: Browser, world: World) -> None:
    """A launch value replayed, of another client, expired, or of another user gives no code."""
    ehr = await browser.granted("dora", scope="openid user/*.rs")
    bearer = {"Authorization": f"Bearer {ehr['access_token']}"}

    async def launch(client: str = "app") -> str:
        made = await browser.http.post("/auth/launch", json={"client_id": client, "patient": "P2"}, headers=bearer)
        return str(made.json()["launch"])

    first = await launch()
    assert await browser.code("dora", scope="launch patient/*.rs", launch=first)
    for value in (first, await launch("web"), "nonsense", None):
        answer = await browser.authorize(scope="launch patient/*.rs", launch=value)
        assert sent(answer)["error"] == "invalid_request"
    old = await launch()
    world.clock.pass_by(minutes=6)
    assert sent(await browser.authorize(scope="launch patient/*.rs", launch=old))["error"] == "invalid_request"
    other = world.browser()
    await other.authorize(scope="launch patient/*.rs", launch=await launch())
    assert sent(await other.log_in("nora"))["error"] == "access_denied"
    assert (await browser.http.post("/auth/launch", json={"client_id": "app"})).status_code == 401
    ada = await world.browser().granted("ada", scope="user/*.rs")
    mine = {"Authorization": f"Bearer {ada['access_token']}"}
    assert (await browser.http.post("/auth/launch", json={"client_id": "app"}, headers=mine)).status_code == 403


async def test_authorize_by_post(browser: Browser) -> None:
    """Authorization servers SHALL support GET and POST at the authorization endpoint."""
    await browser.http.post("/auth/authorize", data=REQUEST)
    answer = await browser._show(await browser.http.post("/auth/authorize", data=REQUEST))
    assert "Growth chart" in answer.text
    await browser.log_in("ada")
    assert sent(await browser.allow())["code"]


async def test_s21_a_scope_that_the_user_unticks_is_not_granted(browser: Browser) -> None:
    """The consent page lets a user take scopes away, and only known ones come back."""
    await browser.authorize(
        scope="openid fhirUser launch/patient patient/Observation.rs patient/Condition.rs offline_access"
    )
    await browser.log_in("ada")
    answer = await browser.allow("patient/Condition.rs", "offline_access")
    found = (await exchange(browser, sent(answer)["code"])).json()
    assert found["scope"] == "openid fhirUser launch/patient patient/Observation.rs"
    assert "refresh_token" not in found
    await browser.authorize(scope="openid launch/patient patient/Observation.rs", prompt="consent")
    answer = await browser.post("/consent", action="allow", scope=["patient/*.cruds", "system/*.cruds"])
    assert (await exchange(browser, sent(answer)["code"])).json()["scope"] == "openid launch/patient"


async def test_a_remembered_consent_is_not_asked_again_unless_more_is_wanted(browser: Browser) -> None:
    """A second login for the same or less passes; more scopes, or prompt=consent, ask again."""
    await browser.granted("ada")
    assert sent(await browser.authorize())["code"]
    assert sent(await browser.authorize(scope="launch/patient patient/Observation.r"))["code"]
    assert "Allow" in (await browser.authorize(scope="launch/patient patient/*.cruds")).text
    assert "Allow" in (await browser.authorize(prompt="consent")).text
    last = await browser.authorize(prompt="none")
    assert "code" in sent(last), last.headers


async def test_the_user_can_refuse_or_cancel(browser: Browser) -> None:
    """A refusal is an access_denied at the redirect URI, with the state."""
    await browser.authorize()
    denied = sent(await browser.post("/cancel"))
    assert (denied["error"], denied["state"]) == ("access_denied", "s-123")
    await browser.authorize()
    await browser.log_in("ada")
    assert sent(await browser.post("/consent", action="deny"))["error"] == "access_denied"


async def test_refresh_rotates_and_keeps_the_context(browser: Browser) -> None:
    """A refresh gives new tokens with the same patient; a narrower scope holds for that token alone."""
    first = await browser.granted("ada")
    answer = await browser.token(
        grant_type="refresh_token", refresh_token=first["refresh_token"], client_id="app", scope="patient/Observation.r"
    )
    second = answer.json()
    assert second["patient"] == "P1"
    assert second["scope"] == "patient/Observation.r"
    third = (
        await browser.token(grant_type="refresh_token", refresh_token=second["refresh_token"], client_id="app")
    ).json()
    assert third["scope"] == first["scope"]
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3


async def test_a_public_app_refreshes_without_naming_itself(browser: Browser) -> None:
    """npm fhirclient sends no client_id at a refresh; a confidential client still has to authenticate."""
    first = await browser.granted("ada")
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = await browser.token(**refresh)
    assert second.json()["patient"] == "P1"
    assert (await browser.token(**refresh)).json()["error"] == "invalid_grant"
    assert (await browser.token(grant_type="refresh_token", refresh_token="x")).json()["error"] == "invalid_grant"
    assert (await browser.token(grant_type="refresh_token")).json()["error"] == "invalid_grant"
    code = await browser.code("ada", client_id="signed")
    answer = await browser.token(
        grant_type="authorization_code",
        code=code,
        redirect_uri=CALLBACK,
        code_verifier=VERIFIER,
        client_assertion_type=ASSERTION_TYPE,
        client_assertion=assertion(browser.world, "signed"),
    )
    held = {"grant_type": "refresh_token", "refresh_token": answer.json()["refresh_token"]}
    assert (await browser.token(**held)).json()["error"] == "invalid_client"


async def test_online_access_ends_with_the_session(browser: Browser) -> None:
    """online_access: a refresh token that is usable for as long as the end-user remains online."""
    found = await browser.granted("ada", scope="launch/patient patient/*.rs online_access")
    answer = await browser.token(grant_type="refresh_token", refresh_token=found["refresh_token"], client_id="app")
    assert answer.status_code == 200
    await browser.open("/auth/account")
    await browser.post("/logout")
    again = await browser.token(
        grant_type="refresh_token", refresh_token=answer.json()["refresh_token"], client_id="app"
    )
    assert again.json()["error"] == "invalid_grant"


async def test_an_app_that_asks_again_after_the_session_is_no_alarm(browser: Browser, world: World) -> None:
    """RFC 6749 §10.4 is about tokens that were used: one that was refused is not, and one that was used still is."""
    first = (await browser.granted("ada", scope="launch/patient patient/*.rs online_access"))["refresh_token"]
    refresh = {"grant_type": "refresh_token", "client_id": "app"}
    second = (await browser.token(refresh_token=first, **refresh)).json()["refresh_token"]
    await browser.open("/auth/account")
    await browser.post("/logout")
    for _ in range(3):
        assert (await browser.token(refresh_token=second, **refresh)).json()["error"] == "invalid_grant"
    assert world.noted("token-replay") == []
    assert (await browser.token(refresh_token=first, **refresh)).json()["error"] == "invalid_grant"
    assert len(world.noted("token-replay")) == 1


async def test_discovery_smart_configuration(browser: Browser, world: World) -> None:
    """Conformance: the document is JSON whatever the Accept header, and names only what is served."""
    answer = await browser.http.get("/fhir/.well-known/smart-configuration", headers={"Accept": "text/html"})
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["issuer"] == ISSUER
    assert {"RS384", "ES384"} <= set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert "registration_endpoint" not in found
    assert "permission-v2" in found["capabilities"]
    openid = (await browser.http.get("/fhir/.well-known/openid-configuration")).json()
    assert openid["issuer"] == ISSUER
    paths = {route.path for route in world.app.routes}  # type: ignore[attr-defined]
    for document in (found, openid):
        urls = [value for name, value in document.items() if name.endswith(("_endpoint", "jwks_uri"))]
        assert {url.removeprefix("http://127.0.0.1:8000") for url in urls} <= paths


async def test_o33_cors_of_discovery(browser: Browser) -> None:
    """Any origin reads the discovery documents; the token endpoint is not open to any origin."""
    for name in ("smart-configuration", "openid-configuration"):
        answer = await browser.http.get(f"/fhir/.well-known/{name}", headers={"Origin": "https://stranger.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
    token = await browser.http.post("/auth/token", data={}, headers={"Origin": "https://stranger.example"})
    assert "access-control-allow-origin" not in token.headers


async def test_userinfo(browser: Browser) -> None:
    """OpenID Connect Core §5.3: sub and fhirUser for a token with openid; others are refused."""
    found = await browser.granted("ada", scope="openid fhirUser launch/patient patient/*.rs")
    header = {"Authorization": f"Bearer {found['access_token']}"}
    answer = await browser.http.get("/auth/userinfo", headers=header)
    assert answer.json()["fhirUser"] == f"{ISSUER}/Patient/P1"
    assert (await browser.http.get(f"/auth/userinfo?access_token={found['access_token']}")).status_code == 401
    plain = await browser.granted("ada", scope="launch/patient patient/*.rs")
    header = {"Authorization": f"Bearer {plain['access_token']}"}
    assert (await browser.http.get("/auth/userinfo", headers=header)).status_code == 403


async def test_revocation_rfc_7009(browser: Browser) -> None:
    """A client revokes its own tokens, the refresh token with its family; a stranger's are not touched."""
    found = await browser.granted("ada", scope="openid launch/patient patient/*.rs offline_access")
    header = {"Authorization": f"Bearer {found['access_token']}"}
    other = await browser.http.post("/auth/revoke", data={"token": found["access_token"], "client_id": "evil"})
    assert other.status_code == 200
    assert (await browser.http.get("/auth/userinfo", headers=header)).status_code == 200
    await browser.http.post("/auth/revoke", data={"token": found["refresh_token"], "client_id": "app"})
    assert (await browser.http.get("/auth/userinfo", headers=header)).status_code == 401
    assert (await browser.http.post("/auth/revoke", data={"token": "x", "client_id": "app"})).status_code == 200


async def test_logout_goes_only_to_a_registered_address(browser: Browser) -> None:
    """X07: with an id_token_hint the session ends and an exactly registered address is followed, no other."""
    found = await browser.granted("ada", scope="openid launch/patient patient/*.rs")
    bad = {"id_token_hint": found["id_token"], "post_logout_redirect_uri": "https://evil.example/"}
    answer = await browser.http.get("/auth/logout", params=bad)
    assert "location" not in answer.headers
    assert 'name="password"' in (await browser.open("/auth/account")).text
    found = await browser.granted("ada", scope="openid launch/patient patient/*.rs")
    good = {"id_token_hint": found["id_token"], "post_logout_redirect_uri": "https://app.example/bye", "state": "x"}
    assert (await browser.http.get("/auth/logout", params=good)).headers[
        "location"
    ] == "https://app.example/bye?state=x"


async def test_an_app_loses_access_on_the_account_page(browser: Browser) -> None:
    """The management endpoint shows the apps and takes their access away, tokens and all."""
    found = await browser.granted("ada", scope="openid launch/patient patient/*.rs offline_access")
    shown = await browser.open("/auth/account")
    assert "Growth chart" in shown.text
    await browser.post("/account/app", client="app")
    header = {"Authorization": f"Bearer {found['access_token']}"}
    assert (await browser.http.get("/auth/userinfo", headers=header)).status_code == 401
    answer = await browser.token(grant_type="refresh_token", refresh_token=found["refresh_token"], client_id="app")
    assert answer.json()["error"] == "invalid_grant"
    assert "No app has access" in (await browser.open("/auth/account")).text


async def test_confidential_clients_exchange_their_codes(browser: Browser, world: World) -> None:
    """Symmetric by Basic or by post, asymmetric by assertion; each only in its own way."""
    secrets = await apps(world)
    scope = "launch/patient patient/*.rs"
    code = await browser.code("ada", client_id="web", scope=scope)
    assert (await exchange(browser, code, client_id=None, auth=("web", secrets["web"]))).status_code == 200
    code = await browser.code("ada", client_id="web", scope=scope)
    assert (await exchange(browser, code, client_id="web", client_secret=secrets["web"])).status_code == 200
    code = await browser.code("ada", client_id="web", scope=scope)
    assert (await exchange(browser, code, client_id="web")).json()["error"] == "invalid_client"
    assert json.loads((await exchange(browser, code, client_id="app")).text)["error"] == "invalid_grant"


async def test_every_answer_of_the_token_endpoint_is_not_stored(browser: Browser) -> None:
    """O19: Cache-Control no-store and Pragma no-cache on success and on error."""
    code = await browser.code("ada")
    for answer in (await exchange(browser, code), await exchange(browser, "BAD")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["pragma"] == "no-cache"
    assert AUTH
