"""The realm's signing keys: RS256, rotation with an overlap, removal in an emergency (OpenID Connect Core §10)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from smart_auth.realm import Realm, Record, touch

ALGORITHM = "RS256"
BITS = 2048
# A key that was rotated away stays published until everything it signed, and every token of its time, has expired.
OVERLAP = timedelta(days=1)


async def current(realm: Realm) -> Record:
    """The key that signs now; the first call makes one."""
    keys = [key for key in await realm.records.find("keys", {}) if key.get("retired") is None]
    return max(keys, key=lambda key: key["created"]) if keys else await _create(realm)


async def _create(realm: Realm) -> Record:
    key = await realm.hashing(lambda: RSAKey.generate_key(BITS, auto_kid=False))
    kid = realm.secret(9)
    record = {"jwk": key.as_dict(private=True) | {"kid": kid}, "created": realm.now(), "retired": None}
    await realm.records.add("keys", kid, record)
    return record | {"key": kid}


async def rotate(realm: Realm) -> str:
    """Start signing with a new key and keep publishing the old ones until what they signed has expired."""
    now = realm.now()
    for key in await realm.records.find("keys", {}):
        if key["retired"] is None:
            await realm.records.change("keys", key["key"], {"retired": now}, {"retired": None})
        elif key["retired"] + OVERLAP < now:
            await realm.records.drop("keys", {"_id": key["key"]})
    return str((await _create(realm))["key"])


async def remove(realm: Realm, kid: str) -> int | None:
    """Take a key away at once: every token of its time is dead within a second; how many, None without such a key."""
    found = await realm.records.drop("keys", {"_id": kid})
    count = await realm.records.drop("tokens", {"kid": kid})
    await touch(realm)
    return count if found or count else None


async def jwks(realm: Realm) -> dict[str, Any]:
    """The public keys as a JWK Set (RFC 7517 §5)."""
    keys = await realm.records.find("keys", {}) or [await current(realm)]
    return {"keys": [_public(key["jwk"]) for key in keys]}


def _public(jwk: Record) -> dict[str, Any]:
    bare = RSAKey.import_key(jwk).as_dict(private=False)
    return bare | {"kid": jwk["kid"], "use": "sig", "alg": ALGORITHM}


async def sign(realm: Realm, claims: dict[str, Any]) -> str:
    """A JWT over the claims, signed with the current key."""
    jwk = (await current(realm))["jwk"]
    return jwt.encode({"alg": ALGORITHM, "kid": jwk["kid"]}, claims, RSAKey.import_key(jwk), algorithms=[ALGORITHM])


async def read(realm: Realm, token: str) -> dict[str, Any] | None:
    """The claims of an id_token of ours, expired or not (as an id_token_hint may be), or None."""
    keys = {key["key"]: key["jwk"] for key in await realm.records.find("keys", {})}
    try:
        for jwk in keys.values():
            found = _claims(token, jwk)
            if found is not None:
                return found if found.get("iss") == realm.issuer else None
    except (ValueError, RecursionError):
        return None
    return None


def _claims(token: str, jwk: Record) -> dict[str, Any] | None:
    try:
        return dict(jwt.decode(token, RSAKey.import_key(jwk), algorithms=[ALGORITHM]).claims)
    except JoseError:
        return None
