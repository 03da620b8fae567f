"""Units of loading: what is sent as one request, where it came from, and the key it is remembered by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import msgspec

KEY_LENGTH = 32  # hexadecimal digits of a content hash: 128 bits, far beyond accident
_ENCODE = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Line:
    """One resource of a file: its `body` as it stands there, and the interaction that loads it.

    `number` is the line in an NDJSON file, the position among a Bundle's entries, or 0 for the file itself.
    """

    number: int
    method: str
    url: str
    body: bytes
    full_url: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is sent together: a Bundle as it is (`body`), or `lines` that are batched, or one line alone.

    `count` is the number of resources, `label` how a part is called in a report (`line` or `entry`), `numbers`
    those of the parts in their order; an `atomic` unit is loaded as a whole or not at all.
    """

    file: str
    key: str
    count: int
    label: str = "entry"
    body: bytes = b""
    lines: tuple[Line, ...] = ()
    numbers: tuple[int, ...] = ()
    atomic: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was not loaded: `number` of the line or entry (0: the file as a whole) and the reason."""

    file: str
    label: str
    number: int
    reason: str

    @property
    def place(self) -> str:
        """Where it is, as a person would say it."""
        return f"{self.file}, {self.label} {self.number}" if self.number else self.file


@dataclass(frozen=True, slots=True)
class Passed:
    """A file of a folder that is JSON but no resource, such as a package's own description: it is passed over."""

    file: str


def content_key(parts: Sequence[bytes]) -> str:
    """The hash of what is sent."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]


def whole(file: str, body: bytes, count: int, *, atomic: bool) -> Unit:
    """A transaction or batch Bundle, sent as it is."""
    return Unit(file, content_key([body]), count, body=body, numbers=tuple(range(1, count + 1)), atomic=atomic)


def group(file: str, label: str, lines: Sequence[Line]) -> Unit:
    """Lines that are sent together.

    The key of a line without an id holds its number too: the same line twice in one file is two resources.
    """
    parts = [b"%d\n" % line.number + line.body if line.method == "POST" else line.body for line in lines]
    numbers = tuple(line.number for line in lines)
    return Unit(file, content_key(parts), len(lines), label, lines=tuple(lines), numbers=numbers)


def narrow(unit: Unit, failed: Collection[int]) -> Unit:
    """The unit with only the parts that failed, under the same key; all of it where it failed as a whole."""
    numbers = tuple(number for number in unit.numbers if number in failed)
    if unit.atomic or not numbers:
        return unit
    lines = tuple(line for line in unit.lines if line.number in failed)
    body = _only(unit, failed) if unit.body else b""
    return replace(unit, count=len(numbers), numbers=numbers, lines=lines, body=body)


class Parts(msgspec.Struct):
    """A batch Bundle whose entries stay the text they are."""

    entry: list[msgspec.Raw] = []


def _only(unit: Unit, failed: Collection[int]) -> bytes:
    entries = zip(unit.numbers, msgspec.json.decode(unit.body, type=Parts).entry, strict=True)
    wanted = [entry for number, entry in entries if number in failed]
    return _ENCODE({"resourceType": "Bundle", "type": "batch", "entry": wanted})


def batch(lines: Sequence[Line], kind: str = "batch") -> bytes:
    """A Bundle of the lines; their text goes in as it is, so decimals keep their digits."""
    return _ENCODE({"resourceType": "Bundle", "type": kind, "entry": [_entry(line) for line in lines]})


def _entry(line: Line) -> dict[str, Any]:
    row = {"resource": msgspec.Raw(line.body), "request": {"method": line.method, "url": line.url}}
    return row | ({"fullUrl": line.full_url} if line.full_url else {})
