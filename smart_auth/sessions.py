"""Browser sessions: a random cookie, a record per session, a CSRF token in it; a new cookie at every login."""

from __future__ import annotations

import hmac
from datetime import datetime

from smart_auth.realm import Realm, Record, digest


async def open_session(realm: Realm, user: Record | None = None, methods: tuple[str, ...] = ()) -> tuple[str, Record]:
    """A new session, of a user once one has logged in; returns the cookie's value and the record."""
    token = realm.secret()
    now = realm.now()
    record: Record = {"csrf": realm.secret(), "started": now, "seen": now}
    if user is not None:
        record |= {"user": user["key"], "sub": user["sub"], "auth_time": now, "amr": list(methods)}
    await realm.records.add("sessions", digest(token), record, realm.after(realm.lifetimes.session))
    return token, record | {"key": digest(token)}


async def find(realm: Realm, token: str | None) -> Record | None:
    """The session of a cookie, unless it has ended or was idle too long; using it keeps it awake."""
    held = await realm.records.get("sessions", digest(token)) if token else None
    if held is None:
        return None
    now = realm.now()
    if held["seen"] + realm.lifetimes.idle < now:
        await close(realm, held["key"])
        return None
    if _stale(held["seen"], now):
        await realm.records.change("sessions", held["key"], {"seen": now})
    return held


def _stale(seen: datetime, now: datetime) -> bool:
    """A write a minute is enough to know that a session is in use."""
    return (now - seen).total_seconds() > 60


async def close(realm: Realm, key: str) -> None:
    """End one session."""
    await realm.records.drop("sessions", {"_id": key})


def is_genuine(session: Record, csrf: str | None) -> bool:
    """Whether a form came from a page of this very session."""
    return csrf is not None and hmac.compare_digest(session["csrf"].encode(), csrf.encode())
