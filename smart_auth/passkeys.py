"""Passkeys (WebAuthn level 2): register one on the account page, log in with one instead of password and code."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from smart_auth import users
from smart_auth.realm import Realm, Record

MAX_PASSKEYS = 20


def _party(realm: Realm) -> tuple[str, str]:
    """Relying party id and origin: those of the configured address, never of the Host header."""
    parts = urlsplit(realm.auth)
    return parts.hostname or "", f"{parts.scheme}://{parts.netloc}"


async def _challenge(realm: Realm, session: Record) -> bytes:
    challenge = realm.random(32)
    fields = {"challenge": bytes_to_base64url(challenge)}
    await realm.records.put("challenges", session["key"], fields, realm.after(realm.lifetimes.flow))
    return challenge


async def _answered(realm: Realm, session: Record) -> bytes | None:
    held = await realm.records.take("challenges", session["key"])
    return base64url_to_bytes(held["challenge"]) if held else None


async def registration_options(realm: Realm, session: Record, user: Record) -> dict[str, Any]:
    """What the browser needs to make a new passkey for the user."""
    held = [PublicKeyCredentialDescriptor(id=base64url_to_bytes(key["id"])) for key in user.get("passkeys", ())]
    options = webauthn.generate_registration_options(
        rp_id=_party(realm)[0],
        rp_name=realm.name,
        user_name=user["key"],
        user_id=user["sub"].encode(),
        user_display_name=user["name"],
        challenge=await _challenge(realm, session),
        exclude_credentials=held,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
    )
    return dict(json.loads(options_to_json(options)))


async def add(realm: Realm, session: Record, user: Record, name: str, credential: Any) -> bool:
    """Keep a new passkey after checking what the browser made."""
    challenge = await _answered(realm, session)
    party, origin = _party(realm)
    held = list(user.get("passkeys", ()))
    if challenge is None or len(held) >= MAX_PASSKEYS:
        return False
    try:
        made = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party,
            expected_origin=origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError):
        return False
    key = {
        "id": bytes_to_base64url(made.credential_id),
        "key": bytes_to_base64url(made.credential_public_key),
        "count": made.sign_count,
        "name": name[:60] or "Passkey",
    }
    before = user.get("passkeys")
    return (
        await realm.records.change("users", user["key"], {"passkeys": [*held, key]}, {"passkeys": before}) is not None
    )


async def remove(realm: Realm, user: Record, identity: str) -> None:
    """Forget a passkey."""
    rest = [key for key in user.get("passkeys", ()) if key["id"] != identity]
    await realm.records.change("users", user["key"], {"passkeys": rest})


async def login_options(realm: Realm, session: Record) -> dict[str, Any]:
    """What the browser needs to log in with any passkey of this site."""
    options = webauthn.generate_authentication_options(
        rp_id=_party(realm)[0],
        challenge=await _challenge(realm, session),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(json.loads(options_to_json(options)))


async def log_in(realm: Realm, session: Record, credential: Any) -> Record | None:
    """The user whose passkey signed the challenge of this session, or None."""
    challenge = await _answered(realm, session)
    user = await _owner(realm, credential)
    if challenge is None or user is None:
        return None
    key = next((each for each in user.get("passkeys", ()) if each["id"] == credential.get("id")), None)
    count = _verified(realm, credential, challenge, key) if key else None
    if key is None or count is None:
        return None
    passkeys = [each | {"count": count} if each["id"] == key["id"] else each for each in user["passkeys"]]
    await realm.records.change("users", user["key"], {"passkeys": passkeys})
    return user


async def _owner(realm: Realm, credential: Any) -> Record | None:
    """The user that the authenticator names: its handle is the `sub` it was registered with."""
    try:
        sub = base64url_to_bytes(credential["response"]["userHandle"]).decode()
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    found = await realm.records.find("users", {"sub": sub}, limit=1)
    return await users.find(realm, found[0]["key"]) if found else None


def _verified(realm: Realm, credential: Any, challenge: bytes, key: Record) -> int | None:
    party, origin = _party(realm)
    try:
        found = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party,
            expected_origin=origin,
            credential_public_key=base64url_to_bytes(key["key"]),
            credential_current_sign_count=key["count"],
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError):
        return None
    return found.new_sign_count
