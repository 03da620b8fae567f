"""docs/security.md: roles are changed over HTTP by those who may, with sense, told, and in force on every worker."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fhir_server.access.gate import Gate
from fhir_server.auth.wiring import answerable_by
from fhir_server.store import Store
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.params import Registry
from smart_auth import clients, editing, policies, tokens, users
from tests.smart_world import APP, BACKEND, ISSUER, Browser, World

pytestmark = pytest.mark.anyio
NURSE = {"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "rs"}]}


@pytest.fixture
async def world(world: World) -> World:
    made = world
    await users.create(made.realm, "root", "correct horse battery", {"name": "Root", "roles": ["Admin"]})
    await clients.save(made.realm, "house", {**APP, "trusted": True})
    await clients.save(made.realm, "tool", {**BACKEND, "rights": ["policies"]})
    return made


async def token(world: World, client: str, user: str = "", scope: str = "user/*.cruds") -> str:
    return str((await tokens.made(world.realm, client, user, scope, {}))["access_token"])


async def call(browser: Browser, bearer: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    head = {"Authorization": f"Bearer {bearer}"}
    return await browser.http.request(method, f"/auth{path}", headers=head, json=body)


async def test_an_administrator_lists_reads_and_changes(world: World, browser: Browser) -> None:
    """GET, PUT and DELETE through an app of the house; each change is in the audit trail with who made it."""
    bearer = await token(world, "house", "root")
    listed = (await call(browser, bearer, "GET", "/roles")).json()["roles"]
    assert {"Admin", "Nurse", "Auditor"} <= {each["name"] for each in listed}
    assert (await call(browser, bearer, "GET", "/roles/Lab%20technician")).json()["name"] == "Lab technician"
    assert (await call(browser, bearer, "PUT", "/roles/Nurse", NURSE)).status_code == 200
    assert (await call(browser, bearer, "GET", "/roles/Nurse")).json() == NURSE
    assert (await call(browser, bearer, "PUT", "/roles/Porter", {**NURSE, "name": "Porter"})).status_code == 201
    assert (await call(browser, bearer, "DELETE", "/roles/Nurse")).status_code == 200
    assert (await call(browser, bearer, "GET", "/roles/Nurse")).json() == policies.default_policies()["Nurse"]
    assert (await call(browser, bearer, "DELETE", "/roles/Nurse")).status_code == 404
    assert (await call(browser, bearer, "GET", "/roles/Nobody")).status_code == 404
    told = world.noted("role-changed")
    assert [each["reason"] for each in told] == ["role Nurse", "role Porter", "role Nurse removed"]
    assert {(each["user"], each["client"]) for each in told} == {("root", "house")}


async def test_others_may_not(world: World, browser: Browser) -> None:
    """401 without a token, 403 for another role, and for an administrator in an app that is not of the house."""
    assert (await browser.http.get("/auth/roles")).status_code == 401
    for bearer in (await token(world, "house", "dora"), await token(world, "app", "root")):
        for method, path in (
            ("GET", "/roles"),
            ("GET", "/roles/Nurse"),
            ("PUT", "/roles/Nurse"),
            ("DELETE", "/roles/Nurse"),
        ):
            assert (await call(browser, bearer, method, path, NURSE)).status_code == 403
    backend = await token(world, "backend", scope="system/*.rs")
    assert (await call(browser, backend, "GET", "/roles")).status_code == 403
    tool = await token(world, "tool", scope="system/*.rs")
    assert (await call(browser, tool, "PUT", "/roles/Nurse", NURSE)).status_code == 200
    assert world.noted("role-changed") == [{"user": None, "client": "tool", "reason": "role Nurse"}]


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ([], "JSON object"),
        ({}, "needs a name"),
        ({"name": " Nurse"}, "needs a name"),
        ({"name": "Nurse", "colour": "red"}, "no 'colour'"),
        ({"name": "Nurse", "rows": "all"}, "rows of a role"),
        ({"name": "Nurse", "rows": [3]}, "A row is"),
        ({"name": "Nurse", "clearance": "Z"}, "clearance"),
        ({"name": "Nurse", "rights": ["fly"]}, "right"),
        ({"name": "Nurse", "rights": [3]}, "list of texts"),
        ({"name": "Nurse", "break_glass": "yes"}, "true or false"),
        ({"name": "Nurse", "rows": [{"verbs": "r"}]}, "needs types"),
        ({"name": "Nurse", "rows": [{"types": ["Patiant"], "verbs": "r"}]}, "no resource type"),
        ({"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "rx"}]}, "verbs"),
        ({"name": "Nurse", "rows": [{"types": ["Patient"]}]}, "verbs"),
        ({"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "r", "own": "no"}]}, "own"),
        ({"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "r", "wher": []}]}, "no 'wher'"),
        ({"name": "Nurse", "rows": [{"types": ["Observation"], "verbs": "r", "where": ["colour=red"]}]}, "colour=red"),
        ({"name": "Nurse", "rows": [{"types": ["Observation"], "verbs": "r", "where": ["code"]}]}, "cannot be decided"),
        (
            {"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["Patient.phone"]}]},
            "is no element of R4",
        ),
        (
            {"name": "Nurse", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["Condition.note"]}]},
            "no element of",
        ),
        ({"name": "Doctor", "rows": []}, "is called"),
    ],
)
async def test_nonsense_is_refused_with_a_sentence(world: World, browser: Browser, role: Any, why: str) -> None:
    """400, the sentence names what is wrong, and the role stays as it was."""
    bearer = await token(world, "house", "root")
    answer = await call(browser, bearer, "PUT", "/roles/Nurse", role)
    assert answer.status_code == 400, answer.text
    assert why in answer.json()["error_description"]
    assert (await call(browser, bearer, "GET", "/roles/Nurse")).json() == policies.default_policies()["Nurse"]


async def test_a_choice_element_can_be_hidden(world: World, browser: Browser) -> None:
    """By the name that the specification gives it."""
    bearer = await token(world, "house", "root")
    row = {"types": ["Patient"], "verbs": "r", "hidden": ["Patient.deceased[x]"]}
    assert (await call(browser, bearer, "PUT", "/roles/Nurse", {**NURSE, "rows": [row]})).status_code == 200


async def test_the_standing_roles_make_sense(world: World) -> None:
    """What every database starts with passes the same check, by R4's search parameters."""
    realm = replace(world.realm, answerable=answerable_by(Registry.r4()), types=RESOURCE_TYPES)
    for role in policies.default_policies().values():
        editing.check(realm, dict(role))


