"""`fhir-server serve --auth smart --demo` as a person meets it: what is printed works, beside the running server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.demo_server import Demo

pytestmark = pytest.mark.xdist_group("demo")
ROOT = Path(__file__).parent.parent


def fetch(url: str, token: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_first_start_shows_accounts_once(demo: Demo) -> None:
    """One administrator, a user for each role and an app, whatever the number of workers."""
    assert demo.printed.count("First start: user admin, password ") == 1
    assert demo.printed.count("all with the password ") == 1
    listed = demo.command("user", "list")
    roles = [line.split("\t")[1] for line in listed.splitlines()]
    assert roles.count("Admin") == 1
    assert {"Auditor", "Billing clerk", "Doctor", "Lab technician", "Nurse", "Patient"} <= set(roles)
    assert re.search(r"^patient\tPatient\tPatient/", listed, re.M)
    assert "demo-app" in demo.command("client", "list")


def test_a_token_from_the_command_line_works_on_every_worker(demo: Demo) -> None:
    """The printed line gives a token beside the running server; every worker knows it, and nobody without it."""
    assert "fhir-server token issue demo-app 'user/*.rs' --user doctor --bare --data" in demo.printed
    token = demo.token("user/*.rs", "doctor")
    assert [fetch(f"{demo.base}/Patient?_count=1", token)[0] for _ in range(8)] == [200] * 8
    assert fetch(f"{demo.base}/Patient?_count=1")[0] == 401


def test_the_capability_statement_tells_how_to_log_in(demo: Demo) -> None:
    """SMART App Launch 1.0, "Conformance": service and oauth-uris, the same addresses as in the discovery document."""
    security = fetch(f"{demo.base}/metadata")[1]["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert security["cors"] is True
    uris = {row["url"]: row["valueUri"] for row in security["extension"][0]["extension"]}
    found = fetch(f"{demo.base}/.well-known/smart-configuration")[1]
    names = {"token": "token", "authorize": "authorization", "revoke": "revocation", "manage": "management"}
    assert {name: uris[name] for name in names} == {short: found[f"{n}_endpoint"] for short, n in names.items()}


def test_a_link_of_a_command_has_the_address_of_the_server(demo: Demo) -> None:
    """The command line knows under which address the server was started."""
    assert demo.command("user", "reset", "nurse").startswith(f"{demo.auth}/reset?token=")


def test_the_life_of_a_user_and_a_client(demo: Demo) -> None:
    """Added, locked out, let in, removed: tokens live and die with them on every worker, within a second."""
    assert re.fullmatch(
        r"User zoe was added\. Password: \S{16,}", demo.command("user", "add", "zoe", "--role", "Nurse")
    )
    places = ("--redirect", "http://localhost:1234/", "--scope", "user/*.rs")
    made = demo.command("client", "add", "web", "--kind", "symmetric", *places)
    assert re.fullmatch(r"Client web was registered\. Secret: \S{43}", made)
    token = demo.token("user/*.rs", "zoe", "web")
    assert statuses(demo, token) == {200}
    demo.command("user", "change", "zoe", "--disable")
    assert statuses(demo, token) == {401}
    demo.command("user", "change", "zoe", "--enable", "--role", "Auditor")
    token = demo.token("user/*.rs", "zoe", "web")
    assert statuses(demo, token) == {403}
    demo.command("client", "remove", "web")
    assert statuses(demo, token) == {401}


def test_the_signing_key_is_changed_and_removed(demo: Demo) -> None:
    """After a rotation both keys are published and old tokens live; removing the old key ends them."""
    token = demo.token("user/*.rs", "doctor")
    [old] = [key["kid"] for key in fetch(f"{demo.auth}/jwks")[1]["keys"]]
    demo.command("token", "rotate")
    assert len(fetch(f"{demo.auth}/jwks")[1]["keys"]) == 2
    assert statuses(demo, token) == {200}
    assert "tokens were revoked" in demo.command("token", "kill", old)
    assert statuses(demo, token) == {401}
    assert old not in {key["kid"] for key in fetch(f"{demo.auth}/jwks")[1]["keys"]}
    assert "There is no such key." in demo.command("token", "kill", old, status=1)


def statuses(demo: Demo, token: str) -> set[int]:
    """What the workers say to the token, a second after the last change."""
    time.sleep(1)
    return {fetch(f"{demo.base}/Patient?_count=1", token)[0] for _ in range(6)}


def tour() -> list[tuple[str, str]]:
    """The commands of docs/smart.md that are to be pasted, each with what its output holds."""
    steps: list[tuple[str, str]] = []
    for line in (ROOT / "docs/smart.md").read_text().splitlines():
        if line.startswith("        $ "):
            steps.append((line[10:], ""))
        elif line.startswith("        ") and steps and steps[-1][1] == "":
            steps[-1] = (steps[-1][0], line.strip())
        elif not line.strip() and steps and steps[-1][1] == "":
            steps[-1] = (steps[-1][0], "-")
    return [(command, "" if held == "-" else held) for command, held in steps]


def test_the_five_minutes_of_an_app_developer(demo: Demo, tmp_path: Path) -> None:
    """docs/smart.md: every command is pasted into one shell beside the server and says what the page shows."""
    lines = ["set -e", f"ln -s {ROOT}/examples examples"]
    for command, held in tour():
        here = command.replace("http://127.0.0.1:8000", demo.root)
        # A command in $(...) fails silently in an export: what it gave is looked at by the next line.
        lines.append(f"{here} | tee said; grep -qF '{held}' said" if held else here)
    assert len(lines) > 9
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FHIR_DATA": str(demo.folder)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=os.environ | paths,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
