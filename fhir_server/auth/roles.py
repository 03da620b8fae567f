"""Roles over HTTP: JSON for the administrator's own programs, and a page in the account area (docs/security.md)."""

from __future__ import annotations

import json

import msgspec
from authlib.oauth2 import OAuth2Error
from starlette.requests import Request
from starlette.responses import Response

from fhir_server.auth.login import login_first
from fhir_server.auth.portal import Portal, answer, caller, data, form, genuine, page, session, with_cookie
from profiles.outcome import FhirError
from smart_auth import clients, editing, policies, principals, users
from smart_auth.realm import Record

RIGHT = "policies"
NEW = {"name": "", "description": "", "clearance": "N", "rights": [], "rows": [{"types": ["Patient"], "verbs": "rs"}]}


# For programs


async def _editor(portal: Portal, request: Request) -> tuple[Record, list[str] | None]:
    """Who changes roles by a token, for the trail, and a user's roles: the user's right, through an app of the house.

    Any app that an administrator logs in to has a token of theirs; it must not be able to change roles with it.
    """
    principal, record = await caller(portal, request)
    client = await clients.find(portal.realm, record["client"]) or {}
    own = RIGHT in client.get("rights", ())
    user = await users.find(portal.realm, record["user"]) if record.get("user") else None
    allowed = RIGHT in policies.rights(principal.policies) and (own or client.get("trusted")) if user else own
    if not allowed:
        text = "Changing roles needs the right `policies`, and an app of the house."
        raise OAuth2Error(error="access_denied", description=text, status_code=403)
    return {"user": record.get("user"), "client": record["client"]}, user["roles"] if user else None


async def list_roles(portal: Portal, request: Request) -> Response:
    """GET /roles: every role in force."""
    await _editor(portal, request)
    return answer({"roles": list((await editing.roles(portal.realm)).values())})


async def read_role(portal: Portal, request: Request) -> Response:
    """GET /roles/NAME."""
    await _editor(portal, request)
    found = (await editing.roles(portal.realm)).get(request.path_params["name"])
    if found is None:
        raise FhirError("not-found", "There is no such role.")
    return answer(found)


async def change_role(portal: Portal, request: Request) -> Response:
    """PUT /roles/NAME: 201 for a new one; in force on all workers within a second."""
    by, names = await _editor(portal, request)
    name, role = request.path_params["name"], editing.check(portal.realm, await data(request))
    await _stay(portal, names, name, role)
    return answer(role, 201 if await editing.change(portal.realm, name, role, by) else 200)


async def remove_role(portal: Portal, request: Request) -> Response:
    """DELETE /roles/NAME: the role is again what every database starts with, or gone."""
    by, names = await _editor(portal, request)
    await _stay(portal, names, request.path_params["name"], None)
    await editing.remove(portal.realm, request.path_params["name"], by)
    return answer({})


async def _stay(portal: Portal, names: list[str] | None, name: str, role: Record | None) -> None:
    """Nobody locks themselves out."""
    if names is not None and not await editing.keeps_right(portal.realm, names, name, role):
        raise FhirError("conflict", "After this change you could change no role any more.")


# For people


async def roles_page(portal: Portal, request: Request) -> Response:
    """GET /account/roles: all roles; with ?role= one to be changed."""
    held, cookie = await session(portal, request)
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    if user is None:
        return with_cookie(portal, await login_first(portal, held, "account/roles"), cookie)
    await _permitted(portal, user)
    chosen = request.query_params.get("role")
    found = (await editing.roles(portal.realm)).get(chosen) if chosen else NEW if chosen == "" else None
    if chosen and found is None:
        raise FhirError("not-found", "There is no such role.")
    return await _page(portal, held, text=_text(found) if found else "", editing=chosen is not None)


async def _permitted(portal: Portal, user: Record) -> None:
    if RIGHT not in policies.rights(await principals.named(portal.realm, user["roles"])):
        raise FhirError("forbidden", "Your role does not change roles.")


def _text(role: Record) -> str:
    return json.dumps(role, indent=2, ensure_ascii=False)


async def _page(portal: Portal, held: Record, status: int = 200, **more: object) -> Response:
    own = {each["name"] for each in await portal.realm.records.find("policies", {})}
    rows = [
        {
            "name": name,
            "text": each.get("description", ""),
            "own": name in own,
            "standing": name in policies.default_policies(),
        }
        for name, each in sorted((await editing.roles(portal.realm)).items())
    ]
    values = {"roles": rows, "csrf": held["csrf"], "note": "", "text": "", "editing": False, **more}
    return page(portal, "roles", status, **values)


async def _posted(portal: Portal, request: Request) -> tuple[Record, Record, dict[str, str]]:
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    if user is None:
        raise FhirError("forbidden", "Log in first.")
    await _permitted(portal, user)
    return held, user, fields


async def save_page(portal: Portal, request: Request) -> Response:
    """POST /account/roles: put the role in force, or show again what is wrong with it."""
    held, user, fields = await _posted(portal, request)
    text = fields.get("text", "")
    try:
        role = editing.check(portal.realm, msgspec.json.decode(text))
        await _stay(portal, user["roles"], role["name"], role)
        await editing.change(portal.realm, role["name"], role, {"user": user["key"]})
    except msgspec.DecodeError as error:
        return await _page(portal, held, 400, text=text, editing=True, fault=f"This is not JSON: {error}.")
    except FhirError as error:
        return await _page(portal, held, error.status, text=text, editing=True, fault=error.text)
    return await _page(portal, held, note=f"{role['name']} is in force as you wrote it.")


async def remove_page(portal: Portal, request: Request) -> Response:
    """POST /account/roles/remove: back to what every database starts with."""
    held, user, fields = await _posted(portal, request)
    name = fields.get("role", "")
    try:
        await _stay(portal, user["roles"], name, None)
        await editing.remove(portal.realm, name, {"user": user["key"]})
    except FhirError as error:
        return await _page(portal, held, error.status, fault=error.text)
    return await _page(portal, held, note=f"Your version of {name} is gone.")
