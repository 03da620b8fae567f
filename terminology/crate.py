"""A packed table as it is shipped: numbers as differences in byte planes, then Zstandard.

ICD-10-CM: 20 MB as a table, 2 MB as a crate, unpacked in 0.2 s.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from itertools import accumulate, pairwise

import msgspec
import zstandard

from terminology.concepts import Json
from terminology.pack import MAGIC
from terminology.packed import NUMBERS

# These hold no order that differences could use.
_PLAIN = frozenset(("hash",))


def crate(table: bytes, level: int = 19) -> bytes:
    """The table in the form in which it is shipped."""
    return zstandard.ZstdCompressor(level=level).compress(bytes(_each_section(bytearray(table), _pack_numbers)))


def uncrate(data: bytes) -> memoryview:
    """The table again, changed in place: it is never there twice."""
    return memoryview(_each_section(bytearray(zstandard.ZstdDecompressor().decompress(data)), _unpack_numbers))


def _each_section(table: bytearray, change: Callable[[bytes], bytes]) -> bytearray:
    start = 16 + int.from_bytes(table[8:16], "little")
    header: Json = msgspec.json.decode(table[16:start])
    assert table[:8] == MAGIC
    for name, (at, size) in header["sections"].items():
        if name in NUMBERS and name not in _PLAIN:
            section = slice(start + at, start + at + size)
            table[section] = change(bytes(table[section]))
    return table


def _of(section: bytes) -> array[int]:
    numbers = array("i", section)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _pack_numbers(section: bytes) -> bytes:
    numbers = _of(section)
    flat = _bytes(array("i", [b - a for a, b in pairwise([0, *numbers])]))
    return b"".join(flat[plane::4] for plane in range(4))


def _unpack_numbers(section: bytes) -> bytes:
    quarter = len(section) // 4
    flat = bytearray(len(section))
    for plane in range(4):
        flat[plane::4] = section[plane * quarter : (plane + 1) * quarter]
    return _bytes(array("i", accumulate(_of(bytes(flat)))))
