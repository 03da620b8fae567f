"""Writes a code system as one packed table that is read in place, without an object per concept.

Layout: magic, length of the header, header (JSON), then sections, each on a multiple of eight bytes. Numbers are
little-endian u32. A concept is a number: its place in the order of the system. 98,505 ICD-10-CM items take 20 MB in
this form, 193 MB as objects.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import msgspec

from terminology.concepts import Json
from terminology.wording import tokens

MAGIC = b"CODES1\0\0"
INACTIVE, ABSTRACT = 1, 2


@dataclass(frozen=True, slots=True)
class Row:
    """One concept to pack: its names other than the display and all else go into `extra` as CodeSystem.concept JSON."""

    code: str
    display: str
    parents: tuple[str, ...] = ()
    extra: Json | None = None
    flags: int = 0
    synonyms: tuple[str, ...] = ()


def slot_of(code: bytes, size: int) -> int:
    """The first slot of the hash table where a code may be."""
    return zlib.crc32(code) & (size - 1)


def pack(about: Json, rows: Sequence[Row]) -> bytes:
    """The table; parents that are not among the codes are left out, codes that come twice count once."""
    unique = list({row.code: row for row in rows}.values())
    numbers = {row.code: number for number, row in enumerate(unique)}
    above = [[numbers[p] for p in row.parents if p in numbers] for row in unique]
    below = _reverse(above)
    sections: dict[str, bytes] = {}
    fold = not about.get("caseSensitive", True)
    keys = [(row.code.casefold() if fold else row.code).encode() for row in unique]
    _texts(sections, "code", [row.code.encode() for row in unique])
    _texts(sections, "display", [row.display.encode() for row in unique])
    _texts(sections, "extra", [msgspec.json.encode(row.extra) if row.extra else b"" for row in unique])
    sections["hash"] = _hash(keys)
    _lists(sections, "parent", above)
    _lists(sections, "child", below)
    sections["flags"] = bytes(row.flags for row in unique)
    last = _subtrees(above)
    if last is not None:
        sections["last"] = _numbers(last)
    _index(sections, unique)
    return assemble({"about": about, "total": len(unique), "fold": fold}, sections)


def pack_records(records: Sequence[tuple[str, Json]]) -> bytes:
    """A table of codes and their records alone: no displays, hierarchy or words."""
    sections: dict[str, bytes] = {}
    codes = [code.encode() for code, _ in records]
    _texts(sections, "code", codes)
    _texts(sections, "extra", [msgspec.json.encode(record) for _, record in records])
    sections["hash"] = _hash(codes)
    return assemble({"about": {}, "total": len(records), "fold": False}, sections)


def assemble(header: Json, sections: dict[str, bytes]) -> bytes:
    """Header and sections as one block of bytes."""
    places, at = {}, 0
    for name, section in sections.items():
        places[name] = (at, len(section))
        at += len(section) + -len(section) % 8
    head = msgspec.json.encode(header | {"sections": places})
    head += b" " * (-len(head) % 8)
    parts = [MAGIC, len(head).to_bytes(8, "little"), head]
    parts += [section + bytes(-len(section) % 8) for section in sections.values()]
    return b"".join(parts)


def _numbers(values: Iterable[int]) -> bytes:
    numbers = array("I", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _texts(sections: dict[str, bytes], name: str, texts: Sequence[bytes]) -> None:
    sections[name + "_at"] = _numbers(accumulate(map(len, texts), initial=0))
    sections[name] = b"".join(texts)


def _lists(sections: dict[str, bytes], name: str, lists: Sequence[Sequence[int]]) -> None:
    sections[name + "_at"] = _numbers(accumulate(map(len, lists), initial=0))
    sections[name] = _numbers(chain.from_iterable(lists))


def _reverse(above: Sequence[Sequence[int]]) -> list[list[int]]:
    below: list[list[int]] = [[] for _ in above]
    for number, parents in enumerate(above):
        for parent in parents:
            below[parent].append(number)
    return below


def _hash(keys: Sequence[bytes]) -> bytes:
    """An open hash table: a slot holds a number plus one, 0 is free."""
    size = 1 << max(1, (2 * len(keys)).bit_length())
    table = array("I", bytes(4 * size))
    for number, key in enumerate(keys):
        slot = slot_of(key, size)
        while table[slot]:
            slot = (slot + 1) & (size - 1)
        table[slot] = number + 1
    return _numbers(table)


def _subtrees(above: Sequence[Sequence[int]]) -> list[int] | None:
    """The last number of each subtree where the order is that of a walk through a tree, None where it is not."""
    if any(len(p) > 1 or (p and p[0] >= n) for n, p in enumerate(above)):
        return None
    last = list(range(len(above)))
    for number in range(len(above) - 1, -1, -1):
        for parent in above[number]:
            last[parent] = max(last[parent], last[number])
    open_: list[int] = []
    for number, parents in enumerate(above):
        while open_ and last[open_[-1]] < number:
            open_.pop()
        if (open_[-1] if open_ else None) != (parents[0] if parents else None):
            return None
        open_.append(number)
    return last


def _index(sections: dict[str, bytes], rows: Sequence[Row]) -> None:
    """The words of codes, displays and synonyms; postings are ranks, shorter displays first."""
    ranked = sorted(range(len(rows)), key=lambda n: (bool(rows[n].flags & INACTIVE), len(rows[n].display), n))
    postings: defaultdict[str, list[int]] = defaultdict(list)
    for rank, number in enumerate(ranked):
        row = rows[number]
        # All at once: one search through a concept's names costs half of one each.
        for word in set(tokens("\n".join((row.code, row.display, *row.synonyms)))):
            postings[word].append(rank)
    words = sorted(postings)
    sections["ranked"] = _numbers(ranked)
    _texts(sections, "word", [word.encode() for word in words])
    _lists(sections, "posting", [postings[word] for word in words])
