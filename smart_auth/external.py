"""Login with an external OpenID provider: code flow with PKCE, nonce and state; who it is comes from its id_token.

OpenID Connect Core §3.1. The provider says who somebody is; which user that is here, and what they may do, is decided
here: by a user that the operator tied to the provider's `sub`, or by one made at the first login where that is allowed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from smart_auth import users
from smart_auth.realm import Fetched, Provider, Realm, Record, digest, touch

ALGORITHMS = ("RS256", "RS384", "ES256", "ES384", "PS256")
LEEWAY = 60


class Unusable(Exception):
    """The provider does not answer as it should, or says that nobody logged in; the text is for the user."""


def named(realm: Realm, key: str) -> Provider:
    """The provider of this key."""
    found = next((each for each in realm.providers if each.key == key), None)
    if found is None:
        raise Unusable("This way to log in is not set up.")
    return found


def home(realm: Realm) -> str:
    """Where providers send people back to: the redirect URI to register there."""
    return f"{realm.auth}/external/back"


async def begin(realm: Realm, key: str, flow: str, session: Record) -> str:
    """Start a login at the provider for this browser and flow: the address to go to."""
    provider = named(realm, key)
    place = await _document(realm, provider)
    state, nonce, verifier = realm.secret(), realm.secret(), realm.secret()
    record = {"session": session["key"], "flow": flow, "provider": key, "nonce": nonce, "verifier": verifier}
    await realm.records.add("external", digest(state), record, realm.after(realm.lifetimes.flow))
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": home(realm),
        "scope": provider.scope,
        "state": state,
        "nonce": nonce,
        "code_challenge": create_s256_code_challenge(verifier),
        "code_challenge_method": "S256",
        # A SMART server as provider wants to know which FHIR server is meant; others ignore it.
        "aud": provider.issuer,
    }
    return f"{place['authorization_endpoint']}?{urlencode(query)}"


async def _document(realm: Realm, provider: Provider) -> Record:
    """The provider's discovery document; its issuer must be the one that is set up (OpenID Discovery §4.3)."""
    found = _json(await _reached(realm.fetch(f"{provider.issuer}/.well-known/openid-configuration")))
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    if found.get("issuer") != provider.issuer or not all(isinstance(found.get(name), str) for name in names):
        raise Unusable("The login service is not set up as it should be.")
    return found


async def _reached(answer: Any) -> Fetched:
    try:
        found: Fetched = await answer
    except OSError as error:
        raise Unusable("The login service does not answer. Try again in a moment.") from error
    return found


def _json(answer: Fetched) -> Record:
    try:
        found = json.loads(answer.body) if answer.status == 200 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unusable("The login service did not accept this login.")
    return found


async def finish(realm: Realm, params: Mapping[str, str], session: Record) -> tuple[Record, str, tuple[str, ...]]:
    """What the provider sent back becomes a user, the flow that waits, and how the user proved who they are."""
    held = await realm.records.take("external", digest(params.get("state", "")))
    if held is None or held["session"] != session["key"]:
        raise Unusable("This login has expired or was started elsewhere. Try again.")
    provider = named(realm, held["provider"])
    if params.get("iss", provider.issuer) != provider.issuer:
        raise Unusable("This answer comes from another login service.")
    if "code" not in params:
        raise Unusable("The login service did not log you in.")
    claims = await _claims(realm, provider, params["code"], held)
    return await _user(realm, provider, claims), held["flow"], _methods(claims)


async def _claims(realm: Realm, provider: Provider, code: str, held: Record) -> Record:
    """Exchange the code and check the id_token (OpenID Connect Core §3.1.3.7)."""
    place = await _document(realm, provider)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": home(realm),
        "code_verifier": held["verifier"],
        "client_id": provider.client_id,
    }
    granted = _json(await _reached(realm.post(place["token_endpoint"], form, _basic(provider))))
    keys = _json(await _reached(realm.fetch(place["jwks_uri"])))
    try:
        claims = dict(jwt.decode(granted["id_token"], KeySet.import_key_set(keys), algorithms=list(ALGORITHMS)).claims)  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise Unusable("The login service sent an identity that cannot be trusted.") from error
    if not _meant(claims, provider, held["nonce"], realm.now().timestamp()):
        raise Unusable("The login service sent an identity that is not meant for here.")
    return claims


def _basic(provider: Provider) -> dict[str, str]:
    """Both parts are form-encoded before they are joined (RFC 6749 §2.3.1)."""
    if not provider.client_secret:
        return {}
    pair = base64.b64encode(":".join(map(quote_plus, (provider.client_id, provider.client_secret))).encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _meant(claims: Record, provider: Provider, nonce: str, now: float) -> bool:
    """Whether issuer, audience, nonce and times are right, and there is somebody it speaks of."""
    audience = claims.get("aud")
    alone = audience == provider.client_id or audience == [provider.client_id]
    shared = isinstance(audience, list) and provider.client_id in audience and claims.get("azp") == provider.client_id
    ends, made = claims.get("exp"), claims.get("iat", now)
    return (
        claims.get("iss") == provider.issuer
        and (alone or shared)
        and claims.get("nonce") == nonce
        and isinstance(ends, int | float)
        and ends > now - LEEWAY
        and isinstance(made, int | float)
        and made < now + LEEWAY
        and isinstance(claims.get("sub"), str)
        and 0 < len(claims["sub"]) <= 255
    )


def _methods(claims: Record) -> tuple[str, ...]:
    given = claims.get("amr")
    return tuple(each[:20] for each in given if isinstance(each, str))[:5] if isinstance(given, list) else ()


async def _user(realm: Realm, provider: Provider, claims: Record) -> Record:
    """The user of this `sub` of this provider, with roles and fhirUser as the provider tells them now."""
    identity = f"{provider.key}:{claims['sub']}"
    rows = await realm.records.find("users", {"external": identity}, limit=1)
    told = _told(provider, claims)
    name = rows[0]["key"] if rows else f"{provider.key}.{digest(claims['sub'])[:12]}"
    if not rows:
        if not provider.create:
            raise Unusable("This account is not known here. Ask the operator to tie it to your user.")
        fields = {"name": str(claims.get("name") or name)[:200], "roles": [], "external": identity}
        await users.create(realm, name, None, fields | told)
    elif any(rows[0].get(key) != value for key, value in told.items()):
        await realm.records.change("users", name, told)
        await touch(realm)
    user = await users.find(realm, name)
    if user is None:
        raise Unusable("This account is switched off here.")
    return user


def _told(provider: Provider, claims: Record) -> Record:
    """Roles and fhirUser as far as the provider is set up to tell them; nothing else of it is believed."""
    told: Record = {}
    who = claims.get(provider.fhir_user_claim) if provider.fhir_user_claim else None
    if isinstance(who, str):
        short = "/".join(urlsplit(who).path.split("/")[-2:])
        told |= {"fhir_user": short} if users.FHIR_USER.fullmatch(short) else {}
    if provider.role_claim:
        given = claims.get(provider.role_claim)
        values = given if isinstance(given, list) else [given]
        told["roles"] = [provider.roles[each] for each in values if isinstance(each, str) and each in provider.roles]
    return told
