"""RFC 8252 §7.3: a native app comes back at a loopback address, at the port that was free."""

from __future__ import annotations

import pytest

from fhir_server.store import Store
from smart_auth import clients
from tests.smart_world import APP, VERIFIER, Browser, World, apps, make_world, people, sent

pytestmark = pytest.mark.anyio
HOME = "http://127.0.0.1/cb?x=1"
SIX = "http://[::1]:9000/cb"


@pytest.fixture
async def world(store: Store) -> World:
    made = await make_world(store)
    await people(made)
    await apps(made)
    native = {**APP, "redirect_uris": [HOME, SIX, "http://localhost/cb", "https://app.example/cb"]}
    await clients.save(made.realm, "native", native)
    await clients.save(made.realm, "server", {**native, "kind": "symmetric"})
    return made


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser()


@pytest.mark.parametrize(
    "uri",
    [
        HOME,
        "http://127.0.0.1:51004/cb?x=1",
        "http://127.0.0.1:1/cb?x=1",
        SIX,
        "http://[::1]/cb",
        "http://[::1]:65535/cb",
    ],
)
async def test_any_port_of_a_registered_loopback_address(browser: Browser, uri: str) -> None:
    """A whole login: the code comes to that port, and the token request names the same address."""
    code = await browser.code(client_id="native", redirect_uri=uri)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": "native"}
    answer = await browser.token(**form, redirect_uri=uri)
    assert answer.status_code == 200, answer.text


async def test_the_token_request_names_the_same_port(browser: Browser) -> None:
    """The address of the token request is compared with that of the authorization, port and all."""
    code = await browser.code(client_id="native", redirect_uri="http://127.0.0.1:51004/cb?x=1")
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": "native"}
    answer = await browser.token(**form, redirect_uri="http://127.0.0.1:51005/cb?x=1")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:51004/cb",
        "http://127.0.0.1:51004/cb?x=2",
        "http://127.0.0.1:51004/cb/../evil?x=1",
        "http://127.0.0.1:51004@evil.example/cb?x=1",
        "http://127.0.0.1:51004.evil.example/cb?x=1",
        "http://127.0.0.1.evil.example:51004/cb?x=1",
        "http://127.0.0.1:0/cb?x=1",
        "http://127.0.0.1:65536/cb?x=1",
        "http://127.0.0.1:051004/cb?x=1",
        "http://127.0.0.1:/cb?x=1",
        "http://127.0.0.1:٣٣/cb?x=1",
        "http://127.0.0.2:51004/cb?x=1",
        "http://localhost:51004/cb",
        "https://127.0.0.1:51004/cb?x=1",
        "https://app.example:8443/cb",
        "http://127.0.0.1:51004/cb?x=1#f",
        "http://127.0.0.1:51004/cb?x=1\n",
        "HTTP://127.0.0.1:51004/cb?x=1",
    ],
)
async def test_all_but_the_port_is_exact(browser: Browser, uri: str) -> None:
    """Another path, query, host, scheme or user is no redirect but a page with 400."""
    answer = await browser.authorize(client_id="native", redirect_uri=uri)
    assert (answer.status_code, "location" in answer.headers) == (400, False)


async def test_an_app_with_a_secret_has_exact_addresses(browser: Browser) -> None:
    """The rule is for public clients; others are at the address that is registered."""
    answer = await browser.authorize(client_id="server", redirect_uri="http://127.0.0.1:51004/cb?x=1")
    assert answer.status_code == 400
    answer = await browser.authorize(client_id="server", redirect_uri=HOME, aud="https://evil.example")
    assert sent(answer)["error"] == "invalid_request"
