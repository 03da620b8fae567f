"""`python -m bench.gate`: what a request costs the server's processor open, and behind the gate with a known token.

Two applications on one embedded database are called without a network, in turns, so that a busy machine slows both.
The audit trail is part of what is behind the gate.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.data import patient
from fhir_server.app import App, build_app
from fhir_server.auth.wiring import open_beside_realm
from fhir_server.config import Config
from fhir_server.store import Embedded
from smart_auth import clients, principals, tokens, users

ROUNDS, REQUESTS, AT_ONCE = 15, 640, 32


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
    ("search", "GET", "/Patient", b"_id=one", b"", 200),
    ("create", "POST", "/Patient", b"", BODY, 201),
)


async def compare(apps: list[tuple[App, list[Any]]]) -> None:
    """The table: medians of rounds that take turns."""
    print(f"{'request':<10}{'open µs':>10}{'gate µs':>10}{'adds':>8}")
    for name, method, path, query, body, status in ROWS:
        costs: list[list[float]] = [[], []]
        for number in range(ROUNDS + 2):
            for place, (app, headers) in zip(costs, apps, strict=True):
                head = [JSON, *headers]

                async def one(app: App = app, head: list[Any] = head) -> int:
                    return await ask(app, method, app.mount + path, query, body, head)  # noqa: B023

                cost = await processor(one, status)
                if number >= 2:
                    place.append(cost)
        plain, gated = map(median, costs)
        print(f"{name:<10}{plain:>10.0f}{gated:>10.0f}{gated / plain - 1:>+8.0%}", flush=True)


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fhir-bench-")))
        embedded = await Embedded.start(folder, mortal=True)
        stack.push_async_callback(embedded.stop)
        common = {"mongo": embedded.url, "data": folder, "key": "00" * 32, "rate_data": 0}
        apps: list[tuple[App, list[Any]]] = []
        for auth in ("none", "smart"):
            app = build_app(Config(**common, auth=auth, database=f"bench_{auth}"))
            await stack.enter_async_context(app.running())
            apps.append((app, await bearer(app) if auth == "smart" else []))
            status = await ask(app, "PUT", "/fhir/Patient/one", b"", patient(1, "one"), [JSON, *apps[-1][1]])
            assert status == 201, status
        await compare(apps)


async def bearer(app: App) -> list[Any]:
    """The token of a nurse in an app: on each request the role's rows are looked at, and the labels."""
    assert app.fhir.context is not None
    store: Any = app.fhir.context.store
    realm = await open_beside_realm(app.config, store)
    rows = [{"types": ["Patient"], "verbs": "cruds"}]
    await principals.save_policy(realm, {"name": "Bench", "clearance": "N", "rows": rows})
    await users.create(realm, "bench", None, {"roles": ["Bench"]})
    fields = {"kind": "public", "name": "bench", "scope": "user/*.cruds", "grants": ["authorization_code"]}
    await clients.save(realm, "bench", fields | {"redirect_uris": ["https://bench.example/cb"]})
    made = await tokens.made(realm, "bench", "bench", "user/*.cruds", {})
    return [(b"authorization", f"Bearer {made['access_token']}".encode())]


if __name__ == "__main__":
    asyncio.run(main())
