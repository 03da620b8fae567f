"""HL7's validator cases for R4 asked of `$validate`: the definitions of a case come along in the call."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fhir_server.context import Context
from profiles.json import encode
from tests.conformance.test_validator_suite import KNOWN_PROFILED, SETS, SUITE, here, profiled, read, runner, supporting
from tests.shell import ask, constraint, content, context_on

Json = dict[str, Any]
TYPE = re.compile(rb'"resourceType"\s*:\s*"(\w+)"|<(\w+)[^>]*xmlns="http://hl7.org/fhir"')
pytestmark = [
    here,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


# Cases with another verdict, each with the reason; terminology counts here. The list only shrinks.
KNOWN = {
    "json-comments-1-yes": "comments in JSON, allowed there by a switch of the Java validator, are no JSON",
    "extension-version-restriction-range-ctxt-r4": "the definition of the extension is not among the files of the case",
    "aggregation-apart-good4": "expected by the rules of R5, where Encounter.class is optional",
    "ext-derived-circle": "a rule of the publisher HL7, and SNOMED CT, which is not at hand",
    "sdoh-type-slice": "a wrong display of LOINC: a warning here",
    "choice-async-qr": "a wrong display of ISO 3166: a warning here",
}


def call(case: Json, path: Path, profile: str | None) -> tuple[str, str, bytes]:
    """(type, format, body): the file as it is, or Parameters where the case has definitions."""
    raw, held = path.read_bytes(), list(supporting(case))
    found = TYPE.search(raw)
    type = (found[1] or found[2]).decode() if found else "Patient"
    if not held and not profile:
        return type, path.suffix[1:], raw
    rows = [{"name": "resource", "resource": read(path)}, *({"name": "tx-resource", "resource": r} for r in held)]
    rows += [{"name": "profile", "valueUri": profile}] if profile else []
    return type, "json", encode({"resourceType": "Parameters", "parameter": rows})


async def is_wrong(context: Context, case: Json, path: Path, profile: str | None = None) -> bool:
    """What `$validate` says."""
    type, kind, body = call(case, path, profile)
    answer = await ask(context, "POST", f"{type}/$validate", body, content_type=f"application/fhir+{kind}")
    return any(issue["severity"] in ("error", "fatal") for issue in content(answer)["issue"])


async def test_the_operation_has_the_verdict_of_java(context: Context) -> None:
    """152 of 158 cases over the operation, terminology included; 95 % of those of each set."""
    strict = context_on(context.store, forbid_html=True)
    for name in SETS:
        cases = [(case, Path(path), bool(errors)) for case, _, path, errors, _ in runner().cases(name)]
        different = set()
        for case, path, wrong in cases:
            on = strict if case.get("security-checks") or case.get("noHtmlInMarkdown") else context
            if await is_wrong(on, case, path) != wrong:
                different.add(case["name"])
        assert different <= set(KNOWN)
        assert len(different) <= 0.065 * len(cases)


async def test_the_verdict_with_profiles_is_that_of_java(context: Context) -> None:
    """The same with the profile of the case named in the call."""
    different = set()
    for case, path, wrong in profiled():
        profile = read(SUITE / "data" / case["profile"]["source"])["url"]
        if await is_wrong(context, case, path, profile) != wrong:
            different.add(case["name"])
    assert different == set(KNOWN_PROFILED)


async def test_definitions_that_come_along_are_forgotten(context: Context) -> None:
    """One check knows the profile and the code system of its own call, the next one does not."""
    profile = "http://example.org/fhir/StructureDefinition/named"
    along = constraint(profile, {"id": "Patient.name", "path": "Patient.name", "min": 1})
    rows: list[Json] = [{"name": "resource", "resource": {"resourceType": "Patient", "active": True}}]
    rows += [{"name": "profile", "valueUri": profile}]
    told = []
    for extra in ([], [{"name": "tx-resource", "resource": along}], []):
        sent = {"resourceType": "Parameters", "parameter": [*rows, *extra]}
        issues = content(await ask(context, "POST", "Patient/$validate", sent))["issue"]
        told.append([row["diagnostics"] for row in issues if row["severity"] == "error"])
    unknown = [f"Patient: the profile {profile} is not known"]
    assert told == [unknown, [f"Patient.name: name: at least 1 required, 0 found ({profile})"], unknown]
