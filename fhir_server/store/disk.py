"""Room on the disk: a full one kills mongod, so the server stops writing before that (docs/security.md)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from fhir_server.store.store import Store

# Bytes: journal, checkpoint and oplog need room after the last write was accepted.
LOW = 512 * 1024**2
ENOUGH = 768 * 1024**2


async def watch_disk(store: Store, data: str | Path, *, seconds: float = 5) -> None:
    """Keep `store.read_only` in step with the room under `data`, until cancelled."""
    while True:
        store.read_only = is_full(shutil.disk_usage(data).free, store.read_only)
        await asyncio.sleep(seconds)


def is_full(free: int, was_full: bool) -> bool:
    """Whether to stop writing; there is some way between stopping and going on."""
    return free < (ENOUGH if was_full else LOW)
