"""Page links: what the next page needs, sealed, so that links carry no patient data and cannot be forged."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from profiles.outcome import FhirError

PAGE = "_page"  # the query parameter that carries the sealed state
NONCE = 12
LONGEST = 65_536  # bytes of an unpacked state; one that unpacks to more was not made here

STALE = "The page link is not one of this server's, or was changed; run the search again."


class Seal:
    """AES-256-GCM with one key; `about` is bound into the seal, so a link works where it was made for only."""

    def __init__(self, key: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._cipher = AESGCM(key)
        self._random = random

    def close(self, state: Any, about: str) -> str:
        """The state as URL-safe text."""
        nonce = self._random(NONCE)
        packed = zlib.compress(msgspec.json.encode(state), 1)
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, packed, about.encode())).decode().rstrip("=")

    def open(self, text: str, about: str) -> Any:
        """The state again; FhirError where the text was changed or made for something else."""
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            packed = self._cipher.decrypt(raw[:NONCE], raw[NONCE:], about.encode())
            return msgspec.json.decode(zlib.decompressobj().decompress(packed, LONGEST))
        except (ValueError, InvalidTag, zlib.error, msgspec.DecodeError) as error:
            raise FhirError("value", STALE, PAGE, status=400) from error


def key_of(text: str, folder: Path) -> bytes:
    """The key from its hexadecimal text; without one, the key file of the data folder, made on first use."""
    if text:
        return _checked(text)
    path = folder / "link.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(path)
    return _checked(path.read_text().strip())


def _make(path: Path) -> None:
    """Several workers may start at once: whole files only, and the first one stays."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(os.urandom(32).hex())
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    os.unlink(name)


def _checked(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise FhirError("invalid", "FHIR_KEY must be 64 hexadecimal digits")
    return key
