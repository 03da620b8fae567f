"""history of an instance, a type or the whole server (http://hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fhir_server import access
from fhir_server.answers.links import PAGE
from fhir_server.answers.paging import count_asked, page_url, self_url
from fhir_server.answers.respond import EPOCH, Response, bundle, history_entry, milliseconds
from fhir_server.answers.subsets import Subset, subset_body, subset_in
from fhir_server.context import Context, Pairs, Request
from fhir_server.http.headers import first
from fhir_server.interactions.read import missing
from fhir_server.store import Page, Store, Stored
from profiles.outcome import FhirError
from search.values import span

PAGES = 20  # pages read for one that a caller with limits may see
LOOK = 100  # versions of such a page at least: of smaller ones the number would tell of what lies between
ONCE = ("_since", "_at", "_count", "_summary", "_elements", "_sort")
KNOWN = frozenset((*ONCE, "_page", "_format", "_pretty"))
ORDERS = ("-_lastUpdated", "none")


async def history(request: Request, context: Context) -> Response:
    """A history Bundle, newest version first, deletes included; 404 for an instance that never was."""
    token = request.first(PAGE)
    state = context.seal.open(token, _about(request)) if token else {}
    pairs: Pairs = [(name, value) for name, value in state["query"]] if token else _used(request)
    asked = subset_in(pairs)
    page = await _visible(request, pairs, state.get("cursor"), context)
    total = state.get("total") if token else page.total
    if not page.versions and not page.total and len(request.parts) == 3 and not await _is_known(request, context):
        raise missing(request)
    links = {"self": self_url(request, pairs, context, token)}
    if page.cursor is not None:
        links["next"] = page_url(
            request, context, {"query": pairs, "cursor": page.cursor, "total": total}, _about(request)
        )
    entries = [_entry(access.shown(request, context, stored), asked, context) for stored in page.versions]
    told = tuple(stored.compartment for stored in page.versions)
    body = bundle("history", entries, context, total=total, links=links)
    return Response(200, {}, body, compartments=told)


def _about(request: Request) -> str:
    return f"history {'/'.join(request.parts)}{access.mark(request)}"


def _entry(stored: Stored, asked: Subset | None, context: Context) -> bytes:
    if asked is not None and stored.body is not None:
        stored = replace(stored, body=subset_body(stored.body, asked))
    return history_entry(stored, context)


async def _is_known(request: Request, context: Context) -> bool:
    """Whether there ever was such a resource that the caller may see, though no version of the time asked for."""
    stored = await context.store.get(*request.parts[:2])
    return stored is not None and await access.sees(request, context, stored)


def _count(pairs: Pairs, context: Context) -> int:
    return 0 if first(pairs, "_summary") == "count" else count_asked(pairs, context.config)


async def _visible(request: Request, pairs: Pairs, cursor: Any, context: Context) -> Page:
    """A page of what the caller may see, each version judged by its own content.

    Pages are read on until one is full, at most twenty; a total is told only where all of it was seen.
    """
    count, sees_all = _count(pairs, context), access.sees_everything(request, context)
    most = context.config.max_count
    size = count if sees_all else min(max(count, LOOK), most) if count else most  # where none are shown all are counted
    page = await _page(request, pairs, cursor, size, context)
    if sees_all:
        return page
    found: list[Stored] = []
    for turn in range(PAGES):
        if turn:
            page = await _page(request, pairs, page.cursor, size, context)
        found += [stored for stored in page.versions if await access.sees(request, context, stored)]
        if page.cursor is None or len(found) > count > 0:
            break
    total = len(found) if cursor is None and page.cursor is None else None
    if count == 0:
        return Page([], total, None)
    if len(found) > count:
        last = found[count - 1]
        after = (last.version,) if len(request.parts) == 3 else (milliseconds(last.at), f"{last.type}/{last.id}")
        return Page(found[:count], None, after)
    return Page(found, total, page.cursor)


async def _page(request: Request, pairs: Pairs, cursor: Any, count: int, context: Context) -> Page:
    named = dict(pairs)
    _check(pairs)
    type, id = (*request.parts[:-1], None, None)[:2]
    store = context.store
    if not isinstance(store, Store):
        raise FhirError("not-supported", "A history cannot be asked for inside a transaction; use a batch.")
    return await store.history(
        type,
        id,
        since=moment("_since", named["_since"])[0] if "_since" in named else None,
        at=moment("_at", named["_at"]) if "_at" in named else None,
        count=count,
        cursor=cursor,
    )


def _used(request: Request) -> Pairs:
    """The pairs that count; what no history knows is refused, or left out where the client is lenient.

    The link to the page itself tells what was left out: a history has no place for a warning (invariant bdl-3).
    """
    unknown = sorted({name for name, _ in request.query} - KNOWN)
    if unknown and request.prefer.handling != "lenient":
        told = "is not supported in a history" if unknown[0] == "_list" else "is no parameter of history"
        raise FhirError("not-supported", f"{unknown[0]} {told}.", unknown[0])
    return [pair for pair in request.query if pair[0] in KNOWN]


def _check(pairs: Pairs) -> None:
    """Refuse what is given twice, and an order that no history has."""
    names = [name for name, _ in pairs]
    twice = [name for name in ONCE if names.count(name) > 1]
    if twice:
        raise FhirError("invalid", f"{twice[0]} is given more than once.", f"http.{twice[0]}")
    order = first(pairs, "_sort")
    if order is not None and order not in ORDERS:
        text = f"_sort={order} is not possible: a history comes newest first."
        raise FhirError("not-supported", text, "http._sort")


def moment(name: str, text: str) -> tuple[datetime, datetime]:
    """The period that a date or instant names: its start, and the first moment after it."""
    try:
        found = span(text.replace(" ", "+"))
        return EPOCH + timedelta(milliseconds=found.low), EPOCH + timedelta(milliseconds=found.high)
    except (FhirError, OverflowError) as error:
        raise FhirError("value", f"{name}={text} is no date or instant.", name, status=400) from error
