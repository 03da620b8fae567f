"""HL7's FHIRPath Patch cases for R4, read from the folder FHIR_SUITES names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from profiles.outcome import FhirError
from profiles.patch import diff, fhirpath_patch
from profiles.xml import parse_xml

SUITE = Path(os.environ.get("FHIR_SUITES", Path(__file__).parents[3] / "shared" / "suites")) / "patch"


def resource(case: etree._Element, name: str) -> dict[str, Any] | None:
    """The resource inside the named child of a case."""
    found = case.find(name)
    return parse_xml(etree.tostring(found[0])) if found is not None and len(found) else None


def cases() -> list[Any]:
    if not SUITE.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="the suites are not here (FHIR_SUITES)"))]
    root = etree.parse(SUITE / "fhir-patch-tests.xml").getroot()
    return [pytest.param(case, id=case.get("name")) for case in root.iterfind("case")]


@pytest.mark.parametrize("case", cases())
def test_case(case: etree._Element) -> None:
    """The patch gives the published resource, or is refused."""
    before, patch, after = (resource(case, name) for name in ("input", "diff", "output"))
    assert before is not None
    if after is None:
        with pytest.raises(FhirError):
            fhirpath_patch(before, patch)
        return
    assert fhirpath_patch(before, patch) == after
    assert fhirpath_patch(before, diff(before, after)) == after
