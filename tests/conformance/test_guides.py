"""Published guides: they install, and their own content fits their own profiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fhir_server.packages.checks import library_of
from fhir_server.packages.files import read_file
from fhir_server.packages.install import install
from fhir_server.packages.plan import FOLDERS
from fhir_server.store import Store
from profiles.outcome import Issue
from profiles.validate import validate
from tests.packing import SHARED
from tests.shell import ask, content, context_on

# A folder with the packages of IPS 2.0.0 and HL7 terminology 7.0.1.
MORE = Path(os.environ.get("FHIR_GUIDES", "no-such-folder"))
IPS, TERMINOLOGY = MORE / "hl7.fhir.uv.ips-2.0.0.tgz", MORE / "hl7.terminology.r4-7.0.1.tgz"
US6, US8 = SHARED / "us_core_610.tgz", SHARED / "us_core_800.tgz"

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

# File -> what is wrong with it, and why that is no fault of this server.
WRONG = {
    # count is 2 and there is one concept
    "CodeSystem-us-core-documentreference-category.json": "the count is 2, but there are 1 concepts",
    # an anchor of the page that the narrative was cut from
    "CapabilityStatement-us-core-server.json": "the link '#summary-of-must-support-references-between-profiles'",
    # the fullUrl ends in discharge-summary789, the resource is called discharge
    "Bundle-docref-example-2.json": "is not that of DocumentReference/discharge",
    # from a DSTU3 server: Endpoint-71 as fullUrl, 71 as id; links to what is another resource of the Bundle
    "Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2.json": "is not that of Endpoint/71",
    "Bundle-c887e62f-6166-419f-8268-b5ecd6c7b901.json": "the link '#AllergyIntolerance_79613' leads nowhere",
}


def guide(path: Path) -> Any:
    return pytest.param(
        path, id=path.stem, marks=pytest.mark.skipif(not path.exists(), reason="the package is not at hand")
    )


@pytest.mark.parametrize("path", [guide(US6), guide(US8), guide(IPS)])
def test_a_guide_fits_itself(path: Path) -> None:
    """Every resource of it, definitions and examples; with HL7 terminology where that is at hand."""
    library = library_of([path, *(each for each in (TERMINOLOGY,) if each.exists())])
    unexpected = {}
    for member in read_file(path).package.members:
        name = Path(member.path).name
        if str(Path(member.path).parent) in FOLDERS:
            errors = [i.text for i in validate(member.resource, library) if i.severity in ("error", "fatal")]
            if errors and WRONG.get(name, "-") not in errors[0]:
                unexpected[name] = errors
    assert unexpected == {}


@pytest.mark.parametrize("path", [guide(US6), guide(US8), guide(IPS)])
async def test_a_guide_is_installed(store: Store, path: Path) -> None:
    """Every definition, and a second time nothing."""
    context = context_on(store)
    raw = read_file(path).raw
    report = (await install([raw], context))[0]
    assert (report.faults, report.written > 70) == ([], True)
    again = (await install([raw], context))[0]
    assert (again.status, again.unchanged) == ("unchanged", report.written)
    found = content(await ask(context, "GET", "StructureDefinition?_summary=count"))
    assert found["total"] > 25


# Resources that break R4's own rules, and so are left out.
LEFT_OUT = [
    "package/ImplementationGuide-hl7.terminology.json",  # names FHIR 5.0.0 and resource types of R5
    "package/NamingSystem-MeSH.json",  # an identifier without type
    "package/NamingSystem-v3-loinc.json",  # an identifier without type
]


@pytest.mark.skipif(not TERMINOLOGY.exists(), reason="HL7 terminology is not at hand (FHIR_GUIDES)")
async def test_hl7_terminology_is_installed(store: Store) -> None:
    """4,000 code systems and value sets, known to terminology at once."""
    context = context_on(store)
    report = (await install([read_file(TERMINOLOGY).raw], context))[0]
    assert [fault.partition(":")[0] for fault in report.faults] == LEFT_OUT
    system = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    found = content(await ask(context, "GET", f"CodeSystem/$lookup?system={system}&code=AMB"))
    values = {row["name"]: next(v for k, v in row.items() if k.startswith("value")) for row in found["parameter"][:3]}
    assert values["display"] == "ambulatory"


def test_issues_are_told(tmp_path: Path) -> None:
    """The library of package files has what their profiles need."""
    if not US6.exists():
        pytest.skip("US Core is not at hand (FHIR_SHARED)")
    profile = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    found: list[Issue] = validate({"resourceType": "Patient"}, library_of([US6]), profiles=[profile])
    assert {i.expression[0] for i in found if i.severity == "error"} == {
        "Patient.identifier",
        "Patient.name",
        "Patient.gender",
    }
