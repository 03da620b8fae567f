"""ICD-10-PCS: the yearly code file of CMS (icd10pcs_codes_YYYY.txt: a code of seven characters, a space, its title)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.pack import ABSTRACT, Row

URL = "http://www.cms.gov/Medicare/Coding/ICD10"
_LINE = re.compile(r"([0-9A-HJ-NP-Z]{7})\s+(\S.*)")
_SECTIONS = {
    "0": "Medical and Surgical",
    "1": "Obstetrics",
    "2": "Placement",
    "3": "Administration",
    "4": "Measurement and Monitoring",
    "5": "Extracorporeal or Systemic Assistance and Performance",
    "6": "Extracorporeal or Systemic Therapies",
    "7": "Osteopathic",
    "8": "Other Procedures",
    "9": "Chiropractic",
    "B": "Imaging",
    "C": "Nuclear Medicine",
    "D": "Radiation Therapy",
    "F": "Physical Rehabilitation and Diagnostic Audiology",
    "G": "Mental Health",
    "H": "Substance Abuse Treatment",
    "X": "New Technology",
}


def about_pcs(version: str) -> Json:
    """The CodeSystem resource without its concepts."""
    return {
        "resourceType": "CodeSystem",
        "id": "icd-10-pcs",
        "url": URL,
        "version": version,
        "name": "ICD10PCS",
        "title": "International Classification of Diseases, 10th Revision, Procedure Coding System",
        "status": "active",
        "language": "en",
        "publisher": "Centers for Medicare & Medicaid Services",
        "caseSensitive": False,
        "valueSet": f"{URL}?fhir_vs",
        "hierarchyMeaning": "grouped-by",
        "content": "complete",
    }


def read_codes(text: bytes) -> Iterator[Row]:
    """Sections and the tables of three characters as groups, then the codes; the first broken line is named."""
    seen: set[str] = set()
    lines = text.decode("utf-8-sig", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            if line.strip():
                raise FhirError("invalid", f"Line {number} of the file is no ICD-10-PCS code and title: {line[:60]!r}")
            continue
        code, title = found.groups()
        yield from _groups(code, title, seen)
        yield Row(code, title, (code[:3],))


def _groups(code: str, title: str, seen: set[str]) -> Iterator[Row]:
    section, table = code[0], code[:3]
    if section not in seen:
        seen.add(section)
        yield Row(section, _SECTIONS.get(section, f"Section {section}"), (), None, ABSTRACT)
    if table not in seen:
        seen.add(table)
        yield Row(
            table, f"{_SECTIONS.get(section, section)}: table {table} ({title.split()[0]})", (section,), None, ABSTRACT
        )
