"""The EHR side of an EHR launch as pages: choose app, patient, perhaps a visit, and the app opens (SMART 2.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from fhir_server.auth.login import login_first
from fhir_server.auth.portal import Portal, form, genuine, page, redirect, session, with_cookie
from profiles.outcome import FhirError
from smart_auth import clients, launches, policies, principals, users
from smart_auth.access import Principal
from smart_auth.realm import Record


async def apps(portal: Portal, request: Request) -> Response:
    """GET /apps: the apps that open from here; with ?client= a patient to choose, with ?patient= a visit."""
    held, cookie = await session(portal, request)
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    if user is None:
        return with_cookie(portal, await login_first(portal, held, "apps"), cookie)
    principal = await _launcher(portal, user)
    asked = request.query_params
    client = await _app(portal, asked["client"]) if asked.get("client") else None
    if client is None:
        return page(portal, "apps", apps=await _all(portal), user=user, csrf=held["csrf"])
    what, chosen = ("encounter", {"patient": asked["patient"]}) if asked.get("patient") else ("patient", {})
    rows = await portal.directory(principal, what, asked.get("q", "")[:100], chosen)
    values = {"what": what, "rows": rows, "q": asked.get("q", "")[:100], "patient": asked.get("patient", "")[:64]}
    return page(portal, "open", 200, client["launch_uris"][0], client=client, csrf=held["csrf"], **values)


async def _launcher(portal: Portal, user: Record) -> Principal:
    principal = await principals.of_user(portal.realm, user)
    if "launch" not in policies.rights(principal.policies):
        raise FhirError("forbidden", "Your role does not open apps from here. Start the app itself and log in there.")
    return principal


async def _app(portal: Portal, client_id: str) -> Record:
    client = await clients.find(portal.realm, client_id)
    if client is None or not client.get("launch_uris"):
        raise FhirError("not-found", "There is no such app.")
    return client


async def _all(portal: Portal) -> list[Record]:
    rows = await portal.realm.records.find("clients", {})
    live = (row for row in rows if row.get("launch_uris") and not row.get("disabled"))
    return sorted(live, key=lambda row: str(row["name"]).casefold())


async def open_app(portal: Portal, request: Request) -> Response:
    """POST /apps: make the launch and send the browser to the app; the patient is one that the user may see."""
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    user = await users.find(portal.realm, held.get("user", ""))
    if user is None:
        raise FhirError("forbidden", "Log in first.")
    principal, client = await _launcher(portal, user), await _app(portal, fields.get("client", ""))
    wanted = {name: fields[name] for name in ("patient", "encounter") if fields.get(name)}
    made = await launches.create(portal.realm, client, user["key"], wanted, seen_by(portal, principal))
    await portal.realm.note("launch", {"client": client["key"], "user": user["key"]})
    return redirect(made["url"])


def seen_by(portal: Portal, principal: Principal) -> Callable[[Record], Awaitable[Record]]:
    """The patient and encounter of a launch, after a look whether who launches may see them.

    An encounter brings its patient: the picker would offer others.
    """

    async def seen(wanted: Record) -> Record:
        chosen: Record = {}
        for what in ("patient", "encounter"):
            if what not in wanted:
                continue
            rows = await portal.directory(principal, what, f"id:{wanted[what]}", chosen)
            found = next((row for row in rows if row.id == wanted[what]), None)
            if found is None or not found.patient:
                raise FhirError("not-found", f"There is no such {what}.")
            chosen |= {what: found.id, "patient": found.patient}
        return chosen

    return seen
