"""The document of a summary: Composition, sections, and what a profile needs and nobody knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from fhir_server.answers.respond import instant_text
from fhir_server.interactions.capabilities import RELEASE
from fhir_server.operations.summary_sections import Section
from fhir_server.operations.summary_text import div, paragraph, table, words
from profiles.json import encode
from profiles.model import PRIMITIVES, fields

Resource: TypeAlias = dict[str, Any]

IPS = "http://hl7.org/fhir/uv/ips/StructureDefinition"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
EMPTY = "http://terminology.hl7.org/CodeSystem/list-empty-reason"
# What the profiles need and base FHIR does not; of a choice the property that says that it is absent.
NEEDED: dict[str, tuple[str, ...]] = {
    "Patient": ("birthDate",),
    "Condition": ("code",),
    "AllergyIntolerance": ("code",),
    "MedicationStatement": ("effectiveDateTime",),
    "Procedure": ("code", "performedDateTime"),
    "Observation": ("effectiveDateTime", "performer"),
    "DiagnosticReport": ("effectiveDateTime",),
    "DeviceUseStatement": ("timingDateTime",),
    "Medication": ("code",),
    "Specimen": ("type",),
    "Organization": ("name",),
}
NAMED = ("Patient", "Practitioner")
REASONS = {
    "unavailable": ("Unavailable", "No information is available."),
    "withheld": ("Information Withheld", "The reader has no access to this section."),
}


def completed(resource: Resource) -> Resource:
    """The resource with the reason why a needed element is absent: not known, or hidden from the reader."""
    kind, made = resource["resourceType"], dict(resource)
    tags = {tag.get("code") for tag in resource.get("meta", {}).get("tag", ())}
    reason = {"extension": [{"url": ABSENT, "valueCode": "masked" if "SUBSETTED" in tags else "unknown"}]}
    for name in NEEDED.get(kind, ()):
        if not _has(resource, kind, name):
            made |= _absent(kind, name, reason)
    if kind in NAMED and not resource.get("name"):
        made["name"] = [{"_text": reason}]
    return made


def _has(resource: Resource, kind: str, name: str) -> bool:
    row = fields(kind)[name].element
    names = {key for key, each in fields(kind).items() if each.element is row or each.element.name == row.name}
    return any(key in resource or f"_{key}" in resource for key in names)


def _absent(kind: str, name: str, reason: Resource) -> Resource:
    row = fields(kind)[name]
    if row.type in PRIMITIVES:
        return {f"_{name}": reason}
    return {name: [reason] if row.element.max != 1 else reason}


def section_of(
    section: Section,
    rows: Sequence[tuple[str, Resource]],
    withheld: Iterable[str],
    around: Mapping[str, Resource],
    base: str,
) -> Resource:
    """A section with its narrative and entries, or with the reason why it is empty."""
    coding = {"system": "http://loinc.org", "code": section.code, "display": section.display}
    made: Resource = {"title": section.title, "code": {"coding": [coding]}}
    if rows:
        made["text"] = div(table([resource for _, resource in rows], around))
        return made | {"entry": [{"reference": f"{base}/{name}"} for name, _ in rows]}
    code = "withheld" if any(source.type in withheld for source in section.sources) else "unavailable"
    display, text = REASONS[code]
    made["text"] = div(paragraph(text))
    return made | {"emptyReason": {"coding": [{"system": EMPTY, "code": code, "display": display}], "text": text}}


def composition(
    patient: str, around: Mapping[str, Resource], author: str, sections: list[Resource], now: datetime
) -> Resource:
    """The Composition about the patient."""
    about = around[patient]
    told = (
        f"Summary of {words(about.get('name'), {}) or 'a patient'}, born {about.get('birthDate', 'at an unknown date')}"
    )
    custodian = about.get("managingOrganization", {}).get("reference")
    code = {"system": "http://loinc.org", "code": "60591-5", "display": "Patient summary Document"}
    return {
        "resourceType": "Composition",
        "meta": {"profile": [f"{IPS}/Composition-uv-ips"]},
        "text": div(paragraph(told)),
        "status": "final",
        "type": {"coding": [code]},
        "subject": {"reference": patient},
        "date": instant_text(now),
        "author": [{"reference": author}],
        "title": "International Patient Summary",
        **({"custodian": {"reference": custodian}} if custodian in around else {}),
        "section": sections,
    }


def device() -> Resource:
    """This server, which wrote the document."""
    name = {"name": "fhir-server", "type": "other"}
    return {
        "resourceType": "Device",
        "deviceName": [name],
        "version": [{"value": RELEASE}],
        "type": {"text": "software"},
    }


def document(rows: Sequence[tuple[str, Resource]], id: str, now: datetime) -> Resource:
    """The Bundle, with the security labels of all that is in it."""
    labels = [label for _, resource in rows for label in resource.get("meta", {}).get("security", ())]
    meta: Resource = {"profile": [f"{IPS}/Bundle-uv-ips"]}
    if labels:
        meta["security"] = list({encode(each): each for each in labels}.values())
    return {
        "resourceType": "Bundle",
        "id": id,
        "meta": meta,
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{id}"},
        "type": "document",
        "timestamp": instant_text(now),
        "entry": [{"fullUrl": url, "resource": _numbered(url, resource)} for url, resource in rows],
    }


def _numbered(url: str, resource: Resource) -> Resource:
    """What was made for the document has the id of its address."""
    if "id" in resource:
        return resource
    return {"resourceType": resource["resourceType"], "id": url.removeprefix("urn:uuid:"), **resource}
