"""The files of a load: which ones there are, what they hold, and their text, unzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhir_server.loading.plan import NO_TYPE, plan_document, plan_lines
from fhir_server.loading.units import Fault, Passed, Unit

DOCUMENTS = (".json",)
LINES = (".ndjson", ".jsonl")
LARGEST = 256 << 20  # bytes of one document, unzipped: far above what a server takes as one request
TOLD_LINES = 1_000  # lines between two moves of the progress bar
GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class File:
    """One file to load, its size in bytes on disk, and whether the caller named it or a folder held it."""

    path: Path
    size: int
    named: bool = False

    @property
    def name(self) -> str:
        """As the caller named it."""
        return str(self.path)


def find(paths: Sequence[Path]) -> tuple[list[File], list[Fault]]:
    """The files under the paths in the order of their names, and a fault for each path that is not there.

    A file that is named itself is taken whatever its name; in folders only names that say JSON or NDJSON are.
    """
    files: dict[Path, File] = {}
    faults = []
    for path in paths:
        try:
            files |= {found.resolve(): File(found, found.stat().st_size, found == path) for found in _under(path)}
        except OSError as error:
            faults.append(Fault(str(path), "line", 0, error.strerror or str(error)))
    return list(files.values()), faults


def _under(path: Path) -> list[Path]:
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(found for found in path.rglob("*") if _is_wanted(found) and found.is_file())


def _is_wanted(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts if part not in (".", ".."))
    return not hidden and plain_name(path).endswith(DOCUMENTS + LINES)


def plain_name(path: Path) -> str:
    """The name in small letters, without the ending of compression."""
    return path.name.lower().removesuffix(".gz")


def units(file: File, tell: Callable[[int], None] = lambda size: None) -> Iterator[Unit | Fault | Passed]:
    """What the file holds; a fault, and no more, where it cannot be read to its end.

    `tell` hears now and then how many bytes of a long file have been read.
    """
    try:
        if plain_name(file.path).endswith(LINES):
            yield from plan_lines(file.name, read_lines(file.path, tell))
        else:
            yield from _document(file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        yield Fault(file.name, "line", 0, f"cannot be read: {error}")


def _document(file: File) -> Iterator[Unit | Fault | Passed]:
    for piece in plan_document(file.name, read_document(file.path)):
        foreign = isinstance(piece, Fault) and piece.reason == NO_TYPE and not file.named
        yield Passed(file.name) if foreign else piece


def read_document(path: Path) -> bytes:
    """The text of a file, unzipped."""
    with path.open("rb") as raw:
        zipped = raw.peek(2)[:2] == GZIP
        text = (gzip.GzipFile(fileobj=raw) if zipped else raw).read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MB in one document; NDJSON has no such limit")
    return text.removeprefix(BOM)


def read_lines(path: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of a file, unzipped."""
    with path.open("rb") as raw:
        zipped = raw.peek(2)[:2] == GZIP
        for number, line in enumerate(gzip.GzipFile(fileobj=raw) if zipped else raw):
            yield line if number else line.removeprefix(BOM)
            if number % TOLD_LINES == 0:
                tell(raw.tell())
