"""The SHALLs of SMART App Launch 2.2 that bind a server, by page and step of the implementation guide.

Keys and assertions (client-confidential-asymmetric.html) are in tests/attacks/test_jwt.py with their attacks,
browsers in tests/test_pages.py, scopes as rules in tests/test_smart_scopes.py.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from smart_auth import clients
from smart_auth.realm import Fetched
from tests.smart_world import (
    CALLBACK,
    ISSUER,
    JWKS,
    JWKS_URI,
    REQUEST,
    RSA,
    VERIFIER,
    Browser,
    World,
    apps,
    asserted,
    assertion,
    sent,
)

pytestmark = pytest.mark.anyio


def exchange(code: str, **changes: Any) -> dict[str, Any]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return {**form, "client_id": "app", **changes}


# conformance.html


@pytest.mark.parametrize("accept", [None, "text/html", "application/fhir+xml"])
async def test_conformance_well_known_is_json_whatever_is_accepted(browser: Browser, accept: str | None) -> None:
    """conformance.html#using-well-known: SHALL be JSON regardless of Accept, SHALL respond with application/json."""
    headers = {"Accept": accept} if accept else {}
    answer = await browser.http.get("/fhir/.well-known/smart-configuration", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


async def test_conformance_metadata_has_what_is_required(browser: Browser) -> None:
    """conformance.html#metadata: required and conditional members; S256 SHALL be listed, plain SHALL NOT."""
    found = (await browser.http.get("/fhir/.well-known/smart-configuration")).json()
    required = {"token_endpoint", "capabilities", "grant_types_supported", "code_challenge_methods_supported"}
    assert required | {"authorization_endpoint", "issuer", "jwks_uri"} <= found.keys()
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert {"authorization_code", "client_credentials"} <= set(found["grant_types_supported"])
    assert {"RS384", "ES384"} & set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert all(urlsplit(found[name]).scheme for name in found if name.endswith(("_endpoint", "_uri")))


async def test_conformance_every_scope_that_is_listed_is_supported(browser: Browser, world: World) -> None:
    """conformance.html#metadata: the server SHALL support all scopes listed in scopes_supported."""
    listed = (await browser.http.get("/fhir/.well-known/smart-configuration")).json()["scopes_supported"]
    system = [scope for scope in listed if scope.startswith("system/")]
    for scope in system:
        await clients.save(world.realm, "service", SERVICE | {"scope": scope})
        form = asserted(assertion(world, "service"), scope=scope)
        assert (await browser.token(**form)).json()["scope"] == scope
    rest = [scope for scope in listed if scope not in system and scope not in ("launch", "online_access")]
    for scope in ("patient/*.rs", "user/*.rs", "launch/encounter"):  # others cover two, the third has a page to itself
        rest.remove(scope)
    found = await browser.granted("dora", scope=" ".join(rest))
    assert set(found["scope"].split()) == set(rest)


SERVICE = {"kind": "asymmetric", "name": "Service", "grants": ["client_credentials"], "jwks": JWKS}


# app-launch.html


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_app_launch_step_4_authorize_by_get_and_post(browser: Browser, method: str) -> None:
    """app-launch.html#step-4: SHALL support GET and POST at the authorization endpoint; state comes back exactly."""
    state = "x y/ü&=%20"
    params = REQUEST | {"state": state}
    await (browser.open("/auth/authorize", **params) if method == "GET" else _posted(browser, params))
    await browser.log_in("ada")
    assert sent(await browser.allow())["state"] == state


async def _posted(browser: Browser, params: dict[str, str]) -> None:
    await browser._show(await browser.http.post("/auth/authorize", data=params))


async def test_app_launch_step_4_aud_is_supported_and_resource_is_its_synonym(browser: Browser) -> None:
    """app-launch.html#step-4: servers SHALL support aud, and MAY support resource as a synonym."""
    assert "Growth chart" in (await browser.authorize()).text
    assert "Growth chart" in (await browser.authorize(aud=None, resource=ISSUER)).text
    assert sent(await browser.authorize(aud="https://elsewhere.example/fhir"))["error"] == "invalid_request"
    assert sent(await browser.authorize(aud=None))["error"] == "invalid_request"


async def test_app_launch_pkce_s256_is_supported_and_plain_is_not(browser: Browser) -> None:
    """app-launch.html#considerations-for-pkce-support: SHALL support S256, SHALL NOT support plain."""
    for changes in ({"code_challenge_method": "plain"}, {"code_challenge_method": None}, {"code_challenge": None}):
        assert sent(await browser.authorize(**changes))["error"] == "invalid_request"
    assert await browser.code()


@pytest.mark.parametrize("verifier", [None, "", "w" * 43, VERIFIER + "w"])
async def test_app_launch_step_5_the_verifier_is_present_and_valid(browser: Browser, verifier: str | None) -> None:
    """app-launch.html#step-4: the EHR SHALL ensure that the code_verifier is present and valid at the exchange."""
    answer = await browser.token(**exchange(await browser.code(), code_verifier=verifier))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_app_launch_step_5_the_answer_is_json_that_nobody_keeps(browser: Browser) -> None:
    """app-launch.html#step-5: SHALL return JSON with access_token, token_type Bearer, scope; no-store and no-cache."""
    answer = await browser.token(**exchange(await browser.code()))
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    found = answer.json()
    assert found["token_type"] == "Bearer"
    assert found["access_token"] and found["scope"] and isinstance(found["expires_in"], int)
    # The token alone opens nothing for who reads it: no patient, no user is written in it.
    assert "P1" not in found["access_token"]


async def test_app_launch_step_5_a_code_is_the_clients_own_short_lived_and_used_once(
    browser: Browser, world: World
) -> None:
    """app-launch.html#step-5 and RFC 6749 §4.1.2: another client's, a late and a second use are refused."""
    for change, late in (({"client_id": "evil"}, 0), ({}, 61)):
        code = await browser.code()
        world.clock.pass_by(seconds=late)
        assert (await browser.token(**exchange(code, **change))).json()["error"] == "invalid_grant"
    code = await browser.code()
    assert (await browser.token(**exchange(code))).status_code == 200
    assert (await browser.token(**exchange(code))).json()["error"] == "invalid_grant"


async def test_app_launch_step_7_refresh(browser: Browser) -> None:
    """app-launch.html#step-7: a subset at most of the original scopes; the launch context comes again."""
    first = await browser.granted()
    form = {"grant_type": "refresh_token", "client_id": "app"}
    wider = await browser.token(**form, refresh_token=first["refresh_token"], scope="patient/*.cruds")
    assert (wider.status_code, wider.json()["error"]) == (400, "invalid_scope")
    second = (await browser.token(**form, refresh_token=first["refresh_token"])).json()
    assert (second["patient"], second["scope"]) == ("P1", first["scope"])
    assert second["access_token"] != first["access_token"]


async def test_app_launch_step_7_a_refresh_token_is_bound_to_its_client(browser: Browser) -> None:
    """app-launch.html#step-7: a refresh token SHALL be bound to the same client_id."""
    first = await browser.granted()
    stolen = {"grant_type": "refresh_token", "client_id": "evil", "refresh_token": first["refresh_token"]}
    assert (await browser.token(**stolen)).json()["error"] == "invalid_grant"
    assert (await browser.token(**stolen | {"client_id": "app"})).status_code == 200


async def test_app_launch_online_access_and_offline_access(browser: Browser) -> None:
    """scopes-and-launch-context.html#scopes-for-requesting-a-refresh-token: none without one of the two scopes."""
    for scope, given in (("", False), ("offline_access", True), ("online_access", True)):
        found = await browser.granted(scope=f"launch/patient patient/*.rs {scope}".strip())
        assert ("refresh_token" in found) is given


# scopes-and-launch-context.html


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("patient/Observation.rs", "patient/Observation.rs"),
        ("patient/Observation.read", "patient/Observation.read"),
        ("patient/*.rs patient/Observation.xyz", "patient/*.rs"),
        ("patient/Observation.sr", None),
        ("patient/Observation.rs?category=laboratory", "patient/Observation.rs?category=laboratory"),
        ("patient/Nothing.rs", None),
    ],
)
async def test_scopes_what_is_granted_is_told(browser: Browser, asked: str, granted: str | None) -> None:
    """scopes-and-launch-context.html#scopes-for-requesting-fhir-resources: order, v1, granular."""
    if granted is None:
        assert sent(await browser.authorize(scope=asked))["error"] == "invalid_scope"
    else:
        assert (await browser.granted(scope=f"launch/patient {asked}"))["scope"] == f"launch/patient {granted}"


