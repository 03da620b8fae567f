"""The code systems with a behaviour of their own: one row each (http://hl7.org/fhir/R4/terminologies-systems.html)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from terminology.concepts import Json
from terminology.icd10 import Icd10
from terminology.languagetags import LanguageTags
from terminology.loinc import answers_of
from terminology.mimetypes import MimeTypes
from terminology.packed import PackedSystem
from terminology.systems import System
from terminology.units import Units


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a system differs: what reads its table or makes it without one, which value sets its urls imply, its id."""

    read: Callable[[bytes | memoryview], System] = PackedSystem
    make: Callable[[], System] | None = None
    implied: Callable[[str, str], Json | None] | None = None
    id: str = ""


def _isa(url: str, query: str) -> Json | None:
    """`?fhir_vs` is every code, `?fhir_vs=isa/[code]` a code and those below it."""
    if query == "fhir_vs":
        return _value_set(f"{url}?{query}", {"system": url})
    code = query.removeprefix("fhir_vs=isa/")
    if code == query or not code:
        return None
    return _value_set(
        f"{url}?{query}", {"system": url, "filter": [{"property": "concept", "op": "is-a", "value": code}]}
    )


def _refset(url: str, query: str) -> Json | None:
    """SNOMED CT also has `?fhir_vs=refset/[id]` (http://hl7.org/fhir/R4/snomedct.html#implicit)."""
    member = query.removeprefix("fhir_vs=refset/")
    if member != query and member:
        row = {"system": url, "filter": [{"property": "concept", "op": "in", "value": member}]}
        return _value_set(f"{url}?{query}", row)
    return _isa(url, query)


def _value_set(url: str, include: Json) -> Json:
    return {
        "resourceType": "ValueSet",
        "url": url,
        "status": "active",
        "name": "Implicit",
        "compose": {"include": [include]},
    }


SYSTEMS: dict[str, Behaviour] = {
    "http://hl7.org/fhir/sid/icd-10-cm": Behaviour(Icd10, implied=_isa),
    "http://hl7.org/fhir/sid/icd-10": Behaviour(Icd10, implied=_isa),
    "http://www.cms.gov/Medicare/Coding/ICD10": Behaviour(Icd10, implied=_isa),
    "http://snomed.info/sct": Behaviour(implied=_refset),
    "http://loinc.org": Behaviour(implied=answers_of),
    "http://unitsofmeasure.org": Behaviour(make=Units, id="ucum"),
    "urn:ietf:bcp:47": Behaviour(make=LanguageTags, id="bcp47"),
    "urn:ietf:bcp:13": Behaviour(make=MimeTypes, id="bcp13"),
}
_PLAIN = Behaviour(implied=_isa)


def behaviour(url: str) -> Behaviour:
    """The row of a system; one without a row can still be asked for `?fhir_vs`."""
    return SYSTEMS.get(url, _PLAIN)


def implied_value_set(url: str) -> Json | None:
    """The value set that a url implies, such as `http://hl7.org/fhir/sid/icd-10-cm?fhir_vs=isa/E11`."""
    system, mark, query = url.partition("?")
    if mark:
        row = behaviour(system)
        return row.implied(system, query) if row.implied else None
    if url.startswith("http://loinc.org/vs"):
        return answers_of("http://loinc.org", url.removeprefix("http://loinc.org/vs"))
    return None
