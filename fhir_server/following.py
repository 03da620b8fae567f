"""Following the stored SearchParameters: whichever process wrote one, this one answers by it soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from fhir_server.answers.respond import Response
from fhir_server.context import Context, Request
from fhir_server.store import Store
from fhir_server.store.find.parameters import POLL, Parameters
from fhir_server.store.reindex import work
from profiles.outcome import FhirError
from search.params import Registry

log = structlog.get_logger()

WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))
MARGIN = 0.2  # seconds that a look of another process may take


async def registry_of(store: Store) -> Registry:
    """R4's parameters and the stored ones."""
    return await Parameters(store, Registry.r4()).refresh()


def defines(request: Request, answer: Response) -> bool:
    """Whether the request stored, changed or deleted a SearchParameter, by itself or in a Bundle."""
    if request.method not in WRITES or answer.status >= 300:
        return False
    return request.parts[:1] == ("SearchParameter",) or (not request.parts and b"SearchParameter" in request.body)


class Following:
    """The search parameters of this process, kept up with those in the database."""

    def __init__(self, context: Context, changed: Callable[[Registry, frozenset[str]], None]) -> None:
        assert isinstance(context.store, Store)
        self._store = context.store
        self._config = context.config
        self._owner = context.new_id()
        self._changed = changed
        self._told: tuple[Registry, frozenset[str]] = (context.registry, frozenset())
        self._parameters = Parameters(context.store, Registry.r4())

    async def look(self) -> None:
        """Take over what has changed."""
        await self._parameters.refresh()
        found = (self._parameters.registry, self._parameters.pending)
        if found != self._told:
            self._told = found
            self._changed(*found)

    async def settle(self) -> None:
        """Return when every process knows what is stored now, so that what is written next is found."""
        await self.look()
        if self._config.mongo:  # other processes may share the database, and look at it every half second
            await asyncio.sleep(POLL + MARGIN)

    async def follow(self) -> None:
        """Look for changes; never returns."""
        await self._repeated(self.look)

    async def reindex(self) -> None:
        """Give older resources their entries; never returns."""
        await self._repeated(self._work)

    async def _work(self) -> None:
        await work(self._store, lambda: self._parameters.registry, self._owner, self._config.base)

    async def _repeated(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except FhirError as error:
                log.warning("search parameters", reason=error.text)
            await asyncio.sleep(POLL)
