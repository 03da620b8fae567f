"""One server per data folder: a lock that the kernel lets go when its owner dies, and that names the owner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from profiles.outcome import FhirError

IN_USE = "The data in {folder} is in use by the server with process id {pid}, started at {started}."


class Owner:
    """The lock on `server.lock` in a data folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """FhirError that names the owner when another process holds it."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / "server.lock"
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise FhirError("exception", IN_USE.format(folder=folder, **_named(self._path))) from None
        self.name("")

    def name(self, url: str) -> None:
        """Write who owns the folder and where its database answers."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        row = json.dumps({"pid": os.getpid(), "started": started, "url": url}).encode()
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, row, 0)

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._handle >= 0:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def address(folder: Path) -> str | None:
    """Where the database of a running server on this folder answers, None when no server holds the folder."""
    path = folder / "server.lock"
    with contextlib.suppress(OSError), path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return str(_named(path).get("url") or "") or None
    return None


def _named(path: Path) -> dict[str, str]:
    row: dict[str, str] = {"pid": "unknown", "started": "an unknown time"}
    with contextlib.suppress(OSError, ValueError):
        row |= json.loads(path.read_text())
    return row
