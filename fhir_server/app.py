"""The application: everything is wired here, by hand."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fhir_server import logs
from fhir_server.access import admit
from fhir_server.asgi import MOUNT, Fhir, Scope, Send
from fhir_server.auth_wiring import open_auth
from fhir_server.coding import checking, completion
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.context import Request as Asked
from fhir_server.demo import load_demo
from fhir_server.following import Following, registry_of
from fhir_server.ids import TimeOrdered
from fhir_server.intake import Receive
from fhir_server.links import Seal, key_of
from fhir_server.store import Embedded, open_store, watch_disk
from fhir_server.store.mongod import SOCKET
from profiles.outcome import FhirError, operation_outcome
from search.params import Registry

log = structlog.get_logger()

KNOWN = f"{MOUNT}/.well-known/"


class App:
    """The ASGI application: FHIR paths go straight to their endpoint, all others through Starlette."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.fhir = Fhir(config)
        self.stopping = False
        self._others = Starlette(
            routes=[
                Route("/", self._doors),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/terminology/icd10/search", self._icd10_search),
                Route("/terminology/icd10/validate", self._icd10_validate, methods=["POST"]),
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live_through(receive, send)
            return
        path = scope.get("path", "")
        if path.startswith(MOUNT) and path[len(MOUNT) : len(MOUNT) + 1] in ("", "/") and not path.startswith(KNOWN):
            await self.fhir(scope, receive, send)
            return
        try:
            self._count(scope)
        except FhirError as error:
            await JSONResponse(operation_outcome(error.issues), error.status, error.headers)(scope, receive, send)
            return
        await self._others(scope, receive, send)

    def _count(self, scope: Scope) -> None:
        """Login pages and token endpoints are limited by address."""
        if self.fhir.limits is not None and scope.get("path", "").startswith(("/auth/", KNOWN)):
            self.fhir.limits.take("general", "", scope["client"][0] if scope.get("client") else "")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The database is open inside."""
        async with AsyncExitStack() as stack:
            context = await open_context(self.config, stack)
            if self.config.demo:
                await load_demo(context)
            if self.config.auth == "smart":
                auth = await open_auth(self.config, context)
                context, self.fhir.gate, self.fhir.limits = auth.context, auth.gate, auth.limits
                stack.push_async_callback(auth.limits.close)
                moving = asyncio.create_task(context.trail.run())
                stack.callback(moving.cancel)
                self._others.router.routes.extend(auth.routes)
            quiet_collector()
            self.fhir.context = context
            following = Following(context, self._redefine)
            self.fhir.settle = following.settle
            watching = asyncio.create_task(following.run())
            stack.callback(watching.cancel)
            yield
            self.stopping = True
            self.fhir.context = None

    def _redefine(self, registry: Registry, pending: frozenset[str]) -> None:
        """Answer with other search parameters from now on; `pending` are those still being indexed."""
        if self.fhir.context is not None:
            self.fhir.context = replace(self.fhir.context, registry=registry, pending=pending)
        if self.fhir.gate is not None:
            self.fhir.gate.registry = registry

    async def _live_through(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol of ASGI; a start that cannot be is told in its one sentence, without a trace."""
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except FhirError as error:
            await send({"type": "lifespan.startup.failed", "message": error.text})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _doors(self, request: Request) -> JSONResponse:
        """What is where, for somebody who opens the address in a browser."""
        base = self.config.base
        return JSONResponse({"fhir": base, "capabilities": f"{base}/metadata", "health": "/health/ready"})

    async def _live(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def _icd10_search(self, request: Request) -> JSONResponse:
        return await self._plain(request, lambda context: completion(request.query_params, context))

    async def _icd10_validate(self, request: Request) -> JSONResponse:
        body = await request.body()
        return await self._plain(request, lambda context: checking(body, context))

    async def _plain(self, request: Request, work: Callable[[Context], Awaitable[Any]]) -> JSONResponse:
        """Plain JSON for programs that know no FHIR; an error is a sentence."""
        context = self.fhir.context
        if context is None:
            return JSONResponse({"error": "The server is starting or stopping."}, 503, headers={"Retry-After": "1"})
        try:
            await self._admit(request, context)
            return JSONResponse(await work(context))
        except FhirError as error:
            return JSONResponse({"error": error.text}, error.status, headers=error.headers)

    async def _admit(self, request: Request, context: Context) -> None:
        """Behind the gate, this is reading a CodeSystem."""
        gate = self.fhir.gate
        principal = await gate.caller(headers=request.headers) if gate is not None else None
        await admit(Asked("GET", ("CodeSystem", "icd-10-cm"), principal=principal), context, "read")

    async def _ready(self, request: Request) -> JSONResponse:
        """503 while starting, stopping or without a database: a balancer sends nothing here then."""
        context = self.fhir.context
        if context is None or self.stopping:
            return JSONResponse({"status": "stopping" if self.stopping else "starting"}, 503)
        try:
            await context.store.ping()  # type: ignore[union-attr]
        except FhirError as error:
            return JSONResponse({"status": error.text}, 503, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ready"})


def build_app(config: Config) -> App:
    """The application for a configuration; its lifespan opens the database, an embedded one without `mongo`."""
    logs.configure(config.log_level)
    return App(config)


def from_environment() -> App:
    """The application of a worker process: the configuration is in the environment."""
    return build_app(Config())


async def open_context(
    config: Config,
    stack: AsyncExitStack,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Context:
    """What interactions use, open until the stack is closed."""
    url = config.mongo or await embedded_url(config, stack)
    store = await open_store(url, config.database)
    stack.push_async_callback(store.close)
    if SOCKET in url:  # an embedded database, ours or that of the process which started this worker
        attend(stack, watch_disk(store, config.data))
    for text in () if SOCKET in url else store.warnings:  # the embedded one is for trying out, and documented as such
        log.warning("database", text=text)
    registry = await registry_of(store)
    return Context(config, store, registry, Seal(key_of(config.key, config.data)), now, TimeOrdered())


async def embedded_url(config: Config, stack: AsyncExitStack) -> str:
    """Start the embedded database; it stops when the stack is closed."""
    embedded = await Embedded.start(config.data)
    stop: Callable[[], Awaitable[None]] = embedded.stop
    stack.push_async_callback(stop)
    attend(stack, embedded.watch())
    return embedded.url


def attend(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` beside everything else until the stack is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def quiet_collector() -> None:
    """What is alive after the start stays: parsing next to it is three times faster (DESIGN.md §2)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
