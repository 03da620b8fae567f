"""The token endpoint: authorization_code, refresh_token and client_credentials (RFC 6749, SMART App Launch 2.2)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from authlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from smart_auth import clients, scopes, tokens, users
from smart_auth.realm import Realm, Record, digest
from smart_auth.scopes import Scopes

VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}", re.ASCII)


async def token(realm: Realm, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
    """The answer of the token endpoint, or an OAuth2Error."""
    kind = form.get("grant_type", "")
    if kind not in GRANTS:
        if not kind:
            raise InvalidRequestError(description="grant_type is missing.")
        raise OAuth2Error(
            error="unsupported_grant_type", description=f"It is one of {', '.join(GRANTS)}.", status_code=400
        )
    named = form if authorization else await _named(realm, form)
    client = await clients.authenticate(realm, named, authorization, f"{realm.auth}/token")
    if kind not in client["grants"]:
        raise UnauthorizedClientError(description="The client is not registered for this grant type.")
    if not set(form.get("resource", "").split()) <= realm.addresses:  # RFC 8707 §2
        raise OAuth2Error(error="invalid_target", description="resource is not this FHIR server.", status_code=400)
    answer = await GRANTS[kind](realm, client, form)
    await realm.note("token", {"client": client["key"], "grant": kind, "scope": answer["scope"]})
    return answer


async def _named(realm: Realm, form: Mapping[str, str]) -> Mapping[str, str]:
    """The form with its client: at a refresh a public app need not name itself (SMART 2.2, "Use refresh token")."""
    if form["grant_type"] != "refresh_token" or form.keys() & {"client_id", "client_secret", "client_assertion"}:
        return form
    held = await realm.records.get("refresh", digest(form.get("refresh_token", "")))
    if held is None:
        raise InvalidGrantError(description="The refresh token is unknown, was used, was revoked, or has expired.")
    return {**form, "client_id": held["client"]}


async def _code(realm: Realm, client: Record, form: Mapping[str, str]) -> dict[str, Any]:
    """RFC 6749 §4.1.3 with PKCE; a code that is used twice takes its tokens with it (§4.1.2)."""
    key = digest(form.get("code", ""))
    held = await realm.records.change("codes", key, {"used": True}, {"used": False})
    if held is None:
        await _replayed(realm, key)
        raise InvalidGrantError(description="The code is unknown, was used, or has expired.")
    grant: Record = held["grant"]
    if grant["client"] != client["key"] or form.get("redirect_uri") != held["redirect_uri"]:
        raise InvalidGrantError(description="The code was issued to another client or redirect URI.")
    if not await _lives(realm, grant):
        raise InvalidGrantError(description="The user can no longer log in.")
    if not _proves(form.get("code_verifier", ""), held["challenge"]):
        raise InvalidGrantError(description="The code_verifier does not fit the code_challenge.")
    granted = scopes.parse(grant["scope"]) or Scopes()
    lasting = granted.has("offline_access") or granted.has("online_access")
    answer = await tokens.issue(realm, grant, refresh=lasting and "refresh_token" in client["grants"])
    await tokens.end_late(realm, grant["family"])
    return answer


async def _replayed(realm: Realm, key: str) -> None:
    held = await realm.records.get("codes", key)
    if held is not None:
        await tokens.revoke_family(realm, held["grant"]["family"])
        await realm.note("code-replay", {"client": held["grant"]["client"], "user": held["grant"]["user"]})


def _proves(verifier: str, challenge: str) -> bool:
    return bool(VERIFIER.fullmatch(verifier)) and hmac.compare_digest(create_s256_code_challenge(verifier), challenge)


async def _refresh(realm: Realm, client: Record, form: Mapping[str, str]) -> dict[str, Any]:
    """RFC 6749 §6 with rotation: the context of the launch stays, the scope may only narrow."""
    invalid = InvalidGrantError(description="The refresh token is unknown, was used, was revoked, or has expired.")
    token = form.get("refresh_token", "")
    known = await realm.records.get("refresh", digest(token))
    if known is None or known["client"] != client["key"]:
        raise invalid
    asked = _narrowed(realm, known, form)
    if not known["used"] and not await _lives(realm, known):
        raise invalid  # and it is not used up: who asks again has stolen nothing
    held = await tokens.rotate(realm, token, client["key"])
    if held is None:
        raise invalid
    answer = await tokens.issue(realm, held | {"scope": asked.text}, refresh=False)
    answer["refresh_token"] = await tokens.refresh_token(realm, held)
    await tokens.end_late(realm, held["family"])
    return answer


def _narrowed(realm: Realm, held: Record, form: Mapping[str, str]) -> Scopes:
    """What is asked of the grant, all of it by default; asking for more is refused before the token is used up."""
    granted = scopes.parse(held["scope"]) or Scopes()
    if not form.get("scope"):
        return granted
    asked = scopes.parse(form["scope"], realm.types)
    narrow = scopes.narrowed(granted, asked) if asked is not None else None
    if narrow is None or not all(realm.answerable(s.type, s.clauses) for s in narrow.clinical if s.clauses):
        raise InvalidScopeError(description="A refresh cannot have more scopes than were granted.")
    return narrow


async def _lives(realm: Realm, grant: Record) -> bool:
    """Whether the user may still log in and, for online_access, is still there."""
    user = await users.find(realm, grant["user"]) if grant.get("user") else None
    if grant.get("user") and (user is None or users.is_over(user, grant)):
        return False
    return not grant.get("online") or await realm.records.get("sessions", grant["session"]) is not None


async def _credentials(realm: Realm, client: Record, form: Mapping[str, str]) -> dict[str, Any]:
    """SMART Backend Services: system scopes within what the client is registered for, no refresh token."""
    asked = scopes.parse(form.get("scope", ""), realm.types)
    allowed = scopes.parse(client["scope"], realm.types)
    if asked is None or allowed is None or asked.plain or asked.contexts - {"system"}:
        raise InvalidScopeError(description="A backend service asks for system scopes.")
    granted = scopes.negotiate(asked, allowed, answerable=realm.answerable)
    if not granted.clinical:
        raise InvalidScopeError(description="None of the scopes is registered for this client.")
    grant = {"client": client["key"], "scope": granted.text, "context": {}, "family": realm.secret(16)}
    return await tokens.issue(realm, grant, refresh=False)


Grant = Callable[[Realm, Record, Mapping[str, str]], Awaitable[dict[str, Any]]]
GRANTS: dict[str, Grant] = {
    "authorization_code": _code,
    "refresh_token": _refresh,
    "client_credentials": _credentials,
}


async def revoke(realm: Realm, form: Mapping[str, str], authorization: str | None) -> None:
    """RFC 7009: the client revokes its own token; an unknown token is no error."""
    client = await clients.authenticate(realm, form, authorization, f"{realm.auth}/token")
    if not form.get("token"):
        raise InvalidRequestError(description="token is missing.")
    await tokens.revoke(realm, form["token"], client["key"])
    await realm.note("token-revoked", {"client": client["key"]})
