"""Reading the compiled tables of profiles/data, which travel with the package as zstandard files."""

from __future__ import annotations

from pathlib import Path

import zstandard

_data = Path(__file__).with_name("data")


def read_table(name: str) -> bytes:
    return zstandard.ZstdDecompressor().decompress((_data / name).read_bytes())


def read_block(name: str, offset: int, length: int) -> bytes:
    """One compressed block of a larger file."""
    with (_data / name).open("rb") as file:
        file.seek(offset)
        return zstandard.ZstdDecompressor().decompress(file.read(length))
