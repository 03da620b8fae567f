"""Readers of release files: each gives the rows of a packed code system, or says what is wrong with the file."""

from __future__ import annotations

from collections.abc import Callable

from profiles.outcome import FhirError
from terminology.load import claml, icd10cm, icd10pcs, loinc, ndc, rxnorm, snomed, table
from terminology.load.release import Files, Release, find, optional
from terminology.pack import Row, pack


def _icd10cm(files: Files, version: str | None) -> Release:
    tabular = _bytes(files, find(files, r".*tabular.*\.xml", "The tabular list of ICD-10-CM"))
    codes = optional(files, r"icd10cm.*(codes|order).*\.txt")
    valid = _valid(_bytes(files, codes)) if codes else frozenset[str]()
    return Release(icd10cm.about_cm(version or icd10cm.version_of(tabular)), icd10cm.read_tabular(tabular, valid))


def _valid(raw: bytes) -> frozenset[str]:
    """The codes of the codes file (code, title), or of the order file (number, code, billable, titles)."""
    cells = [line.split() for line in raw.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    return frozenset(c[1] if len(c) > 2 and c[0].isdigit() and len(c[0]) == 5 else c[0] for c in cells)


def _icd10pcs(files: Files, version: str | None) -> Release:
    name = find(files, r"icd10pcs.*\.txt", "The code file of ICD-10-PCS")
    year = version or next((part for part in name.replace(".", "_").split("_") if part.isdigit()), "unknown")
    return Release(icd10pcs.about_pcs(year), icd10pcs.read_codes(_bytes(files, name)))


def _bytes(files: Files, name: str) -> bytes:
    with files[name]() as raw:
        return raw.read()


FORMATS: dict[str, Callable[[Files, str | None], Release]] = {
    "icd-10-cm": _icd10cm,
    "icd-10-pcs": _icd10pcs,
    "icd-10": claml.read,
    "loinc": loinc.read,
    "snomed": snomed.read,
    "rxnorm": rxnorm.read,
    "ndc": ndc.read,
}


def read_release(
    name: str,
    files: Files,
    version: str | None = None,
    url: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[dict[str, object], bytes]:
    """The CodeSystem resource and the packed table of a release; `progress` is told how many rows were read."""
    if name != "csv" and name not in FORMATS:
        raise FhirError("not-supported", f"'{name}' is no known release format: {', '.join([*FORMATS, 'csv'])}")
    release = table.read(files, version, url) if name == "csv" else FORMATS[name](files, version)
    rows: list[Row] = []
    for row in release.rows:
        rows.append(row)
        if not len(rows) % 1000:
            progress(len(rows))
    progress(len(rows))
    if not rows:
        raise FhirError("invalid", f"The files hold no codes of {name}")
    return release.about, pack(release.about, rows)
