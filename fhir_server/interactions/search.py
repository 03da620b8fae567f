"""search by GET and POST, on a type, a compartment or everything (http://hl7.org/fhir/R4/http.html#search)."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import parse_qsl

from fhir_server import access, shipped
from fhir_server.answers.links import PAGE
from fhir_server.answers.paging import page_url, self_url
from fhir_server.answers.respond import Response, milliseconds, searchset
from fhir_server.answers.subsets import Subset, subset, subset_body
from fhir_server.context import Context, Pairs, Request
from fhir_server.http.headers import media
from fhir_server.http.queries import LONGEST
from fhir_server.store import Stored
from fhir_server.store.find.explain import told
from fhir_server.store.find.page import find
from fhir_server.store.find.search import Found
from fhir_server.store.terms import terms_of
from fhir_server.writing.checking import store_of
from profiles.outcome import FhirError
from search.query import Query, parse

FORM = "application/x-www-form-urlencoded"
PRESENTATION = frozenset(("_format", "_pretty"))
_PRESENTED = re.compile(rb"(?:^|&)_(?:format|pretty)=")
RELATIONS = ("first", "prev", "next")


async def posted_search(request: Request, context: Context) -> Response:
    """POST _search: the parameters of the form and those of the URL together."""
    content_type = media(request.headers.get("content-type", FORM)).name
    if content_type != FORM:
        raise FhirError("not-supported", f"_search takes {FORM}, not {content_type}.", status=415)
    if len(request.body) > LONGEST:
        raise FhirError("too-long", f"The form is longer than {LONGEST} bytes.")
    try:
        form = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=context.config.max_values)
    except ValueError as error:
        raise FhirError("too-costly", "The form has too many values, or is not UTF-8.") from error
    request.query = [*request.query, *form]  # the audit trail tells what was asked, too
    return await search(request, context)


def presented(request: Request) -> Request:
    """The request with the `_format` and `_pretty` of a posted form, which count as those of the URL do."""
    if request.method != "POST" or request.parts[-1:] != ("_search",) or not _PRESENTED.search(request.body):
        return request
    pairs = parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
    return replace(request, query=[*request.query, *(pair for pair in pairs if pair[0] in PRESENTATION)])


async def search(request: Request, context: Context) -> Response:
    """A searchset Bundle."""
    token = request.first(PAGE)
    about = f"search {'/'.join(part for part in request.parts if part != '_search')}{access.mark(request)}"
    state = context.seal.open(alone(request, token), about) if token else {}
    pairs: Pairs = [(name, value) for name, value in state["query"]] if token else request.query
    query = _query(request, pairs, context)
    access.check_query(request, context, query)
    if query.explain:
        access.check_explain(request, context)
    visible = access.clause_of(request, context)
    found = await find(
        context.store,
        query,
        registry=context.registry,
        cursor=state.get("cursor"),
        access=visible,
        terms=terms_of(store_of(context), context.registry).codes,
        pending=context.pending,
    )
    if not token and shipped.is_asked(query):
        await shipped.add(found, query, context, visible)
    links = {"self": self_url(request, list(query.used), context, token)}
    for relation in RELATIONS if found.next or found.prev else ():  # sealing a link takes 15 µs
        cursor = getattr(found, relation)
        if cursor is not None:
            links[relation] = page_url(request, context, {"query": query.used, "cursor": cursor}, about)
    found.matches = [access.shown(request, context, stored) for stored in found.matches]
    found.included = [access.shown(request, context, stored) for stored in found.included]
    found.warnings += request.notes
    return _answer(query, found, links, context)


def alone(request: Request, token: str) -> str:
    """The token of a page link; what was added to the link would be ignored, so it is refused."""
    more = [name for name, _ in request.query if name != PAGE and name not in PRESENTATION]
    if more:
        raise FhirError("invalid", f"A page link is used as it is: {more[0]} cannot be added.", f"http.{more[0]}")
    return token


def _query(request: Request, pairs: Pairs, context: Context) -> Query:
    """The query, with the size of a page that it gets; the parameters that it shows as used say so."""
    type, compartment = target(request)
    return parse(
        type,
        [pair for pair in pairs if pair[0] not in PRESENTATION],
        context.registry,
        lenient=request.prefer.handling == "lenient",
        compartment=compartment,
        base=context.config.base,
        now=milliseconds(context.now()),
        sizes=(context.config.count, context.config.max_count),
        blanks=True,
    )


def target(request: Request) -> tuple[str | None, tuple[str, str] | None]:
    """The type that is searched, None for all, and the compartment: `Patient/1/Observation`, `Patient/1/*`."""
    parts = [part for part in request.parts if part != "_search"]
    if len(parts) == 3:
        return (None if parts[2] == "*" else parts[2]), (parts[0], parts[1])
    return (parts[0] if parts else None), None


def _answer(query: Query, found: Found, links: dict[str, str], context: Context) -> Response:
    asked = subset(query.summary, query.elements)
    warnings = [*query.warnings, *found.warnings, *(told(found.explanation) if found.explanation else ())]
    body = searchset(
        [(stored, _body(stored, asked)) for stored in found.matches],
        [(stored, _body(stored, asked if asked and asked.summary else None)) for stored in found.included],
        context=context,
        total=found.total,
        links=links,
        warnings=warnings,
        scores=found.scores,
    )
    return Response(
        200, {}, body, compartments=tuple(stored.compartment for stored in (*found.matches, *found.included))
    )


def _body(stored: Stored, asked: Subset | None) -> bytes:
    body = stored.body or b""
    return body if asked is None else subset_body(body, asked)
