"""Rate limits by class of request, per caller and per address, shared by all workers.

A worker counts for itself and adds what it counted to the database once a second, where it learns the others' counts:
a limit is kept to within a second of everybody's requests, and a request costs a dictionary look-up, not a write.
Logins are counted exactly, one by one (`smart_auth.users.attempt`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from profiles.outcome import FhirError
from smart_auth.realm import Records

WINDOW = 60
FLUSH = 1.0
# An address may stand for a hospital behind one router: so many callers' worth of requests.
CALLERS_PER_ADDRESS = 10
FILES = frozenset({"Binary", "Media", "DocumentReference"})


@dataclass(slots=True)
class Counter:
    """What is known of one key in this minute: counted here, on the way to the others, and by all workers together."""

    here: int = 0
    told: int = 0
    known: int = 0


class Left(NamedTuple):
    """What a client may still do in this minute: of so many requests so many, and the seconds until the next one."""

    limit: int
    left: int
    wait: int

    @property
    def headers(self) -> dict[str, str]:
        """The same as headers."""
        names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
        return dict(zip(names, map(str, self), strict=True))

    @property
    def lines(self) -> bytes:
        """The same as they are sent."""
        return b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n" % self


@dataclass(slots=True)
class Limits:
    """The counters of one worker; `limits` are requests a minute by class, 0 for none."""

    records: Records
    now: Callable[[], datetime]
    limits: Mapping[str, int]
    _counters: dict[str, Counter] = field(default_factory=dict)
    _of: dict[tuple[str, str, str], tuple[tuple[Counter, int], ...]] = field(default_factory=dict)
    _window: int = 0
    _flushed: float = 0.0
    _flushing: asyncio.Task[None] | None = None

    def take(self, kind: str, caller: str, address: str) -> Left | None:
        """Count a request: what is left for the answer to tell, None without a limit; FhirError 429 beyond."""
        limit = self.limits.get(kind, 0)
        if not limit:
            return None
        stamp = self.now().timestamp()
        self._turn(stamp)
        left = limit
        for counter, most in self._of.get((kind, caller, address)) or self._found(kind, caller, address):
            counter.here += 1
            spare = most - counter.here - counter.told - counter.known
            left = spare if spare < left else left
        wait = WINDOW - int(stamp) % WINDOW
        if left < 0:
            text = f"More than {limit} requests a minute; come back in {wait} seconds."
            raise FhirError("throttled", text, headers={**Left(limit, 0, wait).headers, "Retry-After": str(wait)})
        return Left(limit, left, wait)

    def _found(self, kind: str, caller: str, address: str) -> tuple[tuple[Counter, int], ...]:
        """The counters of a request in this minute, each with its most."""
        limit = self.limits[kind]
        keys = [(f"{kind} {caller or address}", limit)]
        if caller:
            keys.append((f"{kind} {address}", limit * CALLERS_PER_ADDRESS))
        found = tuple((self._counters.setdefault(key, Counter()), most) for key, most in keys)
        self._of[kind, caller, address] = found
        return found

    def _turn(self, stamp: float) -> None:
        """A new minute starts from nothing; once a second the counts are told."""
        window = int(stamp) // WINDOW
        if window != self._window:
            self._counters, self._of, self._window = {}, {}, window
        if stamp - self._flushed >= FLUSH and (self._flushing is None or self._flushing.done()):
            self._flushed = stamp
            self._flushing = asyncio.get_running_loop().create_task(self._flush(window))

    async def _flush(self, window: int) -> None:
        await asyncio.gather(*(self._tell(key, counter, window) for key, counter in self._busy()))

    def _busy(self) -> Iterable[tuple[str, Counter]]:
        return [(key, counter) for key, counter in self._counters.items() if counter.here]

    async def _tell(self, key: str, counter: Counter, window: int) -> None:
        told = counter.here
        counter.here, counter.told = 0, counter.told + told
        try:
            known = await self.records.count(
                "limits", f"{key} {window}", told, self.now() + timedelta(seconds=2 * WINDOW)
            )
        except FhirError:
            counter.here += told
        else:
            counter.known = max(counter.known, known)
        counter.told -= told

    async def close(self) -> None:
        """Let a flush that is under way finish."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)


def class_of(parts: tuple[str, ...]) -> str:
    """The class of a FHIR request: files, or data of patients."""
    return "files" if parts and parts[0] in FILES else "data"