async def test_launch_context_is_beside_the_token_with_its_types(browser: Browser) -> None:
    """scopes-and-launch-context.html#launch-context-arrives-with-your-access_token: ids, banner."""
    ehr = await browser.granted("dora", scope="user/*.rs")
    bearer = {"Authorization": f"Bearer {ehr['access_token']}"}
    items = [{"reference": "ImagingStudy/1"}, {"reference": "Patient/9", "role": "https://ehr.example/role"}]
    given = {"client_id": "app", "patient": "P2", "encounter": "E2", "need_patient_banner": False, "fhirContext": items}
    made = await browser.http.post("/auth/launch", json=given, headers=bearer)
    code = await browser.code("dora", scope="launch patient/*.rs", launch=made.json()["launch"])
    found = (await browser.token(**exchange(code))).json()
    assert (found["patient"], found["encounter"]) == ("P2", "E2")
    assert found["need_patient_banner"] is False
    assert found["fhirContext"] == items
    for bad in ([{"reference": "Patient/9"}], [{"reference": "https://x.example/Patient/9"}], [{"role": "x"}], ["x"]):
        refused = await browser.http.post("/auth/launch", json=given | {"fhirContext": bad}, headers=bearer)
        assert refused.status_code >= 400


@pytest.mark.parametrize(
    "item",
    [
        {"reference": "ImagingStudy/1"},
        {"reference": "ImagingStudy/1", "role": "launch"},
        {"canonical": "https://example.org/fhir/Questionnaire/phq|2", "type": "Questionnaire"},
        {"identifier": {"system": "http://h", "value": "7"}, "type": "ServiceRequest", "role": "https://ehr.example/r"},
        {"identifier": {"value": "7"}, "type": "Patient", "role": "https://ehr.example/mother"},
    ],
)
async def test_fhir_context_names_what_it_is_about(browser: Browser, item: dict[str, Any]) -> None:
    """scopes-and-launch-context.html#fhircontext: a reference, canonical or identifier, with type and role."""
    assert await with_context(browser, [item, {"reference": "Organization/1"}]) == [
        item,
        {"reference": "Organization/1"},
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "ImagingStudy"},
        {"reference": "ImagingStudy/1", "role": ""},
        {"reference": "ImagingStudy/1", "role": "mother"},
        {"reference": "Encounter/1", "role": "launch"},
        {"identifier": {"value": "7"}, "type": "Patient"},
        {"identifier": "7"},
        {"identifier": {"use": "official"}},
        {"identifier": {"value": 7}},
        {"canonical": "Questionnaire/phq"},
        {"reference": "ImagingStudy/1", "colour": "red"},
        {"reference": "ImagingStudy/1", "type": 3},
    ],
)
async def test_fhir_context_that_is_none_is_refused(browser: Browser, item: dict[str, Any]) -> None:
    """scopes-and-launch-context.html#fhircontext: SHALL include one of three, role SHALL NOT be empty, no Patient."""
    assert await with_context(browser, [item]) is None


