"""`python -m bench [--quick]`: a server on a database of each size, one table, and what was aimed for."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.behind import MOST, behind
from bench.data import REQUESTS
from bench.lines import HEAD, Row, measure, told
from bench.processes import (
    PROGRAM,
    Client,
    Server,
    fhir_server,
    load_generator,
    memory,
    mongo_url,
    mongod_pid,
    plain_server,
    running,
)
from bench.turns import ROUNDS, SECONDS, Turns
from fhir_server.store import open_store

SYNTHEA = Path(os.environ.get("FHIR_SHARED", "../shared")) / "data" / "synthea"
SIZES = (1_000, 10_000, 100_000)
CONNECTIONS = (16, 64)
READS = [name for name in REQUESTS if name.startswith(("read", "vread", "search", "history"))]
WRITES = ["update", "create", "transaction of 100"]
GROWN = ("read", "search identifier")


class Site(NamedTuple):
    """A server on a database of its own, and the load generator that knows what is in it."""

    size: int
    data: Path
    server: Server
    client: Client

    def line(self, operation: str, connections: int, seconds: float) -> Row:
        mongod = mongod_pid(self.data)
        return measure(self.client, self.server, operation, connections, self.size, seconds=seconds, mongod=mongod)

    def lines(self, operations: list[str], seconds: float) -> list[Row]:
        return [told(self.line(operation, n, seconds)) for operation in operations for n in CONNECTIONS]

    def fill(self) -> None:
        """Store resources until there are so many, by transactions of 100."""
        started = time.perf_counter()
        count = self.size // 100
        self.client.run(operation="transaction of 100", port=self.server.port, connections=4, requests=count)
        rate = self.size / (time.perf_counter() - started)
        print(f"{'fill, 4 connections':<23}{self.size:>8,}{4:>6}{rate / 100:>9,.0f}{rate:>9,.0f}", flush=True)

    def report(self) -> None:
        report_sizes(asyncio.run(sizes(self.data)), memory(self.server.pid), memory(mongod_pid(self.data)))


async def sizes(data: Path) -> dict[str, float]:
    """Resources, and bytes per resource on disk."""
    store = await open_store(mongo_url(data))
    found = await store.sizes()
    await store.close()
    return found


def opened(size: int, folder: Path, stack: ExitStack) -> Site:
    """A site with as many resources as it should have."""
    data = folder / str(size)
    server, client = stack.enter_context(running(fhir_server(data))), stack.enter_context(load_generator())
    print(f"server answers {server.start_seconds:.1f} s after its start, {memory(server.pid) / 1e6:,.0f} MB")
    site = Site(size, data, server, client)
    site.fill()
    return site


def beside(sites: list[Site], plain: Callable[[float], Row], rounds: int) -> dict[str, Turns]:
    """Reads beside plain answers, and the smallest database beside the largest, in turns."""
    found = {}
    for operation in GROWN:
        turns = {f"{s.size}": partial(s.line, operation, max(CONNECTIONS), SECONDS) for s in (sites[0], sites[-1])}
        found[operation] = Turns(turns | ({"plain": partial(plain, SECONDS)} if operation == "read" else {}), rounds)
    return found


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
    with running(fhir_server(data)) as server:
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


def aims(rows: list[Row], turns: dict[str, Turns], gate: dict[str, Turns], loaded: float | None) -> None:
    """What was aimed for and what was reached, with 64 connections."""
    first, last = f"{min(row.stored for row in rows)}", f"{max(row.stored for row in rows)}"
    found = {row.operation: row for row in rows if (row.connections, f"{row.stored}") == (max(CONNECTIONS), first)}
    print("\naim (64 connections)                      wanted    reached")

    def line(what: str, wanted: str, reached: str, met: bool) -> None:
        print(f"{what:<40}{wanted:>8}{reached:>11}{'' if met else '   missed'}")

    share = turns["read"].ratio(first, "plain", lambda row: row.rate)
    cost = turns["read"].ratio("plain", first, lambda row: row.server)
    line("reads, of the plain answers", "45 %", f"{share:.0%}", share >= 0.45)
    line("the same by processor time a request", "45 %", f"{cost:.0%}", cost >= 0.45)
    for what, wanted in (("create", 3_000), ("search identifier", 3_000)):
        line(f"{what}/s", f"{wanted:,}", f"{found[what].rate:,.0f}", found[what].rate >= wanted)
    if loaded is not None:
        line("load, resources/s", "2,000", f"{loaded:,.0f}", loaded >= 2_000)
    for what in GROWN if last != first else ():
        growth = turns[what].ratio(last, first, lambda row: row.cost) - 1
        line(f"{what}, cost of {int(last) // int(first)} × as many", "20 %", f"{growth:.0%}", growth <= 0.2)
    for what, asked in gate.items():
        for name, title in (("gate", f"the gate adds to {what}"), ("trail", "  with the audit trail")):
            adds = asked.ratio(name, "open", lambda row: row.server) - 1
            line(title, f"{MOST:.0%}", f"{adds:.0%}", adds <= MOST)
    busiest = max(row.others for row in rows)
    print(f"\nOther processes took up to {busiest:.0%} of this machine's {os.cpu_count()} processors meanwhile.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only 1,000 resources, one second a line")
    parser.add_argument("--seconds", type=float, help="seconds a line (3, with --quick 1)")
    parser.add_argument("--no-load", action="store_true", help="leave the Synthea set out")
    options = parser.parse_args()
    seconds = options.seconds or (1 if options.quick else 3)
    rounds = 3 if options.quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as folder:
        with ExitStack() as stack:
            server, client = stack.enter_context(running(plain_server())), stack.enter_context(load_generator())

            def plain(seconds: float, connections: int = max(CONNECTIONS)) -> Row:
                return measure(client, server, "plain answer", connections, 0, seconds=seconds)

            print(HEAD, flush=True)
            for n in CONNECTIONS:
                told(plain(seconds, n))
            sites, rows = [], []
            for size in SIZES[:1] if options.quick else SIZES:
                sites.append(opened(size, Path(folder), stack))
                rows += sites[-1].lines(READS, seconds)
            turns = beside(sites, plain, rounds)
            for site in sites:  # after the reads, as they change what is stored
                rows += site.lines(WRITES, seconds)
                site.report()
            gate = behind(sites[0].data, sites[0].server, sites[0].client, rounds)
        loaded = None if options.no_load else load(Path(folder) / "load")
    aims(rows, turns, gate, loaded)


if __name__ == "__main__":
    main()
