"""The routes of the authorization server: OAuth endpoints for programs, pages for people, discovery for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from authlib.oauth2 import OAuth2Error
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.auth import account as auth_account
from fhir_server.auth import apps as auth_apps
from fhir_server.auth import login as auth_login
from fhir_server.auth import roles as auth_roles
from fhir_server.auth.portal import Portal, answer, bearer, caller, data, form, human, oauth, preflight
from smart_auth import (
    clients,
    discovery,
    grants,
    keys,
    launches,
    policies,
    principals,
    registration,
    render,
    scopes,
    tokens,
    users,
)

OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff"}
# Parameters of the token endpoint that must never be in a URL, where proxies and logs would keep them.
SECRETS = frozenset(
    {"client_secret", "client_assertion", "code", "refresh_token", "token", "code_verifier", "password"}
)
Handler = Callable[[Portal, Request], Awaitable[Response]]


async def smart_configuration(portal: Portal, request: Request) -> Response:
    """GET [base]/.well-known/smart-configuration, for any origin (SMART 2.2, CORS)."""
    return JSONResponse(discovery.smart_configuration(portal.realm), headers=OPEN)


async def openid_configuration(portal: Portal, request: Request) -> Response:
    """GET [base]/.well-known/openid-configuration."""
    return JSONResponse(discovery.openid_configuration(portal.realm), headers=OPEN)


async def jwks(portal: Portal, request: Request) -> Response:
    """GET /jwks: the public signing keys."""
    return JSONResponse(await keys.jwks(portal.realm), headers=OPEN | {"Cache-Control": "max-age=60"})


async def style(portal: Portal, request: Request) -> Response:
    """GET /smart-style.json (SMART 2.2, styling)."""
    return JSONResponse(discovery.STYLE, headers=OPEN)


async def asset(portal: Portal, request: Request) -> Response:
    """GET /style.css and /passkey.js."""
    name = request.url.path.rpartition("/")[2]
    headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(render.asset(name), media_type=render.ASSETS[name], headers=headers)


def _no_secrets(request: Request) -> None:
    if SECRETS & set(request.query_params):
        text = "Credentials belong into the body of the request, never into its address."
        raise OAuth2Error(error="invalid_request", description=text, status_code=400)


async def token(portal: Portal, request: Request) -> Response:
    """POST /token."""
    _no_secrets(request)
    fields = await form(request)
    try:
        return answer(await grants.token(portal.realm, fields, request.headers.get("authorization")))
    except OAuth2Error as error:
        details = {"client": fields.get("client_id"), "grant": fields.get("grant_type"), "error": error.error}
        await portal.realm.note("token-refused", details)
        raise


async def revoke(portal: Portal, request: Request) -> Response:
    """POST /revoke (RFC 7009)."""
    _no_secrets(request)
    await grants.revoke(portal.realm, await form(request), request.headers.get("authorization"))
    return answer({})


async def introspect(portal: Portal, request: Request) -> Response:
    """POST /introspect (RFC 7662): for a client or a bearer token with the right to."""
    _no_secrets(request)
    fields = await form(request)
    if not await _may_introspect(portal, request, fields):
        text = "This client has no right to introspect tokens."
        raise OAuth2Error(error="access_denied", description=text, status_code=403)
    if not fields.get("token"):
        raise OAuth2Error(error="invalid_request", description="token is missing.", status_code=400)
    return answer(await tokens.introspect(portal.realm, fields["token"]))


async def _may_introspect(portal: Portal, request: Request, fields: dict[str, str]) -> bool:
    if bearer(request) is not None:
        principal, record = await caller(portal, request)
        client = await clients.find(portal.realm, record["client"]) or {}
        return "introspect" in {*policies.rights(principal.policies), *client.get("rights", ())}
    named = {name: value for name, value in fields.items() if name != "token"}
    header = request.headers.get("authorization")
    client = await clients.authenticate(portal.realm, named, header, f"{portal.realm.auth}/token")
    if client["kind"] == "public":
        raise OAuth2Error(error="invalid_client", description="Authenticate to introspect.", status_code=401)
    return "introspect" in client.get("rights", ())


async def userinfo(portal: Portal, request: Request) -> Response:
    """GET and POST /userinfo (OpenID Connect Core §5.3)."""
    _, record = await caller(portal, request)
    granted = scopes.parse(record["scope"]) or scopes.Scopes()
    if not granted.has("openid") or not record.get("sub"):
        raise OAuth2Error(error="insufficient_scope", description="The scope openid is needed.", status_code=403)
    return answer({"sub": record["sub"], **tokens.identity(portal.realm, record, granted)})


async def register(portal: Portal, request: Request) -> Response:
    """POST /register (RFC 7591)."""
    found = await registration.register(portal.realm, await data(request), bearer(request))
    await portal.realm.note("client-registered", {"client": found["client_id"]})
    return answer(found, 201)


async def launch(portal: Portal, request: Request) -> Response:
    """POST /launch: an EHR opens an app for a patient (SMART 2.2, EHR launch); needs the right `launch`."""
    principal, record = await caller(portal, request)
    if "launch" not in policies.rights(principal.policies):
        raise OAuth2Error(error="access_denied", description="No right to launch apps.", status_code=403)
    if not {scope.context for scope in principal.scopes} & {"user", "system"}:
        text = "A token for one patient does not open apps: it would get at others."
        raise OAuth2Error(error="access_denied", description=text, status_code=403)
    given = await data(request)
    client = await clients.find(portal.realm, str(given.get("client_id", ""))) if isinstance(given, dict) else None
    if client is None:
        raise OAuth2Error(error="invalid_request", description="client_id names no app.", status_code=400)
    seen = auth_apps.seen_by(portal, principal)
    found = await launches.create(portal.realm, client, record.get("user") or "", given, seen)
    await portal.realm.note("launch", {"client": client["key"], "user": record.get("user")})
    return answer(found, 201)


async def break_glass(portal: Portal, request: Request) -> Response:
    """POST /break-glass {"reason": ...} by a trusted app of the house; other users do it on their account page."""
    _, record = await caller(portal, request)
    client = await clients.find(portal.realm, record["client"]) or {}
    user = await users.find(portal.realm, record.get("user") or "")
    given = await data(request)
    reason = str(given.get("reason", "")) if isinstance(given, dict) else ""
    until = await principals.break_glass(portal.realm, user, reason) if user and client.get("trusted") else None
    if until is None:
        text = "An emergency session needs a reason, a role that may have one and an app of the house."
        raise OAuth2Error(error="access_denied", description=text, status_code=403)
    return answer({"until": until.isoformat()})


# Path below the base of the endpoints, methods, who it is for, handler.
ENDPOINTS: tuple[tuple[str, str, str, Handler], ...] = (
    ("/jwks", "GET", "program", jwks),
    ("/token", "POST", "program", token),
    ("/revoke", "POST", "program", revoke),
    ("/introspect", "POST", "program", introspect),
    ("/userinfo", "GET POST", "program", userinfo),
    ("/register", "POST", "program", register),
    ("/launch", "POST", "program", launch),
    ("/break-glass", "POST", "program", break_glass),
    ("/roles", "GET", "program", auth_roles.list_roles),
    ("/roles/{name}", "GET", "program", auth_roles.read_role),
    ("/roles/{name}", "PUT", "program", auth_roles.change_role),
    ("/roles/{name}", "DELETE", "program", auth_roles.remove_role),
    ("/smart-style.json", "GET", "program", style),
    ("/style.css", "GET", "person", asset),
    ("/passkey.js", "GET", "person", asset),
    ("/authorize", "GET", "person", auth_login.begin),
    ("/authorize", "POST", "person", auth_login.begin_post),
    ("/flow", "GET", "person", auth_login.flow),
    ("/login", "POST", "person", auth_login.log_in),
    ("/mfa", "POST", "person", auth_login.second),
    ("/external", "GET", "person", auth_login.external),
    ("/external/back", "GET", "person", auth_login.external_back),
    ("/passkey/options", "POST", "program", auth_login.passkey_options),
    ("/passkey", "POST", "program", auth_login.passkey),
    ("/pick", "POST", "person", auth_login.pick),
    ("/consent", "POST", "person", auth_login.consent),
    ("/cancel", "POST", "person", auth_login.cancel),
    ("/logout", "GET POST", "person", auth_login.log_out),
    ("/apps", "GET", "person", auth_apps.apps),
    ("/apps", "POST", "person", auth_apps.open_app),
    ("/account", "GET", "person", auth_account.account),
    ("/account/app", "POST", "person", auth_account.remove_app),
    ("/account/totp", "POST", "person", auth_account.start_totp),
    ("/account/totp/confirm", "POST", "person", auth_account.confirm_totp),
    ("/account/totp/stop", "POST", "person", auth_account.stop_totp),
    ("/account/password", "POST", "person", auth_account.change_password),
    ("/account/emergency", "POST", "person", auth_account.emergency),
    ("/account/session", "POST", "person", auth_account.end_session),
    ("/account/passkey/options", "POST", "program", auth_account.passkey_options),
    ("/account/passkey", "POST", "program", auth_account.add_passkey),
    ("/account/passkey/remove", "POST", "person", auth_account.remove_passkey),
    ("/account/roles", "GET", "person", auth_roles.roles_page),
    ("/account/roles", "POST", "person", auth_roles.save_page),
    ("/account/roles/remove", "POST", "person", auth_roles.remove_page),
    ("/reset", "GET", "person", auth_account.reset_page),
    ("/reset", "POST", "person", auth_account.reset),
)
WRAP = {"program": oauth, "person": human}


def auth_routes(portal: Portal, fhir: str = "/fhir", auth: str = "/auth") -> list[Route]:
    """All routes of one realm: discovery under the path of the FHIR base, the endpoints under that of `auth`."""
    documents = (("smart-configuration", smart_configuration), ("openid-configuration", openid_configuration))
    known = [Route(f"{fhir}/.well-known/{name}", oauth(portal, run), methods=["GET"]) for name, run in documents]
    rows = (
        Route(auth + path, WRAP[who](portal, run), methods=methods.split()) for path, methods, who, run in ENDPOINTS
    )
    asked = {path for path, _, who, _ in ENDPOINTS if who == "program"}
    preflights = (Route(auth + path, oauth(portal, preflight), methods=["OPTIONS"]) for path in sorted(asked))
    return [*known, *rows, *preflights]