async def with_context(browser: Browser, items: list[Any]) -> Any:
    """The fhirContext that an app is told after a launch with one; None where the launch is refused."""
    ehr = await browser.granted("dora", scope="user/*.rs")
    bearer = {"Authorization": f"Bearer {ehr['access_token']}"}
    given = {"client_id": "app", "patient": "P2", "fhirContext": items}
    made = await browser.http.post("/auth/launch", json=given, headers=bearer)
    if made.status_code >= 400:
        return None
    code = await browser.code("dora", scope="launch patient/*.rs", launch=made.json()["launch"])
    return (await browser.token(**exchange(code))).json()["fhirContext"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("password", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:device_code", "unsupported_grant_type"),
        ('"<script>', "unsupported_grant_type"),
    ],
)
async def test_a_grant_type_that_is_not_offered(browser: Browser, kind: str | None, error: str) -> None:
    """RFC 6749 §5.2: unsupported_grant_type for any other, invalid_request where there is none."""
    answer = await browser.token(grant_type=kind, client_id="app")
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert "<script" not in answer.text


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ([ISSUER, f"{ISSUER}/"], None),
        (["https://evil.example/fhir"], "invalid_target"),
        ([ISSUER, "https://evil.example/fhir"], "invalid_target"),
    ],
)
async def test_resources_that_a_token_is_for(browser: Browser, named: list[str], error: str | None) -> None:
    """RFC 8707 §2: `resource` may be there several times; one that is not served here is invalid_target."""
    request = [*REQUEST.items(), *(("resource", each) for each in named)]
    answer = await browser._show(await browser.http.get("/auth/authorize", params=request))
    assert (sent(answer)["error"] if "location" in answer.headers else None) == error
    form = exchange(await browser.code())
    answer = await browser.http.post("/auth/token", data={**form, "resource": named})
    assert answer.json().get("error") == error


