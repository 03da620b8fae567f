"""Planning a load: from the text of files to units, without sending anything.

| text | becomes |
|---|---|
| Bundle of type transaction or batch | posted as it is |
| Bundle of type collection, searchset, document, message | its resources, by id; one transaction if linked by urn |
| a line of NDJSON, a single resource | PUT when it has an id, POST otherwise |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from fhir_server.loading.units import Fault, Line, Unit, batch, group, whole
from profiles.model import RESOURCE_TYPES

AS_IT_IS = frozenset({"transaction", "batch"})
UNPACKED = frozenset({"collection", "searchset", "document", "message"})
NO_TYPE = "this is no resource: it has no resourceType"
GROUP_LINES = 100  # resources of one batch: as many as a server answers well within a second
GROUP_BYTES = 2_000_000


class Head(msgspec.Struct):
    """What the plan needs to know of a resource; the rest is skipped, not built."""

    resourceType: str = ""
    id: Any = None
    type: Any = None


class Entry(msgspec.Struct):
    """What the plan needs to know of a Bundle's entry."""

    resource: msgspec.Raw = msgspec.Raw()
    fullUrl: str = ""
    request: Any = None
    search: Any = None


class Entries(msgspec.Struct):
    """A Bundle's entries, their resources as the text they are."""

    entry: list[Entry] = []


_HEAD = msgspec.json.Decoder(Head).decode
_ENTRIES = msgspec.json.Decoder(Entries).decode


def is_foreign(text: bytes) -> bool:
    """Whether this is a JSON object that is no resource: it has no resourceType."""
    try:
        return not _HEAD(text).resourceType
    except (msgspec.MsgspecError, ValueError):
        return False


def plan_document(file: str, text: bytes) -> Iterator[Unit | Fault]:
    """The units of a file that holds one resource."""
    yield from _plan(file, "entry", 0, text)


def plan_lines(file: str, lines: Iterable[bytes]) -> Iterator[Unit | Fault]:
    """The units of an NDJSON file: lines with an id in groups, everything else alone."""
    gathered = Gathered(file, "line")
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        for piece in _plan(file, "line", number, text.strip()):
            if isinstance(piece, Unit) and piece.lines and piece.lines[0].method == "PUT":
                yield from gathered.take(piece.lines[0])
            else:
                yield piece
    yield from gathered.rest()


class Gathered:
    """Lines that wait until they are enough for a batch; an id that comes again starts the next one."""

    def __init__(self, file: str, label: str) -> None:
        self.file, self.label = file, label
        self.lines: list[Line] = []
        self.urls: set[str] = set()
        self.size = 0

    def take(self, line: Line) -> Iterator[Unit]:
        """Add a line; the group before it when that is complete."""
        if len(self.lines) >= GROUP_LINES or self.size >= GROUP_BYTES or line.url in self.urls:
            yield from self.rest()
        self.lines.append(line)
        self.urls.add(line.url)
        self.size += len(line.body)

    def rest(self) -> Iterator[Unit]:
        """What has been gathered."""
        if self.lines:
            yield group(self.file, self.label, self.lines)
        self.lines, self.urls, self.size = [], set(), 0


def _plan(file: str, label: str, number: int, text: bytes) -> Iterator[Unit | Fault]:
    try:
        head = _HEAD(text)
        if head.resourceType != "Bundle":
            yield group(file, label, [_line(number, text, head)])
        elif head.type in AS_IT_IS:
            yield whole(file, text, len(_ENTRIES(text).entry), atomic=head.type == "transaction")
        elif head.type in UNPACKED:
            yield from _unpack(file, _ENTRIES(text).entry)
        else:
            yield Fault(file, label, number, f"a Bundle of type {head.type!r} cannot be loaded")
    except (msgspec.MsgspecError, ValueError) as error:
        yield Fault(file, label, number, _wrong(error))


def _wrong(error: Exception) -> str:
    syntax = isinstance(error, (msgspec.DecodeError, UnicodeDecodeError))
    known = isinstance(error, msgspec.ValidationError) or not syntax
    return str(error) if known else f"this is not valid JSON: {error}"


def _line(number: int, text: bytes, head: Head, full_url: str = "") -> Line:
    """The interaction for one resource; ValueError where it is none."""
    if head.resourceType not in RESOURCE_TYPES:
        raise ValueError(
            f"resourceType {head.resourceType!r} is not one of FHIR R4's" if head.resourceType else NO_TYPE
        )
    if isinstance(head.id, str) and head.id:
        return Line(number, "PUT", f"{head.resourceType}/{head.id}", text, full_url)
    return Line(number, "POST", head.resourceType, text, full_url)


def _unpack(file: str, entries: list[Entry]) -> Iterator[Unit | Fault]:
    """The resources of a Bundle that is no request; an outcome of the search is not one of them."""
    found = [(number, entry) for number, entry in enumerate(entries, 1) if bytes(entry.resource)]
    wanted = [(number, entry) for number, entry in found if (entry.search or {}).get("mode") != "outcome"]
    lines: list[Line] = []
    for number, entry in wanted:
        text = bytes(entry.resource)
        try:
            lines.append(_line(number, text, _HEAD(text), entry.fullUrl))
        except (msgspec.MsgspecError, ValueError) as error:
            yield Fault(file, "entry", number, _wrong(error))
    yield from _linked(file, lines) if any(_is_urn(line) for line in lines) else _grouped(file, lines)


def _is_urn(line: Line) -> bool:
    return line.full_url.startswith("urn:")


def _linked(file: str, lines: list[Line]) -> Iterator[Unit]:
    """Resources that refer to each other by urn:uuid: only a transaction rewrites such references."""
    yield whole(file, batch(lines, "transaction"), len(lines), atomic=True)


def _grouped(file: str, lines: list[Line]) -> Iterator[Unit]:
    gathered = Gathered(file, "entry")
    for line in lines:
        yield from gathered.take(line) if line.method == "PUT" else [group(file, "entry", [line])]
    yield from gathered.rest()
