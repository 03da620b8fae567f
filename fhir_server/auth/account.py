"""The account page: apps, authenticator, passkeys, password, sessions (SMART management_endpoint)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fhir_server.auth.login import login_first
from fhir_server.auth.portal import (
    Portal,
    answer,
    data,
    form,
    genuine,
    message,
    page,
    peer,
    redirect,
    session,
    with_cookie,
)
from profiles.outcome import FhirError
from smart_auth import authorize, passkeys, policies, principals, render, scopes, sessions, tokens, users, words
from smart_auth.realm import Record


async def account(portal: Portal, request: Request) -> Response:
    """GET /account: the page, or the login in front of it."""
    held, cookie = await session(portal, request)
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    if user is None:
        return with_cookie(portal, await login_first(portal, held, "account"), cookie)
    return await _page(portal, held, user)


async def _page(portal: Portal, held: Record, user: Record, **more: Any) -> Response:
    realm = portal.realm
    held_policies = await principals.named(realm, user["roles"])
    values = {
        "emergency": any(policy.break_glass for policy in held_policies),
        "launches": "launch" in policies.rights(held_policies),
        "roles": "policies" in policies.rights(held_policies),
        "user": {"fhir_user": None, "totp": None, "backup": [], "passkeys": [], **user},
        "csrf": held["csrf"],
        "grants": [await _grant(portal, each) for each in await realm.records.find("grants", {"user": user["key"]})],
        "sessions": [_session(each, held) for each in await realm.records.find("sessions", {"user": user["key"]})],
    }
    return page(portal, "account", **{"note": "", "codes": (), "qr": "", "secret": "", **values, **more})


async def _grant(portal: Portal, grant: Record) -> Record:
    client = await portal.realm.records.get("clients", grant["client"]) or {"name": grant["client"]}
    lines = words.lines(scopes.parse(grant["scope"]) or scopes.Scopes(), authorize.FIXED)
    return {"client": grant["client"], "name": client["name"], "lines": lines}


def _session(each: Record, held: Record) -> Record:
    return {
        "key": each["key"],
        "since": each["started"].strftime("%Y-%m-%d %H:%M UTC"),
        "here": each["key"] == held["key"],
    }


async def _posted(portal: Portal, request: Request) -> tuple[Record, Record, dict[str, str]]:
    """Session, user and fields of a form of the account page."""
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    return held, await _user(portal, held), fields


async def _user(portal: Portal, held: Record) -> Record:
    user = await users.find(portal.realm, held["user"]) if held.get("user") else None
    if user is None:
        raise FhirError("forbidden", "Log in first.")
    return user


async def remove_app(portal: Portal, request: Request) -> Response:
    """POST /account/app: take an app's access away, tokens and all."""
    _, user, fields = await _posted(portal, request)
    await tokens.revoke_grant(portal.realm, user["key"], fields.get("client", ""))
    await portal.realm.note("grant-revoked", {"user": user["key"], "client": fields.get("client", "")})
    return redirect(f"{portal.realm.auth}/account")


async def start_totp(portal: Portal, request: Request) -> Response:
    """POST /account/totp: show the QR code of a new secret."""
    held, user, _ = await _posted(portal, request)
    if user.get("totp"):
        raise FhirError("conflict", "An authenticator app is in use already.")
    secret, address = await users.start_totp(portal.realm, user)
    return await _page(portal, held, user, qr=render.qr_code(address), secret=secret)


async def confirm_totp(portal: Portal, request: Request) -> Response:
    """POST /account/totp/confirm: put it in force and show the backup codes, once."""
    held, user, fields = await _posted(portal, request)
    codes = None if user.get("totp") else await users.confirm_totp(portal.realm, user, fields.get("code", ""))
    if codes is None:
        return await _page(portal, held, user, fault="The code is wrong. Start again.")
    await portal.realm.note("credential", {"user": user["key"], "change": "authenticator added"})
    return await _page(portal, held, await _user(portal, held), codes=codes, note="The authenticator app is in use.")


async def stop_totp(portal: Portal, request: Request) -> Response:
    """POST /account/totp/stop: needs the password."""
    held, user, fields = await _posted(portal, request)
    if not await _knows(portal, request, user, fields):
        return await _page(portal, held, user, fault="The password is wrong.")
    await users.stop_totp(portal.realm, user)
    await portal.realm.note("credential", {"user": user["key"], "change": "authenticator removed"})
    return redirect(f"{portal.realm.auth}/account")


