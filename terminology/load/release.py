"""What every reader of release files gives and takes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import IO

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.pack import Row

# Names of the files of a release, as they are in its folder or archive, and what opens each.
Files = Mapping[str, Callable[[], IO[bytes]]]


@dataclass(frozen=True, slots=True)
class Release:
    """A code system read from release files: the resource without concepts, and its rows in order."""

    about: Json
    rows: Iterable[Row]


def about(url: str, version: str, name: str, title: str, **more: object) -> Json:
    """A CodeSystem resource without concepts."""
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "version": version,
        "name": name,
        "title": title,
        "status": "active",
        "language": "en",
        "caseSensitive": True,
        "hierarchyMeaning": "is-a",
        "content": "complete",
        **more,
    }


def find(files: Files, pattern: str, what: str) -> str:
    """The file whose name matches; FhirError that says what was looked for and what is there."""
    found = optional(files, pattern)
    if found is None:
        there = ", ".join(sorted(name.rsplit("/", 1)[-1] for name in files)[:10]) or "nothing"
        raise FhirError("invalid", f"{what} is missing (a file named like {pattern}); there is {there}")
    return found


def optional(files: Files, pattern: str) -> str | None:
    """The file whose name matches, None without one."""
    wanted = re.compile(pattern, re.IGNORECASE)
    return next((name for name in sorted(files) if wanted.fullmatch(name.rsplit("/", 1)[-1])), None)


def text_lines(files: Files, name: str) -> Iterator[str]:
    """The lines of a text file without their ends; FhirError where it is not UTF-8."""
    with files[name]() as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        try:
            for line in text:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise FhirError("invalid", f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None


def tab_rows(files: Files, name: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The wanted columns, two or more, of a tab-separated file with a header."""
    lines = text_lines(files, name)
    header = next(lines, "").split("\t")
    chosen, columns = itemgetter(*_places(name, header, wanted)), len(header)
    for number, line in enumerate(lines, 2):
        cells = line.split("\t")
        if len(cells) < columns:
            raise FhirError("invalid", f"Line {number} of {name} has {len(cells)} columns, not {columns}")
        yield chosen(cells)


def csv_rows(files: Files, name: str, wanted: tuple[str, ...]) -> Iterator[list[str]]:
    """The wanted columns of a comma-separated file with a header."""
    reader = csv.reader(line + "\n" for line in text_lines(files, name))
    header = next(reader, [])
    places = _places(name, header, wanted)
    for cells in reader:
        if len(cells) < len(header):
            raise FhirError("invalid", f"Line {reader.line_num} of {name} has {len(cells)} columns, not {len(header)}")
        yield [cells[place] for place in places]


def header_of(files: Files, name: str) -> list[str]:
    """The column names of a comma-separated file."""
    return next(csv.reader([next(text_lines(files, name), "")]), [])


def _places(name: str, header: list[str], wanted: tuple[str, ...]) -> list[int]:
    missing = [column for column in wanted if column not in header]
    if missing:
        raise FhirError("invalid", f"{name} has no column {', '.join(missing)}; it has {', '.join(header)[:300]}")
    return [header.index(column) for column in wanted]


def bar_rows(files: Files, name: str, columns: int) -> Iterator[list[str]]:
    """The cells of a file of the RRF form: separated and ended by bars, without a header."""
    for number, line in enumerate(text_lines(files, name), 1):
        cells = line.split("|")
        if len(cells) < columns:
            raise FhirError("invalid", f"Line {number} of {name} has {len(cells)} columns, not {columns}")
        yield cells
