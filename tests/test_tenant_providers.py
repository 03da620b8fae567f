"""docs/smart.md: a login provider is for the tenants that the operator names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fhir_server.app import build_app
from fhir_server.auth.wiring import providers_of
from fhir_server.config import Config
from fhir_server.tenants import config_of
from profiles.outcome import FhirError
from tests.attacks.test_tenants import ROOT, Server
from tests.attacks.test_tenants import databases as databases

pytestmark = pytest.mark.anyio


def provider(key: str, *tenants: str, **more: Any) -> dict[str, Any]:
    row = {"key": key, "name": f"Login {key}", "issuer": f"https://{key}.example", "client_id": "fhir", **more}
    return row | ({"tenants": list(tenants)} if tenants else {})


ROWS = (provider("plain"), provider("ours", "aa"), provider("both", "aa", "bb"), provider("all", "*"))


def keys(config: Config) -> list[str]:
    return [each.key for each in providers_of(config)]


def test_each_tenant_has_its_own() -> None:
    """Without names it is the default tenant's; a star is for every tenant."""
    config = Config(auth="smart", key="00" * 32, providers=ROWS)
    assert keys(config) == ["plain", "all"]
    assert keys(config_of(config, "aa")) == ["ours", "both", "all"]
    assert keys(config_of(config, "bb")) == ["both", "all"]


def test_one_key_may_be_another_provider_elsewhere() -> None:
    """The same key for two tenants is two providers, and in one tenant a fault."""
    rows = (provider("house", "aa"), provider("house", "bb", client_id="other"))
    config = Config(auth="smart", key="00" * 32, providers=rows)
    assert [each.client_id for each in providers_of(config_of(config, "bb"))] == ["other"]
    again = config.model_copy(update={"providers": (*rows, provider("house", "*"))})
    with pytest.raises(FhirError, match="'house' more than once for the tenant aa"):
        providers_of(config_of(again, "aa"))


@pytest.mark.parametrize("tenants", ["aa", [], [3], ["A B"], {"aa": 1}])
def test_nonsense_is_refused_with_a_sentence(tenants: Any) -> None:
    """The start ends with what is wrong."""
    config = Config(auth="smart", key="00" * 32, providers=(provider("x") | {"tenants": tenants},))
    with pytest.raises(FhirError, match="tenants of 'x'"):
        providers_of(config)


@pytest.fixture
async def server(mongo_url: str, databases: str, tmp_path: Path) -> AsyncIterator[Server]:
    config = Config(mongo=mongo_url, database=databases, data=tmp_path, auth="smart", key="00" * 32, providers=ROWS)
    async with AsyncExitStack() as stack:
        app = build_app(config)
        await stack.enter_async_context(app.running())
        running = Server(app)
        for name in ("aa", "bb"):
            await running.found(name)
        yield running
        await running.http.aclose()


async def test_the_login_page_of_a_tenant_offers_its_providers(server: Server) -> None:
    """A button for each of its own; another tenant's provider is no way in, even by its address."""
    for path, own in (
        ("/auth", {"plain", "all"}),
        ("/t/aa/auth", {"ours", "both", "all"}),
        ("/t/bb/auth", {"both", "all"}),
    ):
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=server.app), base_url=ROOT) as browser:
            html = (await browser.get(f"{path}/account")).text
            assert {row["key"] for row in ROWS if row["name"] in html} == own
            for key in {"plain", "ours", "both"} - own:
                answer = await browser.get(f"{path}/external", params={"provider": key})
                assert "location" not in answer.headers
                assert answer.status_code >= 400 or "not set up" in answer.text
