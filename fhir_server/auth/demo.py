"""People and an app for the demo hospital: one user a role, one password for all, made at random and shown once."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.store import Store
from smart_auth import clients, policies, registration, users
from smart_auth.realm import Realm, Record

APP = "demo-app"
REDIRECTS = ["http://127.0.0.1:9000/", "http://localhost:9000/", "http://127.0.0.1:9000/callback"]
LAUNCHES = ["http://127.0.0.1:9000/launch.html"]
# Role -> the type of the resource that its user is.
RESOURCE = {"Patient": "Patient"}
# An administrator has a password of his own, and the system does not log in.
NOBODY = frozenset({"Admin", "System"})


async def open_demo(realm: Realm, store: Store) -> str | None:
    """Make the demo's users and app on the first start; returns what to print, None when they are there."""
    fields: Record = {
        "kind": "public",
        "name": "Demo app",
        "redirect_uris": REDIRECTS,
        "launch_uris": LAUNCHES,
        "scope": registration.SELF_SERVICE_SCOPE,
        "grants": ["authorization_code", "refresh_token"],
        "dynamic": False,
    }
    if await realm.records.get("clients", APP) is not None:
        return None
    await clients.save(realm, APP, fields)
    password = realm.secret(9)
    hashed = await users.hashed(realm, "demo", password)
    who = {kind: await _first(store, kind) for kind in ("Patient", "Practitioner")}
    people = []
    for role in (role for role in policies.default_policies() if role not in NOBODY):
        people.append((_name(role), next(who[RESOURCE.get(role, "Practitioner")], None)))
        await _add(realm, role, people[-1][1], hashed)
    return _text(realm, people, password)


def _name(role: str) -> str:
    return role.split()[0].lower()


async def _first(store: Store, kind: str) -> Iterator[str]:
    """The first resources of a type, to be the users in FHIR."""
    within = {"_id": {"$gte": f"{kind}/", "$lt": f"{kind}0"}}
    rows = await store.reads.find_documents(within, projection={"_id": 1}, sort={"_id": 1}, limit=20)
    return iter([str(row["_id"]) for row in rows])


async def _add(realm: Realm, role: str, who: str | None, hashed: str) -> None:
    await users.create(realm, _name(role), None, {"roles": [role], "name": f"Demo {role}", "fhir_user": who})
    await realm.records.change("users", _name(role), {"password": hashed})


def _text(realm: Realm, people: list[tuple[str, str | None]], password: str) -> str:
    width = max(len(name) for name, _ in people)
    rows = "\n".join(f"  {name:<{width}}  {who or '-'}" for name, who in people)
    return f"""
Demo users, all with the password {password} (shown once):
{rows}

Demo app: client_id {APP}, public, redirect_uri {REDIRECTS[0]}, aud {realm.issuer}
"""
