"""What a process opens before it answers anything: the database, the context that interactions use, the collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import structlog

from fhir_server.answers.links import Seal
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.following import registry_of
from fhir_server.ids import TimeOrdered
from fhir_server.keyring import keys_of
from fhir_server.logs import places_of
from fhir_server.store import Embedded, Store, open_store, watch_disk
from fhir_server.store.mongod import folder_of
from profiles.validate import warm

log = structlog.get_logger()

PATIENCE = 0.5  # seconds until what runs beside the requests is told again to end
REST = 5.0  # seconds after a fault in what runs beside the requests


async def open_context(
    config: Config,
    stack: AsyncExitStack,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Context:
    """What interactions use, open until the stack is closed."""
    url = config.mongo or await embedded_url(config, stack)
    store = await open_store(url, config.database, search_seconds=config.search_seconds)
    stack.push_async_callback(store.close)
    embedded = folder_of(url)  # ours, or that of the process which started this worker or runs beside
    if embedded is not None:
        attend(stack, partial(watch_disk, store, embedded))
    else:  # the embedded one is for trying out, and documented as such
        for text in store.warnings:
            log.warning("database", text=text)
    return await context_of(config, store, now)


async def context_of(config: Config, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Context:
    """What interactions use, on an open store."""
    registry = await registry_of(store)
    return Context(config, store, registry, Seal(*keys_of(config)), now, TimeOrdered())


async def embedded_url(config: Config, stack: AsyncExitStack) -> str:
    """Start the embedded database; it stops when the stack is closed."""
    embedded = await Embedded.start(config.data)
    stop: Callable[[], Awaitable[None]] = embedded.stop
    stack.push_async_callback(stop)
    attend(stack, embedded.watch)
    return embedded.url


def attend(stack: AsyncExitStack, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` beside everything else until the stack is closed; a fault is told, and the work begun again."""
    task = asyncio.create_task(_attended(work))

    async def end() -> None:
        # Once may not do: asyncio.wait_for of Python 3.11, which the driver uses, can lose a cancellation.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)

    stack.push_async_callback(end)


async def _attended(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await work()
        except Exception as error:
            log.error("unexpected", error=type(error).__name__, place=places_of(error))
        await asyncio.sleep(REST)


# What is mostly written first.
COMMON = (
    "Patient",
    "Observation",
    "Bundle",
    "Condition",
    "Encounter",
    "Procedure",
    "MedicationRequest",
    "DiagnosticReport",
    "Immunization",
    "AllergyIntolerance",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Location",
    "DocumentReference",
    "ServiceRequest",
)


async def warm_up() -> None:
    """Make what checks the common types need, 2 to 5 ms each, in the pauses after the start."""
    for name in COMMON:
        await asyncio.sleep(0.01)
        warm(name)


def quiet_collector() -> None:
    """What is alive after the start stays: parsing next to it is three times faster (docs/storage.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
