"""TerminologyCapabilities: what the terminology of this server holds and takes (http://hl7.org/fhir/R4/terminologycapabilities.html)."""

from __future__ import annotations

from collections.abc import Iterable

from terminology.concepts import Json

# Parameters of $expand that change its answer.
EXPANSION_PARAMETERS = (
    "activeOnly",
    "check-system-version",
    "count",
    "designation",
    "displayLanguage",
    "exclude-system",
    "excludeNested",
    "excludeNotForUI",
    "filter",
    "force-system-version",
    "includeDefinition",
    "includeDesignations",
    "incomplete-ok",
    "offset",
    "property",
    "system-version",
    "tx-resource",
    "useSupplement",
)


def terminology_capabilities(base: str, version: str, date: str, systems: Iterable[tuple[str, list[str]]]) -> Json:
    """The resource; `systems` are the code systems and their versions."""
    return {
        "resourceType": "TerminologyCapabilities",
        "id": "terminology",
        "url": f"{base}/metadata?mode=terminology",
        "version": version,
        "name": "FhirServerTerminology",
        "title": "Terminology of the FHIR R4 server",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "fhir-server", "version": version},
        "implementation": {"description": "FHIR R4 server on MongoDB", "url": base},
        "lockedDate": False,
        "codeSystem": [_system(url, versions) for url, versions in systems],
        "expansion": {
            "hierarchical": True,
            "paging": True,
            "incomplete": True,
            "parameter": [{"name": name} for name in EXPANSION_PARAMETERS],
            "textFilter": "Every word of the filter begins a word of the code, the display or a designation; a word "
            "that begins none is looked for with one typing error, with two from eight letters on.",
        },
        "codeSearch": "all",
        "validateCode": {"translations": True},
        "translation": {"needsMap": False},
        "closure": {"translation": False},
    }


def _system(url: str, versions: list[str]) -> Json:
    row: Json = {"uri": url}
    if versions:
        row["version"] = [{"code": v, "isDefault": v == versions[-1]} for v in versions]
    return row | {"subsumption": True}
