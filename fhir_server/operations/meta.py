"""$meta, $meta-add, $meta-delete: profiles, tags and security labels (http://hl7.org/fhir/R4/resource-operations.html)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fhir_server import access
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.http.headers import etag
from fhir_server.interactions.update import RIVALS, put
from fhir_server.operations.call import Call
from fhir_server.operations.parameters import parameters
from fhir_server.operations.stored import stored_resource, stored_version
from fhir_server.store.labels import labelled
from fhir_server.writing.checking import faults, store_of
from fhir_server.writing.resource import check_if_match, refuse_faults
from profiles.json import decode
from profiles.outcome import FhirError

LISTS = ("profile", "security", "tag")
CODES = ("_profile", "_security", "_tag")
Meta = dict[str, Any]


def _name(item: Any) -> Any:
    """What makes two entries the same: the url of a profile, system and code of a coding."""
    return (item.get("system"), item.get("code")) if isinstance(item, dict) else item


def added(meta: Meta, more: Meta) -> Meta:
    """The union, each entry once."""
    result = dict(meta)
    for name in LISTS:
        items = {_name(item): item for item in [*meta.get(name, ()), *more.get(name, ())]}
        result |= {name: list(items.values())} if items else {}
    return result


def removed(meta: Meta, less: Meta) -> Meta:
    """The entries that `less` does not name; what is not there is no error."""
    result = dict(meta)
    for name in LISTS:
        gone = {_name(item) for item in less.get(name, ())}
        kept = [item for item in meta.get(name, ()) if _name(item) not in gone]
        result |= {name: kept} if kept else {}
        if not kept:
            result.pop(name, None)
    return result


async def show(call: Call, context: Context) -> Response:
    """The meta of an instance or of one of its versions; of a type or the server, what is in use there."""
    if call.id:
        return _answer(await stored_resource(call, context))
    return _answer({"meta": await _in_use(call, context)})


async def _in_use(call: Call, context: Context) -> Meta:
    """Profiles, labels and tags of what a search of the caller finds; codes that differ by case alone are one."""
    rows = [row for code in CODES if (row := context.registry.lookup("Resource", code)) is not None]
    types = (call.type,) if call.type else ()
    searching = replace(call.request, method="GET", parts=types)

    async def reaches(name: str) -> bool:
        return await access.reached(name, searching, context) is not None

    found = await labelled(
        store_of(context),
        [key for row in rows for key in row.keys],
        types,
        access.clause_of(searching, context),
        reaches,
    )
    items: dict[str, dict[Any, Any]] = {name: {} for name in LISTS}
    for stored in found:
        held, shown = (decode(row.body or b"{}") for row in (stored, access.shown(call.request, context, stored)))
        for name, known in items.items():
            own = held.get("meta", {}).get(name, ())
            known |= {_name(item): item for item in shown.get("meta", {}).get(name, ()) if item in own}
    return {name: [known[key] for key in sorted(known, key=str)] for name, known in items.items() if known}


def _answer(resource: Resource) -> Response:
    return resource_answer(parameters([("return", "valueMeta", resource.get("meta", {}))]))


async def add(call: Call, context: Context) -> Response:
    """Add to the meta of the current version; the content stays."""
    return await _change(call, context, added)


async def remove(call: Call, context: Context) -> Response:
    """Take away from the meta of the current version."""
    return await _change(call, context, removed)


async def _change(call: Call, context: Context, change: Callable[[Meta, Meta], Meta]) -> Response:
    """A write like others: checked, and made again on the next version when somebody else was faster."""
    if call.version:
        raise FhirError("not-supported", "Versions of the past are never changed.")
    for _ in range(RIVALS):
        await stored_version(call, context)
        current = await context.store.get(call.type, call.id)  # with what is hidden from this caller, which stays
        if current is None or current.body is None:  # it comes with the server, or was deleted just now
            text = f"{call.type}/{call.id} is not stored here: its meta cannot be changed."
            raise FhirError("not-supported", text, status=405)
        check_if_match(call.request, current)
        resource: Resource = decode(current.body)
        resource["meta"] = change(resource.get("meta", {}), call.one("meta"))
        refuse_faults(await faults(resource, call.type, call.request, context))
        await access.may_store(call.request, context, resource)
        headers = {"if-match": etag(current.version)}
        try:
            await put(resource, call.id, replace(call.request, parts=(call.type, call.id), headers=headers), context)
        except FhirError as error:
            if error.status != 412:
                raise
        else:
            return _answer(await stored_resource(call, context))
    raise FhirError(
        "conflict", f"{call.type}/{call.id} is changed by many others at the same time; repeat the request."
    )
