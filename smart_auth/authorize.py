"""The authorization endpoint: a request is checked, becomes a flow, passes its stages and ends as a code (SMART 2.2).

Everything a browser brings is checked here; the pages only show. A fault in client or redirect URI is never answered
with a redirect (RFC 6749 §4.1.2.1), every other one is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from smart_auth import clients, keys, launches, scopes
from smart_auth.realm import Realm, Record, digest
from smart_auth.scopes import LAUNCH, Scopes

CHALLENGE = re.compile(r"[A-Za-z0-9\-_]{43}", re.ASCII)
PROMPTS = frozenset({"none", "login", "consent", "select_account"})
MAX_STATE = 2_000
# Scopes a person cannot untick: without them the login itself has no meaning.
FIXED = frozenset({"openid", "fhirUser", "profile", "launch", *LAUNCH})


class PageError(Exception):
    """A fault that is shown to the user and not sent to any redirect URI."""


@dataclass(frozen=True, slots=True)
class Denied(Exception):
    """A fault that is sent to the client's redirect URI."""

    error: str
    text: str
    redirect_uri: str
    state: str | None


async def begin(realm: Realm, pairs: Iterable[tuple[str, str]], session: str) -> str:
    """Check an authorization request and store it as a flow of this browser session; returns the flow's id."""
    params, repeated = _single(pairs)
    client = await _client(realm, params)
    if repeated:
        raise _denied(params, "invalid_request", "A parameter is given more than once.")
    flow = await _flow(realm, client, params)
    name = realm.secret()
    await realm.records.add("flows", digest(name), flow | {"session": session}, realm.after(realm.lifetimes.flow))
    return name


# Where these are not clear there is nobody to redirect to.
DECIDING = frozenset({"client_id", "redirect_uri"})


