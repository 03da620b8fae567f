"""$everything: all there is about a patient, an encounter, a practitioner, or the members of a group.

http://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_server import access
from fhir_server.answers.links import PAGE
from fhir_server.answers.paging import count_asked, page_url, self_url
from fhir_server.answers.respond import Response, milliseconds, searchset
from fhir_server.context import Context, Pairs
from fhir_server.ids import local_name
from fhir_server.operations.call import Call
from fhir_server.operations.compartments import references
from fhir_server.operations.stored import stored_resource
from fhir_server.store import Stored
from fhir_server.store.find.page import find
from fhir_server.store.find.search import Found
from profiles.json import decode
from profiles.model import COMPARTMENTS, RESOURCE_TYPES
from profiles.outcome import FhirError
from search.clauses import Clause, Kinds, every, some
from search.params import Registry
from search.query import Query, parse
from search.specials import criteria_of
from search.values import Around

# The parameter that tells when care took place, first of these that a type has; types with none are always in.
CARE_DATES = (
    "date",
    "onset-date",
    "authoredon",
    "effective-time",
    "started",
    "created",
    "whenhandedover",
    "start-date",
    "authored",
    "period",
    "issued",
    "sent",
    "whenprepared",
    "recorded-date",
)


# Parameters that leave some of the compartment out; what is referred to comes along then wherever it lies.
_NARROW = frozenset(("_type", "_since", "start", "end"))


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose compartments are walked, one after the other; the place is the number of the current one."""

    compartment: str
    ids: tuple[str, ...]
    place: int = 0


async def run(call: Call, context: Context) -> Response:
    """A searchset in pages: what is in the compartment, and what that refers to."""
    about = f"everything {'/'.join(call.request.parts)}{access.mark(call.request)}"
    token = call.request.first(PAGE)
    state: dict[str, Any] = context.seal.open(token, about) if token else {"query": _pairs(call)}
    pairs: Pairs = [(name, value) for name, value in state["query"]]
    scope = await _scope(call, context, int(state.get("place", 0)))
    found = await _page(scope, pairs, state.get("cursor"), call, context)
    links = {"self": self_url(call.request, pairs, context, token)}
    following = _following(scope, found, pairs)
    if following is not None:
        links["next"] = page_url(call.request, context, following, about)
    wanted = _wanted(pairs)
    shown = [_row(stored, call, context) for stored in found.matches if not wanted or stored.type in wanted]
    # A Group leads to other patients, and they are nobody's business here.
    others = [stored for stored in found.included if stored.type != scope.compartment]
    if not _NARROW.intersection(name for name, _ in pairs):
        others = [stored for stored in others if not _is_inside(stored, scope, context)]
    extra = [_row(stored, call, context) for stored in others if not wanted or stored.type in wanted]
    total = found.total if len(scope.ids) < 2 and wanted <= set(_types(scope.compartment)) else None
    told = tuple(stored.compartment for stored, _ in (*shown, *extra))
    return Response(200, {}, searchset(shown, extra, context=context, total=total, links=links), compartments=told)


def _is_inside(stored: Stored, scope: Scope, context: Context) -> bool:
    """Whether it lies in the compartment itself, and so comes on a page of its own."""
    if not COMPARTMENTS[scope.compartment].get(stored.type):
        return False
    owners = references(scope.compartment, decode(stored.body or b"{}"), context.registry)
    names = {local_name(owner, context.config.base) for owner in owners}
    return f"{scope.compartment}/{scope.ids[scope.place]}" in names if scope.ids else bool(names)


def _row(stored: Stored, call: Call, context: Context) -> tuple[Stored, bytes]:
    return stored, access.shown(call.request, context, stored).body or b""


def _pairs(call: Call) -> Pairs:
    """The parameters as text, whichever way they came."""
    return [(name, str(value)) for name, values in call.parameters.items() for value in values]


async def _scope(call: Call, context: Context, place: int) -> Scope:
    if not call.id:
        return Scope(call.type, (), place)
    resource = await stored_resource(call, context)
    if call.type != "Group":
        return Scope(call.type, (call.id,), place)
    members = [
        row.get("entity", {}).get("reference", "") for row in resource.get("member", ()) if not row.get("inactive")
    ]
    ids = tuple(name.partition("/")[2] for name in members if name.startswith("Patient/"))
    return Scope("Patient", ids, place)


def _following(scope: Scope, found: Found, pairs: Pairs) -> dict[str, Any] | None:
    """Where the next page begins: further in this compartment, or in the next member's."""
    if found.next is not None:
        return {"query": pairs, "place": scope.place, "cursor": found.next}
    return {"query": pairs, "place": scope.place + 1} if scope.place + 1 < len(scope.ids) else None


async def _page(scope: Scope, pairs: Pairs, cursor: Any, call: Call, context: Context) -> Found:
    if call.type == "Group" and not scope.ids:
        return Found([], total=0)
    query = access.followed(call.request, context, _query(scope, pairs, context))
    return await find(
        context.store,
        query,
        registry=context.registry,
        cursor=cursor,
        clauses=_care(query.types, dict(pairs), context.registry),
        access=access.clause_of(call.request, context),
    )


def _wanted(pairs: Pairs) -> set[str]:
    return {name for key, value in pairs if key == "_type" for name in value.split(",")}


def _types(compartment: str) -> list[str]:
    """What can lie in a compartment, and what it is of."""
    found = [compartment, *(name for name, codes in COMPARTMENTS[compartment].items() if codes)]
    return list(dict.fromkeys(found))


def _query(scope: Scope, pairs: Pairs, context: Context) -> Query:
    """All types of the compartment, or those of `_type`, with what they refer to."""
    wanted, known = _wanted(pairs), _types(scope.compartment)
    # What is asked for lies in the compartment, or something of it may refer to it.
    inside = bool(wanted) and wanted <= set(known)
    unknown = sorted(wanted - RESOURCE_TYPES)
    asked: Pairs = [("_type", ",".join(unknown or (sorted(wanted) if inside else known)))]
    asked += [("_lastUpdated", f"ge{value}") for key, value in pairs if key == "_since"]
    asked += [("_count", str(count_asked(pairs, context.config))), *([] if inside else [("_include", "*")])]
    compartment = (scope.compartment, scope.ids[scope.place]) if scope.ids else None
    return parse(
        None,
        asked,
        context.registry,
        compartment=compartment,
        base=context.config.base,
        now=milliseconds(context.now()),
    )


def _care(types: tuple[str, ...], given: dict[str, str], registry: Registry) -> tuple[Clause, ...]:
    """`start` and `end`: care in that time; what has no date of care, such as the patient, is always in."""
    bounds = [(prefix, given[name]) for name, prefix in (("start", "ge"), ("end", "le")) if name in given]
    if not bounds:
        return ()
    criteria = criteria_of(Around(registry))
    dated = {name: code for name in types if (code := care_date(name, registry))}
    rest = tuple(name for name in types if name not in dated)
    try:
        rows = [
            every((Kinds((name,)), *(criteria.clause(name, code, prefix + text) for prefix, text in bounds)))
            for name, code in dated.items()
        ]
    except FhirError as error:
        raise FhirError("value", f"start and end are dates: {error.text}", ("start", "end"), status=400) from error
    return (some([*rows, Kinds(rest)]),)


def care_date(type: str, registry: Registry) -> str | None:
    """The code of the parameter that tells when care took place."""
    for code in CARE_DATES:
        row = registry.lookup(type, code)
        if row is not None and row.type == "date":
            return code
    return None
