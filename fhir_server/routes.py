"""The routing table: the shape of a path and a method name an interaction (http://hl7.org/fhir/R4/http.html#summary)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server import access
from fhir_server.answers.respond import Response, failure, rendered
from fhir_server.context import Context, Request
from fhir_server.http.formats import JSON, NDJSON, chosen, refuse_lines
from fhir_server.interactions.batch import bundle
from fhir_server.interactions.capabilities import capabilities
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import conditional_delete, delete
from fhir_server.interactions.history import history
from fhir_server.interactions.patch import conditional_patch, patch
from fhir_server.interactions.read import read, vread
from fhir_server.interactions.search import posted_search, presented, search
from fhir_server.interactions.update import conditional_update, update
from fhir_server.operations import invoke, offered
from fhir_server.store import Store, Transaction
from fhir_server.writing.binaries import is_native, native
from fhir_server.writing.checking import DEFINING, defined
from fhir_server.writing.provenance import names_source, sourced
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError

Handler: TypeAlias = Callable[[Request, Context], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """An interaction, by the name it has in a CapabilityStatement, and what carries it out."""

    interaction: str
    handler: Handler


async def _capabilities(request: Request, context: Context) -> Response:
    return await capabilities(request, context, OFFERED, INTERACTIONS)


async def _bundle(request: Request, context: Context) -> Response:
    return await bundle(request, context, perform)


# The letters of a shape: T a type, I an id, H _history, S _search, M metadata, A any type (*), O an operation ($name).
SEARCH = {"GET": Route("search-type", search)}
POSTED = {"POST": Route("search-type", posted_search)}
OPERATION = {"GET": Route("operation", invoke), "POST": Route("operation", invoke)}

ROUTES: dict[str, dict[str, Route]] = {
    "": {"GET": Route("search-system", search), "POST": Route("transaction", _bundle)},
    "M": {"GET": Route("capabilities", _capabilities)},
    "S": {"POST": Route("search-system", posted_search)},
    "H": {"GET": Route("history-system", history)},
    "O": OPERATION,
    "T": {
        "GET": Route("search-type", search),
        "POST": Route("create", create),
        "PUT": Route("update", conditional_update),
        "PATCH": Route("patch", conditional_patch),
        "DELETE": Route("delete", conditional_delete),
    },
    "TS": POSTED,
    "TH": {"GET": Route("history-type", history)},
    "TO": OPERATION,
    "TI": {
        "GET": Route("read", read),
        "PUT": Route("update", update),
        "PATCH": Route("patch", patch),
        "DELETE": Route("delete", delete),
    },
    "TIH": {"GET": Route("history-instance", history)},
    "TIHI": {"GET": Route("vread", vread)},
    "TIO": OPERATION,
    "TIHIO": OPERATION,
    "TIT": SEARCH,
    "TIA": SEARCH,
    "TITS": POSTED,
    "TIAS": POSTED,
}

INTERACTIONS = frozenset(route.interaction for routes in ROUTES.values() for route in routes.values())
OFFERED = {type: offered(type) for type in ("", *RESOURCE_TYPES)}

READ = ROUTES["TI"]["GET"]
WORDS = {"_history": "H", "_search": "S", "*": "A"}
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def shape(parts: tuple[str, ...]) -> str:
    """The shape of a path, such as `TIHI` for Patient/1/_history/2."""
    return "".join([_letter(number, part) for number, part in enumerate(parts)])


def _letter(number: int, part: str) -> str:
    if number in (0, 2) and part in RESOURCE_TYPES:
        return "T"
    if number == 0 and part == "metadata":
        return "M"
    return WORDS.get(part) or ("O" if part.startswith("$") else "I")


def find(method: str, parts: tuple[str, ...]) -> Route:
    """The route of a request; FhirError 400, 404 or 405 where there is none."""
    if method == "GET" and len(parts) == 2 and parts[0] in RESOURCE_TYPES and ID.fullmatch(parts[1]):
        return READ  # most requests are reads, and this way costs them 2 µs less
    letters = shape(parts)
    routes = ROUTES.get(letters)
    if routes is None:
        raise _nowhere(parts)
    for letter, part in zip(letters, parts, strict=True):
        if letter == "I" and not ID.fullmatch(part):
            raise FhirError("invalid", f"{part!r} is no id: 1 to 64 of A-Z, a-z, 0-9, - and . are allowed.")
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        raise _not_allowed(method, parts, routes)
    return route


def _nowhere(parts: tuple[str, ...]) -> FhirError:
    name = parts[0]
    if name not in RESOURCE_TYPES and not name.startswith(("_", "$")) and name != "metadata":
        return FhirError("not-supported", f"{name!r} is no resource type of FHIR R4.", status=404)
    return FhirError("not-found", f"There is nothing at /{'/'.join(parts)}.")


def _not_allowed(method: str, parts: tuple[str, ...], routes: dict[str, Route]) -> FhirError:
    allowed = [*routes, "HEAD"] if "GET" in routes else list(routes)
    return FhirError(
        "not-supported",
        f"{method} is not possible on /{'/'.join(parts)}; possible are {', '.join(allowed)}.",
        status=405,
        headers={"Allow": ", ".join(allowed)},
    )


async def perform(request: Request, context: Context) -> Response:
    """Carry out one interaction and have it told in the audit trail; what goes wrong is raised."""
    if context.trail is None:
        return await _carried_out(find(request.method, request.parts), request, context)
    context.trail.at_work += 1
    try:
        return await _told(request, context)
    finally:
        context.trail.at_work -= 1


async def _told(request: Request, context: Context) -> Response:
    interaction = "unknown"
    try:
        route = find(request.method, request.parts)
        interaction = route.interaction
        answer = await _carried_out(route, request, context)
    except Exception as error:
        if not isinstance(context.store, Transaction):
            await context.trail.record(request, interaction, error)
        raise
    if isinstance(context.store, Transaction):
        context.done.append((request, interaction, answer))
    elif interaction not in UNTOLD:
        await context.trail.record(request, interaction, answer)
    return answer


WRITES = frozenset(("create", "update", "patch", "delete"))
# What a Bundle does is told entry by entry.
UNTOLD = frozenset(("capabilities", "transaction", "batch"))


async def _carried_out(route: Route, request: Request, context: Context) -> Response:
    await access.admit(request, context, route.interaction)
    writes = route.interaction in WRITES
    if writes and names_source(request):
        answer = await sourced(request, context, perform, lambda inner: route.handler(request, inner))
    else:
        answer = await route.handler(request, context)
    defines = writes and request.parts[0] in DEFINING
    if defines and isinstance(context.store, Store):
        await defined(context.store)
    return answer


async def handle(request: Request, context: Context) -> Response:
    """Answer a request, errors included, in the format that the client asked for; needs no HTTP."""
    format, request = JSON, presented(request)
    try:
        if is_native(request):
            answer = await native(await perform(request, context), context)
        else:
            format = chosen(request)
            if format is NDJSON and find(request.method, request.parts).handler not in (search, posted_search):
                format = JSON
                raise refuse_lines()
            answer = await perform(request, context)
    except Exception as error:
        answer = failure(error, request)
    return rendered(answer, format, request)