async def _knows(portal: Portal, request: Request, user: Record, fields: dict[str, str]) -> bool:
    """Whether the password is right; guesses are limited as at the login."""
    if await users.attempt(portal.realm, user["key"], peer(request)) is not None:
        raise FhirError("throttled", "Too many attempts. Wait a minute.", headers={"Retry-After": "60"})
    if await users.by_password(portal.realm, user["key"], fields.get("password", "")) is None:
        return False
    await users.succeeded(portal.realm, user["key"], peer(request))
    return True


async def change_password(portal: Portal, request: Request) -> Response:
    """POST /account/password: needs the old one; ends every session, this one too."""
    held, user, fields = await _posted(portal, request)
    if not await _knows(portal, request, user, fields):
        return await _page(portal, held, user, fault="The password is wrong.")
    await users.set_password(portal.realm, user["key"], fields.get("new", ""))
    await portal.realm.note("credential", {"user": user["key"], "change": "password"})
    return redirect(f"{portal.realm.auth}/account")


async def emergency(portal: Portal, request: Request) -> Response:
    """POST /account/emergency: break the glass, with a reason and the password."""
    held, user, fields = await _posted(portal, request)
    if not await _knows(portal, request, user, fields):
        return await _page(portal, held, user, fault="The password is wrong.")
    until = await principals.break_glass(portal.realm, user, fields.get("reason", ""))
    if until is None:
        return await _page(portal, held, user, fault="Emergency access needs a reason and a role that may have it.")
    note = f"Emergency access until {until.strftime('%H:%M UTC')}. Every access is reported."
    return await _page(portal, held, await _user(portal, held), note=note)


async def end_session(portal: Portal, request: Request) -> Response:
    """POST /account/session: end one of the user's own sessions."""
    _, user, fields = await _posted(portal, request)
    await portal.realm.records.drop("sessions", {"_id": fields.get("id", ""), "user": user["key"]})
    return redirect(f"{portal.realm.auth}/account")


async def passkey_options(portal: Portal, request: Request) -> Response:
    """POST /account/passkey/options: a challenge for a new passkey."""
    held, _ = await session(portal, request)
    genuine(held, request.headers.get("x-csrf"))
    return answer(await passkeys.registration_options(portal.realm, held, await _user(portal, held)))


async def add_passkey(portal: Portal, request: Request) -> Response:
    """POST /account/passkey: keep it."""
    held, _ = await session(portal, request)
    genuine(held, request.headers.get("x-csrf"))
    user, given = await _user(portal, held), await data(request)
    given = given if isinstance(given, dict) else {}
    if not await passkeys.add(portal.realm, held, user, str(given.get("name", "")), given.get("credential")):
        return answer({"error": "invalid_request", "error_description": "The passkey could not be checked."}, 400)
    await portal.realm.note("credential", {"user": user["key"], "change": "passkey added"})
    return answer({"next": f"{portal.realm.auth}/account"})


async def remove_passkey(portal: Portal, request: Request) -> Response:
    """POST /account/passkey/remove."""
    _, user, fields = await _posted(portal, request)
    await passkeys.remove(portal.realm, user, fields.get("id", ""))
    await portal.realm.note("credential", {"user": user["key"], "change": "passkey removed"})
    return redirect(f"{portal.realm.auth}/account")


async def reset_page(portal: Portal, request: Request) -> Response:
    """GET /reset?token=: the form for a new password; the token is used by the POST alone."""
    held, cookie = await session(portal, request)
    token = request.query_params.get("token", "")[:200]
    return with_cookie(portal, page(portal, "reset", csrf=held["csrf"], token=token), cookie)


async def reset(portal: Portal, request: Request) -> Response:
    """POST /reset: set the password once with a token that the operator sent."""
    fields = await form(request)
    held, _ = await session(portal, request)
    genuine(held, fields.get("csrf"))
    if not await users.reset_password(portal.realm, fields.get("token", ""), fields.get("new", "")):
        return message(portal, "This does not work", "The link was used already or has expired.", 400)
    await sessions.close(portal.realm, held["key"])
    return message(portal, "Done", "The new password is in force. Log in with it.")
