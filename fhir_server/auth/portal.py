"""What the authorization server's routes share: forms, cookies, pages and answers with their security headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidClientError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from profiles.outcome import FhirError
from smart_auth import clients, principals, render, sessions
from smart_auth.access import Principal
from smart_auth.authorize import Denied, PageError, refusal
from smart_auth.realm import Realm, Record

MAX_FORM = 65_536
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
BASIC = 'Basic realm="FHIR", charset="UTF-8"'
BEARER = 'Bearer realm="FHIR"'
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a picker: the id, what it is called, what tells it from others, and its patient's id."""

    id: str
    title: str
    text: str = ""
    patient: str = ""


Directory = Callable[[Principal, str, str, Record], Awaitable[list[Choice]]]


@dataclass(frozen=True, slots=True)
class Portal:
    """A realm with what its pages need: `directory` lists patients or encounters that a user may see."""

    realm: Realm
    directory: Directory

    @property
    def secure(self) -> bool:
        """Whether cookies may travel over https only."""
        return self.realm.auth.startswith("https://")

    @property
    def cookie(self) -> str:
        """The session cookie's name; `__Host-` binds it to this very host; the port, which cookies ignore, is in it."""
        port = urlsplit(self.realm.auth).port
        return f"{'__Host-' if self.secure else ''}fhir-{self.realm.tenant}{f'-{port}' if port else ''}"


async def body(request: Request, limit: int = MAX_FORM) -> bytes:
    """The request body, counted while it comes in."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise OAuth2Error(error="invalid_request", description="The request is too large.", status_code=413)
        parts.append(part)
    return b"".join(parts)


async def pairs(request: Request) -> list[tuple[str, str]]:
    """The fields of a form, in their order."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuth2Error(error="invalid_request", description="The request must be a form.", status_code=400)
    raw = await body(request)
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=1_000)
    except ValueError as error:
        raise OAuth2Error(error="invalid_request", description="The form cannot be read.", status_code=400) from error


async def form(request: Request) -> dict[str, str]:
    """The fields of a form; one that comes twice is refused, one without a value is not there (RFC 6749 §3.2).

    Several of `resource` (RFC 8707 §2) are one text, with spaces.
    """
    fields: dict[str, str] = {}
    for name, value in await pairs(request):
        if name in fields and name != "resource":
            raise OAuth2Error(error="invalid_request", description="A parameter is repeated.", status_code=400)
        fields[name] = f"{fields[name]} {value}" if name in fields else value
    return {name: value for name, value in fields.items() if value}


async def data(request: Request) -> Any:
    """A JSON body."""
    try:
        return msgspec.json.decode(await body(request))
    except (msgspec.DecodeError, RecursionError) as error:
        raise OAuth2Error(error="invalid_request", description="The body is not JSON.", status_code=400) from error


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """A JSON answer that nobody may keep (RFC 6749 §5.1)."""
    return JSONResponse(content, status, {**NO_STORE, "X-Content-Type-Options": "nosniff", **(headers or {})})


def page(portal: Portal, template: str, status: int = 200, target: str = "", **values: Any) -> HTMLResponse:
    """A page; `target` is where its form may end up, since browsers apply form-action to redirects too."""
    html = render.page(template, realm=portal.realm, **{"fault": "", **values})
    return HTMLResponse(html, status, page_headers(target))


