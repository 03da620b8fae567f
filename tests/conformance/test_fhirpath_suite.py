"""HL7's FHIRPath cases for R4, read from the folder FHIR_SUITES names."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from profiles.fhirpath import FhirPathError, evaluate

SUITE = Path(os.environ.get("FHIR_SUITES", Path(__file__).parents[3] / "shared" / "suites")) / "fhirpath"

# Cases the server answers differently, each with the reason; the list only shrinks.
KNOWN: dict[str, str] = {}


@cache
def runner() -> ModuleType:
    """The suite's own runner: it reads the cases and compares the answers."""
    spec = importlib.util.spec_from_file_location("fhirpath_suite", SUITE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> Iterator[Any]:
    if not SUITE.exists():
        yield pytest.param(None, marks=pytest.mark.skip(reason="the suites are not here (FHIR_SUITES)"))
        return
    for case in runner().load(SUITE / "tests-fhir-r4.xml"):
        yield pytest.param(case, id=f"{case['group']}-{case['name']}")


@cache
def resource(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SUITE / "resources" / name).with_suffix(".json").read_text())
    return found


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: dict[str, Any]) -> None:
    """The expression gives the published result, or an error where the suite wants one."""
    if case["name"] in KNOWN:
        pytest.xfail(KNOWN[case["name"]])
    given = resource(case["input"]) if case["input"] else None
    if case["invalid"]:
        with pytest.raises(FhirPathError):
            evaluate(given, case["expr"])
        return
    found = evaluate(given, case["expr"])
    if case["predicate"]:
        found = [found[0] if len(found) == 1 and isinstance(found[0], bool) else bool(found)]
    same = runner().same
    assert len(found) == len(case["out"]), found
    if case["ordered"]:
        assert all(same(want, got) for want, got in zip(case["out"], found, strict=True)), found
    else:
        assert all(any(same(want, got) for got in found) for want in case["out"]), found
