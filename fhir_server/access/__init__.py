"""The one gate: what a caller may do becomes clauses of the query and checks on the instance (docs/security.md).

While the server runs open (`--auth none`, loopback only) everybody may do everything. With `--auth smart` a request
without a caller is refused, and every rule comes from `smart_auth.access`. Type or verb not granted: 403. What lies
outside the caller's compartment, filter, consent or labels looks exactly like what does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fhir_server.access import proxies
from fhir_server.access.admission import OPERATIONS, caller_of, kind_of, refused, unlimited
from fhir_server.access.admission import admit as admit
from fhir_server.access.gate import Caller, Sight
from fhir_server.access.shielding import keys_of, without_inside, without_links
from fhir_server.context import Context, Request, Resource
from fhir_server.store import Stored
from fhir_server.store.find.search import Access
from profiles.json import decode, encode
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.clauses import Clause, every
from search.entries import entries
from search.params import Registry
from search.query import Query
from smart_auth.compartments import foreign_patient


def clause_of(request: Request, context: Context) -> Access | None:
    """For each type the clause that is added to every query of this caller before it is compiled; None adds nothing.

    What a search looks for has to be granted to search (`s`), where it refers to something found as well; what a
    reference leads to, a chain or an include, may also be read (`r`).
    """
    caller = caller_of(request, context)
    if caller is None:
        return None
    searched = kind_of(request)
    searches = _searches(request)

    def allowed(kind: str, sought: bool = False, /) -> Clause:
        verb = "s" if searches and (sought or kind == (searched or kind)) else "i"
        found = caller.gate.clause(caller, kind, verb)
        return found if kind != proxies.KIND else every((found, proxies.clause(caller)))

    return allowed


def _searches(request: Request) -> bool:
    """Whether what is asked for is a search of its type; an operation is one by its row, however it is called."""
    last = request.parts[-1] if request.parts else ""
    if last[:1] == "$":
        return OPERATIONS.get(last[1:], ("", None))[0] == "s"
    return request.method in ("GET", "HEAD") or "_search" in request.parts


def clause_of_condition(request: Request, context: Context, kind: str) -> Access | None:
    """The same for the criteria of a conditional interaction: they search, and without it there is no condition."""
    caller = caller_of(request, context)
    if caller is not None and not caller.gate.grants(caller, kind, "s"):
        raise refused(f"Conditions search, which is not granted for {kind}.")
    return clause_of(replace(request, method="GET", parts=(kind,)), context)


async def sees(request: Request, context: Context, stored: Stored) -> bool:
    """Whether this version exists for the caller; what does not is answered like what was never there."""
    caller = caller_of(request, context)
    if caller is None:
        return True
    if stored.type == proxies.KIND and not await _stands(stored, caller, request, context):
        return False
    if request.method == "PATCH" and not await _holds(caller, "i", stored, context):  # its tests tell what is there
        return False
    return await _inside(stored, caller, _verb(request), context) and await _is_unmarked(stored, caller, context)


async def _is_unmarked(stored: Stored, caller: Caller, context: Context) -> bool:
    """Whether the labels and consents of the newest version leave an older one in sight."""
    sight = caller.gate.sight(caller, stored.type, "m")
    if sight.all or stored.entries:  # only the newest version has entries
        return True
    newest = await context.store.get(stored.type, stored.id)
    if newest is not None and newest.body is None:
        newest = await _before(newest, context)
    return newest is None or newest.version == stored.version or within(sight, newest, context)


async def _stands(stored: Stored, caller: Caller, request: Request, context: Context) -> bool:
    """Whether the caller may see what a version of a Binary names as its securityContext."""
    if proxies.is_free(caller):
        return True
    judged = stored if stored.body is not None else await _before(stored, context)
    named = proxies.named_by(judged.body) if judged is not None and judged.body is not None else None
    return await _seen(named, caller, request, context)


async def _seen(named: Any, caller: Caller, request: Request, context: Context) -> bool:
    if named is None or proxies.is_free(caller):
        return True
    target = proxies.target_of(named, context.config.base)
    found = await reached(target, request, context) if target else None
    return found is not None and found.body is not None


async def _inside(stored: Stored, caller: Caller, verb: str, context: Context) -> bool:
    sight = caller.gate.sight(caller, stored.type, verb)
    if sight.all or (stored.body is not None and within(sight, stored, context)):
        return True
    if stored.body is None and await _holds(caller, verb, stored, context):
        return True
    if verb not in "rs" and await _holds(caller, "i", stored, context):
        raise refused(f"This is not granted for this {stored.type}.")
    return False


async def reached(name: str, request: Request, context: Context) -> Stored | None:
    """The current version of `Patient/123` as the caller may read or find it; None where there is none for them."""
    kind, _, id = name.partition("/")
    stored = await context.store.get(kind, id)
    caller = caller_of(request, context)
    if caller is None or stored is None:
        return stored
    sight = caller.gate.sight(caller, kind, "i")
    fits = sight.all or (stored.body is not None and within(sight, stored, context))
    fits = fits and (kind != proxies.KIND or await _stands(stored, caller, request, context))
    return shown(request, context, stored) if fits else None


def _verb(request: Request) -> str:
    """What is about to be done to a stored resource; an operation that changes one comes as POST on the instance.

    The history of a type or of the server is one of the searches in the table of scopes of SMART 2.2.
    """
    if request.method == "POST":
        return "u" if len(request.parts) == 2 and request.parts[1][:1] not in "$_" else "r"
    if request.parts[-1:] == ("_history",) and len(request.parts) < 3:
        return "s"
    return {"PUT": "u", "PATCH": "u", "DELETE": "d"}.get(request.method, "r")


async def _holds(caller: Caller, verb: str, stored: Stored, context: Context) -> bool:
    sight = caller.gate.sight(caller, stored.type, verb)
    if sight.all or sight.none:
        return sight.all
    judged = stored if stored.body is not None else await _before(stored, context)
    return judged is not None and within(sight, judged, context)


async def _before(stored: Stored, context: Context) -> Stored | None:
    """A delete is judged by the content it deleted."""
    store: Any = context.store
    found: Stored | None = await store.get_version(stored.type, stored.id, stored.version - 1)
    return found if found is not None and found.body is not None else None


def within(sight: Sight, stored: Stored, context: Context) -> bool:
    """Whether a version with content is inside; the entries of a current version are there already."""
    if sight.none:
        return False
    if stored.entries and not sight.whole:
        return sight.fits(stored.entries, {"resourceType": stored.type, "id": stored.id})
    resource: Any = decode(stored.body or b"{}")
    return sight.fits(entries(resource, context.registry, context.config.base), resource)


async def may_store(
    request: Request,
    context: Context,
    resource: Resource,
    verb: str | None = None,
    written: Sequence[str] | None = None,
) -> None:
    """Let the caller write this content; FhirError 403 otherwise. The content is judged as it will be stored.

    `written` are its entries where they were made already, which is a third of the time of a create.
    """
    caller = caller_of(request, context)
    if caller is None:
        return
    kind = resource["resourceType"]
    verb = verb or ("c" if request.method == "POST" and len(request.parts) == 1 else "u")
    sight = caller.gate.sight(caller, kind, verb)
    if not sight.all:
        found = () if sight.none else written or entries(resource, context.registry, context.config.base)
        if sight.none or not sight.fits(found, resource):
            raise refused(f"This content is not granted for {kind}.")
        _refuse_strangers(caller, kind, verb, resource)
    if kind == proxies.KIND and not await _seen(resource.get("securityContext"), caller, request, context):
        raise refused("The securityContext is nothing that you may see.")
    if kind == "Consent":
        caller.gate.stale()
    if kind == "SearchParameter" and redefines(resource):
        raise refused("A search parameter that access rules rest on cannot be given another meaning.")


async def erased(request: Request, context: Context, kind: str) -> None:
    """Tell the gate that a resource of the type was erased for good: a Consent is no longer in force."""
    caller = caller_of(request, context)
    if caller is not None and kind == "Consent":
        await caller.gate.erased()


def redefines(resource: Resource) -> bool:
    """Whether a SearchParameter takes the place of one of R4 without finding all that that one finds."""
    plain = Registry.r4()
    try:
        changed = plain.with_parameters([resource])
    except (FhirError, KeyError, TypeError):
        return False
    code, bases = str(resource.get("code")), [base for base in resource.get("base", ()) if isinstance(base, str)]
    kinds = RESOURCE_TYPES if {"Resource", "DomainResource"} & set(bases) else RESOURCE_TYPES.intersection(bases)
    pairs = ((plain.lookup(kind, code), changed.lookup(kind, code)) for kind in kinds)
    return any(old is not None and (new is None or not set(old.keys) <= set(new.keys)) for old, new in pairs)


def _refuse_strangers(caller: Caller, kind: str, verb: str, resource: Resource) -> None:
    """Who writes for some patients only may not mention another one."""
    own = caller.bounds[kind, verb] if (kind, verb) in caller.bounds else bound_to(caller, kind, verb)
    caller.bounds[kind, verb] = own
    if own is None:
        return
    others = {key: value for key, value in resource.items() if key != "link"} if kind == "Patient" else resource
    if foreign_patient(others, own) is not None:
        raise refused("The content refers to a patient of whom nothing may be written.")


def bound_to(caller: Caller, kind: str, verb: str) -> tuple[str, ...] | None:
    """The patients a caller is limited to when writing a type; None for callers with wider rights."""
    principal = caller.principal
    scopes = [s for s in principal.scopes if verb in s.verbs and s.type in ("*", kind)]
    rows = [r for p in principal.policies for r in p.rows if verb in r.verbs and ("*" in r.types or kind in r.types)]
    if all(scope.context == "patient" for scope in scopes):
        return (principal.patient or "",)
    return principal.patients if all(row.own for row in rows) else None


# Elements that a policy hides


def shown(request: Request, context: Context, stored: Stored) -> Stored:
    """The version without the elements that the caller's policies hide."""
    caller = request.principal
    if caller is None or stored.body is None:
        return stored
    hidden = caller.gate.hidden(caller)
    if not hidden or not _may_hold(stored, hidden):
        return stored
    return replace(stored, body=encode(without_inside(decode(stored.body), hidden)))


