"""Secrets at rest: what would let a reader of the database log in or sign is sealed with a key that is not in it."""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from profiles.outcome import FhirError
from smart_auth.realm import Record, Records

# Kind -> fields. Passwords, client secrets, tokens and backup codes are stored as hashes alone.
SECRETS = {"users": ("totp", "totp_next"), "keys": ("jwk",)}
MARK = "sealed:"
NONCE = 12


class Sealed:
    """Records (`smart_auth.realm.Records`) whose secret fields are sealed with AES-256-GCM, bound to their place.

    What was stored before there were seals is read as it is. A signing key under another key than ours is not there,
    so that a new one is made; an authenticator under another key is an error and never no authenticator.
    """

    def __init__(self, records: Records, key: bytes) -> None:
        self._records = records
        self._cipher = AESGCM(hmac.digest(key, b"secrets at rest", "sha256"))

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
            MARK + b64encode(nonce + self._cipher.encrypt(nonce, msgspec.json.encode(value), about.encode())).decode()
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
        return msgspec.json.decode(self._cipher.decrypt(raw[:NONCE], raw[NONCE:], about.encode()))
