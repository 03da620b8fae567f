"""A mongod process: our child, or the survivor of a server that was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
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
    """A mongod that somebody else started, known by its working folder: numbers of processes are used again."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self._folder = folder

    def alive(self) -> bool:
        try:
            inside = Path(f"/proc/{self.pid}/cwd").readlink() == self._folder
            return inside and b"--replSet" in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False


def survivor(folder: Path) -> Survivor | None:
    """The mongod that still runs in `folder`, by the number it wrote there."""
    try:
        pid = int((folder / "mongod.lock").read_text())
    except (OSError, ValueError):
        return None
    found = Survivor(pid, folder)
    return found if found.alive() else None