@pytest.mark.parametrize("path", ["userinfo", "launch", "break-glass", "roles/Nurse"])
async def test_a_protected_resource_answers_with_a_challenge(browser: Browser, path: str) -> None:
    """RFC 6750 §3: without a token, or with one that is none, WWW-Authenticate is Bearer; only a token has an error."""
    plain, wrong = 'Bearer realm="FHIR"', 'Bearer error="invalid_token"'
    for held, challenge in (("", plain), ("Basic YTpi", plain), ("Bearer nonsense", wrong)):
        method = "POST" if path in ("launch", "break-glass") else "GET"
        head = {"Authorization": held} if held else {}
        answer = await browser.http.request(method, f"/auth/{path}", headers=head)
        assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, challenge)
    narrow = await browser.granted(scope="launch/patient patient/*.rs")
    head = {"Authorization": f"Bearer {narrow['access_token']}"}
    answer = await browser.http.get("/auth/userinfo", headers=head)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (403, 'Bearer error="insufficient_scope"')


async def test_id_token_is_rs256_by_a_published_key_with_an_absolute_fhir_user(browser: Browser, world: World) -> None:
    """scopes-and-launch-context.html#scopes-for-requesting-identity-data: SHALL support RS256, publish bare JWKs."""
    found = await browser.granted(scope="openid fhirUser launch/patient patient/*.rs", nonce="n-1")
    openid = (await browser.http.get("/fhir/.well-known/openid-configuration")).json()
    assert openid["id_token_signing_alg_values_supported"] == ["RS256"]
    keys = (await browser.open(openid["jwks_uri"])).json()
    assert all({"kty", "kid", "n", "e"} <= key.keys() and "d" not in key for key in keys["keys"])
    read = jwt.decode(found["id_token"], KeySet.import_key_set(keys), algorithms=["RS256"])
    assert read.header["alg"] == "RS256"
    assert {"iss", "sub", "aud", "exp", "iat"} <= read.claims.keys()
    assert (read.claims["iss"], read.claims["aud"], read.claims["nonce"]) == (ISSUER, "app", "n-1")
    assert read.claims["fhirUser"] == f"{ISSUER}/Patient/P1"
    assert "id_token" not in await browser.granted(scope="launch/patient patient/*.rs")


# client-confidential-symmetric.html and client-confidential-asymmetric.html


async def test_symmetric_clients_authenticate_by_basic(browser: Browser, world: World) -> None:
    """client-confidential-symmetric.html: by Basic with the secret; without it, or with another, invalid_client."""
    secret = (await apps(world))["web"]
    for auth, fine in ((("web", secret), True), (("web", "guess"), False), (None, False)):
        code = await browser.code(client_id="web")
        answer = await browser.token(auth, **exchange(code, client_id="web"))
        assert (answer.status_code == 200) is fine
        assert fine or answer.json()["error"] == "invalid_client"


