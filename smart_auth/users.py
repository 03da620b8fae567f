"""People: passwords (Argon2id), one-time codes, backup codes and lock-out; a user's `fhirUser` and roles."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from profiles.outcome import FhirError
from smart_auth.realm import Realm, Record, digest, touch

HASHER = PasswordHasher()
# Of an unguessable password nobody has: an unknown name costs the same time as a known one (L01).
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
MIN_PASSWORD, MAX_PASSWORD = 10, 256
BACKUP_CODES = 10
STEP = 30
FHIR_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson|Person)/[A-Za-z0-9\-.]{1,64}", re.ASCII)
_NAME = re.compile(r"[\w.@+\-]{1,100}")


def normal(username: str) -> str:
    """The one form of a user name: NFKC, case folded, without blanks around it."""
    return unicodedata.normalize("NFKC", username).strip().casefold()


async def create(realm: Realm, username: str, password: str | None, fields: Record) -> Record:
    """A new user; `fields` are name, roles, fhir_user, patients and actors. A taken name is a conflict."""
    name = normal(username)
    if not _NAME.fullmatch(name):
        raise FhirError("value", "A user name is 1 to 100 letters, digits or .@+-_")
    if fields.get("fhir_user") and not FHIR_USER.fullmatch(fields["fhir_user"]):
        raise FhirError(
            "value", "fhirUser is Practitioner, PractitionerRole, Patient, RelatedPerson or Person with an id."
        )
    record = {
        "sub": realm.secret(16),
        "name": username,
        "roles": [],
        "disabled": False,
        "created": realm.now(),
        **fields,
    }
    record["password"] = await hashed(realm, name, password) if password else None
    if not await realm.records.add("users", name, record):
        raise FhirError("duplicate", "A user of this name exists already.")
    return record | {"key": name}


async def hashed(realm: Realm, username: str, password: str) -> str:
    """The Argon2id hash of a password that is long enough and not the user's name."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD or normal(password) == username:
        raise FhirError(
            "value", f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters and is not the user name."
        )
    return str(await realm.hashing(lambda: HASHER.hash(password)))


async def set_password(realm: Realm, username: str, password: str) -> None:
    """Change a password: every session and token of the user ends."""
    name = normal(username)
    if await realm.records.change("users", name, {"password": await hashed(realm, name, password)}) is None:
        raise FhirError("not-found", "There is no such user.")
    await sign_out_everywhere(realm, name)


async def sign_out_everywhere(realm: Realm, username: str) -> None:
    """End all sessions, codes, access tokens and refresh tokens of the user, on every worker within a second."""
    await realm.records.change("users", username, {"signed_out": realm.now()})
    for kind in ("sessions", "tokens", "refresh"):
        await realm.records.drop(kind, {"user": username})
    await touch(realm)


def is_over(user: Record, grant: Record) -> bool:
    """Whether the login of a grant was before the user was signed out: what is being made just then ends with it."""
    at, ended = grant.get("auth_time"), user.get("signed_out")
    return at is not None and ended is not None and at < ended


async def update(realm: Realm, username: str, fields: Record) -> None:
    """Change roles, fhirUser or the disabled flag; cached rights are looked up again within a second."""
    if await realm.records.change("users", normal(username), fields) is None:
        raise FhirError("not-found", "There is no such user.")
    if fields.get("disabled"):
        await sign_out_everywhere(realm, normal(username))
    await touch(realm)


async def find(realm: Realm, username: str) -> Record | None:
    """The user, unless unknown or disabled."""
    user = await realm.records.get("users", normal(username)[:200])
    return user if user and not user.get("disabled") else None


async def by_password(realm: Realm, username: str, password: str) -> Record | None:
    """The user of this name and password, or None; as slow for an unknown name as for a wrong password."""
    user = await find(realm, username)
    stored = (user or {}).get("password") or NOBODY
    fits = await realm.hashing(lambda: _fits(stored, password[: MAX_PASSWORD + 1]))
    return user if fits and user and user.get("password") else None


def _fits(stored: str, password: str) -> bool:
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


async def start_totp(realm: Realm, user: Record) -> tuple[str, str]:
    """A new authenticator secret, not yet in force, and its `otpauth:` address for a QR code."""
    secret = pyotp.random_base32()
    await realm.records.change("users", user["key"], {"totp_next": secret})
    return secret, pyotp.TOTP(secret, name=user["key"], issuer=realm.name).provisioning_uri()


