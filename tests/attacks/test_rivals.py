"""What two do at once, or half: replays beside refreshes, keys that are being fetched, parameters without a value."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from fhir_server.store import Store
from smart_auth import clients, principals, registration, tokens, users
from smart_auth.realm import Fetched, digest
from tests.smart_world import (
    APP,
    AUTH,
    BACKEND,
    CALLBACK,
    JWKS,
    JWKS_URI,
    VERIFIER,
    Browser,
    World,
    asserted,
    assertion,
    make_world,
    sent,
)

pytestmark = pytest.mark.anyio


async def test_o15_a_replay_beside_a_refresh_ends_what_is_being_made(browser: Browser, world: World) -> None:
    """Whichever comes first: of a refresh token that two use at once nothing is left alive."""
    for _ in range(5):
        first = await browser.granted("ada")
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "app"}
        answers = await asyncio.gather(*(browser.token(**form) for _ in range(10)))
        made = next(answer.json() for answer in answers if answer.status_code == 200)
        assert await principals.of_token(world.realm, made["access_token"]) is None
        assert (await browser.token(**{**form, "refresh_token": made["refresh_token"]})).status_code == 400


async def test_o09_a_code_that_is_replayed_beside_its_exchange_leaves_nothing(browser: Browser, world: World) -> None:
    """RFC 6749 §4.1.2: tokens of a code that was used more than once are revoked."""
    for _ in range(5):
        form = {"grant_type": "authorization_code", "code": await browser.code("ada"), "redirect_uri": CALLBACK}
        form |= {"code_verifier": VERIFIER, "client_id": "app"}
        answers = await asyncio.gather(*(browser.token(**form) for _ in range(10)))
        made = next(answer.json() for answer in answers if answer.status_code == 200)
        assert await principals.of_token(world.realm, made["access_token"]) is None


async def test_l07_a_new_password_ends_codes_and_what_is_being_made(browser: Browser, world: World) -> None:
    """Nothing that a login before the change leads to is good after it; a login after it is."""
    form = {"grant_type": "authorization_code", "code": await browser.code("ada"), "redirect_uri": CALLBACK}
    form |= {"code_verifier": VERIFIER, "client_id": "app"}
    held = await world.realm.records.get("codes", digest(str(form["code"])))
    assert held is not None
    world.clock.pass_by(seconds=1)
    await users.set_password(world.realm, "ada", "another horse battery")
    assert (await browser.token(**form)).json()["error"] == "invalid_grant"
    late = await tokens.issue(world.realm, held["grant"], refresh=False)  # of a refresh that began before
    assert await principals.of_token(world.realm, late["access_token"]) is None
    world.clock.pass_by(seconds=1)
    again = world.browser()
    await again.authorize()
    assert "code" in sent(await again.log_in("ada", "another horse battery"))


async def test_j21_who_comes_while_keys_are_fetched_waits_for_them(world: World) -> None:
    """Ten services that start at once are all let in by one fetch; a set that cannot be read any more stays good."""
    await clients.save(world.realm, "linked", {**BACKEND, "jwks": None, "jwks_uri": JWKS_URI})
    world.web[JWKS_URI] = Fetched(200, {"cache-control": "max-age=60"}, json.dumps(JWKS).encode())
    fetch = world.realm.fetch

    async def slow(url: str) -> Fetched:
        await asyncio.sleep(0.05)
        return await fetch(url)

    object.__setattr__(world.realm, "fetch", slow)
    browser = world.browser()

    async def ask(**header: str) -> int:
        text = assertion(world, "linked", header=header)
        return (await browser.http.post("/auth/token", data=asserted(text))).status_code

    assert await asyncio.gather(*(ask() for _ in range(10))) == [200] * 10
    assert len(world.fetched) == 1
    del world.web[JWKS_URI]
    world.clock.pass_by(seconds=6)
    assert await ask() == 200
    assert len(world.fetched) == 1  # who has a known key asks for nothing
    assert await asyncio.gather(ask(kid="unknown"), ask(), ask()) == [401, 200, 200]
    assert len(world.fetched) == 2
    world.clock.pass_by(seconds=60)
    assert await ask() == 401


EMPTY: list[dict[str, Any]] = [
    {"request": ""},
    {"request_uri": ""},
    {"response_mode": ""},
    {"id_token_hint": ""},
    {"prompt": ""},
    {"max_age": ""},
]


@pytest.mark.parametrize("given", EMPTY)
async def test_a_parameter_without_a_value_is_not_there(browser: Browser, given: dict[str, str]) -> None:
    """RFC 6749 §3.1: "Parameters sent without a value MUST be treated as if they were omitted"."""
    await browser.authorize(**given)
    assert 'name="password"' in browser.html


async def test_a_field_without_a_value_is_not_there(browser: Browser, world: World) -> None:
    """RFC 6749 §3.2, of the token endpoint; a required parameter without a value is missing."""
    found = await browser.granted("ada")
    form = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "", "scope": ""}
    assert (await browser.token(**form, refresh_token=found["refresh_token"])).status_code == 200
    assert (await browser.token(**form, refresh_token="")).json()["error"] == "invalid_grant"
    secret = (await clients.save(world.realm, "web2", APP | {"kind": "symmetric"}))[1]
    both = await browser.token(("web2", str(secret)), grant_type="authorization_code", code="x", client_secret="")
    assert both.json()["error"] == "invalid_grant"
    twice = await browser.http.post("/auth/token", content="grant_type=&grant_type=refresh_token", headers=FORM)
    assert twice.json()["error"] == "invalid_request"
    missing = sent(await browser.authorize(response_type=""))
    assert missing["error"] == "invalid_request"
    unknown = sent(await browser.authorize(response_type="token"))
    assert unknown["error"] == "unsupported_response_type"


FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_a_consent_is_of_the_user_who_gave_it(browser: Browser) -> None:
    """Who allows an app and then lets another person log in has not allowed it for them."""
    await browser.authorize()
    await browser.log_in("ada")
    hidden = browser.html
    answer = await browser.http.post("/auth/consent", data={**_fields(hidden), "action": "allow", "scope": "openid"})
    assert answer.status_code == 303
    found = await browser.log_in("bob")
    assert "Allow" in found.text
    assert "location" not in found.headers
    assert "code" in sent(await browser.allow())


def _fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html))


async def test_a_registration_is_told_whole(store: Store) -> None:
    """RFC 7591 §3.2.1: the server "MUST return all registered metadata about this client"."""
    world = await make_world(store, registration="open")
    given = {
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "initiate_login_uri": "https://app.example/launch",
        "post_logout_redirect_uris": ["https://app.example/bye", "javascript:alert(1)"],
    }
    found = (await world.browser().http.post("/auth/register", json=given)).json()
    assert found["initiate_login_uri"] == "https://app.example/launch"
    assert found["post_logout_redirect_uris"] == ["https://app.example/bye"]
    bare = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    plain = (await world.browser().http.post("/auth/register", json=bare)).json()
    assert not {"initiate_login_uri", "post_logout_redirect_uris"} & plain.keys()


async def test_an_invitation_is_not_used_up_by_a_mistake(store: Store) -> None:
    """A registration that is refused for what is in it can be tried again; one that was made cannot."""
    world = await make_world(store, registration="token")
    headers = {"Authorization": f"Bearer {await registration.invite(world.realm)}"}
    statuses = []
    for uri in ("http://app.example/cb", CALLBACK, CALLBACK):
        given = {"redirect_uris": [uri], "token_endpoint_auth_method": "none"}
        answer = await world.browser().http.post("/auth/register", json=given, headers=headers)
        statuses.append(answer.status_code)
    assert statuses == [400, 201, 401]


@pytest.mark.parametrize("header", ["Basic d2ViOng=", "Basic !", "Basic d2Vi"])
async def test_a_challenge_of_basic_has_a_realm(browser: Browser, header: str) -> None:
    """RFC 6749 §5.2: who used the Authorization header is challenged; RFC 7617 §2: "realm" is "REQUIRED"."""
    form = {"grant_type": "authorization_code", "code": "x"}
    answer = await browser.http.post("/auth/token", data=form, headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith('Basic realm="')


async def test_a_logout_is_asked_for_by_the_app_of_the_hint(browser: Browser) -> None:
    """RP-Initiated Logout 1.0 §2: where client_id is given it "MUST" be the one that the id_token was issued to."""
    hint = (await browser.granted("ada"))["id_token"]
    query = {"id_token_hint": hint, "post_logout_redirect_uri": "https://app.example/bye"}
    other = await browser.http.get(f"{AUTH}/logout", params=query | {"client_id": "evil"})
    assert (other.status_code, other.headers.get("location")) == (400, None)
    own = await browser.http.get(f"{AUTH}/logout", params=query | {"client_id": "app"})
    assert own.headers["location"] == "https://app.example/bye"
