"""A mongod process: our child, or the survivor of a server that was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import weakref
from abc import ABC, abstractmethod
from pathlib import Path

# Seconds. A clean stop takes under one; after this long the process hangs.
PATIENCE = 20.0


class Process(ABC):
    """What can be asked to end and is waited for."""

    pid: int

    @abstractmethod
    def alive(self) -> bool:
        """Whether it still runs."""

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for a process that does not follow; journal and lock files stand both."""
        for order in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, order)
            with contextlib.suppress(TimeoutError):
                await self._gone()

    async def _gone(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.alive():  # noqa: ASYNC110 (nothing tells of the end of another's child)
                await asyncio.sleep(0.02)


class Child(Process):
    """A mongod that this process started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def alive(self) -> bool:
        return self._process.poll() is None


class Survivor(Process):
    """A mongod that somebody else started, by a descriptor that tells when all of it has ended, its locks too."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._end = select.poll()
        self._end.register(descriptor, select.POLLIN)
        weakref.finalize(self, os.close, descriptor)

    def alive(self) -> bool:
        return not self._end.poll(0)


def survivor(folder: Path) -> Survivor | None:
    """The mongod that still runs in `folder`, by the number it wrote there."""
    try:
        pid = int((folder / "mongod.lock").read_text())
        found = Survivor(pid, os.pidfd_open(pid))
    except (OSError, ValueError, OverflowError):
        return None
    return found if _works_in(pid, folder) else None


def _works_in(pid: int, folder: Path) -> bool:
    """Whether the process is a mongod of this folder: numbers of processes are used again."""
    try:
        inside = Path(f"/proc/{pid}/cwd").readlink() == folder
        return inside and b"--replSet" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
