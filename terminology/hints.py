"""What a caller who asked for something unknown may have meant: versions, names that are near, the loader to use."""

from __future__ import annotations

from collections.abc import Iterable

from rapidfuzz.fuzz import ratio
from rapidfuzz.process import extract

from profiles.outcome import FhirError, Issue
from terminology.library import Library
from terminology.versions import listing, split_canonical

# Systems that are not shipped, or not whole, with the format that loads them.
LOADED = {
    "http://snomed.info/sct": "snomed",
    "http://loinc.org": "loinc",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "rxnorm",
    "http://hl7.org/fhir/sid/ndc": "ndc",
    "http://hl7.org/fhir/sid/icd-10": "icd-10",
}
_NEAR = 80
_MOST = 3


def hinted(error: FhirError, library: Library, kind: str, canonical: str) -> FhirError:
    """The error, with a remark on what is known instead of a definition that is not."""
    text = hint(library, kind, canonical)
    if not text:
        return error
    issues = (*error.issues, Issue("information", "informational", text, aside=True))
    return FhirError(error.code, error.text, status=error.status, headers=error.headers, issues=issues)


def hint(library: Library, kind: str, canonical: str) -> str:
    """One sentence, empty where nothing is near."""
    url = split_canonical(canonical)[0]
    known = library.versions(kind, url)
    if known:
        return f"Known versions of {url} are {listing(known)}."
    if kind == "CodeSystem" and url in LOADED:
        return f"{url} can be loaded: fhir-server terminology load {LOADED[url]} FILE."
    near = _near(url, library.layers[-1].urls(kind))
    return f"Known is {' or '.join(near)}." if near else ""


def _near(url: str, urls: Iterable[str]) -> list[str]:
    return [found for found, _, _ in extract(url[:300], list(urls), scorer=ratio, score_cutoff=_NEAR, limit=_MOST)]
