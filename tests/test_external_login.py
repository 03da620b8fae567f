"""Login with an external OpenID provider: a second instance of our own server plays the provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx2
import pytest

from fhir_server.auth.outside import poster
from fhir_server.store import open_store
from smart_auth import clients, users
from smart_auth.realm import Fetched, Provider, digest
from tests.smart_world import APP, AUTH, PASSWORD, Browser, World, apps, make_world, people, sent

pytestmark = pytest.mark.anyio
ID = "https://id.example"
PROVIDER = Provider("house", "House login", f"{ID}/fhir", "hospital", create=True)


@dataclass
class Pair:
    """Our server, the provider, and a browser at each; `bend` changes what the provider answers."""

    here: World
    there: World
    browser: Browser
    elsewhere: Browser
    bent: dict[str, Any]

    async def go(self, url: str) -> str:
        """Log in as `ada` at the provider, whose address this is; where it sends the browser."""
        self.elsewhere.html = (await self.follow(await self.elsewhere.http.get(url))).text
        answer = await self.elsewhere.post("/login", username="ada", password=PASSWORD)
        return str((await self.follow(answer)).headers["location"])

    async def again(self, url: str) -> str:
        """The same for a browser that is logged in there."""
        return str((await self.follow(await self.elsewhere.http.get(url))).headers["location"])

    async def follow(self, answer: Any) -> Any:
        """Redirects within the provider."""
        while answer.headers.get("location", "").startswith(ID):
            answer = await self.elsewhere.http.get(answer.headers["location"])
        return answer


@pytest.fixture
async def pair(store: Any, mongo_url: str, database: str) -> AsyncIterator[Pair]:
    second = await open_store(mongo_url, f"{database}_id")
    there = await make_world(second)
    there.realm = replace(there.realm, issuer=f"{ID}/fhir", auth=f"{ID}/auth")
    await people(there)
    back = f"{AUTH}/external/back"
    await clients.save(there.realm, "hospital", APP | {"redirect_uris": [back], "trusted": True})
    elsewhere = Browser(httpx2.AsyncClient(transport=httpx2.ASGITransport(app=there.app), base_url=ID), there)
    bent: dict[str, Any] = {}

    async def fetch(url: str) -> Fetched:
        if "down" in bent:
            raise OSError("no answer")
        answer = await elsewhere.http.get(url)
        return Fetched(answer.status_code, {}, bent.get(url.rpartition("/")[2], answer.content))

    async def post(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Fetched:
        answer = await elsewhere.http.post(url, data=dict(form), headers=dict(headers))
        return Fetched(answer.status_code, {}, bent.get("token", answer.content))

    here = await make_world(store, post=post, providers=(PROVIDER,))
    here.realm = replace(here.realm, fetch=fetch)
    await people(here)
    await apps(here)
    browser = here.browser()
    yield Pair(here, there, browser, elsewhere, bent)
    await browser.http.aclose()
    await elsewhere.http.aclose()
    await second.driver.client.drop_database(f"{database}_id")
    await second.close()


async def begun(pair: Pair, **changes: Any) -> str:
    """Start a launch here and press the provider's button: the address at the provider."""
    await pair.browser.authorize(scope="openid fhirUser launch/patient patient/*.rs", **changes)
    assert "Log in with House login" in pair.browser.html
    flow = pair.browser.html.split('name="flow" value="')[1].split('"')[0]
    answer = await pair.browser.http.get("/auth/external", params={"provider": "house", "flow": flow})
    return str(answer.headers["location"])


async def test_a_launch_through_the_provider(pair: Pair) -> None:
    """The provider's claims say who it is and which role; the app gets its code."""
    pair.here.realm = replace(pair.here.realm, providers=(replace(PROVIDER, role_claim="fhirUser", roles=ROLES),))
    pair.browser = pair.here.browser()
    target = await pair.go(await begun(pair))
    assert target.startswith(f"{AUTH}/external/back?code=")
    shown = await pair.browser.open(target)
    assert "Allow Growth chart?" in shown.text
    assert sent(await pair.browser.allow())["code"]
    [user] = [each for each in await pair.here.realm.records.find("users", {}) if each.get("external")]
    assert user["fhir_user"] == "Patient/P1"
    assert user["roles"] == ["Patient"]
    assert user["password"] is None


