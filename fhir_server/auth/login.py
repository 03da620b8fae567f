"""The browser's side of a login: authorize, log in, second step, patient picker, consent, logout."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from fhir_server.auth.portal import (
    Portal,
    answer,
    data,
    form,
    genuine,
    message,
    page,
    pairs,
    peer,
    redirect,
    session,
    with_cookie,
)
from profiles.outcome import FhirError
from smart_auth import authorize, clients, keys, passkeys, principals, scopes, sessions, users, words
from smart_auth import external as outside
from smart_auth.authorize import Denied, PageError
from smart_auth.realm import Record, digest

WRONG = "The user name or the password is wrong."
REASONS = {
    "login_required": "The user is not logged in.",
    "interaction_required": "The user would have to choose.",
    "consent_required": "The user has not allowed this yet.",
    "access_denied": "Another user is logged in than the one this is meant for.",
}


async def begin(portal: Portal, request: Request) -> Response:
    """GET /authorize: check the request and go to its first page."""
    params = await _parked(portal, request) or _pairs(request.url.query)
    held, cookie = await session(portal, request)
    name = await authorize.begin(portal.realm, params, held["key"])
    return with_cookie(portal, redirect(f"{portal.realm.auth}/flow?flow={name}"), cookie)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise PageError("The request has too many parameters.") from None


async def begin_post(portal: Portal, request: Request) -> Response:
    """POST /authorize. A POST from another site carries no cookie, so it is parked and fetched by a GET that does."""
    name = portal.realm.secret()
    record = {"parked": [list(pair) for pair in await pairs(request)]}
    await portal.realm.records.add("flows", digest(name), record, portal.realm.after(portal.realm.lifetimes.flow))
    return redirect(f"{portal.realm.auth}/authorize?parked={name}")


async def _parked(portal: Portal, request: Request) -> list[tuple[str, str]] | None:
    name = request.query_params.get("parked")
    held = await portal.realm.records.take("flows", digest(name)) if name else None
    if name and (held is None or "parked" not in held):
        raise PageError("This login has expired. Go back to the app and try again.")
    return [(pair[0], pair[1]) for pair in held["parked"]] if held else None


async def flow(portal: Portal, request: Request) -> Response:
    """GET /flow: the page of the stage that comes next, or the redirect that ends the flow."""
    name = request.query_params.get("flow", "")
    held, cookie = await session(portal, request)
    found = await authorize.load(portal.realm, name, held)
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    found = await authorize.settle(portal.realm, name, found, principals.own_patients(user)) if user else found
    client = await _client(portal, found)
    before = await authorize.remembered(portal.realm, found, user, client) if user else None
    step = authorize.stage(portal.realm, found, held, user, before)
    return with_cookie(portal, await _step(portal, request, step, (name, found, held, user, client)), cookie)


Place = tuple[str, Record, Record, Record | None, Record]


async def _step(portal: Portal, request: Request, step: str, place: Place) -> Response:
    name, found, held, user, client = place
    if step.startswith("!"):
        raise Denied(step[1:], REASONS[step[1:]], found["redirect_uri"], found["state"])
    if step == "login" or user is None:
        return await login_page(portal, held, name, client["name"], found.get("login_hint") or "")
    if step == "done":
        target = await authorize.finish(portal.realm, name, found, held, user)
        await portal.realm.note("authorize", {"client": client["key"], "user": user["key"], "scope": found["scope"]})
        return redirect(target)
    if step == "consent":
        return await _consent_page(portal, place)
    return await _pick_page(portal, request, step, place)


async def _client(portal: Portal, found: Record) -> Record:
    client = await clients.find(portal.realm, found["client"])
    if client is None:
        raise PageError("This app is not registered here.")
    return client


async def login_first(portal: Portal, held: Record, to: str) -> Response:
    """The login in front of one of our own pages, which comes next."""
    await portal.realm.records.change("sessions", held["key"], {"to": to})
    return await login_page(portal, held, "", "", "")


async def login_page(portal: Portal, held: Record, name: str, app: str, username: str, **more: Any) -> Response:
    """The login form; `name` is the flow it belongs to, empty for the account page."""
    status = more.pop("status", 200)
    values: Record = {"csrf": held["csrf"], "flow": name, "app": app, "username": username}
    values["providers"] = portal.realm.providers
    return page(portal, "login", status, await _target(portal, name), **{**values, **more})


async def _target(portal: Portal, name: str) -> str:
    found = await portal.realm.records.get("flows", digest(name)) if name else None
    return found["redirect_uri"] if found and "redirect_uri" in found else ""


async def log_in(portal: Portal, request: Request) -> Response:
    """POST /login: password; wrong name and wrong password look and last the same."""
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    name, username = fields.get("flow", ""), fields.get("username", "")[:200]
    app = await _app(portal, name, held)
    wait = await users.attempt(portal.realm, username, peer(request))
    if wait is not None:
        await portal.realm.note("login", {"user": username, "outcome": "throttled", "address": peer(request)})
        found = await login_page(
            portal, held, name, app, username, fault="Too many attempts. Wait a minute.", status=429
        )
        found.headers["Retry-After"] = str(wait)
        return found
    user = await users.by_password(portal.realm, username, fields.get("password", ""))
    if user is None:
        await portal.realm.note("login", {"user": username, "outcome": "refused", "address": peer(request)})
        return await login_page(portal, held, name, app, username, fault=WRONG, status=401)
    await users.succeeded(portal.realm, username, peer(request))
    if user.get("totp"):
        return await _half(portal, held, name, user, ("pwd",))
    return await entered(portal, request, held, name, user, ("pwd",))


async def external(portal: Portal, request: Request) -> Response:
    """GET /external: to the login of an external OpenID provider."""
    held, cookie = await session(portal, request)
    name, provider = request.query_params.get("flow", ""), request.query_params.get("provider", "")
    if name:
        await authorize.load(portal.realm, name, held)
    try:
        target = await outside.begin(portal.realm, provider, name, held)
    except outside.Unusable as error:
        status = 502 if provider in {each.key for each in portal.realm.providers} else 400
        return await login_page(portal, held, name, await _app(portal, name, held), "", fault=str(error), status=status)
    return with_cookie(portal, redirect(target), cookie)


async def external_back(portal: Portal, request: Request) -> Response:
    """GET /external/back: from the provider; the user is logged in here, a second step of ours is still asked for."""
    held, _ = await session(portal, request)
    try:
        user, name, methods = await outside.finish(portal.realm, request.query_params, held)
    except outside.Unusable as error:
        await portal.realm.note("login", {"user": "", "outcome": "refused", "address": peer(request)})
        return message(portal, "This does not work", str(error), 403)
    if user.get("totp"):
        return await _half(portal, held, name, user, methods)
    return await entered(portal, request, held, name, user, methods)


async def _app(portal: Portal, name: str, held: Record) -> str:
    if not name:
        return ""
    return str((await _client(portal, await authorize.load(portal.realm, name, held)))["name"])


async def _half(portal: Portal, held: Record, name: str, user: Record, methods: tuple[str, ...]) -> Response:
    """The first step was right: remember who it is, and how they proved it, until the second step."""
    half = {"half": user["key"], "half_at": portal.realm.now(), "half_amr": list(methods)}
    await portal.realm.records.change("sessions", held["key"], half)
    return page(portal, "mfa", 200, await _target(portal, name), csrf=held["csrf"], flow=name)


async def second(portal: Portal, request: Request) -> Response:
    """POST /mfa: the code of an authenticator, or a backup code; as limited as passwords are."""
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    user = await users.find(portal.realm, held.get("half", ""))
    if user is None or held["half_at"] + portal.realm.lifetimes.flow < portal.realm.now():
        raise FhirError("forbidden", "Log in with your password first.")
    name = fields.get("flow", "")
    wait = await users.attempt(portal.realm, f"code:{user['key']}", peer(request))
    if wait is None and await users.second_factor(portal.realm, user, fields.get("code", "")):
        await users.succeeded(portal.realm, f"code:{user['key']}", peer(request))
        methods = tuple(dict.fromkeys((*held.get("half_amr", ()), "otp", "mfa")))
        return await entered(portal, request, held, name, user, methods)
    await portal.realm.note("login", {"user": user["key"], "outcome": "refused", "address": peer(request)})
    fault = "Too many attempts. Wait a minute." if wait else "The code is wrong or was used already."
    values = {"csrf": held["csrf"], "flow": name, "fault": fault}
    found = page(portal, "mfa", 429 if wait else 401, await _target(portal, name), **values)
    found.headers.update({"Retry-After": str(wait)} if wait else {})
    return found


async def entered(
    portal: Portal, request: Request, held: Record, name: str, user: Record, methods: tuple[str, ...]
) -> Response:
    """A user has logged in: a new session and cookie (no fixation), the flow moves over to it."""
    token = await enter(portal, request, held, name, user, methods)
    return with_cookie(portal, redirect(_next(portal, name, held)), token)


async def enter(
    portal: Portal, request: Request, held: Record, name: str, user: Record, methods: tuple[str, ...]
) -> str:
    """Open the session of a user who has logged in; returns its cookie."""
    token, fresh = await sessions.open_session(portal.realm, user, methods)
    if name:
        await authorize.load(portal.realm, name, held)
        await portal.realm.records.change("flows", digest(name), {"session": fresh["key"], "fresh": True})
    await sessions.close(portal.realm, held["key"])
    await portal.realm.note("login", {"user": user["key"], "outcome": "success", "address": peer(request)})
    return token


def _next(portal: Portal, name: str, held: Record) -> str:
    page = f"flow?flow={quote(name)}" if name else held.get("to") or "account"
    return f"{portal.realm.auth}/{page}"


async def passkey_options(portal: Portal, request: Request) -> Response:
    """POST /passkey/options: a challenge for any passkey of this site."""
    held, _ = await session(portal, request)
    genuine(held, request.headers.get("x-csrf"))
    return answer(await passkeys.login_options(portal.realm, held))


async def passkey(portal: Portal, request: Request) -> Response:
    """POST /passkey: log in with one; it stands for password and second step."""
    held, _ = await session(portal, request)
    genuine(held, request.headers.get("x-csrf"))
    given = await data(request)
    given = given if isinstance(given, dict) else {}
    user = await passkeys.log_in(portal.realm, held, given.get("credential"))
    if user is None:
        await portal.realm.note("login", {"user": "", "outcome": "refused", "address": peer(request)})
        return answer({"error": "access_denied", "error_description": "This passkey is not known here."}, 401)
    name = str(given.get("flow") or "")
    token = await enter(portal, request, held, name, user, ("hwk", "user", "mfa"))
    return with_cookie(portal, answer({"next": _next(portal, name, held)}), token)


async def _pick_page(portal: Portal, request: Request, what: str, place: Place) -> Response:
    """The picker: what the user's roles show, or the user's own patients."""
    name, found, held, user, client = place
    assert user is not None
    own = principals.own_patients(user)
    principal = await principals.of_user(portal.realm, user)
    text = request.query_params.get("q", "")[:100]
    rows = await portal.directory(principal, what, text, found["context"])
    if what == "encounter" and not rows:
        return await _picked(portal, name, found, {}, no_encounter=True)
    values = {"what": what, "app": client["name"], "flow": name, "csrf": held["csrf"], "rows": rows, "q": text}
    flags = {"searchable": what == "patient" and not own, "skippable": what == "encounter"}
    return page(portal, "pick", 200, found["redirect_uri"], **values, **flags)


async def _picked(portal: Portal, name: str, found: Record, context: Record, **fields: Any) -> Response:
    fields["context"] = {**found["context"], **context}
    await portal.realm.records.change("flows", digest(name), fields)
    return redirect(_next(portal, name, {}))


async def pick(portal: Portal, request: Request) -> Response:
    """POST /pick: the chosen patient or encounter, if it is one that the user may see."""
    name, found, held, fields = await _posted(portal, request)
    user = await users.find(portal.realm, held.get("user", ""))
    what, chosen = fields.get("what", ""), fields.get("id", "")
    if user is None or what not in ("patient", "encounter") or what in found["context"]:
        raise FhirError("forbidden", "There is nothing to choose.")
    if not chosen and what == "encounter":
        return await _picked(portal, name, found, {}, no_encounter=True)
    principal = await principals.of_user(portal.realm, user)
    rows = await portal.directory(principal, what, f"id:{chosen}", found["context"])
    if chosen not in {row.id for row in rows}:
        raise FhirError("not-found", f"There is no such {what}.")
    return await _picked(portal, name, found, {what: chosen})


async def _posted(portal: Portal, request: Request) -> tuple[str, Record, Record, dict[str, str]]:
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    name = fields.get("flow", "")
    return name, await authorize.load(portal.realm, name, held), held, fields


async def _consent_page(portal: Portal, place: Place) -> Response:
    name, found, held, user, client = place
    assert user is not None
    granted = scopes.parse(found["scope"]) or scopes.Scopes()
    patient = ""
    if "patient" in found["context"]:
        principal = await principals.of_user(portal.realm, user)
        rows = await portal.directory(principal, "patient", f"id:{found['context']['patient']}", {})
        patient = rows[0].title if rows else found["context"]["patient"]
    target = found["redirect_uri"]
    values = {"app": client["name"], "user": user["name"], "patient": patient, "flow": name, "csrf": held["csrf"]}
    shown = words.lines(granted, authorize.FIXED)
    return page(portal, "consent", 200, target, **values, lines=shown, address=target.partition("?")[0])


async def consent(portal: Portal, request: Request) -> Response:
    """POST /consent: the scopes that stayed ticked, or a refusal."""
    rows = await pairs(request)
    fields = dict(rows)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    name = fields.get("flow", "")
    found = await authorize.load(portal.realm, name, held)
    granted = authorize.kept(
        scopes.parse(found["scope"]) or scopes.Scopes(), [value for key, value in rows if key == "scope"]
    )
    if fields.get("action") != "allow" or not granted.text or not held.get("user"):
        return await _refuse(portal, name, found)
    await portal.realm.records.change("flows", digest(name), {"scope": granted.text, "consented": held["user"]})
    return redirect(_next(portal, name, {}))


async def _refuse(portal: Portal, name: str, found: Record) -> Response:
    await portal.realm.records.take("flows", digest(name))
    await portal.realm.note("authorize-denied", {"client": found["client"]})
    raise Denied("access_denied", "The user did not allow it.", found["redirect_uri"], found["state"])


async def cancel(portal: Portal, request: Request) -> Response:
    """POST /cancel: back to the app before logging in."""
    name, found, _, _ = await _posted(portal, request)
    return await _refuse(portal, name, found)


async def log_out(portal: Portal, request: Request) -> Response:
    """GET and POST /logout (OpenID Connect RP-Initiated Logout 1.0): with an id_token_hint, or after asking."""
    fields = await form(request) if request.method == "POST" else dict(request.query_params)
    held, _ = await session(portal, request)
    claims = await keys.read(portal.realm, fields["id_token_hint"]) if fields.get("id_token_hint") else None
    if claims is not None and fields.get("client_id", claims.get("aud")) != claims.get("aud"):
        return message(portal, "Log out", "The id_token_hint is not one of this app.", 400)
    ours = claims is not None and claims.get("sub") == held.get("sub")
    if not ours and not (request.method == "POST" and sessions.is_genuine(held, fields.get("csrf"))):
        return message(portal, "Log out", "Log out on your account page.", 400 if held.get("user") else 200)
    await sessions.close(portal.realm, held["key"])
    await portal.realm.note("logout", {"user": held.get("user")})
    target = await _logout_target(portal, claims, fields)
    found = redirect(target) if target else message(portal, "Logged out", "You are logged out.")
    found.delete_cookie(portal.cookie, path="/", secure=portal.secure, httponly=True, samesite="lax")
    return found


async def _logout_target(portal: Portal, claims: Record | None, fields: dict[str, str]) -> str | None:
    """Where to go after a logout: only to an address that the client of the hint has registered, exactly."""
    target = fields.get("post_logout_redirect_uri")
    client = await clients.find(portal.realm, str(claims.get("aud"))) if claims else None
    if not target or client is None or target not in client.get("logout_uris", ()):
        return None
    state = f"{'&' if urlsplit(target).query else '?'}state={quote(fields['state'])}" if fields.get("state") else ""
    return target + state
