"""The master key and the one before it: from the configuration, or from a file that is made on first use."""

from __future__ import annotations

import contextlib
import hmac
import os
import tempfile
from pathlib import Path

from fhir_server.config import Config
from profiles.outcome import FhirError

FILE = "link.key"  # the key in its first line; while it is being rotated the one before it in the second


def keys_of(config: Config) -> tuple[bytes, ...]:
    """The key that seals and signs, and after it those that still open what they sealed."""
    path = config.data / FILE
    if config.key:
        texts = [config.key]
    else:
        if not path.exists():
            config.data.mkdir(parents=True, exist_ok=True)
            _make(path)
        texts = path.read_text().split()
    return tuple(dict.fromkeys(map(_checked, [*texts, *filter(None, [config.old_key])])))


def mark(key: bytes) -> str:
    """A name of a key that tells nothing of it."""
    return hmac.digest(key, b"name of the key", "sha256").hex()[:16]


def derived(keys: tuple[bytes, ...], purpose: bytes) -> list[bytes]:
    """A key of its own for a purpose, from each key."""
    return [hmac.digest(key, purpose, "sha256") for key in keys]


def fresh(config: Config) -> str:
    """A new key: in the file, before the one of now, or to be told to the operator where the key is configured."""
    new = os.urandom(32).hex()
    if not config.key:
        held = keys_of(config.model_copy(update={"old_key": ""}))
        if len(held) > 1:
            raise FhirError("conflict", "A rotation is under way: restart the server and run `fhir-server key rotate`.")
        _put(config.data / FILE, f"{new}\n{held[0].hex()}\n")
    return new


def forget(config: Config) -> None:
    """Take the old key out of the file."""
    if not config.key:
        _put(config.data / FILE, f"{keys_of(config)[0].hex()}\n")


def _make(path: Path) -> None:
    """Several workers may start at once: whole files only, and the first one stays."""
    name = _written(path, os.urandom(32).hex())
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    os.unlink(name)


def _put(path: Path, text: str) -> None:
    os.replace(_written(path, text), path)


def _written(path: Path, text: str) -> str:
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return name


def _checked(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise FhirError("invalid", "FHIR_KEY must be 64 hexadecimal digits")
    return key