def _may_hold(stored: Stored, names: frozenset[str]) -> bool:
    """Whether a version can have the elements: by its type, as something contained found by itself, or inside it."""
    own = any(name.startswith(f"{stored.type}.") for name in names)
    return own or "#" in stored.id or (stored.body or b"").count(b'"resourceType"') > 1


def followed(request: Request, context: Context, query: Query) -> Query:
    """The query without includes along references that are hidden from the caller."""
    caller = caller_of(request, context)
    return query if caller is None else without_links(query, caller.gate.hidden_keys(caller))


def check_query(request: Request, context: Context, query: Query) -> None:
    """Refuse a search by what is hidden from the caller: its result would tell."""
    caller = caller_of(request, context)
    if caller is None:
        return
    keys = caller.gate.hidden_keys(caller)
    if keys and not keys.isdisjoint(keys_of(query)):
        raise refused("The search uses elements that are not shown to you.")


def check_explain(request: Request, context: Context) -> None:
    """Estimates count what the caller may not see, so `_explain` is for callers without limits."""
    caller = caller_of(request, context)
    if caller is not None and not unlimited(caller):
        raise refused("_explain is not granted: it tells about resources of others.")


def mark(request: Request) -> str:
    """What binds a page link to its caller: it may carry a total that only this caller may know."""
    return "" if request.principal is None else str(request.principal.mark)


def owner(request: Request) -> str:
    """Whose a name is that a caller chose: the client's and the user's, whatever token they come with."""
    caller = request.principal
    return "" if caller is None else f"{caller.principal.client} {caller.principal.user or ''}"


def sees_everything(request: Request, context: Context) -> bool:
    """Whether nothing of what the request names is hidden from the caller, so that nothing has to be judged."""
    caller = caller_of(request, context)
    if caller is None:
        return True
    kind, verb = kind_of(request), _verb(request)
    kinds = (kind,) if kind and kind != proxies.KIND else RESOURCE_TYPES
    return all(caller.gate.sight(caller, each, verb).all for each in kinds)