async def test_asymmetric_clients_register_a_url_or_a_key_set(browser: Browser, world: World) -> None:
    """client-confidential-asymmetric.html#registering-a-client: SHALL support both techniques, and RS384 or ES384."""
    world.web[JWKS_URI] = Fetched(200, {}, json.dumps(JWKS).encode())
    for keys in ({"jwks": JWKS}, {"jwks_uri": JWKS_URI, "jwks": None}):
        await clients.save(world.realm, "service", SERVICE | keys | {"scope": "system/*.rs"})
        for signed in (assertion(world, "service"), assertion(world, "service", RSA, "RS384")):
            answer = await browser.token(**asserted(signed))
            assert answer.status_code == 200, answer.text


async def test_asymmetric_an_assertion_is_used_once(browser: Browser, world: World) -> None:
    """client-confidential-asymmetric.html#signature-verification: jti SHALL NOT have been encountered for this iss."""
    signed = assertion(world, "backend")
    assert (await browser.token(**asserted(signed))).status_code == 200
    again = await browser.token(**asserted(signed))
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


# backend-services.html


async def test_backend_a_token_is_short_and_has_no_refresh_token(browser: Browser, world: World) -> None:
    """backend-services.html#issue-access-token: expires_in SHOULD NOT exceed 300, no refresh token, scope is told."""
    answer = await browser.token(**asserted(assertion(world, "backend"), scope="system/Patient.rs system/Nothing.rs"))
    found = answer.json()
    assert found["token_type"].lower() == "bearer"
    assert 0 < found["expires_in"] <= 300
    assert found["scope"] == "system/Patient.rs"
    assert "refresh_token" not in found
    assert answer.headers["cache-control"] == "no-store"


async def test_backend_only_registered_system_scopes(browser: Browser, world: World) -> None:
    """backend-services.html#scopes: no more than was registered; a request without any of it is invalid_scope."""
    for scope in ("system/*.cud", "user/*.rs", "patient/*.rs", "openid system/*.rs", ""):
        answer = await browser.token(**asserted(assertion(world, "backend"), scope=scope))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


# token-introspection.html


async def test_introspection_has_the_required_and_conditional_fields(browser: Browser, world: World) -> None:
    """token-introspection.html: active, scope, client_id, exp; launch context; iss and sub with an id_token."""
    watch = SERVICE | {"scope": "system/*.rs", "rights": ["introspect"]}
    await clients.save(world.realm, "watch", watch)
    mine = (await browser.token(**asserted(assertion(world, "watch")))).json()["access_token"]
    bearer = {"Authorization": f"Bearer {mine}"}
    granted = await browser.granted(scope="openid fhirUser launch/patient patient/*.rs")
    answer = await browser.http.post("/auth/introspect", data={"token": granted["access_token"]}, headers=bearer)
    found = answer.json()
    assert found["active"] is True
    assert (found["scope"], found["client_id"], found["patient"]) == (granted["scope"], "app", "P1")
    assert isinstance(found["exp"], int)
    assert found["iss"] == ISSUER and found["sub"]
    assert found["fhirUser"] == f"{ISSUER}/Patient/P1"
    plain = await browser.granted(scope="launch/patient patient/*.rs")
    answer = await browser.http.post("/auth/introspect", data={"token": plain["access_token"]}, headers=bearer)
    assert not {"iss", "sub", "fhirUser"} & answer.json().keys()
    answer = await browser.http.post("/auth/introspect", data={"token": "nothing"}, headers=bearer)
    assert answer.json() == {"active": False}


async def test_cors_for_registered_origins(browser: Browser) -> None:
    """app-launch.html#considerations-for-cross-origin-resource-sharing-cors-support."""
    origin = {"Origin": "https://app.example"}
    for path in ("smart-configuration", "openid-configuration"):
        answer = await browser.http.get(f"/fhir/.well-known/{path}", headers={"Origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
    answer = await browser.http.post("/auth/token", data=exchange(await browser.code()), headers=origin)
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
