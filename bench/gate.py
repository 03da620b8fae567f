"""`python -m bench.gate`: where the cost of the gate comes from, for who looks for causes; `make bench` has the whole.

Three applications on one embedded database are called without a network, in turns, so that a busy machine slows all:
open, behind the gate with a known token but without an audit trail, and with it. Events are not moved on meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from bench.behind import bearer
from bench.data import MRN, patient
from fhir_server.access.auditing import Trail
from fhir_server.app import App, build_app
from fhir_server.auth.wiring import open_beside_realm
from fhir_server.config import Config
from fhir_server.store import Embedded

ROUNDS, REQUESTS, AT_ONCE = 25, 1_024, 64


async def ask(app: App, method: str, path: str, query: bytes, body: bytes, headers: list[Any]) -> int:
    """The status of one request."""
    status = 0
    parts = [body]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": parts.pop(), "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)
    return status


async def processor(work: Callable[[], Awaitable[int]], expected: int) -> float:
    """Microseconds of processor time a request."""
    begun = time.process_time()
    for _ in range(REQUESTS // AT_ONCE):
        found = await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        assert set(found) == {expected}, set(found)
    return (time.process_time() - begun) / (REQUESTS // AT_ONCE * AT_ONCE) * 1e6


BODY = patient(1)
JSON = (b"content-type", b"application/fhir+json")
# Name, method, path below the base, query, body, status.
ROWS: tuple[tuple[str, str, str, bytes, bytes, int], ...] = (
    ("read", "GET", "/Patient/one", b"", b"", 200),
    ("search", "GET", "/Patient", f"identifier={MRN}%7C1".encode(), b"", 200),
    ("create", "POST", "/Patient", b"", BODY, 201),
)


VARIANTS = ("open", "gate", "and trail")


async def compare(apps: list[tuple[App, list[Any]]]) -> None:
    """The table: the least of rounds that take turns."""
    print(f"{'µs a request':<14}" + "".join(f"{name:>18}" for name in VARIANTS))
    for name, method, path, query, body, status in ROWS:
        costs: list[list[float]] = [[] for _ in apps]
        for _ in range(ROUNDS):
            for place, (app, headers) in zip(costs, apps, strict=True):
                head = [JSON, *headers]

                async def one(app: App = app, head: list[Any] = head) -> int:
                    return await ask(app, method, app.mount + path, query, body, head)  # noqa: B023

                place.append(await processor(one, status))
        plain, *others = map(min, costs)
        cells = "".join(f"{cost:>11.0f}{cost / plain - 1:>+7.0%}" for cost in others)
        print(f"{name:<14}{plain:>18.0f}{cells}", flush=True)


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fhir-bench-")))
        embedded = await Embedded.start(folder, mortal=True)
        stack.push_async_callback(embedded.stop)
        settings: dict[str, Any] = {"mongo": embedded.url, "data": folder, "key": "00" * 32, "rate_data": 10**9}
        apps: list[tuple[App, list[Any]]] = []
        for number in range(len(VARIANTS)):
            app = build_app(Config(**settings, auth="smart" if number else "none", database=f"bench_{number}"))
            await stack.enter_async_context(app.running())
            context: Any = app.fhir.context
            headers: list[Any] = []
            if number:
                token = await bearer(await open_beside_realm(app.config, context.store))
                headers = [(b"authorization", f"Bearer {token}".encode())]
            # Nobody moves the events of this trail on: a server does that in quiet moments.
            trail = Trail(context, bytes(32)) if VARIANTS[number] == "and trail" else None
            app.fhir.context = replace(context, trail=trail)
            apps.append((app, headers))
            status = await ask(app, "PUT", "/fhir/Patient/one", b"", patient(1, "one"), [JSON, *headers])
            assert status == 201, status
        await compare(apps)


if __name__ == "__main__":
    uvloop.run(main())
