"""Ids that grow with time (RFC 9562, UUID version 7), so that an index is written at its end; names made of them."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable

from profiles.model import RESOURCE_TYPES

COUNTER_BITS = 12
RANDOM_BITS = 62
AT_ONCE = 64


class TimeOrdered:
    """A source of ids: 48 bits of milliseconds, a 12-bit counter within one, 62 random bits."""

    def __init__(
        self,
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._random = random
        self._last = 0
        self._lock = threading.Lock()
        self._drawn: list[int] = []

    def __call__(self) -> str:
        """The next id, such as `0190f5fe-7c00-7a00-8000-000000000000`; each is greater than the one before."""
        with self._lock:
            self._last = max((self._clock() // 1_000_000) << COUNTER_BITS, self._last + 1)
            stamp = self._last
            low = self._drawn.pop() if self._drawn else self._draw()
        high = (stamp >> COUNTER_BITS << 16) | 0x7000 | (stamp & 0xFFF)
        text = f"{high:016x}{(2 << RANDOM_BITS) | low >> 2:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _draw(self) -> int:
        """Random bits for as many ids as share one call of the system, which costs as much as all the rest of an id."""
        self._drawn = list(struct.unpack(f"{AT_ONCE}Q", self._random(8 * AT_ONCE)))
        return self._drawn.pop()


def local_name(text: str, base: str) -> str | None:
    """A literal reference to this server as `Patient/123`, None for any other."""
    parts = text.removeprefix(f"{base}/").partition("/_history/")[0].split("/")
    return "/".join(parts) if len(parts) == 2 and parts[0] in RESOURCE_TYPES and parts[1] else None
