"""Page links: what the next page needs, sealed, so that links carry no patient data and cannot be forged."""

from __future__ import annotations

import contextlib
import os
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from profiles.outcome import FhirError

PAGE = "_page"  # the query parameter that carries the sealed state
NONCE = 12
LONGEST = 1_048_576  # bytes of an unpacked state; one that unpacks to more was not made here

STALE = "The page link is not one of this server's, or was changed; run the search again."


class Seal:
    """AES-256-GCM; `about` is bound into the seal, so a link works where it was made for only.

    The first key closes; links that one of the others closed still open.
    """

    def __init__(self, *keys: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._ciphers = [AESGCM(key) for key in keys]
        self._random = random

    def close(self, state: Any, about: str) -> str:
        """The state as URL-safe text."""
        nonce = self._random(NONCE)
        packed = zlib.compress(msgspec.json.encode(state), 1)
        return urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, packed, about.encode())).decode().rstrip("=")

    def open(self, text: str, about: str) -> Any:
        """The state again; FhirError where the text was changed or made for something else."""
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            packed = opened(self._ciphers, raw[:NONCE], raw[NONCE:], about.encode())
            return msgspec.json.decode(zlib.decompressobj().decompress(packed, LONGEST))
        except (ValueError, InvalidTag, zlib.error, msgspec.DecodeError) as error:
            raise FhirError("value", STALE, PAGE, status=400) from error


def opened(ciphers: Sequence[AESGCM], nonce: bytes, sealed: bytes, about: bytes) -> bytes:
    """What one of the keys has closed; InvalidTag where it was none of them."""
    for cipher in ciphers:
        with contextlib.suppress(InvalidTag):
            return cipher.decrypt(nonce, sealed, about)
    raise InvalidTag
