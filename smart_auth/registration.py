"""Dynamic client registration (RFC 7591) under the realm's policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from authlib.oauth2 import OAuth2Error

from smart_auth import scopes
from smart_auth.clients import GRANTS, KIND_OF, check, invalid, redirectable, save
from smart_auth.realm import Realm, Record, digest

# What a client that registers itself may have without an administrator: apps for people, no backend access.
SELF_SERVICE_SCOPE = (
    "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access "
    "patient/*.cruds user/*.cruds"
)

# What is told of a registration where it was given, and the name that it is kept under (RFC 7591 §3.2.1).
TOLD = {"jwks": "jwks", "jwks_uri": "jwks_uri", "post_logout_redirect_uris": "logout_uris"}


async def register(realm: Realm, request: Any, token: str | None) -> dict[str, Any]:
    """Dynamic registration (RFC 7591 §3) under the realm's policy: `open`, `token` or `off`."""
    if realm.registration == "off":
        raise OAuth2Error(error="access_denied", description="Registration is off; ask the operator.", status_code=403)
    key = digest(token or "")
    invited = realm.registration == "token"
    if invited and await realm.records.get("registrations", key) is None:
        raise _uninvited()
    fields = _metadata(realm, request)
    check(fields)
    if invited and await realm.records.take("registrations", key) is None:
        raise _uninvited()
    client_id = realm.secret(12)
    _, secret = await save(realm, client_id, fields)
    return _registered(client_id, secret, fields, request, int(realm.now().timestamp()))


def _uninvited() -> OAuth2Error:
    text = "Registration needs an initial access token."
    return OAuth2Error(error="invalid_token", description=text, status_code=401)


async def invite(realm: Realm, days: int = 7) -> str:
    """An initial access token: lets one client register itself, within the days."""
    token = realm.secret()
    await realm.records.add("registrations", digest(token), {}, realm.after(timedelta(days=days)))
    return token


def _metadata(realm: Realm, request: Any) -> Record:
    if not isinstance(request, dict):
        raise invalid("invalid_client_metadata", "The registration must be a JSON object.")
    method = request.get("token_endpoint_auth_method", "client_secret_basic")
    kind = KIND_OF.get(method) if isinstance(method, str) else None
    allowed = scopes.parse(SELF_SERVICE_SCOPE, realm.types)
    asked = scopes.parse(str(request.get("scope") or SELF_SERVICE_SCOPE), realm.types)
    grants = request.get("grant_types", ["authorization_code"])
    lists = [request.get("redirect_uris") or [], request.get("post_logout_redirect_uris") or [], grants]
    if kind is None or asked is None or allowed is None or not all(isinstance(each, list) for each in lists):
        raise invalid("invalid_client_metadata", "The registration has a value that is not supported.")
    if any(grant not in ("authorization_code", "refresh_token") for grant in grants):
        raise invalid(
            "invalid_client_metadata", "A client that registers itself may have codes and refresh tokens only."
        )
    return {
        "kind": kind,
        "name": _shown(request.get("client_name")) or "An app without a name",
        "redirect_uris": request.get("redirect_uris") or [],
        "launch_uris": [uri for uri in [request.get("initiate_login_uri")] if redirectable(uri)],
        "logout_uris": [uri for uri in request.get("post_logout_redirect_uris") or [] if redirectable(uri)],
        "scope": scopes.negotiate(asked, allowed).text,
        "grants": [grant for grant in GRANTS if grant in grants or grant == "refresh_token"],
        "jwks": request.get("jwks"),
        "jwks_uri": request.get("jwks_uri"),
        "dynamic": True,
    }


def _shown(name: Any) -> str:
    """A name as pages show it: nothing that turns the direction of writing or cannot be seen."""
    return "".join(c for c in name if c.isprintable())[:200].strip() if isinstance(name, str) else ""


def _registered(client_id: str, secret: str | None, fields: Record, request: Any, now: int) -> dict[str, Any]:
    answer = {
        "client_id": client_id,
        "client_id_issued_at": now,
        "client_name": fields["name"],
        "redirect_uris": fields["redirect_uris"],
        "grant_types": fields["grants"],
        "response_types": ["code"],
        "scope": fields["scope"],
        "token_endpoint_auth_method": request.get("token_endpoint_auth_method", "client_secret_basic"),
    }
    more = {name: fields[own] for name, own in TOLD.items() if fields[own]}
    if fields["launch_uris"]:
        more["initiate_login_uri"] = fields["launch_uris"][0]
    return answer | more | ({"client_secret": secret, "client_secret_expires_at": 0} if secret else {})
