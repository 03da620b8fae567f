"""MIME types as a code system (http://hl7.org/fhir/R4/valueset-mimetypes.html, BCP 13)."""

from __future__ import annotations

import re

from terminology.grammar import Grammar

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_VALUE = r'(?:[A-Za-z0-9!#$&^_.+*%\'`|~-]+|"[^"\\\x00-\x1f]*")'
_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:\s*;\s*{_NAME}={_VALUE})*", re.ASCII)
# FHIR's own short forms (http://hl7.org/fhir/R4/http.html#mime-type).
_SHORT = {"xml", "json", "ttl", "html"}
_LONGEST = 300
_COMMON = {
    "application/fhir+json": "FHIR JSON",
    "application/fhir+xml": "FHIR XML",
    "application/json": "JSON",
    "application/pdf": "PDF",
    "application/xml": "XML",
    "application/dicom": "DICOM",
    "application/octet-stream": "Binary",
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "text/csv": "CSV",
    "text/html": "HTML",
    "text/plain": "Plain text",
    "text/cql": "CQL",
    "text/fhirpath": "FHIRPath",
}


class MimeTypes(Grammar):
    """Types with parameters, and the short forms that FHIR allows for its formats."""

    url = "urn:ietf:bcp:13"
    name = "MimeTypes"
    title = "MIME types"
    known_as = "mime"

    def normal(self, code: str) -> str | None:
        """The type as it was given."""
        if len(code) > _LONGEST:
            return None
        return code if code in _SHORT or _TYPE.fullmatch(code) else None

    def known(self) -> dict[str, str]:
        """The types that health data comes in."""
        return _COMMON
