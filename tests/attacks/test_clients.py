"""Apps that attack: what they register, send and repeat (docs/security.md O), each with its rightful twin."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import Store
from smart_auth import clients
from tests.attacks.test_oauth import browser as browser
from tests.attacks.test_oauth import exchange
from tests.attacks.test_oauth import world as world
from tests.smart_world import CALLBACK, Browser, make_world

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
