"""The load generator: a process of its own, so that the server and not the client is measured.

It reads one job per line from standard input, `{"operation", "port", "connections", "seconds" or "requests"}` and
perhaps `"token"`, and answers each with one line.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

from bench.coded import CODED
from bench.data import REQUESTS, World

OPERATIONS: dict[str, Callable[[World], bytes]] = REQUESTS | CODED
LOCATION = re.compile(rb'"location":\s*"(?:[^"]*/)?Patient/([A-Za-z0-9.-]+)')
GOOD = (b"HTTP/1.1 200", b"HTTP/1.1 201")
Request = tuple[int, bytes]
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """A keep-alive connection that sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[Request], tally: Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._buffer = b""
        self._need = -1
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._need < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._buffer, 0, end)
            self._need = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= self._need:
            self._tally.note(self._number, time.perf_counter() - self._sent, self._buffer)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        self._buffer, self._need = b"", -1
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._number, content = request
        self._sent = time.perf_counter()
        self._transport.write(content)


class Tally:
    """Latencies, refusals, and the ids of the patients that transactions made."""

    def __init__(self, world: World, bundles: bool) -> None:
        self.latencies: list[float] = []
        self.errors: dict[str, int] = {}
        self._world = world
        self._bundles = bundles

    def note(self, number: int, seconds: float, answer: bytes) -> None:
        """Count one answer; a bundle's patients have the numbers after `number`."""
        self.latencies.append(seconds)
        if not answer.startswith(GOOD):
            text = (answer[9:12] + answer.partition(b"diagnostics")[2][:160]).decode(errors="replace")
            self.errors[text] = self.errors.get(text, 0) + 1
        elif self._bundles:
            self._world.learn(number + 1, [found.decode() for found in LOCATION.findall(answer)])


async def run(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Keep `connections` busy for some seconds or requests."""
    tally = Tally(world, job["operation"].startswith("transaction"))
    requests = _requests(job, world)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    pairs = [
        await loop.create_connection(lambda: Connection(requests, tally), "127.0.0.1", job["port"])
        for _ in range(job["connections"])
    ]
    await asyncio.gather(*(connection.done for _, connection in pairs))
    seconds = time.perf_counter() - started
    ordered = sorted(tally.latencies)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "p50": ordered[len(ordered) // 2] if ordered else 0,
        "p99": ordered[len(ordered) * 99 // 100] if ordered else 0,
        "errors": tally.errors,
    }


def _requests(job: dict[str, Any], world: World) -> Iterator[Request]:
    make, left = OPERATIONS[job["operation"]], job.get("requests", 10**9)
    bearer = b"\r\nauthorization: Bearer %b\r\n" % job["token"].encode() if job.get("token") else b"\r\n"
    end = time.perf_counter() + job.get("seconds", 10**9)
    while left and time.perf_counter() < end:
        left -= 1
        number = world.number
        yield number, make(world).replace(b"\r\n", bearer, 1)


def main() -> None:
    world = World()
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(json.loads(line), world))), flush=True)


if __name__ == "__main__":
    main()
