"""history of an instance, a type or the whole server (http://hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fhir_server import access
from fhir_server.context import Context, Pairs, Request
from fhir_server.interactions.read import missing
from fhir_server.links import PAGE
from fhir_server.paging import count_asked, page_url, self_url
from fhir_server.respond import EPOCH, Response, bundle, history_entry
from fhir_server.store import Page, Store
from profiles.outcome import FhirError
from search.values import span

KNOWN = frozenset(("_since", "_at", "_count", "_page", "_format", "_pretty", "_sort"))


async def history(request: Request, context: Context) -> Response:
    """A history Bundle, newest version first, deletes included; 404 for an instance that never was."""
    token = request.first(PAGE)
    state = context.seal.open(token, _about(request)) if token else {}
    pairs: Pairs = [(name, value) for name, value in state["query"]] if token else request.query
    page = await _page(request, pairs, state.get("cursor"), context)
    if not page.versions and not page.total and "_since" not in dict(pairs) and len(request.parts) == 3:
        raise missing(request)
    links = {"self": self_url(request, pairs, context, token)}
    if page.cursor is not None:
        links["next"] = page_url(request, context, {"query": pairs, "cursor": page.cursor}, _about(request))
    shown = [stored for stored in page.versions if await access.sees(request, context, stored)]
    entries = [history_entry(stored, context) for stored in shown]
    return Response(200, {}, bundle("history", entries, context, total=page.total, links=links))


def _about(request: Request) -> str:
    return f"history {'/'.join(request.parts)}"


async def _page(request: Request, pairs: Pairs, cursor: Any, context: Context) -> Page:
    named = dict(pairs)
    unknown = sorted(set(named) - KNOWN)
    if unknown and request.prefer.handling != "lenient":
        raise FhirError("not-supported", f"{unknown[0]} is no parameter of history.", unknown[0])
    type, id = (*request.parts[:-1], None, None)[:2]
    store = context.store
    if not isinstance(store, Store):
        raise FhirError("not-supported", "A history cannot be asked for inside a transaction; use a batch.")
    return await store.history(
        type,
        id,
        since=moment("_since", named["_since"])[0] if "_since" in named else None,
        at=moment("_at", named["_at"]) if "_at" in named else None,
        count=count_asked(pairs, context.config),
        cursor=cursor,
    )


def moment(name: str, text: str) -> tuple[datetime, datetime]:
    """The period that a date or instant names: its start, and the first moment after it."""
    try:
        found = span(text.replace(" ", "+"))
        return EPOCH + timedelta(milliseconds=found.low), EPOCH + timedelta(milliseconds=found.high)
    except (FhirError, OverflowError) as error:
        raise FhirError("value", f"{name}={text} is no date or instant.", name, status=400) from error
