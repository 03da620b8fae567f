"""docs/security.md U07: no name of a patient leaves by the side: logs, links, files, failures in the trail."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from fhir_server.app import build_app
from fhir_server.auth.wiring import open_realm
from fhir_server.config import Config
from smart_auth import clients, tokens
from tests.shell import bundle_of, entry
from tests.smart_world import BACKEND

pytestmark = pytest.mark.anyio
NAME = "Zqxcanary"


def patient(number: int, **more: Any) -> dict[str, Any]:
    name = f"{NAME}{number}"
    return {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": name}], **more}


async def everything(ask: Any) -> list[httpx2.Response]:
    """What can be done to a hundred patients, right and wrong."""
    answers = [await ask("PUT", f"Patient/p{n}", patient(n)) for n in range(100)]
    answers += [
        await ask("PUT", "Patient/p1", patient(1, birthDate="nonsense")),
        await ask("PUT", "Patient/p1", {**patient(1), "id": NAME}),
        await ask("POST", "Patient", [NAME]),
        await ask("GET", f"Patient?name={NAME}1"),
        await ask("GET", f"Patient?name={NAME}&_count=2"),
        await ask("GET", f"Patient?nonsense={NAME}"),
        await ask("GET", f"Patient?_sort={NAME}"),
        await ask("GET", f"Patient?birthdate={NAME}"),
        await ask("GET", f"Patient/{NAME}!"),
        await ask("DELETE", f"Patient?name={NAME}1"),
        await ask("GET", "Patient/p2/$fhirpath?expression=name.family.nonsense("),
        await ask("POST", "$graphql", {"query": f'{{PatientList(name: "{NAME}2") {{name {{family nonsense}}}}}}'}),
        await ask("POST", "", bundle_of("transaction", entry("PUT", "Patient/p3", patient(3, birthDate="x")))),
        await ask("POST", "", bundle_of("batch", entry("GET", f"Patient?name={NAME}"), entry("GET", f"{NAME}/1"))),
    ]
    return answers


async def test_u07_no_name_in_logs_files_and_links(
    mongo_url: str, database: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred names, through every interaction and a fault: 0 hits; the rightful caller reads each of them."""
    settings: dict[str, Any] = {"auth": "smart", "key": "00" * 32, "log_requests": True, "log_level": "debug"}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    app = build_app(Config(mongo=mongo_url, database=database, data=tmp_path, **settings))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.running())
        context: Any = app.fhir.context
        realm = await open_realm(app.config, context.store, context)
        await clients.save(realm, "backend", BACKEND | {"scope": "system/*.cruds"})
        made = await tokens.made(realm, "backend", "", "system/*.cruds", {})
        bearer = {"Authorization": f"Bearer {made['access_token']}"}
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8000")

        async def ask(method: str, url: str, body: Any = None) -> httpx2.Response:
            return await http.request(method, f"/fhir/{url}", json=body, headers=bearer)

        answers = await everything(ask)
        found = await http.post("/fhir/Patient/_search", content=urlencode({"name": f"{NAME}5"}), headers=bearer | FORM)
        assert found.json()["total"] == 11
        await http.post("/auth/token", data={"grant_type": "password", "username": NAME, "password": NAME})
        monkeypatch.setattr("fhir_server.interactions.read.version_headers", broken)
        fault = await ask("GET", "Patient/p7")
        assert (fault.status_code, NAME in fault.text) == (500, False)
        monkeypatch.undo()
        assert NAME in (await ask("GET", "Patient/p7")).text
        told = capfd.readouterr()
        assert "request" in told.out + told.err
        assert NAME not in told.out + told.err
        assert not holding(tmp_path)
        for answer in answers:
            assert NAME not in str(answer.headers)
            for link in answer.json().get("link", ()) if answer.status_code == 200 else ():
                assert link["relation"] == "self" or NAME not in link["url"]
        events = await ask("GET", "AuditEvent?outcome=4,8&_count=100")
        assert len(events.json()["entry"]) >= 8
        assert NAME not in events.text
        await http.aclose()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def holding(folder: Path) -> list[Path]:
    """The files with a name in them."""
    return [path for path in folder.rglob("*") if path.is_file() and NAME.encode() in path.read_bytes()]


def broken(stored: Any) -> Any:
    raise RuntimeError(f"a fault that holds {stored.body!r}")
