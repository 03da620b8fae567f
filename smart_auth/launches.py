"""Launch contexts: what an EHR hands to the app it opens, once and for five minutes (SMART 2.2, "EHR launch")."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from profiles.outcome import FhirError
from smart_auth.realm import Realm, Record, digest

MOST_ITEMS = 100
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_TYPE = re.compile(r"[A-Z][A-Za-z]+", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[!-~]{1,500}", re.ASCII)
# What an item of fhirContext may be named by, and what an Identifier has.
WAYS = frozenset({"reference", "canonical", "identifier"})
IDENTIFIER = {"use": str, "type": dict, "system": str, "value": str, "period": dict, "assigner": dict}
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII)


async def create(
    realm: Realm, client: Record, user: str, request: dict[str, Any], seen: Callable[[Record], Awaitable[Record]]
) -> dict[str, str]:
    """A launch for one client and user: the opaque `launch` value and the address that opens the app with it.

    `seen` gives patient and encounter as who launches may see them, the patient of an encounter too, or raises.
    """
    context = launch_context(realm, request)
    context |= await seen(context)
    launch = realm.secret(16)
    record = {"client": client["key"], "user": user, "context": context}
    await realm.records.add("launches", digest(launch), record, realm.after(realm.lifetimes.launch))
    urls = client.get("launch_uris") or ()
    query = urlencode({"iss": realm.issuer, "launch": launch})
    target = f"{urls[0]}{'&' if '?' in urls[0] else '?'}{query}" if urls else ""
    return {"launch": launch, "iss": realm.issuer, **({"url": target} if target else {})}


def launch_context(realm: Realm, request: dict[str, Any]) -> Record:
    """The context parameters of a launch, checked; what the token answer will carry beside the token."""
    context: Record = {}
    for name in ("patient", "encounter"):
        if request.get(name) is not None:
            context[name] = _checked(_ID, request[name], name)
    items = request.get("fhirContext") or []
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise FhirError("value", f"fhirContext is a list of at most {MOST_ITEMS} objects.")
    if items:
        context["fhirContext"] = [_context_item(item) for item in items]
    if isinstance(request.get("intent"), str):
        context["intent"] = request["intent"][:200]
    context["need_patient_banner"] = request.get("need_patient_banner") is not False
    context["smart_style_url"] = f"{realm.auth}/smart-style.json"
    return context | ({"tenant": realm.tenant} if realm.tenant != "default" else {})


def _context_item(item: Any) -> Record:
    """SMART 2.2, "fhirContext": a reference, canonical or identifier; Patient and Encounter in a role of their own."""
    if not isinstance(item, dict) or not (WAYS & item.keys()) or not item.keys() <= WAYS | {"type", "role"}:
        raise FhirError("value", "fhirContext is a list of objects with a reference, a canonical or an identifier.")
    role = item.get("role", "launch")
    if not isinstance(role, str) or not (role == "launch" or _URI.fullmatch(role)):
        raise FhirError("value", "fhirContext.role is an absolute URI, or left out.")
    for name, pattern in (("reference", _REFERENCE), ("canonical", _URI), ("type", _TYPE)):
        if name in item:
            _checked(pattern, item[name], f"fhirContext.{name}")
    if "identifier" in item:
        _check_identifier(item["identifier"])
    kind = item.get("type") or str(item.get("reference", "")).partition("/")[0]
    if kind in ("Patient", "Encounter") and role == "launch":
        raise FhirError("value", "The patient and encounter of a launch are parameters of their own.")
    return dict(item)


def _check_identifier(value: Any) -> None:
    """An Identifier as FHIR writes it, of which a system or a value is there."""
    known = isinstance(value, dict) and {"system", "value"} & value.keys() and value.keys() <= IDENTIFIER.keys()
    if not known or not all(isinstance(held, IDENTIFIER[name]) and held for name, held in value.items()):
        raise FhirError("value", "fhirContext.identifier is no FHIR Identifier.")


def _checked(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise FhirError("value", f"{name} is not an id or reference.")
    return value


async def use(realm: Realm, launch: str, client_id: str) -> Record | None:
    """Use up a launch value: its record, or None where it is unknown, expired, used, or another client's."""
    key = digest(launch)
    held = await realm.records.get("launches", key)
    if held is None or held["client"] != client_id:
        return None
    return await realm.records.take("launches", key)