async def confirm_totp(realm: Realm, user: Record, code: str) -> list[str] | None:
    """Put the new secret in force once a code proves it; returns backup codes that are shown once."""
    secret = user.get("totp_next")
    step = _step(secret, code, realm.now()) if secret else None
    if step is None:
        return None
    codes = [realm.random(10).hex() for _ in range(BACKUP_CODES)]
    fields = {"totp": secret, "totp_next": None, "totp_step": step, "backup": [digest(each) for each in codes]}
    await realm.records.change("users", user["key"], fields)
    return ["-".join(each[i : i + 5] for i in range(0, 20, 5)) for each in codes]


async def stop_totp(realm: Realm, user: Record) -> None:
    """Take the authenticator away."""
    await realm.records.change("users", user["key"], {"totp": None, "totp_next": None, "backup": []})


async def second_factor(realm: Realm, user: Record, code: str) -> bool:
    """Whether the code is a fresh one of the authenticator, or a backup code that was not used before."""
    text = re.sub(r"[\s-]", "", code).lower()[:64]
    return await _one_time(realm, user, text) or await _backup(realm, user, text)


async def _one_time(realm: Realm, user: Record, code: str) -> bool:
    """RFC 6238 §5.2: a code is accepted once; two requests with the same code race for one change."""
    step = _step(user["totp"], code, realm.now())
    last = user.get("totp_step")
    if step is None or (last is not None and step <= last):
        return False
    return await realm.records.change("users", user["key"], {"totp_step": step}, {"totp_step": last}) is not None


def _step(secret: str, code: str, now: datetime) -> int | None:
    here = int(now.timestamp()) // STEP
    totp = pyotp.TOTP(secret)
    if not re.fullmatch(r"\d{6}", code, re.ASCII):
        return None
    return next((step for step in (here, here - 1, here + 1) if totp.verify(code, for_time=step * STEP)), None)


async def _backup(realm: Realm, user: Record, code: str) -> bool:
    held = list(user.get("backup") or ())
    used = digest(code)
    if used not in held:
        return False
    rest = [each for each in held if each != used]
    return await realm.records.change("users", user["key"], {"backup": rest}, {"backup": held}) is not None


async def reset_token(realm: Realm, username: str) -> str:
    """A token that sets a new password once, within the hour."""
    token = realm.secret()
    await realm.records.add("resets", digest(token), {"user": normal(username)}, realm.after(realm.lifetimes.reset))
    return token


async def reset_password(realm: Realm, token: str, password: str) -> bool:
    """Use a reset token; it is gone whatever becomes of it."""
    found = await realm.records.take("resets", digest(token))
    if found is None:
        return False
    await set_password(realm, found["user"], password)
    return True


async def first_admin(realm: Realm) -> tuple[str, str] | None:
    """On a realm without users: make `admin` and return name and password, to be shown once."""
    if await realm.records.find("users", {}, limit=1):
        return None
    password = realm.secret(15)
    try:
        await create(realm, "admin", password, {"roles": ["Admin"], "name": "Administrator"})
    except FhirError:
        return None  # another worker was faster
    return "admin", password


# Attempts a minute before 429: on one account, and from one address over all accounts (password spraying).
PER_ACCOUNT, PER_ADDRESS = 5, 30
WINDOW = timedelta(minutes=1)


async def attempt(realm: Realm, username: str, address: str) -> int | None:
    """Count an attempt to log in; None when it may go on, else the seconds until the next may."""
    now = realm.now()
    window = int(now.timestamp() // WINDOW.total_seconds())
    ends = realm.after(2 * WINDOW)
    account = await realm.records.count("limits", f"login {digest(normal(username))} {window}", 1, ends)
    source = await realm.records.count("limits", f"login-from {address} {window}", 1, ends)
    if account <= PER_ACCOUNT and source <= PER_ADDRESS:
        return None
    return int((window + 1) * WINDOW.total_seconds() - now.timestamp()) + 1


async def succeeded(realm: Realm, username: str, address: str) -> None:
    """Take a successful attempt off the counters: only failures slow anybody down."""
    window = int(realm.now().timestamp() // WINDOW.total_seconds())
    for key in (f"login {digest(normal(username))} {window}", f"login-from {address} {window}"):
        await realm.records.count("limits", key, -1, realm.after(2 * WINDOW))
