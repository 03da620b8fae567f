"""Clients: what is registered of an app and how it authenticates (SMART App Launch 2.2, "Client Authentication")."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote_plus, urlsplit

from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, OAuth2Error

from smart_auth import assertions
from smart_auth.assertions import refused
from smart_auth.realm import Realm, Record, digest, touch

# Client kind -> what it may authenticate with at the token endpoint.
METHODS: Mapping[str, frozenset[str]] = {
    "public": frozenset({"none"}),
    "symmetric": frozenset({"client_secret_basic", "client_secret_post"}),
    "asymmetric": frozenset({"private_key_jwt"}),
}
KIND_OF = {method: kind for kind, methods in METHODS.items() for method in methods}
GRANTS = ("authorization_code", "refresh_token", "client_credentials")
MAX_URIS = 20
# A redirect URI at a loopback address, whose port a native app chooses when it starts.
NATIVE = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>(?:[/?].*)?)", re.ASCII
)


async def find(realm: Realm, client_id: str) -> Record | None:
    """The client, unless it is unknown or switched off."""
    client = await realm.records.get("clients", client_id) if 0 < len(client_id) <= 200 else None
    return client if client and not client.get("disabled") else None


async def save(realm: Realm, client_id: str, fields: Record) -> tuple[str, str | None]:
    """Register or replace a client; returns its id and, for a symmetric one, the secret that is shown once."""
    check(fields)
    secret = realm.secret() if fields["kind"] == "symmetric" else None
    record = {**fields, "created": realm.now(), **({"secret": digest(secret)} if secret else {})}
    await realm.records.put("clients", client_id, record)
    await touch(realm)
    return client_id, secret


async def remove(realm: Realm, client_id: str) -> bool:
    """Forget a client, and everything that was granted to it."""
    for kind in ("tokens", "refresh", "grants"):
        await realm.records.drop(kind, {"client": client_id})
    gone = await realm.records.drop("clients", {"_id": client_id})
    await touch(realm)
    return bool(gone)


def check(fields: Record) -> None:
    """Refuse a registration that could not be kept safe, with the reason."""
    if fields.get("kind") not in METHODS:
        raise invalid("invalid_client_metadata", f"A client is one of {', '.join(METHODS)}.")
    uris = fields.get("redirect_uris") or []
    grants = fields.get("grants") or []
    if not set(grants) <= set(GRANTS):
        raise invalid("invalid_client_metadata", f"The grant types are {', '.join(GRANTS)}.")
    if "authorization_code" in grants and not uris:
        raise invalid("invalid_redirect_uri", "A client that people log in to needs a redirect URI.")
    if "client_credentials" in grants and fields["kind"] != "asymmetric":
        raise invalid("invalid_client_metadata", "A backend service authenticates with a key (private_key_jwt).")
    bad = next((uri for uri in uris if not redirectable(uri)), None)
    if bad is not None or len(uris) > MAX_URIS:
        raise invalid("invalid_redirect_uri", "A redirect URI is https, http on loopback, or an app scheme with a dot.")
    _check_keys(fields)


def _check_keys(fields: Record) -> None:
    keys, uri = fields.get("jwks"), fields.get("jwks_uri")
    if fields["kind"] == "asymmetric" and bool(keys) == bool(uri):
        raise invalid("invalid_client_metadata", "An asymmetric client has either jwks or jwks_uri.")
    if uri and not _web(uri):
        raise invalid("invalid_client_metadata", "jwks_uri must be https, or http on loopback.")
    rows = keys.get("keys") if isinstance(keys, dict) else None
    rows = rows if isinstance(rows, list) else []
    kids = [key.get("kid") for key in rows if isinstance(key, dict)]
    private = any("d" in key or "k" in key for key in rows if isinstance(key, dict))
    if keys and (not kids or not all(isinstance(kid, str) for kid in kids) or len(set(kids)) < len(rows) or private):
        raise invalid("invalid_client_metadata", "jwks must hold public keys, each with its own kid.")


def invalid(error: str, text: str) -> OAuth2Error:
    """An error of registration (RFC 7591 §3.2.2)."""
    return OAuth2Error(error=error, description=text, status_code=400)


def redirectable(uri: Any) -> bool:
    """Whether a redirect URI is exact and safe: https, http on loopback, or a private scheme (RFC 8252 §7)."""
    if not isinstance(uri, str) or not uri.isascii() or any(c <= " " or c in '\\*"<>' for c in uri) or len(uri) > 2000:
        return False
    parts = split(uri)
    if parts is None or parts.fragment or uri.endswith("#") or "@" in parts.netloc or "/.." in parts.path:
        return False
    return _web(uri) or ("." in parts.scheme and parts.scheme not in ("http", "https"))


def split(uri: str) -> SplitResult | None:
    """The parts of a URI; None where host or port cannot be."""
    try:
        parts = urlsplit(uri)
        return parts if parts.port is None or parts.port else None
    except ValueError:
        return None


def returns_to(client: Record, uri: str) -> bool:
    """Whether an app may be sent back to the address: exactly one of its own.

    A native app listens at a loopback address of its own machine, at whatever port is free: of a public client any port
    fits there, and all the rest must be the same (RFC 8252 §7.3).
    """
    if uri in client["redirect_uris"]:
        return True
    asked = NATIVE.fullmatch(uri) if client["kind"] == "public" else None
    if asked is None or int(asked["port"] or 80) not in range(1, 65_536):
        return False
    own = (NATIVE.fullmatch(each) for each in client["redirect_uris"])
    return any(each is not None and each.group("host", "rest") == asked.group("host", "rest") for each in own)


def _web(uri: Any) -> bool:
    parts = split(uri) if isinstance(uri, str) else None
    if parts is None:
        return False
    return (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme == "http" and _loopback(parts.hostname))


def _loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def origins(client: Record) -> frozenset[str]:
    """The web origins of a client: those of its redirect URIs and the ones registered (SMART 2.2, CORS)."""
    pages = (urlsplit(uri) for uri in [*client.get("redirect_uris", ()), *client.get("launch_uris", ())])
    own = {f"{page.scheme}://{page.netloc}" for page in pages if page.scheme in ("http", "https")}
    return frozenset(own | set(client.get("origins", ())))


async def all_origins(realm: Realm) -> frozenset[str]:
    """The origins of every app that is not switched off: whose pages may call this server."""
    live = (client for client in await realm.records.find("clients", {}, limit=10_000) if not client.get("disabled"))
    return frozenset().union(*map(origins, live))


async def authenticate(realm: Realm, form: Mapping[str, str], authorization: str | None, audience: str) -> Record:
    """The client of a request to the token endpoint, by exactly one method and by the one it is registered for."""
    method, client_id, proof = _presented(form, authorization)
    client = await find(realm, client_id)
    if client is None or method not in METHODS[client["kind"]]:
        raise _unauthorized(method)
    if method == "private_key_jwt":
        await assertions.verify(realm, client, proof, audience)
    elif method != "none" and not hmac.compare_digest(client["secret"], digest(proof)):
        raise _unauthorized(method)
    return client


def _unauthorized(method: str) -> OAuth2Error:
    """A challenge is sent only to who used it: in a browser it would open a login window of its own."""
    text = "The client could not be authenticated."
    return _challenged(text) if method == "client_secret_basic" else refused(text)


def _challenged(text: str) -> OAuth2Error:
    """The same to who used Basic; `portal` adds the challenge (RFC 6749 §5.2)."""
    return InvalidClientError(description=text, status_code=401)


def _presented(form: Mapping[str, str], authorization: str | None) -> tuple[str, str, str]:
    """Method, client id and proof; more than one method at once is refused (RFC 6749 §2.3)."""
    ways: list[tuple[str, str, str]] = []
    if authorization and authorization[:6].lower() == "basic ":
        ways.append(("client_secret_basic", *_basic(authorization[6:])))
    if "client_secret" in form:
        ways.append(("client_secret_post", form.get("client_id", ""), form["client_secret"]))
    if "client_assertion" in form or "client_assertion_type" in form:
        ways.append(("private_key_jwt", *_asserted(form)))
    if len(ways) > 1:
        raise InvalidRequestError(description="A client authenticates in one way, not in several.")
    way = ways[0] if ways else ("none", form.get("client_id", ""), "")
    if form.get("client_id", way[1]) != way[1]:
        raise InvalidRequestError(description="client_id is not that of the client that authenticates.")
    return way


def _basic(encoded: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError as error:
        raise _challenged("The Authorization header is not Basic.") from error
    name, colon, secret = text.partition(":")
    if not colon:
        raise _challenged("The Authorization header is not Basic.")
    return unquote_plus(name), unquote_plus(secret)


def _asserted(form: Mapping[str, str]) -> tuple[str, str]:
    if form.get("client_assertion_type") != assertions.TYPE or not form.get("client_assertion"):
        raise refused(f"client_assertion needs the client_assertion_type {assertions.TYPE}.")
    claims = assertions.unverified(form["client_assertion"])[1]
    return str(claims.get("iss", "")), form["client_assertion"]
