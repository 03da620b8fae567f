"""What has been loaded, by content: a load that was killed goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

import msgspec

from fhir_server.loading.http import Http
from fhir_server.store import Store
from fhir_server.store.loads import known_loads, record_loads

Failed = Collection[int]


class Journal(Protocol):
    """Keys of the units that were answered, each with the numbers of the parts that failed (0: all of it)."""

    async def known(self) -> dict[str, Failed]:
        """What earlier loads wrote."""

    async def record(self, rows: Mapping[str, Failed]) -> None:
        """Write durably that these units were answered."""


class Kept:
    """The journal of a load into a database: it lives in the database, and goes with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def known(self) -> dict[str, Failed]:
        """What earlier loads into this database wrote."""
        return dict(await known_loads(self._store))

    async def record(self, rows: Mapping[str, Failed]) -> None:
        """Write durably that these units were answered."""
        await record_loads(self._store, rows)


class Beside:
    """The journal of a load through a server: lines of JSON in a hidden file beside the data, one file a server.

    Each names something that was stored, too. Where the server has never heard of it, it has another database now.
    """

    def __init__(self, folder: Path, base_url: str, server: Http) -> None:
        self._server = server
        self.path = folder / f".fhir-load-{sha256(base_url.encode()).hexdigest()[:12]}.jsonl"
        self._whole = False

    async def known(self) -> dict[str, Failed]:
        """What earlier loads through this base URL wrote; a last line cut off by a crash does not count."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        rows = [_DECODE(line) for line in lines]
        witness = next((row.witness for row in reversed(rows) if row.witness), "")
        if witness and await self._server.lacks(witness):
            self.path.unlink()
            return {}
        return {row.key: row.failed for row in rows}

    async def record(self, rows: Mapping[str, Failed]) -> None:
        """Append the rows and wait until they are on the disk."""
        witness = self._server.witness
        text = b"".join(_ENCODE(Row(key, sorted(failed), witness)) + b"\n" for key, failed in rows.items())
        with self.path.open("ab+") as file:
            if not self._whole:
                _drop_half_line(file)
                self._whole = True
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _drop_half_line(file: IO[bytes]) -> None:
    """Take away what a crash left of a line."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


class Row(msgspec.Struct):
    """A line of the journal beside the data."""

    key: str
    failed: list[int]
    witness: str = ""


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Row).decode


def folder_for(paths: Collection[Path]) -> Path:
    """Where a journal beside the data goes: the first path's folder, or the working one where that is read-only.

    What is marked as read-only stays so for root as well.
    """
    first = next(iter(paths))
    folder = first if first.is_dir() else first.parent
    writable = os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222
    return folder if writable else Path.cwd()