def _single(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], bool]:
    """The parameters, and whether one that must not is there more than once; its value is not known then.

    Several of `resource` (RFC 8707 §2) are one text, with spaces, which no URI has.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    repeated = {name for name, values in given.items() if len(values) > 1 and name != "resource"}
    if repeated & DECIDING:
        raise PageError("The request has the app or its address more than once.")
    params = {name: " ".join(values) for name, values in given.items() if name not in repeated}
    # Without a value it is not there (RFC 6749 §3.1).
    return {name: value for name, value in params.items() if value.strip()}, bool(repeated)


async def _client(realm: Realm, params: Mapping[str, str]) -> Record:
    client = await clients.find(realm, params.get("client_id", ""))
    if client is None or "authorization_code" not in client["grants"]:
        raise PageError("This app is not registered here.")
    if not clients.returns_to(client, params.get("redirect_uri", "")):
        raise PageError("The app asked to be answered at an address that is not registered for it.")
    return client


async def _flow(realm: Realm, client: Record, params: Mapping[str, str]) -> Record:
    fault = _fault(realm, params)
    if fault is None:
        flow: Record = {"client": client["key"], **{name: params.get(name) for name in KEPT}, "context": {}}
        granted = _scopes(realm, client, params)
        if isinstance(granted, Scopes):
            flow["scope"] = granted.text
            return flow | await _launched(realm, client, granted, params) | await _hinted(realm, params)
        fault = granted
    raise _denied(params, *fault)


KEPT = ("redirect_uri", "state", "nonce", "code_challenge", "prompt", "login_hint", "max_age")


def _denied(params: Mapping[str, str], error: str, text: str) -> Denied:
    return Denied(error, text, params["redirect_uri"], params.get("state"))


def _fault(realm: Realm, params: Mapping[str, str]) -> tuple[str, str] | None:
    """The first fault of a request whose client and redirect URI are right, as OAuth error and text."""
    resources = set(params.get("resource", "").split())
    checks = (
        ("request" in params, "request_not_supported", "Request objects are not supported."),
        ("request_uri" in params, "request_uri_not_supported", "Request objects are not supported."),
        ("response_type" not in params, "invalid_request", "response_type is missing."),
        (params.get("response_type") != "code", "unsupported_response_type", "The response_type is code."),
        (params.get("response_mode", "query") != "query", "invalid_request", "The response_mode is query."),
        (len(params.get("state", "")) > MAX_STATE, "invalid_request", "state is too long."),
        (len(params.get("nonce", "")) > MAX_STATE, "invalid_request", "nonce is too long."),
        (
            not params.keys() & {"aud", "resource"},
            "invalid_request",
            "aud is required: the address of this FHIR server.",
        ),
        (params.get("aud", realm.issuer) not in realm.addresses, "invalid_request", "aud is not this FHIR server."),
        (not resources <= realm.addresses, "invalid_target", "resource is not this FHIR server."),
        (params.get("code_challenge_method") != "S256", "invalid_request", "PKCE with S256 is required."),
        (not CHALLENGE.fullmatch(params.get("code_challenge", "")), "invalid_request", "code_challenge is not S256."),
        (not _prompts(params) <= PROMPTS, "invalid_request", "prompt has an unknown value."),
        ("none" in _prompts(params) and len(_prompts(params)) > 1, "invalid_request", "prompt none stands alone."),
        (not re.fullmatch(r"\d{0,9}", params.get("max_age", ""), re.ASCII), "invalid_request", "max_age is seconds."),
    )
    return next(((error, text) for wrong, error, text in checks if wrong), None)


def _prompts(params: Mapping[str, str | None]) -> set[str]:
    return set((params.get("prompt") or "").split())


def _scopes(realm: Realm, client: Record, params: Mapping[str, str]) -> Scopes | tuple[str, str]:
    asked = scopes.parse(params.get("scope", ""), realm.types)
    allowed = scopes.parse(client["scope"], realm.types)
    if asked is None or allowed is None:
        return "invalid_scope", "The scope parameter is too long."
    if "system" in asked.contexts:
        return "invalid_scope", "system scopes are for backend services, not for a login."
    granted = scopes.negotiate(asked, allowed, answerable=realm.answerable)
    if not granted.text:
        return "invalid_scope", "None of the scopes can be granted to this app."
    return granted


async def _launched(realm: Realm, client: Record, granted: Scopes, params: Mapping[str, str]) -> Record:
    """The context of an EHR launch; a launch value that is used, expired or another's is refused."""
    if not granted.has("launch"):
        return {}
    held = await launches.use(realm, params.get("launch", ""), client["key"])
    if held is None:
        raise _denied(params, "invalid_request", "The launch is unknown, was used, or has expired.")
    return {"context": held["context"], "launch_user": held["user"]}


async def _hinted(realm: Realm, params: Mapping[str, str]) -> Record:
    if "id_token_hint" not in params:
        return {}
    claims = await keys.read(realm, params["id_token_hint"])
    if claims is None:
        raise _denied(params, "invalid_request", "The id_token_hint is not one of this server.")
    return {"hint": claims.get("sub")}


async def load(realm: Realm, name: str | None, session: Record) -> Record:
    """The flow of this browser; one of another browser, or an old one, is not there."""
    flow = await realm.records.get("flows", digest(name)) if name else None
    if flow is None or flow["session"] != session["key"]:
        raise PageError("This login has expired or was started elsewhere. Go back to the app and try again.")
    return flow


async def settle(realm: Realm, name: str, flow: Record, own: tuple[str, ...]) -> Record:
    """The flow with its patient filled in where a user has exactly one: nothing is left to choose."""
    granted = scopes.parse(flow["scope"]) or Scopes()
    if len(own) != 1 or _missing(flow, granted) != "patient":
        return flow
    context = {**flow["context"], "patient": own[0]}
    await realm.records.change("flows", digest(name), {"context": context})
    return {**flow, "context": context}


def stage(realm: Realm, flow: Record, session: Record, user: Record | None, remembered: Record | None) -> str:
    """What comes next: `login`, `patient`, `encounter`, `consent`, `done`, or an OAuth error after `!`."""
    quiet = "none" in _prompts(flow)
    if user is None or _again(realm, flow, session):
        return "!login_required" if quiet else "login"
    if flow.get("hint") not in (None, user["sub"]) or flow.get("launch_user") not in (None, "", user["key"]):
        return "!access_denied"
    granted = scopes.parse(flow["scope"]) or Scopes()
    missing = _missing(flow, granted)
    if missing:
        return "!interaction_required" if quiet else missing
    if flow.get("consented") == user["key"] or _remembered(flow, granted, remembered):
        return "done"
    return "!consent_required" if quiet else "consent"


