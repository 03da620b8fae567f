"""The official R4 examples: a selection in tests/data, the whole set where FHIR_EXAMPLES names the unpacked package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import zstandard

from profiles.json import parse

SELECTION = Path(__file__).with_name("data") / "examples.ndjson.zst"
PACKAGE = os.environ.get("FHIR_EXAMPLES")


@cache
def selection() -> list[bytes]:
    """About 170 small examples of all types that have one, as JSON bodies."""
    return zstandard.ZstdDecompressor().decompress(SELECTION.read_bytes()).split(b"\n")


def resources() -> list[dict[str, Any]]:
    """The selection, parsed anew: a test may change what it gets."""
    return [parse(body) for body in selection()]


def everything() -> Iterator[tuple[str, bytes]]:
    """(file name, body) of all 5,305 official files."""
    for path in sorted(Path(PACKAGE or "").glob("[A-Za-z]*.json")):
        if path.name != "package.json":
            yield path.name, path.read_bytes()