def page_headers(target: str = "") -> dict[str, str]:
    """No frame, no foreign script, no referrer, no cache."""
    parts = urlsplit(target)
    ends = f" {parts.scheme}://{parts.netloc}" if parts.netloc else (f" {parts.scheme}:" if parts.scheme else "")
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"base-uri 'none'; frame-ancestors 'none'; form-action 'self'{ends}"
    )
    return {
        **NO_STORE,
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def redirect(url: str) -> RedirectResponse:
    """A redirect that turns a POST into a GET."""
    return RedirectResponse(url, 303, page_headers())


def message(portal: Portal, title: str, text: str, status: int = 200) -> HTMLResponse:
    """A page that says one thing."""
    return page(portal, "message", status, title=title, text=text)


async def session(portal: Portal, request: Request) -> tuple[Record, str | None]:
    """The browser's session, a new anonymous one where there is none; the second value is a cookie to set."""
    held = await sessions.find(portal.realm, request.cookies.get(portal.cookie))
    if held is not None:
        return held, None
    token, record = await sessions.open_session(portal.realm)
    return record, token


def with_cookie(portal: Portal, response: Response, token: str | None) -> Response:
    """The response with the session cookie, where there is a new one."""
    if token is not None:
        response.set_cookie(portal.cookie, token, path="/", secure=portal.secure, httponly=True, samesite="lax")
    return response


def genuine(held: Record, token: str | None) -> None:
    """Refuse a form that did not come from a page of this session."""
    if not sessions.is_genuine(held, token):
        raise FhirError("forbidden", "This form has expired. Go back, reload the page and try again.")


def peer(request: Request) -> str:
    """The address of the connection; headers that claim another one are not believed."""
    return request.client.host if request.client else "unknown"


def oauth(portal: Portal, endpoint: Callable[[Portal, Request], Awaitable[Response]]) -> Endpoint:
    """An endpoint for programs: every fault is OAuth error JSON."""

    async def run(request: Request) -> Response:
        return with_origin(request, await told(request), await clients.all_origins(portal.realm))

    async def told(request: Request) -> Response:
        try:
            return await endpoint(portal, request)
        except OAuth2Error as error:
            return answer(dict(error.get_body()), error.status_code, _challenge(error, bearer(request)))
        except FhirError as error:
            name = "temporarily_unavailable" if error.status >= 500 else "invalid_request"
            return answer({"error": name, "error_description": error.text}, error.status, error.headers)

    async def guarded(request: Request) -> Response:
        return await (run(request) if "origin" in request.headers else told(request))

    return guarded


def with_origin(request: Request, response: Response, known: frozenset[str]) -> Response:
    """The response with CORS headers for the page of a registered app, never for another (SMART 2.2, CORS)."""
    origin = request.headers["origin"]
    if origin in known and "access-control-allow-origin" not in response.headers:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "retry-after, www-authenticate"
        response.headers["Vary"] = "Origin"
    return response


async def preflight(portal: Portal, request: Request) -> Response:
    """OPTIONS of an endpoint for programs: what a page may send."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
        "Access-Control-Allow-Headers": "authorization, content-type",
    }
    return Response(status_code=204, headers={**allowed, "Access-Control-Max-Age": "600"})


def _challenge(error: OAuth2Error, token: str | None) -> dict[str, str]:
    """The challenge of Basic (RFC 6749 §5.2, RFC 7617 §2), or that of a protected resource (RFC 6750 §3).

    To who sent no token it tells no error (§3.1).
    """
    if error.error == "invalid_token" and token is None:
        return {"WWW-Authenticate": BEARER}
    if error.error in ("invalid_token", "insufficient_scope"):
        return {"WWW-Authenticate": f'Bearer error="{error.error}"'}
    return {"WWW-Authenticate": BASIC} if isinstance(error, InvalidClientError) else {}


def human(portal: Portal, endpoint: Callable[[Portal, Request], Awaitable[Response]]) -> Endpoint:
    """An endpoint for people: every fault is a page, or a redirect to the app where that is safe."""

    async def run(request: Request) -> Response:
        response = await told(request)
        if portal.secure:  # a browser that was here once never comes back without TLS (RFC 6797)
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    async def told(request: Request) -> Response:
        try:
            return await endpoint(portal, request)
        except Denied as error:
            return redirect(refusal(portal.realm, error))
        except PageError as error:
            return message(portal, "This does not work", str(error), 400)
        except OAuth2Error as error:
            return message(portal, "This does not work", error.get_error_description(), error.status_code)
        except FhirError as error:
            found = message(portal, "This does not work", error.text, error.status)
            found.headers.update(error.headers)
            return found

    return run


def bearer(request: Request) -> str | None:
    """The token of the Authorization header, where it has one."""
    header = request.headers.get("authorization", "")
    return header[7:] if header[:7].lower() == "bearer " else None


async def caller(portal: Portal, request: Request) -> tuple[Principal, Record]:
    """The principal of a bearer token in the Authorization header; never one in the address (RFC 6750 §2.3)."""
    token = bearer(request)
    found = await principals.of_token(portal.realm, token) if token is not None else None
    if found is None:
        raise OAuth2Error(error="invalid_token", description="A live access token is needed.", status_code=401)
    return found
