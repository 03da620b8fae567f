"""Following the stored SearchParameters: whichever process wrote one, this one answers by it soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from fhir_server.context import Context
from fhir_server.store import Store
from fhir_server.store.find_parameters import POLL, Parameters, work
from profiles.outcome import FhirError
from search.params import Registry

log = structlog.get_logger()


async def registry_of(store: Store) -> Registry:
    """R4's parameters and the stored ones."""
    return await Parameters(store, Registry.r4()).refresh()


async def follow(context: Context, changed: Callable[[Registry], None]) -> None:
    """Call `changed` with each new registry, and give older resources their entries; never returns."""
    store, owner = context.store, context.new_id()
    assert isinstance(store, Store)
    parameters, known = Parameters(store, Registry.r4()), context.registry
    while True:
        try:
            registry = await parameters.refresh()
            if registry is not known:
                changed(registry)
                known = registry
            if parameters.pending:
                await work(store, registry, owner, context.config.base, lambda job: None)
        except FhirError as error:
            log.warning("search parameters", reason=error.text)
        await asyncio.sleep(POLL)
