"""Open and behind the gate: three servers on one database, in turns, so that a busy machine slows all.

Two of them ask for logins, and each request carries a token that they know: rights, labels and limits are in their
time, and in that of the last one the audit trail. What it does later, when nobody asks anything, is a line of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.processes import PROGRAM, SILENT, Server, cpu_seconds, fhir_server, mongo_url
from fhir_server.auth.wiring import open_beside_realm
from fhir_server.config import Config
from fhir_server.store import open_store
from smart_auth import clients, principals, tokens, users
from smart_auth.realm import Realm

OPERATIONS = ("read", "create", "search identifier")
ROUNDS = 5
MOST = 0.25  # what the gate may add
IDLE = 3.0  # seconds after which a server that is asked nothing moves its events on


async def bearer(realm: Realm) -> str:
    """The token of a nurse in an app: on each request the role's rows are looked at, and the labels."""
    rows = [{"types": ["Patient", "Observation"], "verbs": "cruds"}]
    await principals.save_policy(realm, {"name": "Bench", "clearance": "N", "rows": rows})
    await users.create(realm, "bench", None, {"roles": ["Bench"]})
    fields = {"kind": "public", "name": "bench", "scope": "user/*.cruds", "grants": ["authorization_code"]}
    await clients.save(realm, "bench", fields | {"redirect_uris": ["https://bench.example/cb"]})
    made = await tokens.made(realm, "bench", "bench", "user/*.cruds", {})
    token: str = made["access_token"]
    return token


async def _with_store(data: Path, work: Callable[[Any], Awaitable[Any]]) -> Any:
    store = await open_store(mongo_url(data))
    try:
        return await work(store)
    finally:
        await store.close()


async def _token(data: Path) -> str:
    async def work(store: Any) -> str:
        return await bearer(await open_beside_realm(Config(data=data), store))

    made: str = await _with_store(data, work)
    return made


async def _events(data: Path) -> int:
    async def work(store: Any) -> int:
        found: int = await store.reads.count({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}})
        return found

    return int(await _with_store(data, work))


class Cost(NamedTuple):
    """Processor seconds of a request: open, behind the gate, and with the audit trail as well."""

    open: float
    gate: float
    trail: float


def compare(measure: Callable[..., Any], data: Path, open_server: Server) -> dict[str, Cost]:
    """What each operation costs the server's processor: the least of some rounds."""
    silent, gated = (fhir_server(data, mongo=mongo_url(data), program=program) for program in (SILENT, PROGRAM))
    try:
        token = asyncio.run(_token(data))
        turns = ((open_server, "", ""), (silent, token, ", gate"), (gated, token, ", trail"))
        least = {}
        for operation in OPERATIONS:
            rounds = [
                [measure(asked, operation, key, what).server for asked, key, what in turns] for _ in range(ROUNDS)
            ]
            least[operation] = Cost(*map(min, zip(*rounds, strict=True)))
        _report(least)
        _later(data, gated)
    finally:
        silent.stop()
        gated.stop()
    return least


def _report(least: dict[str, Cost]) -> None:
    print(f"\n{'behind the gate':<23}{'open µs':>9}{'gate µs':>9}{'adds':>7}{'with trail µs':>15}{'adds':>7}")
    for operation, cost in least.items():
        gate, trail = cost.gate / cost.open - 1, cost.trail / cost.open - 1
        print(
            f"{operation:<23}{cost.open * 1e6:>9,.0f}{cost.gate * 1e6:>9,.0f}{gate:>+7.0%}"
            f"{cost.trail * 1e6:>15,.0f}{trail:>+7.0%}",
            flush=True,
        )


def _later(data: Path, server: Server) -> None:
    """What an AuditEvent costs when it is made of its line, in a quiet moment."""
    time.sleep(IDLE)
    events, spent, begun = asyncio.run(_events(data)), cpu_seconds(server.pid), time.perf_counter()
    time.sleep(IDLE)
    made = asyncio.run(_events(data)) - events
    if made:
        cost, rate = (cpu_seconds(server.pid) - spent) / made, made / (time.perf_counter() - begun)
        print(
            f"{'an AuditEvent, later':<32}{cost * 1e6:>9,.0f}        {rate:,.0f} a second while nobody asks", flush=True
        )