async def test_a_secret_with_any_character_is_sent_as_it_is(pair: Pair) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded in Basic, so that `:`, `+` and `%` arrive."""
    secret = "a+b%:c d/%41"
    fields = {"kind": "symmetric", "secret": digest(secret)}
    await pair.there.realm.records.change("clients", "hospital", fields)
    pair.here.realm = replace(pair.here.realm, providers=(replace(PROVIDER, client_secret=secret),))
    pair.browser = pair.here.browser()
    shown = await pair.browser.open(await pair.go(await begun(pair)))
    assert "Growth chart" in shown.text
    assert [each for each in await pair.here.realm.records.find("users", {}) if each.get("external")]


ROLES = {f"{ID}/fhir/Patient/P1": "Patient"}


async def test_a_user_whom_the_operator_tied_to_the_provider(pair: Pair) -> None:
    """Without `create` only tied users come in, with their own roles; a disabled one does not."""
    pair.here.realm = replace(pair.here.realm, providers=(replace(PROVIDER, create=False),))
    pair.browser = pair.here.browser()
    refused = await pair.browser.open(await pair.go(await begun(pair)))
    assert refused.status_code == 403
    assert "not known here" in refused.text
    ada = await users.find(pair.there.realm, "ada")
    assert ada is not None
    fields = {"name": "Ada", "roles": ["Patient"], "external": f"house:{ada['sub']}"}
    await users.create(pair.here.realm, "ada.house", None, fields)
    shown = await pair.browser.open(await pair.again(await begun(pair)))
    assert "Allow Growth chart?" in shown.text
    await users.update(pair.here.realm, "ada.house", {"disabled": True})
    pair.browser = pair.here.browser()
    off = await pair.browser.open(await pair.again(await begun(pair)))
    assert off.status_code == 403


async def test_an_answer_is_used_once_and_by_its_own_browser(pair: Pair) -> None:
    """A replayed answer, one brought by another browser, an invented state and a foreign issuer log nobody in."""
    target = await pair.go(await begun(pair))
    assert (await pair.here.browser().open(target)).status_code == 403
    assert (await pair.browser.open(target)).status_code == 403  # the first look has used it up
    assert (await pair.browser.open(f"{AUTH}/external/back?code=x&state=invented")).status_code == 403
    again = await pair.again(await begun(pair))
    assert (await pair.browser.open(again.replace("iss=https", "iss=http"))).status_code == 403
    denied = (await begun(pair)).split("state=")[1].split("&")[0]
    assert (await pair.browser.open(f"{AUTH}/external/back?error=access_denied&state={denied}")).status_code == 403


@pytest.mark.parametrize("bend", ["down", "token", "jwks", "openid-configuration"])
async def test_a_provider_that_misbehaves_logs_nobody_in(pair: Pair, bend: str) -> None:
    """No answer, an answer that is no JSON, keys of somebody else, another issuer: a sentence, never a trace."""
    target = await pair.go(await begun(pair))
    pair.bent[bend] = b'{"keys": []}' if bend == "jwks" else b"nonsense"
    answer = await pair.browser.open(target)
    assert answer.status_code == 403
    assert "login service" in answer.text
    assert "Traceback" not in answer.text
    await pair.browser.open("/auth/account")
    assert 'name="password"' in pair.browser.html


async def test_forms_are_sent_to_where_they_may_go() -> None:
    """A token endpoint gets the form; a private address, and loopback where the server is not on it, get nothing."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Authorization"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed in a test."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/token"
        answer = await poster(loopback=True)(url, {"code": "a&b"}, {"Authorization": "Basic eA=="})
        for other, loopback in ((url, False), ("https://10.0.0.1/token", True), ("http://192.168.0.1/token", True)):
            with pytest.raises(OSError, match="not public"):
                await poster(loopback=loopback)(other, {}, {})
        server.shutdown()
        thread.join()
    assert (answer.status, answer.body) == (200, b"{}")
    assert got == [("Basic eA==", b"code=a%26b")]


async def test_a_provider_that_is_down_leaves_the_password(pair: Pair) -> None:
    """The login page says so and stays; an unknown provider is a sentence too."""
    await pair.browser.authorize()
    flow = pair.browser.html.split('name="flow" value="')[1].split('"')[0]
    pair.bent["down"] = True
    for provider, status in (("house", 502), ("nobody", 400)):
        answer = await pair.browser.http.get("/auth/external", params={"provider": provider, "flow": flow})
        assert answer.status_code == status
        assert 'name="password"' in answer.text
