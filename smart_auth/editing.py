"""Changing roles while the server runs: what makes no sense is refused with a sentence, and every change is told."""

from __future__ import annotations

from typing import Any

from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from smart_auth import policies, principals
from smart_auth.realm import Realm, Record, touch
from smart_auth.scopes import VERBS

FORM = {
    "name": str,
    "description": str,
    "clearance": str,
    "rows": list,
    "labels": list,
    "rights": list,
    "break_glass": bool,
}
ROW_FORM = {"types": list, "verbs": str, "where": list, "own": bool, "hidden": list}
LONGEST_NAME = 60


async def roles(realm: Realm) -> dict[str, Record]:
    """Every role by its name: those of this database, and the ones that every database starts with."""
    own = {each["name"]: plain(each) for each in await realm.records.find("policies", {})}
    return {**{name: dict(each) for name, each in policies.default_policies().items()}, **own}


def plain(record: Record) -> Record:
    """A role as it was written."""
    return {name: value for name, value in record.items() if name not in ("key", "expires")}


def check(realm: Realm, data: Any) -> Record:
    """The role, when all of it means something; FhirError with what does not."""
    if not isinstance(data, dict):
        raise _nonsense("A role is a JSON object.")
    _shaped(data, FORM, "a role")
    name = data.get("name", "")
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise _nonsense(f"A role needs a name of 1 to {LONGEST_NAME} characters.")
    for row in data.get("rows", ()):
        _check_row(realm, row)
    try:
        policies.policy(data)
    except FhirError as error:
        raise _nonsense(error.text) from error
    return data


def _shaped(data: Record, form: dict[str, type], what: str) -> None:
    for name, kind in form.items():
        value = data.get(name)
        wrong = value is not None and not isinstance(value, kind)
        texts = kind is list and name != "rows" and not all(isinstance(item, str) for item in value or ())
        if wrong or texts:
            raise _nonsense(f"{name} of {what} must be {WORDS[kind]}.")


WORDS = {str: "a text", list: "a list of texts", bool: "true or false"}


def _check_row(realm: Realm, row: Any) -> None:
    if not isinstance(row, dict):
        raise _nonsense("A row is a JSON object.")
    _shaped(row, ROW_FORM, "a row")
    kinds, verbs = row.get("types") or (), row.get("verbs") or ""
    unknown = sorted(set(kinds) - RESOURCE_TYPES - {"*"})
    if unknown or not kinds:
        raise _nonsense(f"{unknown[0]!r} is no resource type." if unknown else "A row needs types.")
    if not verbs or not set(verbs) <= set(VERBS) or len(set(verbs)) < len(verbs):
        raise _nonsense(f"verbs are letters out of {VERBS}, each once, not {verbs!r}.")
    for kind in kinds:
        for clause in row.get("where") or ():
            _check_clause(realm, kind, clause)
    for element in row.get("hidden") or ():
        _check_hidden(element, kinds)


def _check_clause(realm: Realm, kind: str, clause: str) -> None:
    name, _, value = clause.partition("=")
    if not value or not realm.answerable(kind, ((name, value.replace("{fhirUser}", "Practitioner/1")),)):
        raise _nonsense(f"{clause!r} cannot be decided for {kind}: a search parameter and its value, such as code=x.")


def _check_hidden(path: str, kinds: Any) -> None:
    """That the row is about the element's type; that there is such an element, the policy itself looks at."""
    kind, _, rest = path.partition(".")
    if kind not in RESOURCE_TYPES or ("*" not in kinds and kind not in kinds) or not rest:
        raise _nonsense(f"{path!r} is no element of {', '.join(kinds)}, such as Patient.telecom.")


def _nonsense(text: str) -> FhirError:
    return FhirError("value", text, status=400)


async def change(realm: Realm, name: str, data: Any, by: Record) -> bool:
    """Put a role in force on every worker within a second; whether it is new. `by` is who does it, for the trail."""
    role = check(realm, data)
    if role["name"] != name:
        raise _nonsense(f"The role is called {role['name']!r}, and {name!r} is being changed.")
    known = await roles(realm)
    await principals.save_policy(realm, role)
    await realm.note("role-changed", {**by, "reason": f"role {name}"})
    return name not in known


async def remove(realm: Realm, name: str, by: Record) -> None:
    """Take a change back, or a role of this database away, when nobody has it."""
    if await realm.records.get("policies", name) is None:
        raise FhirError("not-found", f"There is no role {name!r} of this database.")
    if name not in policies.default_policies() and await _is_held(realm, name):
        raise FhirError("conflict", f"{name!r} is still the role of a user or a client.")
    await realm.records.drop("policies", {"_id": name})
    await touch(realm)
    await realm.note("role-changed", {**by, "reason": f"role {name} removed"})


async def _is_held(realm: Realm, name: str) -> bool:
    held = await realm.records.find("users", {"roles": name}, 1) or await realm.records.find(
        "clients", {"policies": name}, 1
    )
    return bool(held)


async def keeps_right(realm: Realm, names: list[str], name: str, data: Record | None) -> bool:
    """Whether somebody with these roles may still change roles when one of them is changed like this."""
    standing = policies.default_policies().get(name)
    after = data if data is not None else dict(standing) if standing else None
    others = await principals.named(realm, [each for each in names if each != name])
    own = [policies.policy(after)] if after is not None and name in names else []
    return "policies" in policies.rights([*others, *own])
