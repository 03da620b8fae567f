"""A line of the table: what a server answers in some seconds, and what that costs its processor and the database's."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from bench.processes import Client, Server, cpu_seconds, machine_seconds

# What one request carries, where that is not one resource.
CONTENT = {"transaction of 100": 100}

HEAD = f"{'operation':<23}{'stored':>8}{'conn':>6}{'req/s':>9}{'res/s':>9}{'p50 ms':>8}{'p99 ms':>8}"
HEAD += f"{'server µs':>11}{'mongod µs':>11}{'others':>8}"


class Row(NamedTuple):
    """Requests a second, seconds a request as the client sees it, processor seconds a request, share of others."""

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

    @property
    def cost(self) -> float:
        """Processor seconds of server and database."""
        return self.server + self.mongod

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
    """One line; errors of the answers are part of it."""
    database = job.pop("mongod", None)
    before = spent(server, client, database)
    found = client.run(operation=operation, port=server.port, connections=connections, **job)
    used = [after - start for after, start in zip(spent(server, client, database), before, strict=True)]
    requests, seconds = max(found["requests"], 1), found["seconds"]
    cost = used[0] / requests, used[1] / requests
    others = max(used[2], 0) / seconds / (os.cpu_count() or 1)
    rate = found["requests"] / seconds
    return Row(operation, stored, connections, rate, found["p50"], found["p99"], *cost, others, found["errors"])


def told(row: Row) -> Row:
    """The line, printed."""
    print(row, flush=True)
    for text, count in row.errors.items():
        print(f"    {count} × {text}", flush=True)
    return row
