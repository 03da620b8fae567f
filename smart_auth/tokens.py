"""Access tokens, refresh tokens and id_tokens: issue, look up, rotate, revoke, introspect.

A token is a random reference: nothing can be read from it or forged, and deleting its record revokes it. The record is
kept under the SHA-256 of the token and carries all that an answer needs.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from profiles.outcome import FhirError
from smart_auth import clients, keys, scopes, users
from smart_auth.realm import Realm, Record, digest, touch

# What goes beside the access token (SMART 2.2, "Launch context arrives with your access_token").
CONTEXT = ("patient", "encounter", "fhirContext", "need_patient_banner", "intent", "smart_style_url", "tenant")


async def issue(realm: Realm, grant: Record, *, refresh: bool) -> dict[str, Any]:
    """The answer of the token endpoint for a grant: client, user, scope, context, family, nonce, auth_time."""
    token = realm.secret()
    life = realm.lifetimes.access if grant.get("user") else realm.lifetimes.backend
    expires = realm.after(life)
    key = await keys.current(realm)
    record = {name: value for name, value in grant.items() if name not in ("key", "expires", "used")}
    record |= {"kid": key["key"], "issued": realm.now()}
    await realm.records.add("tokens", digest(token), record, expires)
    answer: dict[str, Any] = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": int(life.total_seconds()),
        "scope": grant["scope"],
        **{name: grant["context"][name] for name in CONTEXT if name in grant.get("context", {})},
    }
    granted = scopes.parse(grant["scope"]) or scopes.Scopes()
    if grant.get("user") and granted.has("openid"):
        answer["id_token"] = await id_token(realm, grant, granted, token)
    if refresh:
        answer["refresh_token"] = await refresh_token(realm, grant)
    return answer


async def made(realm: Realm, client_id: str, username: str, scope: str, context: Record) -> dict[str, Any]:
    """A token made by an operator, for a client and perhaps a user; the client's registered scope limits it."""
    client = await clients.find(realm, client_id)
    user = await users.find(realm, username) if username else None
    asked, allowed = scopes.parse(scope, realm.types), scopes.parse(client["scope"], realm.types) if client else None
    if client is None or asked is None or allowed is None or (username and user is None):
        raise FhirError("not-found", "There is no such client, user or scope.")
    granted = scopes.negotiate(asked, allowed, answerable=realm.answerable)
    about = {"user": user["key"], "sub": user["sub"], "name": user["name"], "auth_time": realm.now()} if user else {}
    grant = {"client": client_id, "scope": granted.text, "context": context, "family": realm.secret(16), **about}
    grant |= {"fhir_user": user.get("fhir_user")} if user else {}
    return await issue(realm, grant, refresh=False)


async def refresh_token(realm: Realm, grant: Record) -> str:
    """A new refresh token of the grant; rotation does not move the end of the first one."""
    token = realm.secret()
    record = {name: value for name, value in grant.items() if name not in ("key", "expires", "nonce")}
    expires = grant.get("refresh_until") or realm.after(
        realm.lifetimes.online if grant.get("online") else realm.lifetimes.refresh
    )
    await realm.records.add("refresh", digest(token), record | {"used": False, "refresh_until": expires}, expires)
    return token


async def id_token(realm: Realm, grant: Record, granted: scopes.Scopes, access_token: str) -> str:
    """The id_token of a grant (OpenID Connect Core §2; SMART 2.2, "Scopes for requesting identity data")."""
    now = int(realm.now().timestamp())
    half = hashlib.sha256(access_token.encode()).digest()[:16]
    claims: dict[str, Any] = {
        "iss": realm.issuer,
        "sub": grant["sub"],
        "aud": grant["client"],
        "iat": now,
        "exp": now + int(realm.lifetimes.id_token.total_seconds()),
        "auth_time": int(grant["auth_time"].timestamp()),
        "amr": grant.get("amr", ["pwd"]),
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
    }
    if grant.get("nonce"):
        claims["nonce"] = grant["nonce"]
    return await keys.sign(realm, claims | identity(realm, grant, granted))


def identity(realm: Realm, grant: Record, granted: scopes.Scopes) -> dict[str, Any]:
    """The claims about the user that the scopes allow: an absolute `fhirUser`, the name."""
    claims: dict[str, Any] = {}
    if grant.get("fhir_user") and (granted.has("fhirUser") or granted.has("profile")):
        claims["fhirUser"] = f"{realm.issuer}/{grant['fhir_user']}"
    if granted.has("profile"):
        claims |= {"name": grant.get("name", ""), "profile": claims.get("fhirUser", "")}
    return {name: value for name, value in claims.items() if value}


async def find(realm: Realm, token: str) -> Record | None:
    """The record of a live access token of this realm, or None."""
    return await realm.records.get("tokens", digest(token))


async def rotate(realm: Realm, token: str, client_id: str) -> Record | None:
    """Use up a refresh token of the client: its grant, or None. A token used twice ends its whole family."""
    key = digest(token)
    held = await realm.records.get("refresh", key)
    if held is None or held["client"] != client_id:
        return None
    if await realm.records.change("refresh", key, {"used": True}, {"used": False}) is not None:
        return held
    await revoke_family(realm, held["family"])
    await realm.note("token-replay", {"client": client_id, "user": held.get("user"), "family": held["family"]})
    return None


async def revoke_family(realm: Realm, family: str) -> None:
    """End every token that came from one authorization, those that are being made too (`end_late`)."""
    await realm.records.put("ended", family, {}, realm.after(realm.lifetimes.code))
    await realm.records.drop("tokens", {"family": family})
    await realm.records.drop("refresh", {"family": family})
    await touch(realm)


async def end_late(realm: Realm, family: str) -> None:
    """End tokens that were made while their family was ended: the replay came between the check and the new ones."""
    if await realm.records.get("ended", family) is not None:
        await revoke_family(realm, family)


async def revoke(realm: Realm, token: str, client_id: str) -> None:
    """Revocation (RFC 7009): a refresh token ends its family, an access token itself, a stranger's nothing."""
    key = digest(token)
    refresh = await realm.records.get("refresh", key)
    if refresh is not None and refresh["client"] == client_id:
        await revoke_family(realm, refresh["family"])
    elif await realm.records.drop("tokens", {"_id": key, "client": client_id}):
        await touch(realm)


async def revoke_grant(realm: Realm, username: str, client_id: str) -> None:
    """Take an app's access away: its tokens for the user and the remembered consent (SMART management_endpoint)."""
    for kind in ("tokens", "refresh", "grants"):
        await realm.records.drop(kind, {"user": username, "client": client_id})
    await touch(realm)


async def introspect(realm: Realm, token: str) -> dict[str, Any]:
    """Introspection (RFC 7662, SMART 2.2): `active` alone for anything that is not a live token."""
    key = digest(token)
    record = await realm.records.get("tokens", key)
    if record is None:
        record = await realm.records.get("refresh", key)
        if record is None or record["used"]:
            return {"active": False}
    granted = scopes.parse(record["scope"]) or scopes.Scopes()
    answer = {
        "active": True,
        "scope": record["scope"],
        "client_id": record["client"],
        "exp": int(record["expires"].timestamp()),
        "token_type": "Bearer",
        **{name: record["context"][name] for name in CONTEXT if name in record.get("context", {})},
    }
    if record.get("user") and granted.has("openid"):
        answer |= {"iss": realm.issuer, "sub": record["sub"]}
    return answer | identity(realm, record, granted)
