"""`python -m bench [--quick]`: one server on an empty embedded database, one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.behind import MOST, Cost, compare
from bench.data import REQUESTS
from bench.processes import (
    PROGRAM,
    Client,
    Server,
    cpu_seconds,
    fhir_server,
    machine_seconds,
    memory,
    mongo_url,
    mongod_pid,
    plain_server,
)
from fhir_server.store import open_store

SYNTHEA = Path(os.environ.get("FHIR_SHARED", "../shared")) / "data" / "synthea"
SIZES = (1_000, 10_000, 100_000)
CONNECTIONS = (16, 64)
READS = [name for name in REQUESTS if name.startswith(("read", "vread", "search", "history"))]
WRITES = ["update", "create", "transaction of 100"]
# What one request carries, where that is not one resource.
CONTENT = {"transaction of 100": 100}

# What an operation costs open, behind the gate, and with the audit trail.
COSTS: dict[str, Cost] = {}

HEAD = f"{'operation':<23}{'stored':>8}{'conn':>6}{'req/s':>9}{'res/s':>9}{'p50 ms':>8}{'p99 ms':>8}"
HEAD += f"{'server µs':>11}{'mongod µs':>11}{'others':>8}"


class Row(NamedTuple):
    operation: str
    stored: int
    connections: int
    rate: float
    p50: float
    p99: float
    server: float
    mongod: float
    others: float
    errors: dict[str, int]

    def __str__(self) -> str:
        content = CONTENT.get(self.operation, 1)
        stored = f"{self.stored:,}" if self.stored else ""
        return (
            f"{self.operation:<23}{stored:>8}{self.connections:>6}{self.rate:>9,.0f}{self.rate * content:>9,.0f}"
            f"{self.p50 * 1000:>8.1f}{self.p99 * 1000:>8.1f}{self.server * 1e6:>11,.0f}{self.mongod * 1e6:>11,.0f}"
            f"{self.others:>8.0%}"
        )


def spent(server: Server, client: Client, database: int | None) -> list[float]:
    """Processor seconds of the server, the database, and all other processes but the load generator."""
    ours = [cpu_seconds(server.pid), cpu_seconds(database) if database else 0.0]
    return [*ours, machine_seconds() - sum(ours) - cpu_seconds(client.pid)]


def measure(client: Client, server: Server, operation: str, connections: int, stored: int, **job: Any) -> Row:
    """One line of the table; errors of the answers are part of it."""
    database, title = job.pop("mongod", None), job.pop("title", operation)
    before = spent(server, client, database)
    found = client.run(operation=operation, port=server.port, connections=connections, **job)
    used = [after - start for after, start in zip(spent(server, client, database), before, strict=True)]
    requests, seconds = max(found["requests"], 1), found["seconds"]
    cost = used[0] / requests, used[1] / requests
    others = max(used[2], 0) / seconds / (os.cpu_count() or 1)
    rate = found["requests"] / seconds
    row = Row(title, stored, connections, rate, found["p50"], found["p99"], *cost, others, found["errors"])
    print(row, flush=True)
    for text, count in row.errors.items():
        print(f"    {count} × {text}", flush=True)
    return row


def fill(client: Client, server: Server, wanted: int) -> None:
    """Store resources until there are so many, by transactions of 100."""
    bundles = wanted // 100
    if bundles:
        started = time.perf_counter()
        client.run(operation="transaction of 100", port=server.port, connections=4, requests=bundles)
        rate = bundles * 100 / (time.perf_counter() - started)
        print(f"{'fill, 4 connections':<23}{wanted:>8,}{4:>6}{rate / 100:>9,.0f}{rate:>9,.0f}", flush=True)


async def sizes(data: Path) -> dict[str, float]:
    """Resources, and bytes per resource on disk."""
    store = await open_store(mongo_url(data))
    found = await store.sizes()
    await store.close()
    return found


@contextmanager
def ready(data: Path) -> Iterator[Server]:
    server = fhir_server(data)
    try:
        yield server
    finally:
        server.stop()


def ceiling(client: Client, seconds: float) -> dict[int, Row]:
    """Plain answers, by connections."""
    server = plain_server()
    try:
        rows = [measure(client, server, "plain answer", n, 0, seconds=seconds) for n in CONNECTIONS]
    finally:
        server.stop()
    return {row.connections: row for row in rows}


def interactions(data: Path, size: int, seconds: float) -> list[Row]:
    """Every operation on a database of this size; writes last, as they change it."""
    rows = []
    with load_generator() as client, ready(data) as server:
        print(f"server answers {server.start_seconds:.1f} s after its start, {memory(server.pid) / 1e6:,.0f} MB")
        fill(client, server, size)
        for operation in [*READS, *WRITES]:
            rows += [
                measure(client, server, operation, n, size, seconds=seconds, mongod=mongod_pid(data))
                for n in CONNECTIONS
            ]
        report_sizes(asyncio.run(sizes(data)), memory(server.pid), memory(mongod_pid(data)))
        if size == SIZES[0]:
            compare_gate(client, server, data, seconds)
    return rows


def compare_gate(client: Client, server: Server, data: Path, seconds: float) -> None:
    """The same requests with a token, at a server that asks for one."""

    def line(asked: Server, operation: str, token: str, what: str) -> Row:
        title = f"{operation}{what}"
        job: dict[str, Any] = {"seconds": seconds, "mongod": mongod_pid(data), "title": title, "token": token}
        return measure(client, asked, operation, max(CONNECTIONS), SIZES[0], **job)

    COSTS.update(compare(line, data, server))


def report_sizes(found: dict[str, float], worker: int, database: int) -> None:
    print(
        f"    {found['resources']:,.0f} resources, {found['versions']:,.0f} superseded versions; bytes per resource: "
        f"{found['data']:,.0f} data, {found['indexes']:,.0f} indexes; memory: {worker / 1e6:,.0f} MB worker, "
        f"{database / 1e6:,.0f} MB mongod"
    )


def load(data: Path) -> float | None:
    """Resources per second of `fhir-server load` for the Synthea set."""
    if not SYNTHEA.is_dir():
        print(f"load of the Synthea set: skipped, there is no {SYNTHEA} (FHIR_SHARED names the folder above it)")
        return None
    with ready(data) as server:
        started = time.perf_counter()
        base = f"http://127.0.0.1:{server.port}/fhir"
        command = [sys.executable, "-c", PROGRAM, "load", "--base-url", base, str(SYNTHEA)]
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        found = asyncio.run(sizes(data))
        rate = found["resources"] / seconds
        print(f"load of the Synthea set: {found['resources']:,.0f} resources in {seconds:.1f} s, {rate:,.0f}/s")
        if done.returncode:
            print(f"    the loader ended with code {done.returncode}: {done.stderr[-300:]}")
        report_sizes(found, memory(server.pid), memory(mongod_pid(data)))
    return rate


def aims(plain: dict[int, Row], rows: list[Row], loaded: float | None) -> None:
    """What was aimed for and what was reached, with 64 connections."""
    found = {(row.operation, row.stored): row for row in rows if row.connections == 64}
    first, last = min(row.stored for row in rows), max(row.stored for row in rows)
    print("\naim (64 connections)                      wanted    reached")

    def line(what: str, wanted: str, reached: str, met: bool) -> None:
        print(f"{what:<40}{wanted:>8}{reached:>11}{'' if met else '   missed'}")

    read = found["read", first]
    share, cost = read.rate / plain[64].rate, plain[64].server / read.server
    line("reads, of the plain answers", "45 %", f"{share:.0%}", share >= 0.45)
    line("the same by processor time a request", "45 %", f"{cost:.0%}", cost >= 0.45)
    for what, wanted in (("create", 3_000), ("search identifier", 3_000)):
        rate = found[what, first].rate
        line(f"{what}/s", f"{wanted:,}", f"{rate:,.0f}", rate >= wanted)
    if loaded is not None:
        line("load, resources/s", "2,000", f"{loaded:,.0f}", loaded >= 2_000)
    for what in ("read", "search identifier") if last > first else ():
        small, large = found[what, first], found[what, last]
        growth = (large.server + large.mongod) / (small.server + small.mongod) - 1
        line(f"{what}, cost of {last // first} × as many", "20 %", f"{growth:.0%}", growth <= 0.2)
    for what, spent in COSTS.items():
        gate, trail = spent.gate / spent.open - 1, spent.trail / spent.open - 1
        line(f"the gate adds to {what}", f"{MOST:.0%}", f"{gate:.0%}", gate <= MOST)
        line("  with the audit trail", f"{MOST:.0%}", f"{trail:.0%}", trail <= MOST)
    busiest = max(row.others for row in rows)
    print(f"\nOther processes took up to {busiest:.0%} of this machine's {os.cpu_count()} processors meanwhile.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only 1,000 resources, one second a line")
    parser.add_argument("--seconds", type=float, help="seconds a line (3, with --quick 1)")
    parser.add_argument("--no-load", action="store_true", help="leave the Synthea set out")
    options = parser.parse_args()
    seconds = options.seconds or (1 if options.quick else 3)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as folder:
        print(HEAD, flush=True)
        with load_generator() as client:
            plain = ceiling(client, seconds)
        for size in SIZES[:1] if options.quick else SIZES:
            rows += interactions(Path(folder) / str(size), size, seconds)
        loaded = None if options.no_load else load(Path(folder) / "load")
    aims(plain, rows, loaded)


@contextmanager
def load_generator() -> Iterator[Client]:
    client = Client()
    try:
        yield client
    finally:
        client.stop()


if __name__ == "__main__":
    main()
