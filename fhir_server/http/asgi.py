"""FHIR over HTTP: a plain ASGI callable from the path to the answer (docs/storage.md)."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

import structlog

from fhir_server.access.gate import Caller, Gate
from fhir_server.answers.respond import Response, failure, rendered
from fhir_server.config import Config
from fhir_server.context import Context, Pairs, Request
from fhir_server.following import defines
from fhir_server.http.formats import JSON, Format, chosen
from fhir_server.http.headers import accepts_gzip, as_utf8, combined
from fhir_server.http.intake import Budget, Gone, Intake, Receive
from fhir_server.http.limiting import Left, Limits, class_of
from fhir_server.http.protocol import WHOLE, most_of_url
from fhir_server.http.queries import pairs_of
from fhir_server.routes import handle
from profiles.outcome import FhirError

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Raw: TypeAlias = list[tuple[bytes, bytes]]

log = structlog.get_logger()

MOUNT = "/fhir"
BODIES = frozenset(("POST", "PUT", "PATCH"))
CRITERIA = "if-none-exist"
REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}", re.ASCII)
# Seconds after which a read is watched for its client leaving; before, watching costs more than it saves.
WATCH = 0.25
# Compressing this many bytes takes about 2 ms, and from there on it happens in a thread.
THREAD_GZIP = 256 * 1024

SECURITY: Raw = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"private, no-cache"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept, accept-encoding, origin"),
]
KEPT = [row for row in SECURITY if row[0] != b"cache-control"]
# The same as they are sent, by their number.
LINES = {len(rows): b"".join(b"%b: %b\r\n" % row for row in rows) for rows in (SECURITY, KEPT)}
NOTHING: Mapping[str, Any] = {}
EXPOSED = (
    b"etag, link, location, content-location, last-modified, retry-after, www-authenticate, x-correlation-id, "
    b"x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-request-id"
)
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
ALLOWED = (
    b"accept, authorization, content-encoding, content-type, idempotency-key, if-match, if-modified-since, "
    b"if-none-exist, if-none-match, prefer, x-correlation-id, x-provenance, x-request-id, x-security-context"
)


class Fhir:
    """The FHIR endpoint: counts requests at work, takes in bodies, answers."""

    def __init__(self, config: Config, mount: str = MOUNT) -> None:
        self.config = config
        self.mount = mount
        self.context: Context | None = None
        self.gate: Gate | None = None
        self.limits: Limits | None = None
        self.settle: Callable[[], Awaitable[None]] | None = None
        self.working = 0
        self.budget = Budget(config.big_bodies)
        self._origins = frozenset(origin.encode() for origin in config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; whatever goes wrong, it is answered."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if len(headers) < len(scope["headers"]):
            headers = combined(scope["headers"])
        if CRITERIA in headers:
            headers[CRITERIA] = as_utf8(headers[CRITERIA])
        own = headers.get("x-request-id", "")
        context = self.context
        request = Request(scope["method"], headers=headers)
        if context is None:
            await self._send(failure(starting(), request), scope, headers, send, "-")
            return
        request.id = own if REQUEST_ID.fullmatch(own) else context.new_id()
        intake = Intake(self.config, self.budget)
        self.working += 1
        try:
            answer = await self._answered(request, scope, receive, intake, context)
        except Gone:
            return
        finally:
            self.working -= 1
            intake.done()
        await self._send(answer, scope, headers, send, request.id, request.left)

    async def _answered(
        self, request: Request, scope: Scope, receive: Receive, intake: Intake, context: Context
    ) -> Response:
        started = time.perf_counter()
        try:
            if self.working > self.config.max_requests:
                raise overloaded()
            if self.gate is not None and "origin" in request.headers:
                await self.gate.refresh()
            if request.method == "OPTIONS":
                return Response(204, {"Allow": METHODS.decode()}, media="text/plain")
            request.parts, request.query = self._target(scope)
            request.peer = scope["client"][0] if scope.get("client") else ""
            request.principal = await self.caller(request)
            if self.limits is not None:
                request.left = self.limits.take(class_of(request.parts), caller_key(request), request.peer)
            if request.method in BODIES:
                request.body = await intake.read(request.headers, receive)
                answer = await handle(request, context)
            elif request.method == "DELETE" or is_short(request.parts):
                answer = await handle(request, context)
            else:
                answer = await self._watched(request, receive, context)
            if self.settle is not None and defines(request, answer):
                await self.settle()
        except FhirError as error:
            answer = rendered(failure(error, request), asked_format(request), request)
        if self.config.log_requests:
            took = round((time.perf_counter() - started) * 1000, 1)
            kind = request.parts[0] if request.parts else ""
            log.info("request", request=request.id, method=request.method, type=kind, status=answer.status, ms=took)
        return answer

    async def caller(self, request: Request) -> Caller | None:
        """Who asks; whoever comes with a token that is no good is counted by address, as at a login."""
        if self.gate is None:
            return None
        try:
            return self.gate.known(request.headers) or await self.gate.caller(headers=request.headers)
        except FhirError:
            if self.limits is not None:
                self.limits.take("general", "", request.peer)
            raise

    def _target(self, scope: Scope) -> tuple[tuple[str, ...], Pairs]:
        path, query = scope["path"][len(self.mount) + 1 :], scope["query_string"]
        if len(path) + len(query) > (most := most_of_url(self.config, query)):
            raise FhirError("too-long", f"The URL is longer than {most} bytes.", status=414)
        if path.endswith("/"):
            path = path[:-1]
        parts = tuple(path.split("/")) if path else ()
        return parts, self._pairs(query) if query else []

    def _pairs(self, query: bytes) -> Pairs:
        try:
            return pairs_of(query.decode("utf-8", "replace"), self.config.max_values)
        except ValueError:
            text = f"The query has more than {self.config.max_values} values."
            raise FhirError("too-costly", text) from None

    async def _watched(self, request: Request, receive: Receive, context: Context) -> Response:
        """Carry out a read; one that takes long dies with its client (docs/security.md)."""
        task = asyncio.current_task()
        watchers: list[asyncio.Task[None]] = []

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if task is not None:
                task.cancel()

        loop = asyncio.get_running_loop()
        timer = loop.call_later(WATCH, lambda: watchers.append(loop.create_task(watch())))
        try:
            return await handle(request, context)
        except asyncio.CancelledError:
            if watchers and watchers[0].done() and not watchers[0].cancelled():
                raise Gone from None
            raise
        finally:
            timer.cancel()
            for watcher in watchers:
                watcher.cancel()

    async def _send(
        self,
        answer: Response,
        scope: Scope,
        headers: Mapping[str, str],
        send: Send,
        request_id: str,
        left: Left | None = None,
    ) -> None:
        body, raw = answer.body, [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        if answer.media is not None and (body or scope["method"] == "HEAD"):
            raw.append((b"content-type", answer.media.encode()))
        if len(body) >= self.config.gzip_min and accepts_gzip(headers.get("accept-encoding")):
            body = await compressed(body)
            raw.append((b"content-encoding", b"gzip"))
        if answer.status not in (204, 304):
            raw.append((b"content-length", b"%d" % len(body)))
        raw.append((b"x-request-id", request_id.encode()))
        if "x-correlation-id" in headers and REQUEST_ID.fullmatch(headers["x-correlation-id"]):
            raw.append((b"x-correlation-id", headers["x-correlation-id"].encode()))
        if "origin" in headers:
            raw += self._cors(scope, headers)
        fixed = SECURITY if "Cache-Control" not in answer.headers else KEPT
        whole = scope.get("extensions", NOTHING).get(WHOLE)
        if (
            whole is not None
            and scope["method"] != "HEAD"
            and whole(scope, answer.status, raw, LINES[len(fixed)] + (left.lines if left else b""), body)
        ):
            return
        raw += fixed
        if left is not None:
            raw += [(name.lower().encode(), value.encode()) for name, value in left.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _cors(self, scope: Scope, headers: Mapping[str, str]) -> Raw:
        """Origins of the configuration and of registered apps; anybody may read the capability statement (O33)."""
        origin = headers["origin"].encode()
        known = self.gate is not None and headers["origin"] in self.gate.origins
        if known or origin in self._origins:
            granted: Raw = [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]
        elif scope["path"] == f"{self.mount}/metadata":
            granted = [(b"access-control-allow-origin", b"*")]
        else:
            return []
        if scope["method"] == "OPTIONS":
            granted += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", ALLOWED),
                (b"access-control-max-age", b"600"),
            ]
        return granted


def is_short(parts: tuple[str, ...]) -> bool:
    """Whether this is a read by id: it shares its call with others, so there is nothing to give up."""
    return len(parts) == 2 and parts[1][:1] not in ("_", "$")


def caller_key(request: Request) -> str:
    """Whom a request counts for: the user of an app, or a backend service; nobody without a token."""
    return "" if request.principal is None else str(request.principal.name)


async def compressed(body: bytes) -> bytes:
    """The body as gzip makes it, quickly rather than tightly."""
    if len(body) >= THREAD_GZIP:
        return await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
    return gzip.compress(body, 1, mtime=0)


def asked_format(request: Request) -> Format:
    """The format of an error that came before the interaction; JSON where none of ours is asked for."""
    try:
        return chosen(request)
    except FhirError:
        return JSON


def overloaded() -> FhirError:
    """The error of a request too many."""
    return FhirError("throttled", "The server is busy; repeat the request.", status=503, headers={"Retry-After": "1"})


def starting() -> FhirError:
    """The error of a request that comes before the database is there, or after it was let go."""
    return FhirError("transient", "The server is starting or stopping.", headers={"Retry-After": "1"})
