"""Big code systems: packed tables in GridFS, mapped into memory from a copy on the local disk.

A look-up costs microseconds (a query 200), and the workers of a machine share the pages.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket

from fhir_server.store.driver import Driver
from fhir_server.store.errors import told
from profiles.outcome import FhirError
from terminology.special import behaviour
from terminology.systems import System

# One write of a large table; the driver's time limit is for one of these.
_PIECE = 4 << 20
_PREFIX = "terms/"


class TermFiles:
    """The bucket `terms` and the rows of `state` that name what is in it: `terms/<url>`, one entry a version."""

    def __init__(self, driver: Driver, folder: Path | None = None) -> None:
        self._driver = driver
        self._bucket = AsyncGridFSBucket(driver.database, bucket_name="terms", chunk_size_bytes=1 << 20)
        self._folder = folder or Path(tempfile.gettempdir()) / f"fhir-server-terms-{os.getuid()}"
        self._open: dict[str, System] = {}
        self._turn = asyncio.Lock()

    async def keep(
        self, about: Mapping[str, Any], table: bytes, progress: Callable[[int], None] = lambda size: None
    ) -> None:
        """Store a table; one of the same url and version is replaced, other versions stay beside it."""
        file, name = ObjectId(), hashlib.sha256(table).hexdigest()
        with told():
            stream = self._bucket.open_upload_stream_with_id(file, name)
            for at in range(0, len(table), _PIECE):
                await self._driver.send(stream.write, table[at : at + _PIECE])
                progress(min(at + _PIECE, len(table)))
            await self._driver.send(stream.close)
            old = await self._replace(about, {"file": file, "name": name, "size": len(table), "about": dict(about)})
            for gone in old:
                await self._driver.send(self._bucket.delete, gone)

    async def _replace(self, about: Mapping[str, Any], row: dict[str, Any]) -> list[ObjectId]:
        state, key = self._driver.state, f"{_PREFIX}{about['url']}"
        before = await self._driver.send(state.find_one, {"_id": key})
        rows = before["versions"] if before else []
        kept = [r for r in rows if r["about"].get("version") != about.get("version")]
        await self._driver.send(state.replace_one, {"_id": key}, {"_id": key, "versions": [*kept, row]}, upsert=True)
        return [r["file"] for r in rows if r not in kept]

    def beside(self, urls: Iterable[str]) -> list[dict[str, Any]]:
        """The stage that adds what is kept of these urls to an aggregation; none for no url."""
        keys = [f"{_PREFIX}{url}" for url in urls]
        union = {"coll": self._driver.state.name, "pipeline": [{"$match": {"_id": {"$in": keys}}}]}
        return [{"$unionWith": union}] if keys else []

    def url(self, row: Mapping[str, Any]) -> str:
        """The url of a row that `beside` has added."""
        return str(row["_id"]).removeprefix(_PREFIX)

    async def every(self) -> list[dict[str, Any]]:
        """What is kept of all urls."""
        within = {"_id": {"$gte": _PREFIX, "$lt": "terms0"}}
        with told():
            found = await self._driver.send(self._driver.state.find(within).to_list)
        return [row for doc in found for row in doc["versions"]]

    async def system(self, row: Mapping[str, Any]) -> System:
        """The code system of a row, mapped from the local copy."""
        known = self._open.get(row["name"])
        if known is not None:
            return known
        async with self._turn:
            if row["name"] not in self._open:
                path = await self._local(row)
                self._open[row["name"]] = behaviour(row["about"]["url"]).read(_mapped(path))
        return self._open[row["name"]]

    async def _local(self, row: Mapping[str, Any]) -> Path:
        """The local copy, fetched when it is not there or not whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{row['name']}.codes"
        if not path.exists() or path.stat().st_size != row["size"]:
            partial = path.with_suffix(f".{os.getpid()}")
            await self._fetch(row, partial)
            partial.replace(path)
        return path

    async def _fetch(self, row: Mapping[str, Any], path: Path) -> None:
        digest = hashlib.sha256()
        with told(), path.open("wb") as out:
            stream = await self._driver.send(self._bucket.open_download_stream, row["file"])
            while piece := await self._driver.send(stream.read, _PIECE):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != row["name"]:
            raise FhirError("exception", f"The table of {row['about']['url']} in the database is damaged")


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
