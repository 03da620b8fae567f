"""history of an instance, a type or the whole server (http://hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fhir_server import access
from fhir_server.answers.links import PAGE
from fhir_server.answers.paging import count_asked, page_url, self_url
from fhir_server.answers.respond import EPOCH, Response, bundle, history_entry, milliseconds
from fhir_server.context import Context, Pairs, Request
from fhir_server.interactions.read import missing
from fhir_server.store import Page, Store, Stored
from profiles.outcome import FhirError
from search.values import span

PAGES = 20  # pages read for one that a caller with limits may see
KNOWN = frozenset(("_since", "_at", "_count", "_page", "_format", "_pretty", "_sort"))


async def history(request: Request, context: Context) -> Response:
    """A history Bundle, newest version first, deletes included; 404 for an instance that never was."""
    token = request.first(PAGE)
    state = context.seal.open(token, _about(request)) if token else {}
    pairs: Pairs = [(name, value) for name, value in state["query"]] if token else request.query
    page = await _visible(request, pairs, state.get("cursor"), context)
    if not page.versions and not page.total and "_since" not in dict(pairs) and len(request.parts) == 3:
        raise missing(request)
    links = {"self": self_url(request, pairs, context, token)}
    if page.cursor is not None:
        links["next"] = page_url(request, context, {"query": pairs, "cursor": page.cursor}, _about(request))
    entries = [history_entry(access.shown(request, context, stored), context) for stored in page.versions]
    return Response(200, {}, bundle("history", entries, context, total=page.total, links=links))


def _about(request: Request) -> str:
    return f"history {'/'.join(request.parts)}{access.mark(request)}"


async def _visible(request: Request, pairs: Pairs, cursor: Any, context: Context) -> Page:
    """A page of what the caller may see, each version judged by its own content.

    Pages are read on until one is full, at most twenty; a total is told only where all of it was seen.
    """
    page = await _page(request, pairs, cursor, context)
    if access.sees_everything(request, context):
        return page
    count = count_asked(pairs, context.config)
    found: list[Stored] = []
    for _ in range(PAGES):
        found += [stored for stored in page.versions if await access.sees(request, context, stored)]
        if page.cursor is None or len(found) > count:
            break
        page = await _page(request, pairs, page.cursor, context)
    if len(found) > count:
        last = found[count - 1]
        after = (last.version,) if len(request.parts) == 3 else (milliseconds(last.at), f"{last.type}/{last.id}")
        return Page(found[:count], None, after)
    return Page(found, len(found) if cursor is None and page.cursor is None else None, page.cursor)


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
