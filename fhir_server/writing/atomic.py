"""Work that must be carried out whole: in the transaction that is open already, or in one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from fhir_server.context import Context
from fhir_server.store import Store, Transaction

T = TypeVar("T")


async def atomically(context: Context, work: Callable[[Context], Awaitable[T]]) -> T:
    """The result of `work`, which gets a context whose store is a transaction; it may be run more than once."""
    store = context.store
    if isinstance(store, Transaction):
        return await work(context)

    inner = context

    async def attempt(transaction: Transaction) -> T:
        nonlocal inner
        inner = replace(context, store=transaction, outer=store, done=[])
        return await work(inner)

    result = await store.transaction(attempt)
    await asyncio.gather(*(context.trail.record(*told) for told in inner.done))
    return result


@asynccontextmanager
async def turn(context: Context, type: str, id: str) -> AsyncIterator[None]:
    """One writer at a time for a resource; inside a transaction its guard is enough."""
    if isinstance(context.store, Store):
        async with context.store.turn(type, id):
            yield
    else:
        yield
