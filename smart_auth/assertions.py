"""Client assertions: `private_key_jwt` as SMART App Launch 2.2 profiles it ("Client Authentication: Asymmetric").

Libraries check a signature; the rest is here: algorithm, one exact key, one exact audience, issuer and subject, an end
at most five minutes ahead, and a `jti` that is used once across workers and restarts.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from authlib.oauth2 import OAuth2Error
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from smart_auth.realm import KeySource, Realm, Record, digest

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Algorithm -> the key type and curve it needs.
ALGORITHMS: dict[str, tuple[str, str | None]] = {"RS384": ("RSA", None), "ES384": ("EC", "P-384")}
MAX_LENGTH = 8_192
MAX_AHEAD = 300
LEEWAY = 60
MAX_JTI = 255
MIN_BITS = 2048
MAX_KEYS = 50
# A key set is asked for at most once in five seconds, and believed for at most an hour whatever it says.
FETCH_PAUSE = timedelta(seconds=5)
MAX_AGE = timedelta(hours=1)
DEFAULT_AGE = timedelta(minutes=5)


def refused(text: str) -> OAuth2Error:
    """The one error of client authentication (RFC 6749 §5.2)."""
    return OAuth2Error(error="invalid_client", description=text, status_code=401)


def unverified(assertion: str) -> tuple[Record, Record]:
    """Header and claims before the signature is known to hold: to find the client, never to believe it."""
    parts = assertion.split(".")
    if len(assertion) > MAX_LENGTH or len(parts) != 3 or not all(parts):
        raise refused("The client assertion is not a signed JWT.")
    return _object(parts[0]), _object(parts[1])


def _object(part: str) -> Record:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refused("The client assertion is not a signed JWT.")
    return found


async def verify(realm: Realm, client: Record, assertion: str, audience: str) -> None:
    """Accept the assertion once for the client, or raise `invalid_client`."""
    header, claims = unverified(assertion)
    kid, algorithm = _header(header, client)
    key = await _key(realm, client, kid, algorithm)
    _signature(assertion, key, algorithm)
    expires = _claims(claims, client["key"], audience, realm.now())
    fresh = await realm.records.add("assertions", digest(f"{client['key']} {claims['jti']}"), {}, expires)
    if not fresh:
        raise refused("The client assertion was used before.")


def _header(header: Record, client: Record) -> tuple[str, str]:
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise refused(f"The client assertion must be signed with {' or '.join(ALGORITHMS)}.")
    if "crit" in header or header.get("typ", "JWT") != "JWT":
        raise refused("The client assertion has a header that is not supported.")
    if not isinstance(kid, str) or not kid:
        raise refused("The client assertion names no key (kid).")
    if "jku" in header and (not client.get("jwks_uri") or header["jku"] != client["jwks_uri"]):
        raise refused("The jku of the client assertion is not the registered one.")
    return kid, str(algorithm)


async def _key(realm: Realm, client: Record, kid: str, algorithm: str) -> RSAKey | ECKey:
    kind, curve = ALGORITHMS[algorithm]
    for missing in (None, kid):
        keys = await _keys(realm, client, missing)
        fitting = [k for k in keys if k.get("kid") == kid and k.get("kty") == kind and k.get("crv") == curve]
        if len(fitting) == 1:
            return _import(fitting[0])
        if fitting:
            raise refused("More than one key of the client has this kid.")
    raise refused("No key of the client has this kid.")


async def _keys(realm: Realm, client: Record, missing: str | None) -> tuple[Record, ...]:
    """The client's keys; `missing` names one that was not among them, so that a rotated set is asked for again.

    Who comes while a set is being fetched waits for it.
    """
    uri = client.get("jwks_uri")
    if not uri:
        return tuple((client.get("jwks") or {}).get("keys", ()))
    async with realm.turns[uri]:
        held, now = realm.jwks.get(uri), realm.now()
        good = held if held is not None and now < held.until else None
        if good is not None and (missing is None or now < good.at + FETCH_PAUSE):
            return good.keys
        return await _fetched(realm, uri, good)


async def _fetched(realm: Realm, uri: str, good: KeySource | None) -> tuple[Record, ...]:
    """The key set as it is now; where it cannot be read, the one that is still `good` stays."""
    now = realm.now()
    try:
        answer = await realm.fetch(uri)
        found = json.loads(answer.body) if answer.status == 200 else {}
        keys = tuple(key for key in found["keys"][:MAX_KEYS] if isinstance(key, dict))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        failed = realm.now()
        realm.jwks[uri] = replace(good, at=failed) if good else KeySource((), failed, failed + FETCH_PAUSE)
        raise refused("The key set of the client could not be read.") from error
    realm.jwks[uri] = KeySource(keys, now, now + _age(answer.headers.get("cache-control", "")))
    return keys


def _age(cache_control: str) -> timedelta:
    for part in cache_control.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "max-age" and value.isascii() and value.isdigit() and len(value) < 9:
            return min(max(timedelta(seconds=int(value)), FETCH_PAUSE), MAX_AGE)
        if name.lower() in ("no-store", "no-cache"):
            return FETCH_PAUSE
    return DEFAULT_AGE


def _import(jwk: Record) -> RSAKey | ECKey:
    """The public key of a JWK; a weak one is refused."""
    if jwk["kty"] == "RSA" and len(str(jwk.get("n", ""))) < MIN_BITS // 6:
        raise refused("The key of the client is too short.")
    try:
        return RSAKey.import_key(jwk) if jwk["kty"] == "RSA" else ECKey.import_key(jwk)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise refused("The key of the client cannot be used.") from error


def _signature(assertion: str, key: RSAKey | ECKey, algorithm: str) -> None:
    try:
        jws.deserialize_compact(assertion, key, algorithms=[algorithm])
    except (JoseError, ValueError) as error:
        raise refused("The signature of the client assertion does not hold.") from error


def _claims(claims: Record, client_id: str, audience: str, now: datetime) -> datetime:
    """Check the claims and return until when the `jti` must be remembered."""
    stamp = now.timestamp()
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise refused("iss and sub of the client assertion must both be the client_id.")
    if claims.get("aud") not in (audience, [audience]):
        raise refused("aud of the client assertion must be the URL of the token endpoint.")
    ends = _number(claims.get("exp"))
    if ends is None or not stamp < ends <= stamp + MAX_AHEAD:
        raise refused("exp of the client assertion must lie within the next five minutes.")
    if any(name in claims and not _before(claims[name], stamp + LEEWAY) for name in ("nbf", "iat")):
        raise refused("The client assertion is not valid yet.")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
        raise refused("The client assertion needs a jti of at most 255 characters.")
    return datetime.fromtimestamp(ends, UTC) + timedelta(seconds=LEEWAY)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _before(value: Any, limit: float) -> bool:
    number = _number(value)
    return number is not None and number <= limit
