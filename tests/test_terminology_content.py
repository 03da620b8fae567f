"""What comes with the server: every required binding expands, grammars judge, nothing crashes."""

from __future__ import annotations

import pytest

from profiles import model
from profiles.outcome import FhirError
from terminology.codes import member_of
from terminology.content import CRATES, shipped
from terminology.crate import crate, uncrate
from terminology.pack import Row, pack
from tests.terminology_world import ask, codes, library, messages, refused, value

KNOWN = library()
UCUM, LANGUAGES, MIME = "http://unitsofmeasure.org", "urn:ietf:bcp:47", "urn:ietf:bcp:13"


def required_bindings() -> list[str]:
    found = {
        element["binding"]["valueSet"]
        for definition in model.definitions("StructureDefinition")
        for element in definition.get("snapshot", {}).get("element", ())
        if element.get("binding", {}).get("strength") == "required" and "valueSet" in element["binding"]
    }
    return sorted(found)


def test_every_required_binding_expands() -> None:
    """257 of them; the LOINC answer list alone has no codes here, and says that it is not closed."""
    bindings = required_bindings()
    assert len(bindings) > 250
    empty = [url for url in bindings if not codes(ask(KNOWN, "ValueSet", "expand", url=url))]
    assert empty == ["http://loinc.org/vs/LL379-9|4.0.1"]


def test_every_value_set_expands_or_is_refused_with_a_reason() -> None:
    """Every tenth of 3,200."""
    for url in list(shipped().urls("ValueSet"))[::10]:
        try:
            ask(KNOWN, "ValueSet", "expand", url=url, count=5)
        except FhirError as error:
            assert error.status < 500
            assert error.text


@pytest.mark.parametrize(("name", "place"), CRATES.items())
def test_every_crate_opens(name: str, place: tuple[str, str, str]) -> None:
    """Under the url and version that the index says."""
    kind, url, version = place
    found = shipped().system(url, version) if kind == "CodeSystem" else shipped().concept_map(url, version)
    assert found is not None
    assert (found.about["url"], found.about["version"]) == (url, version)


@pytest.mark.parametrize(
    ("system", "code", "valid"),
    [
        (UCUM, "mg/dL", True),
        (UCUM, "10*3/uL", True),
        (UCUM, "mm[Hg]", True),
        (UCUM, "furlong", False),
        (UCUM, "", False),
        (LANGUAGES, "de", True),
        (LANGUAGES, "de-CH", True),
        (LANGUAGES, "zh-Hant-TW", True),
        (LANGUAGES, "qq", False),
        (LANGUAGES, "de_CH", False),
        (LANGUAGES, "a" * 500, False),
        (MIME, "application/fhir+json", True),
        (MIME, "text/plain; charset=utf-8", True),
        (MIME, "json", True),
        (MIME, "text", False),
        ("urn:iso:std:iso:3166", "CH", True),
        ("urn:iso:std:iso:3166", "XX", False),
        ("urn:iso:std:iso:4217", "CHF", True),
        ("http://hl7.org/fhir/sid/cvx", "207", False),
        ("http://hl7.org/fhir/sid/cvx", "03", True),
        ("https://www.iana.org/time-zones", "Europe/Zurich", True),
    ],
)
def test_systems_that_are_grammars_or_lists_judge_codes(system: str, code: str, valid: bool) -> None:
    """UCUM, BCP 47, BCP 13, ISO 3166, ISO 4217, CVX and time zones."""
    found = KNOWN.code_system(system)
    assert found is not None
    assert (found.locate(code) is not None) is valid


def test_language_tags_are_put_in_their_right_case() -> None:
    """RFC 5646, 2.1.1; the display is made of language and region."""
    found = KNOWN.code_system(LANGUAGES)
    assert found is not None
    assert found.locate("DE-ch") == "de-CH"
    assert found.locate("ZH-hant-tw") == "zh-Hant-TW"
    assert "German" in (found.concept("de-LI").display or "")


def test_no_text_of_snomed_is_shipped() -> None:
    """Of HL7 terminology; its codes stand in value sets, its words do not (licence)."""
    for url in shipped().urls("ValueSet"):
        for version in shipped().versions("ValueSet", url):
            if not shipped().is_r4("ValueSet", url, version):
                resource = shipped().resource("ValueSet", url, version) or {}
                rows = resource.get("compose", {}).get("include", ())
                of_snomed = [
                    c for r in rows if r.get("system") == "http://snomed.info/sct" for c in r.get("concept", ())
                ]
                assert not any("display" in c for c in of_snomed)


def test_a_code_of_another_system_is_never_invented() -> None:
    """LOINC is a fragment here: an unknown code is a warning, a code of an absent system is not valid."""
    answer = ask(KNOWN, "CodeSystem", "validate-code", url="http://loinc.org", code="99999-9")
    assert value(answer, "result") is True
    answer = ask(KNOWN, "CodeSystem", "validate-code", url="http://snomed.info/sct", code="73211009")
    assert value(answer, "result") is False
    assert member_of(KNOWN, "http://hl7.org/fhir/ValueSet/condition-code", "73211009", "http://snomed.info/sct") is None
    assert refused(KNOWN, "CodeSystem", "lookup", system="http://snomed.info/sct", code="73211009").status == 404


def test_a_crate_gives_back_the_table() -> None:
    """Byte for byte."""
    table = pack({"url": "x"}, [Row("a", "A"), Row("b", "B", ("a",), {"definition": "d"})])
    assert bytes(uncrate(crate(table))) == table


def test_a_vaccine_since_2019_is_no_error() -> None:
    """R4's copy of CVX is a fragment: what it lacks may be right, and a warning says so."""
    answer = ask(library(), "CodeSystem", "validate-code", url="http://hl7.org/fhir/sid/cvx", code="208")
    assert (value(answer, "result"), messages(answer)) == (True, ["UNKNOWN_CODE_IN_FRAGMENT"])
