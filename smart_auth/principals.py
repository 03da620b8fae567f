"""From a token to a principal: the token's scopes and context, the user's or client's policies as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from smart_auth import policies, scopes, tokens, users
from smart_auth.access import Principal
from smart_auth.clients import find as find_client
from smart_auth.policies import Policy
from smart_auth.realm import Realm, Record, touch

# What a console session of a user may do: everything the roles allow, without an app in between.
EVERYTHING = scopes.parse("user/*.cruds") or scopes.Scopes()


async def of_token(realm: Realm, token: str) -> tuple[Principal, Record] | None:
    """The caller of a live access token and the token's record, or None."""
    record = await tokens.find(realm, token)
    if record is None:
        return None
    client = await find_client(realm, record["client"])
    user = await users.find(realm, record["user"]) if record.get("user") else None
    if client is None or (record.get("user") and (user is None or users.is_over(user, record))):
        return None
    granted = scopes.parse(record["scope"], realm.types) or scopes.Scopes()
    names = user["roles"] if user else client.get("policies") or ["System"]
    held = await named(realm, names)
    return principal(realm, record, granted, held, user, client), record


def principal(
    realm: Realm,
    record: Record,
    granted: scopes.Scopes,
    held: tuple[Policy, ...],
    user: Record | None,
    client: Record,
) -> Principal:
    """The principal of a token record with what is known of its user and client."""
    context = record.get("context", {})
    return Principal(
        tenant=realm.tenant,
        client=client["key"],
        scopes=granted.clinical,
        policies=held,
        user=user["key"] if user else None,
        fhir_user=user.get("fhir_user") if user else client.get("fhir_user"),
        patients=own_patients(user) if user else (),
        patient=context.get("patient"),
        encounter=context.get("encounter"),
        actors=actors(user if user else client),
        purpose=client.get("purpose", "TREAT"),
        glass=user.get("glass") if user else None,
        name=(user or client).get("name", ""),
        token=record["key"],
    )


async def of_user(realm: Realm, user: Record) -> Principal:
    """A user at our own pages, with all that the roles allow and no app in between."""
    held = await named(realm, user["roles"])
    return principal(realm, {"key": ""}, EVERYTHING, held, user, {"key": "console"})


def own_patients(user: Record) -> tuple[str, ...]:
    """The patients whose record is the user's own: a Patient's own id, and those set for a RelatedPerson or Person."""
    kind, _, identity = (user.get("fhir_user") or "").partition("/")
    return tuple(dict.fromkeys([*([identity] if kind == "Patient" else []), *user.get("patients", ())]))


def actors(who: Record) -> frozenset[str]:
    """The references by which a consent may name this user or client."""
    return frozenset(filter(None, [who.get("fhir_user"), *who.get("actors", ())]))


async def named(realm: Realm, names: Iterable[str]) -> tuple[Policy, ...]:
    """The policies of these names: the realm's own, or the default of that name; an unknown name grants nothing."""
    found = []
    for name in names:
        data = await realm.records.get("policies", name) or policies.default_policies().get(name)
        if data is not None:
            found.append(policies.policy({key: value for key, value in data.items() if key not in ("key", "expires")}))
    return tuple(found)


async def save_policy(realm: Realm, data: Record) -> None:
    """Store a role for this realm after checking it; it is in force on every worker within a second."""
    policies.policy(data)
    await realm.records.put("policies", data["name"], data)
    await touch(realm)


async def break_glass(realm: Realm, user: Record, reason: str) -> datetime | None:
    """Open an emergency session of a user: a reason, half an hour, audited; None where no role may have one."""
    held = await named(realm, user["roles"])
    if not reason.strip() or not any(policy.break_glass for policy in held):
        return None
    until = realm.after(realm.lifetimes.glass)
    await realm.records.change("users", user["key"], {"glass": until})
    await touch(realm)
    await realm.note("break-glass", {"user": user["key"], "reason": reason[:500]})
    return until
