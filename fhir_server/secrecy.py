"""Secrets at rest: what would let a reader of the database log in or sign is sealed with a key that is not in it."""

from __future__ import annotations

import contextlib
import os
from base64 import b64decode, b64encode
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.answers.links import opened
from fhir_server.keyring import derived
from profiles.outcome import FhirError
from smart_auth.realm import Record, Records

# Kind -> fields. Passwords, client secrets, tokens and backup codes are stored as hashes alone.
SECRETS = {"users": ("totp", "totp_next"), "keys": ("jwk",), "state": ("chain", "rekeyed")}
MARK = "sealed:"
NONCE = 12
PAGE = 500


class Sealed:
    """Records (`smart_auth.realm.Records`) whose secret fields are sealed with AES-256-GCM, bound to their place.

    The first key seals; what one of the others sealed still opens, and what was stored before there were seals is read
    as it is. A signing key under a strange key is not there, so that a new one is made; an authenticator under a
    strange key is an error and never no authenticator.
    """

    def __init__(self, records: Records, *keys: bytes) -> None:
        self._records = records
        self._ciphers = [AESGCM(key) for key in derived(keys, b"secrets at rest")]

    async def get(self, kind: str, key: str) -> Record | None:
        """The record with its secrets open."""
        return self._opened(kind, await self._records.get(kind, key))

    async def add(self, kind: str, key: str, record: Record, expires: datetime | None = None) -> bool:
        """Store a new record."""
        return await self._records.add(kind, key, self._sealed(kind, key, record), expires)

    async def put(self, kind: str, key: str, record: Record, expires: datetime | None = None) -> None:
        """Store the record in the place of any other."""
        await self._records.put(kind, key, self._sealed(kind, key, record), expires)

    async def take(self, kind: str, key: str) -> Record | None:
        """Find and delete in one step."""
        return self._opened(kind, await self._records.take(kind, key))

    async def change(self, kind: str, key: str, fields: Record, when: Record | None = None) -> Record | None:
        """Set fields if `when` still holds."""
        return self._opened(kind, await self._records.change(kind, key, self._sealed(kind, key, fields), when))

    async def change_all(self, kind: str, where: Record, fields: Record) -> int:
        """Set fields, none of them secret, on every record that matches."""
        return await self._records.change_all(kind, where, fields)

    async def find(self, kind: str, where: Record, limit: int = 1000) -> list[Record]:
        """The records that match."""
        rows = (self._opened(kind, row) for row in await self._records.find(kind, where, limit))
        return [row for row in rows if row is not None]

    async def drop(self, kind: str, where: Record) -> int:
        """Delete the records that match."""
        return await self._records.drop(kind, where)

    async def count(self, kind: str, key: str, by: int, expires: datetime) -> int:
        """Add to a counter."""
        return await self._records.count(kind, key, by, expires)

    def _sealed(self, kind: str, key: str, record: Record) -> Record:
        secret = [name for name in SECRETS.get(kind, ()) if record.get(name) is not None]
        return (
            record | {name: self._close(record[name], f"{kind} {key} {name}") for name in secret} if secret else record
        )

    def _close(self, value: object, about: str) -> str:
        nonce = os.urandom(NONCE)
        return (
            MARK
            + b64encode(nonce + self._ciphers[0].encrypt(nonce, msgspec.json.encode(value), about.encode())).decode()
        )

    def _opened(self, kind: str, record: Record | None) -> Record | None:
        names = SECRETS.get(kind, ())
        if record is None or not names:
            return record
        try:
            return record | {
                name: self._open(record[name], f"{kind} {record['key']} {name}") for name in names if name in record
            }
        except InvalidTag:
            if kind == "keys":
                return None
            raise FhirError("exception", "A secret is sealed with another FHIR_KEY.") from None

    def _open(self, value: object, about: str) -> object:
        if not isinstance(value, str) or not value.startswith(MARK):
            return value
        raw = b64decode(value.removeprefix(MARK))
        return msgspec.json.decode(opened(self._ciphers, raw[:NONCE], raw[NONCE:], about.encode()))

    # Rotation

    async def renew(self) -> int:
        """Seal with the first key what another one sealed, or none; how many secrets those were. Safe to repeat."""
        count = 0
        for kind in SECRETS:
            after = ""
            while rows := await self._records.find(kind, {"_id": {"$gt": after}}, PAGE):
                for row in rows:
                    count += await self._renew(kind, row)
                after = str(rows[-1]["key"])
        return count

    async def _renew(self, kind: str, row: Record) -> int:
        key, count = str(row["key"]), 0
        open_row = self._opened(kind, row) or {}
        for name in SECRETS[kind]:
            value = open_row.get(name)
            if value is not None and not self._is_current(row[name], f"{kind} {key} {name}"):
                sealed = {name: self._close(value, f"{kind} {key} {name}")}
                count += await self._records.change(kind, key, sealed, {name: row[name]}) is not None
        return count

    def _is_current(self, value: object, about: str) -> bool:
        if not isinstance(value, str) or not value.startswith(MARK):
            return False
        raw = b64decode(value.removeprefix(MARK))
        with contextlib.suppress(InvalidTag):
            return bool(self._ciphers[0].decrypt(raw[:NONCE], raw[NONCE:], about.encode()))
        return False