async def test_nobody_locks_themselves_out(world: World, browser: Browser) -> None:
    """An administrator cannot take the right to change roles from themselves; another role may lose it."""
    bearer = await token(world, "house", "root")
    bare = {**policies.default_policies()["Admin"], "rights": ["users"]}
    assert (await call(browser, bearer, "PUT", "/roles/Admin", bare)).status_code == 409
    assert (await call(browser, bearer, "GET", "/roles")).status_code == 200


async def test_a_role_in_use_is_not_removed(world: World, browser: Browser) -> None:
    """A role of this database goes only when nobody has it."""
    bearer = await token(world, "house", "root")
    await call(browser, bearer, "PUT", "/roles/Porter", {**NURSE, "name": "Porter"})
    await users.update(world.realm, "nora", {"roles": ["Porter"]})
    assert (await call(browser, bearer, "DELETE", "/roles/Porter")).status_code == 409
    await users.update(world.realm, "nora", {"roles": ["Nurse"]})
    assert (await call(browser, bearer, "DELETE", "/roles/Porter")).status_code == 200


async def test_a_change_is_in_force_on_all_workers_within_a_second(
    world: World, store: Store, browser: Browser
) -> None:
    """Two workers that know a nurse's token follow the change."""
    bearer = await token(world, "app", "nora")
    gates = [Gate(world.realm, store, Registry.r4(), ISSUER) for _ in range(2)]

    async def may(gate: Gate) -> bool:
        caller = await gate.of_token(bearer)
        return not gate.granted(caller, "Condition", "r").none

    assert [await may(gate) for gate in gates] == [True, True]
    started = time.monotonic()
    await call(browser, await token(world, "house", "root"), "PUT", "/roles/Nurse", NURSE)
    while any([await may(gate) for gate in gates]):
        assert time.monotonic() - started < 2
        await asyncio.sleep(0.05)


async def test_a_new_search_parameter_tells_nobody_of_hidden_elements(world: World, store: Store) -> None:
    """Whoever was known before it was stored is judged by it at once."""
    await users.create(world.realm, "lara", "correct horse battery", {"name": "Lara", "roles": ["Lab technician"]})
    bearer = await token(world, "app", "lara")
    gate = Gate(world.realm, store, Registry.r4(), ISSUER)
    before = gate.hidden_keys(await gate.of_token(bearer))
    definition = {"url": "http://x.example/x", "code": "x", "type": "string", "base": ["Patient"]}
    registry = Registry.r4().with_parameters([definition | {"expression": "Patient.children().city"}])
    gate.redefine(registry)
    found = registry.lookup("Patient", "x")
    assert found is not None
    assert not before.intersection(found.keys)
    assert gate.hidden_keys(await gate.of_token(bearer)).issuperset(found.keys)


async def test_the_page(world: World, browser: Browser) -> None:
    """The account area: log in, see, change, be told what is wrong, undo; a doctor gets no further than a sentence."""
    await browser.open("/auth/account/roles")
    await browser.log_in("root")
    assert "Lab technician" in browser.html
    await browser.open("/auth/account/roles", role="Nurse")
    assert "&#34;Nurse&#34;" in browser.html
    answer = await browser.post("/account/roles", text="{")
    assert (answer.status_code, "not JSON" in browser.html) == (400, True)
    answer = await browser.post("/account/roles", text=json.dumps({"name": "Nurse", "rights": ["fly"]}))
    assert (answer.status_code, "unknown clearance or right" in browser.html) == (400, True)
    await browser.post("/account/roles", text=json.dumps(NURSE))
    assert "Nurse is in force" in browser.html
    assert "Undo the changes" in browser.html
    assert (await editing.roles(world.realm))["Nurse"] == NURSE
    await browser.post("/account/roles/remove", role="Nurse")
    assert "is gone" in browser.html
    assert (await browser.http.post("/auth/account/roles", data={"text": json.dumps(NURSE)})).status_code == 403
    assert (await browser.open("/auth/account/roles", role="Nope")).status_code == 404
    doctor = world.browser()
    await doctor.open("/auth/account/roles")
    await doctor.log_in("dora")
    assert "does not change roles" in doctor.html


async def test_the_command_refuses_nonsense_too(world: World) -> None:
    """`fhir-server role set` goes the same way."""
    with pytest.raises(FhirError, match="no resource type"):
        editing.check(world.realm, {"name": "X", "rows": [{"types": ["Y"], "verbs": "r"}]})
