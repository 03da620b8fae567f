"""Taking in a body: counted while it arrives, inflated by the same limit, big ones few at a time (docs/security.md)."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from fhir_server.config import Config
from profiles.outcome import FhirError

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLOSE = {"Connection": "close"}
GZIP = 31  # zlib's number for a stream with gzip's header
STEP = 1 << 20  # bytes inflated at a time
MEMBERS = 4096  # of a gzip stream: blocks of 64 kB make 480 of the longest body; an empty one is 20 bytes and 3 us
# How much of a body that is too long is still read: in limits, in seconds, in seconds between two parts.
DRAINED = 4
DRAIN_SECONDS = 5.0
DRAIN_PAUSE = 0.3


class Gone(Exception):
    """The client went away before its body was complete."""


class Budget:
    """So many bytes at once, first come, first served: one 54 MB bundle takes 450 MB of memory (docs/security.md)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> int:
        """Wait for the amount, at most the whole; it returns what was taken and must be given back."""
        amount = min(amount, self._size)
        if not self._waiting and amount <= self._left:
            self._left -= amount
            return amount
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give(amount)
            raise
        return amount

    def give(self, amount: int) -> None:
        """Give back what was taken, and let in whoever fits now."""
        self._left += amount
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._left):
            wanted, place = self._waiting.popleft()
            if not place.done():
                self._left -= wanted
                place.set_result(None)


class Intake:
    """Reads the body of one request, and holds its part of the budget until `done`."""

    def __init__(self, config: Config, budget: Budget) -> None:
        self._config = config
        self._budget = budget
        self._held = 0

    def done(self) -> None:
        """Let the next big body in."""
        if self._held:
            self._budget.give(self._held)
            self._held = 0

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body, inflated; FhirError 413, 415 or 408."""
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._config.max_body:
            await self._drained(receive)
            raise self._too_long()
        raw = await self._arrived(receive, int(declared) if declared.isdigit() else 0)
        return await self._decoded(raw, headers.get("content-encoding", "").strip().lower())

    async def _arrived(self, receive: Receive, declared: int) -> bytes:
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):
            return self._counted(body)
        try:
            async with asyncio.timeout(self._config.body_seconds):
                return await self._rest(message, receive, declared)
        except TimeoutError:
            text = f"The body did not arrive within {self._config.body_seconds:g} seconds."
            raise FhirError("timeout", text, status=408, headers=CLOSE) from None

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive, declared: int) -> bytes:
        chunks, size = [], 0
        while True:
            if message["type"] != "http.request":
                raise Gone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._config.max_body:
                chunks.clear()
                await self._drained(receive)
                raise self._too_long()
            if size > self._config.big_body:
                await self._hold(declared or self._config.max_body)
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await receive()

    async def _drained(self, receive: Receive) -> None:
        """Read on for a while and forget it: a client that is still sending would not see the answer otherwise."""
        left = DRAINED * self._config.max_body
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0:
                    message = await asyncio.wait_for(receive(), DRAIN_PAUSE)
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return

    async def _hold(self, amount: int) -> None:
        if not self._held:
            self._held = await self._budget.take(amount)

    def _counted(self, body: bytes) -> bytes:
        if len(body) > self._config.max_body:
            raise self._too_long()
        return body

    def _too_long(self) -> FhirError:
        return FhirError("too-long", f"The body is longer than {self._config.max_body} bytes.", headers=CLOSE)

    async def _decoded(self, raw: bytes, encoding: str) -> bytes:
        if not encoding or encoding == "identity":
            return raw
        if encoding not in ("gzip", "x-gzip"):
            raise FhirError("not-supported", f"Content-Encoding: {encoding} is not supported; use gzip.", status=415)
        parts, size = [], 0
        for part in inflated(raw):
            size += len(part)
            if size > self._config.max_body:
                raise self._too_long()
            if size > self._config.big_body:
                await self._hold(self._config.max_body)
            parts.append(part)
        return b"".join(parts)


def inflated(raw: bytes) -> Iterator[bytes]:
    """What gzip compressed, a step at a time: one member after the other, and nothing behind them (RFC 1952 §2.2)."""
    rest = raw
    for _ in range(MEMBERS):
        inflater = zlib.decompressobj(GZIP)
        while not inflater.eof:
            try:
                part = inflater.decompress(rest, STEP)
            except zlib.error:
                raise FhirError("structure", "The body is not what gzip makes.") from None
            rest = inflater.unconsumed_tail
            if not rest and not part and not inflater.eof:
                raise FhirError("structure", "The compressed body is cut off.")
            yield part
        rest = inflater.unused_data
        if not rest:
            return
    raise FhirError("too-costly", f"The compressed body has more than {MEMBERS} members.")
