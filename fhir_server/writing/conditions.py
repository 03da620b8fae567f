"""Conditional interactions: which resource is meant (http://hl7.org/fhir/R4/http.html#ccreate, #cond-update)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fhir_server import access
from fhir_server.context import Context, Pairs, Request
from fhir_server.http.criteria import chosen_by
from fhir_server.store import Stored, Transaction
from fhir_server.store.find.page import find
from fhir_server.store.terms import terms_of
from fhir_server.writing.checking import store_of
from profiles.outcome import FhirError
from search.query import parse


def narrowing(pairs: Pairs) -> Pairs:
    """The pairs that choose resources; FhirError 412 when there are none, since then all of them would match."""
    kept = chosen_by(pairs)
    if not any(value.strip() for _, value in kept):
        raise FhirError("invalid", "The criteria are empty: a conditional interaction needs at least one.", status=412)
    return kept


def match_key(type: str, pairs: Pairs) -> str:
    """The unique key that two conditional creates with the same criteria fight for (docs/security.md)."""
    text = "&".join(sorted(f"{name}={value}" for name, value in pairs))
    return hashlib.sha256(f"{type}?{text}".encode()).hexdigest()


async def matching(type: str, pairs: Pairs, request: Request, context: Context, limit: int = 2) -> list[Stored]:
    """The resources that match, at most `limit`; unknown parameters are refused whatever the client prefers."""
    if request.resolved is not None:
        return request.resolved[:limit]
    query = parse(
        type,
        [*narrowing(pairs), ("_count", str(limit)), ("_total", "none")],
        context.registry,
        base=context.config.base,
    )
    access.check_query(request, context, query)
    unfinished = query.parameters & context.pending
    if unfinished:
        text = f"{min(unfinished)} is being indexed: resources may be missed, and what is there written twice."
        raise FhirError("transient", text, headers={"Retry-After": "30"})
    visible = access.clause_of_condition(request, context, type)
    terms = terms_of(store_of(context), context.registry).codes
    found = await find(context.store, query, registry=context.registry, access=visible, terms=terms)
    return list(found.matches[:limit])


def only(found: Sequence[Stored], type: str) -> Stored | None:
    """The one match, None when there is none; FhirError 412 when there are several."""
    if len(found) > 1:
        raise FhirError("multiple-matches", f"The criteria match more than one {type}.")
    return found[0] if found else None


async def once(request: Request, context: Context) -> None:
    """Carry a transaction with an Idempotency-Key out once (409 after that): who lost the answer may repeat it safely.

    A key is its sender's: another caller's is neither told nor in the way.
    """
    text = request.headers.get("idempotency-key")
    if not text or not isinstance(context.store, Transaction):
        return
    key = hashlib.sha256(f"{access.owner(request)} {text}".encode()).hexdigest()
    if not await context.store.note(f"once/{key}"):
        raise FhirError("duplicate", "The transaction with this Idempotency-Key was carried out already.")


async def hold(context: Context, request: Request, *keys: str) -> None:
    """Take match keys in the open transaction, unless the transaction that carries the request has done so."""
    if request.resolved is None and isinstance(context.store, Transaction):
        await context.store.match_key(*keys)
