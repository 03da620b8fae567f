"""People and an app for the demo hospital: one user a role, one password for all, made at random and shown once."""

from __future__ import annotations

from fhir_server.store import Store
from smart_auth import clients, policies, registration, users
from smart_auth.realm import Realm, Record

APP = "demo-app"
REDIRECTS = ["http://127.0.0.1:9000/", "http://localhost:9000/", "http://127.0.0.1:9000/callback"]
# Role -> the type of the resource that its user is.
RESOURCE = {"Patient": "Patient"}
BACKEND_ROLES = frozenset({"System"})


async def open_demo(realm: Realm, store: Store) -> str | None:
    """Make the demo's users and app on the first start; returns what to print, None when they are there."""
    if await realm.records.get("clients", APP) is not None:
        return None
    password = realm.secret(9)
    hashed = await users.hashed(realm, "demo", password)
    names = []
    for role in policies.default_policies():
        if role in BACKEND_ROLES or role == "Admin":
            continue
        names.append(await _person(realm, store, role, hashed))
    fields: Record = {
        "kind": "public",
        "name": "Demo app",
        "redirect_uris": REDIRECTS,
        "launch_uris": REDIRECTS[:1],
        "scope": registration.SELF_SERVICE_SCOPE,
        "grants": ["authorization_code", "refresh_token"],
    }
    await clients.save(realm, APP, fields)
    return _text(realm, names, password)


async def _person(realm: Realm, store: Store, role: str, hashed: str) -> str:
    name = role.split()[0].lower()
    kind = RESOURCE.get(role, "Practitioner")
    rows = await store.reads.find_documents(
        {"_id": {"$gte": f"{kind}/", "$lt": f"{kind}0"}}, projection={"_id": 1}, sort={"_id": 1}, limit=1
    )
    fields = {"roles": [role], "name": f"Demo {role}", "fhir_user": rows[0]["_id"] if rows else None}
    await users.create(realm, name, None, fields)
    await realm.records.change("users", name, {"password": hashed})
    return name


def _text(realm: Realm, names: list[str], password: str) -> str:
    return f"""
Demo users, all with the password {password} (shown once): {", ".join(names)}
Demo app: client_id {APP}, public, redirect_uri {REDIRECTS[0]}, FHIR base {realm.issuer}
Get a token:  fhir-server token issue {APP} 'user/*.rs' --user doctor
Your account: {realm.auth}/account
"""
