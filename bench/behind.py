"""Open and behind the gate: three servers on one database, in turns.

Two of them ask for logins, and each request carries a token that they know: rights, labels and limits are in their
time, and in that of the last one the audit trail. What it does later, when nobody asks anything, is a line of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.lines import Row, measure
from bench.processes import PROGRAM, SILENT, Client, Server, cpu_seconds, fhir_server, mongo_url, mongod_pid
from bench.turns import SECONDS, Turns
from fhir_server.auth.wiring import open_beside_realm
from fhir_server.config import Config
from fhir_server.store import open_store
from smart_auth import clients, principals, tokens, users
from smart_auth.realm import Realm

OPERATIONS = ("read", "create", "search identifier")
CONNECTIONS = 64
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


def behind(data: Path, open_server: Server, client: Client, rounds: int) -> dict[str, Turns]:
    """Each operation at the three servers, which are called open, gate and trail."""
    silent, gated = (fhir_server(data, mongo=mongo_url(data), program=program) for program in (SILENT, PROGRAM))
    try:
        token = asyncio.run(_token(data))
        asked = {"open": (open_server, ""), "gate": (silent, token), "trail": (gated, token)}
        found = {}
        for operation in OPERATIONS:
            turn = partial(_turn, client, data, operation)
            found[operation] = Turns({name: partial(turn, *how) for name, how in asked.items()}, rounds)
        _report(found)
        _later(data, gated)
    finally:
        silent.stop()
        gated.stop()
    return found


def _turn(client: Client, data: Path, operation: str, server: Server, token: str) -> Row:
    return measure(client, server, operation, CONNECTIONS, 0, seconds=SECONDS, mongod=mongod_pid(data), token=token)


def _report(found: dict[str, Turns]) -> None:
    print(f"\n{'behind the gate':<23}{'open µs':>9}{'gate µs':>9}{'adds':>7}{'with trail µs':>15}{'adds':>7}")
    for operation, turns in found.items():
        opened, gate, trail = (turns.middle(name, _server) * 1e6 for name in ("open", "gate", "trail"))
        adds = [turns.ratio(name, "open", _server) - 1 for name in ("gate", "trail")]
        print(f"{operation:<23}{opened:>9,.0f}{gate:>9,.0f}{adds[0]:>+7.0%}{trail:>15,.0f}{adds[1]:>+7.0%}", flush=True)


def _server(row: Row) -> float:
    return row.server


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
