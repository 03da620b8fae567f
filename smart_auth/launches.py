"""Launch contexts: what an EHR hands to the app it opens, once and for five minutes (SMART 2.2, "EHR launch")."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from profiles.outcome import FhirError
from smart_auth.realm import Realm, Record, digest

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII)


async def create(realm: Realm, client: Record, user: str, request: dict[str, Any]) -> dict[str, str]:
    """A launch for one client and user: the opaque `launch` value and the address that opens the app with it."""
    context = launch_context(realm, request)
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
    if request.get("fhirContext"):
        context["fhirContext"] = [_context_item(item) for item in request["fhirContext"]]
    if isinstance(request.get("intent"), str):
        context["intent"] = request["intent"][:200]
    context["need_patient_banner"] = request.get("need_patient_banner") is not False
    context["smart_style_url"] = f"{realm.auth}/smart-style.json"
    return context | ({"tenant": realm.tenant} if realm.tenant != "default" else {})


def _context_item(item: Any) -> Record:
    """SMART 2.2: an object with a relative reference; Patient and Encounter only with a role of their own."""
    if not isinstance(item, dict):
        raise FhirError("value", "fhirContext is a list of objects with a reference.")
    found = {"reference": _checked(_REFERENCE, item.get("reference"), "fhirContext.reference")}
    if isinstance(item.get("role"), str):
        found["role"] = item["role"][:200]
    if found["reference"].split("/")[0] in ("Patient", "Encounter") and found.get("role", "launch") == "launch":
        raise FhirError("value", "The patient and encounter of a launch are parameters of their own.")
    return found


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
