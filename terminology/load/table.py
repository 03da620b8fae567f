"""A code system as a CSV file: `code`, `display`, also `definition`, `parent`, `inactive`; the rest are properties."""

from __future__ import annotations

from collections.abc import Iterator

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.load.release import Files, Release, about, csv_rows, find, header_of
from terminology.pack import INACTIVE, Row

_OWN = ("code", "display", "definition", "parent", "inactive")


def read(files: Files, version: str | None, url: str | None = None) -> Release:
    """The file; the url of the system is the caller's to say. Several parents are separated by `|`."""
    if not url:
        raise FhirError("required", "A CSV file needs the url of its code system", status=400)
    name = find(files, r".*\.csv", "The CSV file")
    header = header_of(files, name)
    others = [c for c in header if c not in _OWN]
    head = about(
        url,
        version or "1",
        "".join(c for c in url.rsplit("/", 1)[-1].title() if c.isalnum()) or "Loaded",
        url.rsplit("/", 1)[-1],
        property=[{"code": c, "type": "string"} for c in others],
    )
    return Release(head, _rows(files, name, header, others))


def _rows(files: Files, name: str, header: list[str], others: list[str]) -> Iterator[Row]:
    columns = ("code", "display", *(c for c in header if c not in ("code", "display")))
    for cells in csv_rows(files, name, columns):
        row = dict(zip(columns, cells, strict=True))
        if not row["code"]:
            raise FhirError("invalid", f"{name} has a row without a code: {row['display'][:60]!r}")
        told = [{"code": c, "valueString": row[c]} for c in others if row[c]]
        extra: Json = {"property": told} if told else {}
        if row.get("definition"):
            extra["definition"] = row["definition"]
        parents = tuple(p for p in row.get("parent", "").split("|") if p)
        inactive = row.get("inactive", "").lower() in ("true", "1", "yes")
        yield Row(row["code"], row["display"], parents, extra or None, INACTIVE if inactive else 0)
