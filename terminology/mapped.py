"""A large concept map between two systems as packed tables, one to read it from each end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from terminology.concepts import Json
from terminology.maps import End, Link, Unmapped
from terminology.pack import assemble, pack_records
from terminology.packed import PackedSystem
from terminology.versions import canonical


def pack_map(about: Json, links: Iterable[tuple[str, str, str]]) -> bytes:
    """The table of a map; a link is source code, target code (empty where there is none) and equivalence.

    Each end is a packed table whose concepts hold their links; `about` names the systems as `source` and `target`.
    """
    rows = list(links)
    sections = {"forward": _end(rows, 0, 1), "backward": _end(rows, 1, 0)}
    return assemble({"about": about, "total": len(rows)}, sections)


def _end(rows: Sequence[tuple[str, str, str]], near: int, far: int) -> bytes:
    grouped: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row[near]:
            grouped.setdefault(row[near], []).append((row[far], row[2]))
    return pack_records([(code, {"links": grouped[code]}) for code in sorted(grouped)])


class PackedMap:
    """Reads a packed map in place."""

    def __init__(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        start = 16 + int.from_bytes(view[8:16], "little")
        header = msgspec.json.decode(bytes(view[16:start]))
        self.about: Json = header["about"]
        self.total: int = header["total"]
        self._name = canonical(self.about.get("url"), self.about.get("version"))
        places = header["sections"]
        self._tables = {n: PackedSystem(view[start + at : start + at + size]) for n, (at, size) in places.items()}

    @property
    def ends(self) -> Sequence[tuple[str | None, str | None]]:
        """The two systems."""
        return [(self.about.get("source"), self.about.get("target"))]

    def forward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links from a source code."""
        if system in (None, self.about.get("source")):
            for other, equivalence in self._links("forward", code):
                yield self._link(code, other, equivalence)

    def backward(self, system: str | None, code: str) -> Iterable[Link]:
        """Links to a target code."""
        if system in (None, self.about.get("target")):
            for other, equivalence in self._links("backward", code):
                yield self._link(other, code, equivalence)

    def _links(self, end: str, code: str) -> list[list[str]]:
        table = self._tables[end]
        number = table.number(code)
        found: list[list[str]] = [] if number is None else table.record(number)["links"]
        return found

    def _link(self, source: str, target: str, equivalence: str) -> Link:
        ends = self.about.get("source"), self.about.get("target")
        return Link(End(ends[0], None, source), End(ends[1], None, target or None), equivalence, map=self._name)

    def unmapped(self, system: str | None) -> Iterable[Unmapped]:
        """No rule for codes that are not listed."""
        return ()
