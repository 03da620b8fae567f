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

    @property
    def total(self) -> int:
        return self.here + self.told + self.known


@dataclass(slots=True)
class Limits:
    """The counters of one worker; `limits` are requests a minute by class, 0 for none."""

    records: Records
    now: Callable[[], datetime]
    limits: Mapping[str, int]
    _counters: dict[str, Counter] = field(default_factory=dict)
    _window: int = 0
    _flushed: float = 0.0
    _flushing: asyncio.Task[None] | None = None

    def take(self, kind: str, caller: str, address: str) -> dict[str, str]:
        """Count a request; the X-RateLimit headers of the answer, or FhirError 429."""
        limit = self.limits.get(kind, 0)
        if not limit:
            return {}
        stamp = self.now().timestamp()
        self._turn(stamp)
        keys = [(f"{kind} {caller or address}", limit)]
        if caller:
            keys.append((f"{kind} {address}", limit * CALLERS_PER_ADDRESS))
        left = min(most - self._count(key) for key, most in keys)
        wait = WINDOW - int(stamp) % WINDOW
        headers = headers_of(limit, max(left, 0), wait)
        if left < 0:
            text = f"More than {limit} requests a minute; come back in {wait} seconds."
            raise FhirError("throttled", text, headers={**headers, "Retry-After": str(wait)})
        return headers

    def _count(self, key: str) -> int:
        counter = self._counters.setdefault(key, Counter())
        counter.here += 1
        return counter.total

    def _turn(self, stamp: float) -> None:
        """A new minute starts from nothing; once a second the counts are told."""
        window = int(stamp) // WINDOW
        if window != self._window:
            self._counters, self._window = {}, window
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


def headers_of(limit: int, left: int, wait: int) -> dict[str, str]:
    """What a client may still do in this minute."""
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(wait)}


def class_of(parts: tuple[str, ...]) -> str:
    """The class of a FHIR request: files, or data of patients."""
    return "files" if parts and parts[0] in FILES else "data"
