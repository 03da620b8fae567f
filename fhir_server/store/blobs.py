"""Bodies too large for a document, in GridFS (docs/storage.md)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import NoFile
from pymongo.errors import PyMongoError

from fhir_server.store.bodies import seal, unseal
from fhir_server.store.driver import Driver
from fhir_server.store.records import New, Stored, is_large, key_of


class Blobs:
    """The bucket `blobs`: a body is written before the document that names it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._bucket = AsyncGridFSBucket(driver.database, bucket_name="blobs")

    async def write(self, new: New) -> ObjectId | None:
        """Store a large body and name it; None where the body fits the document."""
        if new.body is None or not is_large(new):
            return None
        blob = ObjectId()
        await self._driver.send(self._bucket.upload_from_stream_with_id, blob, key_of(new), seal(new.body))
        return blob

    async def fill(self, stored: Stored) -> Stored:
        """The same version with its body read, wherever that is."""
        if stored.blob is None or stored.body is not None:
            return stored
        stream = await self._driver.send(self._bucket.open_download_stream, stored.blob)
        return replace(stored, body=unseal(await self._driver.send(stream.read)))

    async def drop(self, blob: ObjectId | None) -> None:
        """Forget a body whose document was not written; what is left over is harmless."""
        if blob is not None:
            with contextlib.suppress(NoFile, PyMongoError):
                await self._driver.send(self._bucket.delete, blob)