def _again(realm: Realm, flow: Record, session: Record) -> bool:
    """Whether the user has to log in again although a session is there: prompt=login, or max_age."""
    age = flow.get("max_age") or ""
    old = age != "" and session["auth_time"] + timedelta(seconds=int(age)) < realm.now()
    return not flow.get("fresh") and (old or bool(_prompts(flow) & {"login", "select_account"}))


def _missing(flow: Record, granted: Scopes) -> str | None:
    needed = "patient" in granted.contexts or granted.has("launch/patient") or granted.has("launch/encounter")
    if needed and "patient" not in flow["context"]:
        return "patient"
    if granted.has("launch/encounter") and "encounter" not in flow["context"] and not flow.get("no_encounter"):
        return "encounter"
    return None


def _remembered(flow: Record, granted: Scopes, remembered: Record | None) -> bool:
    if remembered is None or "consent" in _prompts(flow):
        return False
    before = scopes.parse(remembered["scope"]) or Scopes()
    return set(granted.plain) <= set(before.plain) and scopes.all_covered(before.clinical, granted.clinical)


async def remembered(realm: Realm, flow: Record, user: Record, client: Record) -> Record | None:
    """What the user has allowed this app before; an app that anybody could imitate is asked about every time."""
    if client.get("trusted"):
        return {"scope": flow["scope"]}
    if client["kind"] == "public" and not flow["redirect_uri"].startswith("https://"):
        return None
    return await realm.records.get("grants", f"{user['sub']} {client['key']}")


def kept(granted: Scopes, chosen: Iterable[str]) -> Scopes:
    """The scopes a user left ticked, and those that cannot be unticked; never one that was not offered."""
    wanted = set(chosen)
    clinical = tuple(scope for scope in granted.clinical if scope.text in wanted)
    return Scopes(clinical, tuple(name for name in granted.plain if name in FIXED or name in wanted))


async def finish(realm: Realm, name: str, flow: Record, session: Record, user: Record) -> str:
    """End the flow with a code for the client: the address to send the browser to."""
    if await realm.records.take("flows", digest(name)) is None:
        raise PageError("This login was finished already.")
    granted = scopes.parse(flow["scope"]) or Scopes()
    grant = {
        "client": flow["client"],
        "user": user["key"],
        "sub": user["sub"],
        "name": user["name"],
        "fhir_user": user.get("fhir_user"),
        "scope": granted.text,
        "context": flow["context"],
        "auth_time": session["auth_time"],
        "amr": session["amr"],
        "nonce": flow["nonce"],
        "session": session["key"],
        "online": granted.has("online_access") and not granted.has("offline_access"),
        "family": realm.secret(16),
    }
    code = realm.secret()
    record = {"redirect_uri": flow["redirect_uri"], "challenge": flow["code_challenge"], "used": False, "grant": grant}
    await realm.records.add("codes", digest(code), record, realm.after(realm.lifetimes.code))
    if flow.get("consented") == user["key"]:
        await _remember(realm, user, grant)
    return answer(realm, flow["redirect_uri"], {"code": code}, flow["state"])


async def _remember(realm: Realm, user: Record, grant: Record) -> None:
    record = {"user": user["key"], "client": grant["client"], "scope": grant["scope"], "at": realm.now()}
    await realm.records.put("grants", f"{user['sub']} {grant['client']}", record)


def answer(realm: Realm, redirect_uri: str, params: Mapping[str, str], state: str | None) -> str:
    """The redirect back to the client, with `state` as it came and `iss` (RFC 9207)."""
    query = {**params, **({"state": state} if state is not None else {}), "iss": realm.issuer}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(query)}"


def refusal(realm: Realm, denied: Denied) -> str:
    """The redirect that tells the client why there is no code."""
    return answer(realm, denied.redirect_uri, {"error": denied.error, "error_description": denied.text}, denied.state)
