"""The application: everything is wired here, by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fhir_server import logs
from fhir_server.access import admit, retention
from fhir_server.auth.wiring import mounts, open_auth
from fhir_server.coding import checking, completion
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.context import Request as Asked
from fhir_server.following import Following
from fhir_server.http.asgi import MOUNT, Fhir, Scope, Send, caller_key
from fhir_server.http.intake import Receive
from fhir_server.loading.demo import load_demo
from fhir_server.opening import attend, context_of, open_context, quiet_collector, warm_up
from fhir_server.store import Store
from fhir_server.store.tenants import open_beside
from fhir_server.tenants import DEFAULT, Application, Tenants, named_in
from profiles.outcome import FhirError, operation_outcome
from search.params import Registry


class App:
    """The ASGI application: FHIR paths go straight to their endpoint, all others through Starlette."""

    def __init__(self, config: Config, beside: Store | None = None) -> None:
        """`beside` is the default tenant's store, for the application of another tenant."""
        self.config = config
        self.beside = beside
        self.mount, self.auth = mounts(config)
        self.fhir = Fhir(config, self.mount)
        self.tenants = Tenants(config, self._beneath)
        self.stopping = False
        root = self.mount.removesuffix(MOUNT)
        self._known = f"{self.mount}/.well-known/"
        self._others = Starlette(
            routes=[
                Route(f"{root}/", self._doors),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route(f"{root}/terminology/icd10/search", self._icd10_search),
                Route(f"{root}/terminology/icd10/validate", self._icd10_validate, methods=["POST"]),
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live_through(receive, send)
            return
        path, size = scope.get("path", ""), len(self.mount)
        if path.startswith(self.mount) and path[size : size + 1] in ("", "/") and not path.startswith(self._known):
            await self.fhir(scope, receive, send)
            return
        try:
            other = await self._tenant(path)
            self._count(scope)
        except FhirError as error:
            await JSONResponse(operation_outcome(error.issues), error.status, error.headers)(scope, receive, send)
            return
        await (other or self._others)(scope, receive, send)

    async def _tenant(self, path: str) -> Application | None:
        """The application of the tenant that the path names; FhirError 404 where there is none."""
        name = named_in(path) if self.beside is None else None
        if name is None:
            return None
        found = await self.tenants.find(name)
        if found is None:
            raise FhirError("not-found", "There is no such tenant.")
        return found

    def _count(self, scope: Scope) -> None:
        """Login pages and token endpoints are limited by address."""
        if self.fhir.limits is not None and scope.get("path", "").startswith((f"{self.auth}/", self._known)):
            self.fhir.limits.take("general", "", scope["client"][0] if scope.get("client") else "")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The database is open inside."""
        async with AsyncExitStack() as stack:
            context = await (open_context(self.config, stack) if self.beside is None else self._beside(stack))
            if self.config.demo:
                await load_demo(context)
            if self.config.auth == "smart":
                auth = await open_auth(self.config, context)
                context, self.fhir.gate, self.fhir.limits = auth.context, auth.gate, auth.limits
                stack.push_async_callback(auth.limits.close)
                attend(stack, context.trail.run)
                attend(stack, partial(retention.run, context.trail, self.config.audit_days))
                self._others.router.routes.extend(auth.routes)
            if self.beside is None and isinstance(context.store, Store):
                quiet_collector()
                attend(stack, warm_up)
                self.tenants.store = context.store
                stack.push_async_callback(self.tenants.close)
            self.fhir.context = context
            following = Following(context, self._redefine)
            self.fhir.settle = following.settle
            attend(stack, following.follow)
            attend(stack, following.reindex)
            yield
            self.stopping = True
            self.fhir.context = None

    @asynccontextmanager
    async def _beneath(self, config: Config, store: Store) -> AsyncIterator[App]:
        """The application of another tenant, running inside; big bodies of all tenants share one budget of memory."""
        made = App(config, store)
        made.fhir.budget = self.fhir.budget
        async with made.running():
            yield made

    async def _beside(self, stack: AsyncExitStack) -> Context:
        """A tenant's own database, over the connections that are there."""
        assert self.beside is not None
        store = await open_beside(self.beside, self.config.database)
        stack.push_async_callback(store.close)
        return await context_of(self.config, store)

    def _redefine(self, registry: Registry, pending: frozenset[str]) -> None:
        """Answer with other search parameters from now on; `pending` are those still being indexed."""
        if self.fhir.context is not None:
            self.fhir.context = replace(self.fhir.context, registry=registry, pending=pending)
        if self.fhir.gate is not None:
            self.fhir.gate.redefine(registry)

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
        return await self._plain(request, lambda context: checking(request.stream(), context))

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
        peer = request.client.host if request.client else ""
        asked = Asked("GET", ("CodeSystem", "icd-10-cm"), headers=request.headers, peer=peer)
        asked.principal = await self.fhir.caller(asked)
        if self.fhir.limits is not None:
            self.fhir.limits.take("data", caller_key(asked), peer)
        await admit(asked, context, "read")

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
    return App(config.model_copy(update={"tenant": DEFAULT}))


def from_environment() -> App:
    """The application of a worker process: the configuration is in the environment."""
    return build_app(Config())
